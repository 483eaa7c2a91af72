//! What Felix wrote, from nft's listing of a rule.
//!
//! nft keeps the order of conditions, but drops a protocol that a port implies, unwraps and sorts small sets, prints marks
//! with eight digits, and quotes names.

use super::{Part, Spelling, words};
use crate::packet::{Family, Protocol};

/// Words of a listing beyond which it is not a rule of Felix.
const MAX_WORDS: usize = 300;

/// Elements of a set beyond which no other order than the listed one is tried.
const MAX_SHUFFLED: usize = 6;

/// The spelling of one listed rule, `None` when it is too long to be one of Felix's.
#[must_use]
pub fn spelling(listing: &str, family: Family) -> Option<Spelling> {
    let all = words(listing);
    if all.len() > MAX_WORDS {
        return None;
    }
    let end = all.iter().position(|(word, quoted)| word == "comment" && !quoted).unwrap_or(all.len());
    let (body, _) = all.split_at(end);
    let counter = body.iter().position(|(word, quoted)| word == "counter" && !quoted);
    let (matches, action) = match counter {
        Some(place) => (body.get(..place)?, body.get(place + 1..)?),
        None => (body, &[][..]),
    };
    let mut reader = Reader { words: strings(matches), parts: Vec::new(), understood: true };
    if matches.len() == 1 && matches.first().is_some_and(|(word, _)| word == "continue") {
        // a rule that only carries a comment
        reader.parts.push(Part::fixed(0, vec!["continue".to_owned()]));
    } else {
        while !reader.words.is_empty() {
            reader.clause();
        }
        reader.add_folded(family);
    }
    let (actions, known) = if counter.is_some() { action_spellings(action) } else { (Vec::new(), true) };
    Some(Spelling { head: String::new(), parts: reader.parts, actions, understood: reader.understood && known })
}

fn strings(words: &[(String, bool)]) -> Vec<&str> {
    words.iter().map(|(word, _)| word.as_str()).collect()
}

struct Reader<'a> {
    /// What is still to be read.
    words: Vec<&'a str>,
    parts: Vec<Part>,
    understood: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Vec<&'a str> {
        let rest = self.words.split_off(count.min(self.words.len()));
        std::mem::replace(&mut self.words, rest)
    }

    fn fixed(&mut self, rank: i8, negate: bool, spellings: Vec<String>) {
        self.parts.push(Part::fixed(if negate { rank + 20 } else { rank }, spellings));
    }

    /// Reads one condition.
    fn clause(&mut self) {
        let words = self.words.clone();
        match words.as_slice() {
            ["meta", "mark", "&", mask, op @ ("==" | "!="), value, ..] => {
                self.take(6);
                let spellings = hex_spellings(value)
                    .into_iter()
                    .map(|value| format!("meta mark & {} {op} {value}", short_hex(mask)));
                self.fixed(30, false, spellings.collect());
            }
            ["meta", "l4proto", rest @ ..] => {
                let negate = rest.first() == Some(&"!=");
                let value = self.value(2, negate);
                let names = protocol_names(&value);
                let ne = if negate { "!= " } else { "" };
                self.fixed(0, negate, names.iter().map(|name| format!("meta l4proto {ne}{name}")).collect());
            }
            [interface @ ("iifname" | "oifname"), "vmap", map, ..] => {
                let text = format!("{interface} vmap {map}");
                self.take(3);
                self.fixed(30, false, vec![text]);
            }
            [interface @ ("iifname" | "oifname"), name, ..] => {
                let rank = if *interface == "iifname" { -4 } else { -3 };
                let text = format!("{interface} {name}");
                self.take(2);
                self.fixed(rank, false, vec![text]);
            }
            ["ct", key @ ("state" | "status"), rest @ ..] => {
                let negate = rest.first() == Some(&"!=");
                let value = self.value(2, negate);
                let ne = if negate { "!= " } else { "" };
                let orders = permutations(&value.split(',').map(str::trim).collect::<Vec<_>>());
                let spellings = orders.into_iter().rev().map(|order| format!("ct {key} {ne}{}", order.join(",")));
                self.fixed(30, false, spellings.collect());
            }
            ["ip" | "ip6", "saddr" | "daddr", ..] => self.address(),
            ["tcp" | "udp" | "sctp", "sport" | "dport", ..] => self.ports(),
            ["icmp" | "icmpv6", "type", ..] => self.icmp(),
            ["fib", ..] => self.fib(),
            ["limit", "rate", rate, "burst", burst, "packets", ..] => {
                let texts = vec![format!("limit rate {rate} burst {burst} packets"), format!("limit rate {rate}")];
                self.take(6);
                self.fixed(-5, false, texts);
            }
            _ => {
                self.understood = false;
                let text = self.take(1).join(" ");
                self.fixed(30, false, vec![text]);
            }
        }
    }

    /// The value behind `skip` words and a `!=`: one word, or a set in braces.
    fn value(&mut self, skip: usize, negate: bool) -> String {
        self.take(skip + usize::from(negate));
        if self.words.first() != Some(&"{") {
            return self.take(1).join(" ");
        }
        let length = self.words.iter().position(|word| *word == "}").map_or(self.words.len(), |place| place + 1);
        self.take(length).join(" ")
    }

    fn address(&mut self) {
        let (Some(ip), Some(field)) = (self.words.first().copied(), self.words.get(1).copied()) else { return };
        let source = field == "saddr";
        if self.words.get(2) == Some(&".") {
            // address . meta l4proto . th port
            let negate = self.words.get(8) == Some(&"!=");
            let text = self.take(9 + usize::from(negate)).join(" ");
            self.fixed(if source { 4 } else { 9 }, negate, vec![text]);
            return;
        }
        let negate = self.words.get(2) == Some(&"!=");
        let value = self.value(2, negate);
        let ne = if negate { "!= " } else { "" };
        if value.starts_with('@') {
            self.fixed(if source { 2 } else { 6 }, negate, vec![format!("{ip} {field} {ne}{value}")]);
            return;
        }
        let mut values = vec![value.clone()];
        if !value.contains(['/', ' ', '-']) {
            // a host prints without length
            values.insert(0, format!("{value}/{}", if ip == "ip6" { 128 } else { 32 }));
        }
        let spellings = values.iter().map(|value| format!("{ip} {field} {ne}{value}")).collect();
        self.fixed(if source { 1 } else { 5 }, negate, spellings);
    }

    fn ports(&mut self) {
        let (Some(protocol), Some(side)) = (self.words.first().copied(), self.words.get(1).copied()) else { return };
        let negate = self.words.get(2) == Some(&"!=");
        let value = self.value(2, negate);
        let ne = if negate { "!= " } else { "" };
        let inner = value.trim_start_matches("{ ").trim_end_matches(" }");
        let elements: Vec<&str> = inner.split(',').map(str::trim).collect();
        let mut spellings: Vec<String> = permutations(&elements)
            .into_iter()
            .map(|order| format!("{protocol} {side} {ne}{{ {} }}", order.join(", ")))
            .collect();
        if elements.len() == 1 {
            spellings.push(format!("{protocol} {side} {ne}{inner}"));
        }
        self.fixed(if side == "sport" { 3 } else { 8 }, negate, spellings);
    }

    fn icmp(&mut self) {
        let Some(protocol) = self.words.first().copied() else { return };
        let negate = self.words.get(2) == Some(&"!=");
        let value = self.value(2, negate);
        let ne = if negate { "!= " } else { "" };
        let number = icmp_number(protocol, &value).map_or(value, |number| number.to_string());
        let mut text = format!("{protocol} type {ne}{number}");
        // newer nft lists the code as a condition of its own
        let code = match self.words.as_slice() {
            [again, "code", ..] if *again == protocol => 2,
            ["code", ..] => 1,
            _ => 0,
        };
        if code > 0 {
            let negate = self.words.get(code) == Some(&"!=");
            let value = self.value(code, negate);
            text.push_str(&format!(" code {}{value}", if negate { "!= " } else { "" }));
        }
        self.fixed(10, negate, vec![text]);
    }

    fn fib(&mut self) {
        let Some(result) = self.words.iter().position(|word| matches!(*word, "type" | "oif" | "oifname")) else {
            self.understood = false;
            let text = self.take(usize::MAX).join(" ");
            self.fixed(30, false, vec![text]);
            return;
        };
        // `fib saddr . oif type …` asks for the type, its oif is part of the key
        let asks = if self.words.get(result + 1) == Some(&"type") { result + 1 } else { result };
        let key = self.take(asks + 1).join(" ");
        let negate = self.words.first() == Some(&"!=");
        let value = self.value(0, negate);
        let value = if value == "missing" { "0".to_owned() } else { value };
        self.fixed(30, false, vec![format!("{key} {}{value}", if negate { "!= " } else { "" })]);
    }

    /// What nft leaves out: the protocol that ports or ICMP types imply, and nets of everything.
    fn add_folded(&mut self, family: Family) {
        let first_word =
            |part: &Part| part.spellings.first().and_then(|text| text.split(' ').next().map(str::to_owned));
        let implied = self
            .parts
            .iter()
            .filter_map(first_word)
            .find(|word| matches!(word.as_str(), "tcp" | "udp" | "sctp" | "icmp" | "icmpv6"));
        let said = self.parts.iter().any(|part| part.spellings.iter().any(|text| text.starts_with("meta l4proto ")));
        if let Some(protocol) = implied
            && !said
        {
            let names = protocol_names(&protocol);
            self.parts.push(Part::free(-1, names.iter().map(|name| format!("meta l4proto {name}")).collect()));
        }
        if !said
            && !self
                .parts
                .iter()
                .any(|part| part.spellings.iter().any(|text| text.contains("port ") || text.contains('@')))
        {
            return;
        }
        let (ip, any) = if family == Family::Ipv6 { ("ip6", "::/0") } else { ("ip", "0.0.0.0/0") };
        for (field, rank) in [("saddr", 1), ("daddr", 5)] {
            let start = format!("{ip} {field}");
            if !self.parts.iter().any(|part| part.spellings.iter().any(|text| text.starts_with(&start))) {
                self.parts.push(Part::free(rank, vec![String::new(), format!("{start} {any}")]));
            }
        }
    }
}

/// `0x00010000` as Go prints it with `%#x`.
fn short_hex(word: &str) -> String {
    let number = word.strip_prefix("0x").map_or_else(|| word.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok());
    number.map_or_else(|| word.to_owned(), |number| format!("{number:#x}"))
}

/// Zero is written `0` by most of Felix's rules.
fn hex_spellings(word: &str) -> Vec<String> {
    let short = short_hex(word);
    if short == "0x0" { vec!["0".to_owned(), short] } else { vec![short] }
}

fn protocol_names(listed: &str) -> Vec<String> {
    let mut names = vec![listed.to_owned()];
    if let Ok(protocol) = listed.parse::<Protocol>() {
        names.push(protocol.0.to_string());
        match protocol {
            Protocol::ICMPV6 => names.extend(["icmpv6".to_owned(), "ipv6-icmp".to_owned()]),
            _ => names.push(protocol.to_string()),
        }
    }
    let mut seen = Vec::new();
    names.retain(|name| {
        let new = !seen.contains(name);
        seen.push(name.clone());
        new
    });
    names
}

/// Every order of a few elements, the listed one first; only the listed one when there are many.
fn permutations<'a>(elements: &[&'a str]) -> Vec<Vec<&'a str>> {
    if elements.len() > MAX_SHUFFLED {
        return vec![elements.to_vec()];
    }
    let Some((first, rest)) = elements.split_first() else { return vec![Vec::new()] };
    let mut orders = Vec::new();
    for order in permutations(rest) {
        for place in 0..=order.len() {
            let mut longer = order.clone();
            longer.insert(place, first);
            orders.push(longer);
        }
    }
    orders
}

/// nft's names of ICMP types.
fn icmp_number(protocol: &str, name: &str) -> Option<u8> {
    const ICMP: [(&str, u8); 12] = [
        ("echo-reply", 0),
        ("destination-unreachable", 3),
        ("source-quench", 4),
        ("redirect", 5),
        ("echo-request", 8),
        ("router-advertisement", 9),
        ("router-solicitation", 10),
        ("time-exceeded", 11),
        ("parameter-problem", 12),
        ("timestamp-request", 13),
        ("timestamp-reply", 14),
        ("address-mask-request", 17),
    ];
    const ICMPV6: [(&str, u8); 15] = [
        ("destination-unreachable", 1),
        ("packet-too-big", 2),
        ("time-exceeded", 3),
        ("parameter-problem", 4),
        ("echo-request", 128),
        ("echo-reply", 129),
        ("mld-listener-query", 130),
        ("mld-listener-report", 131),
        ("mld-listener-done", 132),
        ("mld-listener-reduction", 132),
        ("nd-router-solicit", 133),
        ("nd-router-advert", 134),
        ("nd-neighbor-solicit", 135),
        ("nd-neighbor-advert", 136),
        ("nd-redirect", 137),
    ];
    let table: &[(&str, u8)] = if protocol == "icmp" { &ICMP } else { &ICMPV6 };
    table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// Spellings of what stands behind the counter, and whether it is something Felix writes.
fn action_spellings(action: &[(String, bool)]) -> (Vec<String>, bool) {
    let mut words = strings(action);
    if let ["packets", _, "bytes", _, ..] = words.as_slice() {
        words.drain(..4);
    }
    let one = |text: String| (vec![format!("counter {text}")], true);
    match words.as_slice() {
        [] => (vec!["counter".to_owned()], true),
        ["accept" | "drop" | "return" | "notrack" | "jump" | "goto" | "masquerade" | "snat" | "dnat" | "flow", ..] => {
            one(words.join(" "))
        }
        ["reject", "with", "tcp", "reset"] => one("reject with tcp reset".to_owned()),
        ["reject", ..] => one("reject".to_owned()),
        ["log", "prefix", prefix, rest @ ..] => one(log_text(prefix, rest)),
        ["meta", "mark", "set", "meta", "mark", rest @ ..] | ["meta", "mark", "set", "mark", rest @ ..] => {
            mark_spellings(rest)
        }
        _ => (vec![format!("counter {}", words.join(" "))], false),
    }
}

fn log_text(prefix: &str, rest: &[&str]) -> String {
    let value = |name: &str| rest.iter().position(|word| *word == name).and_then(|place| rest.get(place + 1));
    match (value("group"), value("level")) {
        (Some(group), _) => {
            format!("log prefix \"{prefix}\" snaplen {} group {group}", value("snaplen").unwrap_or(&"80"))
        }
        (None, Some(level)) => format!("log prefix \"{prefix}\" level {level}"),
        (None, None) => format!("log prefix \"{prefix}\""),
    }
}

fn mark_spellings(rest: &[&str]) -> (Vec<String>, bool) {
    let set = "counter meta mark set mark";
    match rest {
        ["|" | "or", bits] => (vec![format!("{set} or {}", short_hex(bits))], true),
        ["&" | "and", kept] => {
            let kept = short_hex(kept);
            (vec![format!("{set} & {kept}"), format!("{set} & {kept} ^ 0x0")], true)
        }
        ["&" | "and", kept, "|" | "or" | "^" | "xor", bits] => {
            let text = |kept: &str| format!("{set} & {kept} ^ {}", short_hex(bits));
            // nft lists the bits that are set among those that stay
            let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
            let cleared = number(kept).zip(number(bits)).map(|(kept, bits)| text(&format!("{:#x}", kept & !bits)));
            (std::iter::once(text(&short_hex(kept))).chain(cleared).collect(), true)
        }
        _ => (vec![format!("{set} {}", rest.join(" "))], false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calico::hash::ChainHash;

    fn original(listing: &str, text: &str) {
        let spelling = spelling(listing, Family::Ipv4).expect("short enough");
        assert!(spelling.understood, "{listing}");
        let mut tried = Vec::new();
        let found = spelling.find(|candidate| {
            tried.push(candidate.to_owned());
            candidate == text
        });
        assert!(found.is_some(), "{listing}\nled to {tried:#?}");
    }

    #[test]
    fn listings_lead_back_to_what_felix_sent() {
        for (listing, text) in [
            (
                "counter packets 4 bytes 240 jump filter-cali-INPUT comment \"cali:H0S9z2pOh43UL0cc;\"",
                "counter jump filter-cali-INPUT",
            ),
            ("meta mark & 0x00080000 == 0x00000000 counter drop", "meta mark & 0x80000 == 0 counter drop"),
            ("tcp dport 22 counter accept", "meta l4proto tcp tcp dport { 22 } counter accept"),
            (
                "tcp dport 22 ip saddr 10.0.0.0/8 counter accept",
                "meta l4proto tcp tcp dport { 22 } ip saddr 10.0.0.0/8 counter accept",
            ),
            ("udp dport 4789 counter notrack", "meta l4proto udp udp dport 4789 counter notrack"),
            (
                "ip saddr @cali40s-x tcp dport { 22, 80, 1000-2000 } counter meta mark set meta mark | 0x00010000",
                "meta l4proto tcp ip saddr @cali40s-x tcp dport { 80, 22, 1000-2000 } counter meta mark set mark or 0x10000",
            ),
            ("iifname \"cali*\" counter goto x", "iifname cali* counter goto x"),
            ("ct state established,related counter accept", "ct state related,established counter accept"),
            ("ct status != dnat counter jump x", "ct status != dnat counter jump x"),
            (
                "fib saddr . oif type != local fib saddr type local counter accept",
                "fib saddr . oif type != local fib saddr type local counter accept",
            ),
            ("fib saddr . mark . iif oif missing counter drop", "fib saddr . mark . iif oif 0 counter drop"),
            (
                "counter meta mark set meta mark & 0xffe7ffff | 0x00080000",
                "counter meta mark set mark & 0xffe7ffff ^ 0x80000",
            ),
            (
                "counter meta mark set meta mark & 0xffefffff | 0x00080000",
                "counter meta mark set mark & 0xffe7ffff ^ 0x80000",
            ),
            ("icmp type echo-request counter return", "meta l4proto icmp icmp type 8 counter return"),
            ("ip daddr 10.1.2.3 counter drop", "ip daddr 10.1.2.3/32 counter drop"),
            (
                "counter log prefix \"DPE|default\" group 2 snaplen 80",
                "counter log prefix \"DPE|default\" snaplen 80 group 2",
            ),
            ("continue comment \"cali:H0S9z2pOh43UL0cc; x\"", "continue"),
            (
                "ip daddr . meta l4proto . th dport @cali40n-x counter return",
                "ip daddr . meta l4proto . th dport @cali40n-x counter return",
            ),
        ] {
            original(listing, text);
        }
    }

    #[test]
    fn a_real_hash_tells_the_original() {
        let spelling = spelling(
            "udp dport 4789 ip saddr @cali40all-vxlan-net fib daddr type local counter packets 69 bytes 14902 accept",
            Family::Ipv4,
        )
        .expect("short enough");
        let start = ChainHash::of_chain("filter-cali-INPUT");
        assert!(spelling.find(|text| start.after(text).short().to_string() == "Gtn781KKHXqD1ZWy").is_some());
    }

    #[test]
    fn foreign_conditions_are_said_to_be_foreign() {
        for listing in ["meta cpu 3 counter drop", "tcp flags syn counter drop", "counter queue to 5"] {
            assert!(!spelling(listing, Family::Ipv4).expect("short enough").understood, "{listing}");
        }
        assert!(spelling(&"x ".repeat(400), Family::Ipv4).is_none());
    }
}
