//! Conditions that keep a count, called the same in both spellings: `-m hashlimit`, `-m connlimit` and `-m statistic`, and what
//! `iptables-translate` makes of them (meters, connection counts by key, numbers drawn). What it has no words for, such as
//! `recent`, keeps its own text and is the same as nothing else.

use std::net::IpAddr;

/// What a text means, in words of neither; `None` when it is another kind of condition, or more than both can say.
///
/// `width` are the bits of an address; `is_own` says whether only this rule has to do with a set.
pub(super) fn words(text: &str, width: u32, is_own: &dyn Fn(&str) -> bool) -> Option<String> {
    let hashlimit = || hashlimit(text, width).or_else(|| meter(text, width));
    let connections = || connlimit(text, width).or_else(|| counted(text, width, is_own));
    hashlimit().or_else(connections).or_else(|| statistic(text)).or_else(|| number(text))
}

/// Options of an iptables match: whether it is negated, its name without dashes, and the word behind it.
struct Options<'t>(std::iter::Peekable<std::str::SplitWhitespace<'t>>);

impl<'t> Options<'t> {
    fn of(text: &'t str, name: &str) -> Option<Self> {
        let rest = text.strip_prefix("-m ")?.strip_prefix(name)?;
        rest.starts_with(' ').then(|| Self(rest.split_whitespace().peekable()))
    }
}

impl<'t> Iterator for Options<'t> {
    type Item = (bool, &'t str, Option<&'t str>);

    fn next(&mut self) -> Option<Self::Item> {
        let word = self.0.next()?;
        let (negated, option) = if word == "!" { (true, self.0.next()?) } else { (false, word) };
        let value = self.0.next_if(|next| !next.starts_with("--") && *next != "!");
        Some((negated, option.trim_start_matches('-'), value))
    }
}

/// A rate, its burst, and the seconds after which xtables forgets a key by default.
struct Rate {
    words: String,
    burst: Option<u64>,
    forgets: u64,
}

/// `5/min`, `1mb/s`; of packets and of bytes.
fn xtables_rate(rate: &str, burst: Option<&str>) -> Option<Rate> {
    if let Some(bytes) = rate.strip_suffix("b/s") {
        let burst = burst.map(|burst| bytes_of(burst.trim_end_matches('b'))).map_or(Some(None), |one| one.map(Some))?;
        return Some(Rate { words: format!("{} bytes a second", bytes_of(bytes)?), burst, forgets: 15 });
    }
    let (count, unit) = rate.split_once('/')?;
    let (unit, forgets) = unit_named(unit)?;
    let burst = burst.map_or(Some(5), |burst| burst.parse().ok())?;
    Some(Rate { words: format!("{} packets a {unit}", count.parse::<u32>().ok()?), burst: Some(burst), forgets })
}

/// `5/minute burst 8 packets`, `1 mbytes/second burst 2 mbytes`.
fn nft_rate(text: &str) -> Option<Rate> {
    let (rate, burst) = match text.split_once(" burst ") {
        Some((rate, burst)) => (rate, Some(burst)),
        None => (text, None),
    };
    let (rate, unit) = rate.split_once('/')?;
    let (unit, forgets) = unit_named(unit)?;
    let Some((count, of)) = rate.split_once(' ') else {
        let burst = burst.map_or(Some(5), |burst| burst.strip_suffix(" packets")?.parse().ok())?;
        return Some(Rate {
            words: format!("{} packets a {unit}", rate.parse::<u32>().ok()?),
            burst: Some(burst),
            forgets,
        });
    };
    let bytes = |count: &str, of: &str| bytes_of(&format!("{count}{}", of.strip_suffix("bytes")?));
    let burst = match burst.map(|burst| burst.split_once(' ')) {
        None => None,
        Some(burst) => burst.and_then(|(count, of)| bytes(count, of)).map(Some)?,
    };
    Some(Rate { words: format!("{} bytes a {unit}", bytes(count, of)?), burst, forgets: 15 })
}

/// `min` as xtables shortens it, and its seconds.
fn unit_named(start: &str) -> Option<(&'static str, u64)> {
    let start = start.to_ascii_lowercase();
    let units = [("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400)];
    units.into_iter().find(|(name, _)| !start.is_empty() && name.starts_with(&start))
}

/// `512k` in bytes.
fn bytes_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text.get(digits.len()..)? {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// What both say of a rate by keys.
fn by_keys(name: &str, over: bool, mut keys: Vec<String>, rate: &Rate, forgets: u64) -> String {
    keys.sort_unstable();
    let (keys, over) = (keys.join(" "), if over { "over" } else { "within" });
    let burst = rate.burst.map(|burst| format!(" burst {burst}")).unwrap_or_default();
    format!("{over} {}{burst} by {keys}, forgotten after {forgets} s: {name}", rate.words)
}

/// A part of a key: an address, by its prefix, or a port.
fn address(side: &str, prefix: u32, width: u32) -> String {
    if prefix == width { side.to_owned() } else { format!("{side}/{prefix}") }
}

fn hashlimit(text: &str, width: u32) -> Option<String> {
    let (mut rate, mut burst, mut mode, mut name, mut expire) = (None, None, None, None, None);
    let (mut source, mut destination) = (width, width);
    for (negated, option, value) in Options::of(text, "hashlimit")? {
        let value = value.filter(|_| !negated)?;
        match option.strip_prefix("hashlimit").map(|rest| rest.trim_start_matches('-'))? {
            "" | "upto" => rate = Some((false, value)),
            "above" => rate = Some((true, value)),
            "burst" => burst = Some(value),
            "mode" => mode = Some(value),
            "name" => name = Some(value),
            "srcmask" => source = value.parse().ok()?,
            "dstmask" => destination = value.parse().ok()?,
            "htable-expire" => expire = Some(value.parse::<u64>().ok()? / 1000),
            // how the table is kept, of which the translation says nothing
            "htable-size" | "htable-max" | "htable-gcinterval" => {}
            _ => return None,
        }
    }
    let key = |part: &str| match part {
        "srcip" => Some(address("saddr", source, width)),
        "dstip" => Some(address("daddr", destination, width)),
        "srcport" => Some("sport".to_owned()),
        "dstport" => Some("dport".to_owned()),
        _ => None,
    };
    let keys = mode?.split(',').map(key).collect::<Option<Vec<_>>>()?;
    let (over, rate) = rate?;
    let rate = xtables_rate(rate, burst)?;
    let forgets = expire.unwrap_or(rate.forgets);
    Some(by_keys(name?, over, keys, &rate, forgets))
}

/// `meter NAME size 65535 { KEY timeout 60s limit rate over 5/minute }`, or the same with a set.
fn meter(text: &str, width: u32) -> Option<String> {
    let set = || text.strip_prefix("add @").or_else(|| text.strip_prefix("update @"));
    let (name, inner) = text.strip_prefix("meter ").or_else(set)?.strip_suffix(" }")?.split_once(" { ")?;
    // what nft takes when nobody says how many
    let name = name.strip_suffix(" size 65535").unwrap_or(name);
    let (key, limit) = inner.split_once(" limit rate ").filter(|_| !name.contains(' '))?;
    // a second, which is not told, is when xtables forgets at the earliest
    let (key, forgets) = match key.split_once(" timeout ") {
        Some((key, time)) => (key, seconds(time)?),
        None => (key, 1),
    };
    let (over, rate) = match limit.strip_prefix("over ") {
        Some(rate) => (true, rate),
        None => (false, limit),
    };
    let keys = key.split(" . ").map(|part| nft_key(part, width)).collect::<Option<Vec<_>>>()?;
    Some(by_keys(name, over, keys, &nft_rate(rate)?, forgets))
}

/// `ip saddr & 255.255.255.0`, `tcp dport`.
fn nft_key(part: &str, width: u32) -> Option<String> {
    let masked = part.split_once(" & ").or_else(|| part.split_once(" and "));
    let (field, mask) = masked.map_or((part, None), |(field, mask)| (field, Some(mask)));
    let (protocol, side) = field.split_once(' ')?;
    match (protocol, side, mask) {
        ("ip" | "ip6", "saddr" | "daddr", None) => Some(side.to_owned()),
        ("ip" | "ip6", "saddr" | "daddr", Some(mask)) => {
            let bits = match mask.parse::<IpAddr>().ok()? {
                IpAddr::V4(mask) => u128::from(mask.to_bits()) << 96,
                IpAddr::V6(mask) => mask.to_bits(),
            };
            let prefix = bits.leading_ones();
            (bits.checked_shl(prefix).unwrap_or(0) == 0).then(|| address(side, prefix, width))
        }
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "th", "sport" | "dport", None) => Some(side.to_owned()),
        _ => None,
    }
}

/// `1m30s`.
fn seconds(time: &str) -> Option<u64> {
    let (mut all, mut digits) = (0u64, String::new());
    for letter in time.chars() {
        let factor = match letter {
            '0'..='9' => {
                digits.push(letter);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        all = all.checked_add(std::mem::take(&mut digits).parse::<u64>().ok()?.checked_mul(factor)?)?;
    }
    digits.is_empty().then_some(all)
}

fn connlimit(text: &str, width: u32) -> Option<String> {
    let (mut limit, mut side, mut prefix) = (None, "saddr", width);
    for (negated, option, value) in Options::of(text, "connlimit")? {
        match (option, value) {
            ("connlimit-upto", Some(value)) => limit = Some((negated, value)),
            ("connlimit-above", Some(value)) => limit = Some((!negated, value)),
            ("connlimit-mask", Some(value)) if !negated => prefix = value.parse().ok()?,
            ("connlimit-saddr", None) if !negated => side = "saddr",
            ("connlimit-daddr", None) if !negated => side = "daddr",
            _ => return None,
        }
    }
    let (over, count) = limit?;
    Some(connections(over, count.parse().ok()?, &address(side, prefix, width)))
}

/// `add @SET { KEY ct count over 10 }`, where the set is nobody else's.
fn counted(text: &str, width: u32, is_own: &dyn Fn(&str) -> bool) -> Option<String> {
    let (set, inner) = text.strip_prefix("add @")?.strip_suffix(" }")?.split_once(" { ")?;
    let (key, count) = inner.split_once(" ct count ").filter(|_| is_own(set))?;
    let (over, count) = match count.strip_prefix("over ") {
        Some(count) => (true, count),
        None => (false, count),
    };
    Some(connections(over, count.parse().ok()?, &nft_key(key, width)?))
}

fn connections(over: bool, count: u32, key: &str) -> String {
    format!("{} {count} connections by {key}", if over { "over" } else { "within" })
}

/// The dice have 2^31 sides in both.
const SIDES: u32 = 1 << 31;

fn statistic(text: &str) -> Option<String> {
    let (mut mode, mut chance, mut every, mut packet) = (None, None, None, Some(0u32));
    for (negated, option, value) in Options::of(text, "statistic")? {
        let value = value?;
        match option {
            "mode" if !negated => mode = Some(value),
            "probability" => chance = Some((negated, value)),
            "every" => every = Some((negated, value.parse::<u32>().ok()?)),
            "packet" if !negated => packet = value.parse().ok(),
            _ => return None,
        }
    }
    match (mode?, chance, every) {
        ("random", Some((negated, chance)), None) => {
            let chance = chance.parse::<f64>().ok().filter(|chance| (0.0..=1.0).contains(chance))?;
            // as `iptables` rounds it
            let sides = (chance * f64::from(SIDES)).round();
            Some(random(negated, &format!("{sides:.0}")))
        }
        ("nth", None, Some((negated, every))) => Some(nth(negated, every, packet?)),
        _ => None,
    }
}

fn random(negated: bool, sides: &str) -> String {
    format!("{} of the first {sides} of {SIDES} sides", if negated { "none" } else { "one" })
}

fn nth(negated: bool, every: u32, packet: u32) -> String {
    format!("{} {packet} of each {every} packets", if negated { "all but" } else { "number" })
}

/// `meta random & 2147483647 < 1073741824`, `numgen inc mod 3 0`.
fn number(text: &str) -> Option<String> {
    let all: Vec<&str> = text.split_whitespace().collect();
    match all.as_slice() {
        ["meta", "random", "&" | "and", mask, sign @ ("<" | ">="), sides] => {
            let is_number = |text: &str| text.parse::<u32>().ok();
            let plain = is_number(mask) == Some(SIDES - 1) && is_number(sides).is_some();
            plain.then(|| random(*sign == ">=", sides))
        }
        ["numgen", "inc", "mod", every, rest @ ..] => {
            let (negated, packet) = match rest {
                ["!=", packet] => (true, packet),
                ["==", packet] | [packet] => (false, packet),
                _ => return None,
            };
            Some(nth(negated, every.parse().ok()?, packet.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    /// As `iptables-save` writes it and as nft lists what `iptables-translate` makes of it.
    const SAME: [(&str, &str, u32); 15] = [
        (
            "-m hashlimit --hashlimit-above 5/min --hashlimit-burst 8 --hashlimit-mode srcip --hashlimit-name ssh",
            "meter ssh size 65535 { ip saddr timeout 1m limit rate over 5/minute burst 8 packets }",
            32,
        ),
        (
            "-m hashlimit --hashlimit-upto 5/min --hashlimit-burst 8 --hashlimit-mode srcip,dstport --hashlimit-name two",
            "meter two size 65535 { tcp dport . ip saddr timeout 60s limit rate 5/minute burst 8 packets }",
            32,
        ),
        (
            "-m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name a --hashlimit-srcmask 24",
            "add @a { ip saddr & 255.255.255.0 limit rate 5/second }",
            32,
        ),
        (
            "-m hashlimit --hashlimit-above 1mb/s --hashlimit-mode dstip --hashlimit-name b",
            "meter b size 65535 { ip daddr timeout 15s limit rate over 1 mbytes/second }",
            32,
        ),
        (
            "-m hashlimit --hashlimit-upto 512kb/s --hashlimit-burst 1mb --hashlimit-mode srcip,srcport --hashlimit-name c --hashlimit-htable-expire 90000",
            "meter c { ip6 saddr . udp sport timeout 1m30s limit rate 512 kbytes/second burst 1 mbytes }",
            128,
        ),
        (
            "-m connlimit --connlimit-above 10 --connlimit-mask 32 --connlimit-saddr",
            "add @n { ip saddr ct count over 10 }",
            32,
        ),
        (
            "-m connlimit --connlimit-upto 10 --connlimit-mask 24 --connlimit-saddr",
            "add @n { ip saddr & 255.255.255.0 ct count 10 }",
            32,
        ),
        (
            "-m connlimit --connlimit-above 3 --connlimit-mask 128 --connlimit-daddr",
            "add @n { ip6 daddr ct count over 3 }",
            128,
        ),
        (
            "-m connlimit --connlimit-above 3 --connlimit-mask 64 --connlimit-saddr",
            "add @n { ip6 saddr & ffff:ffff:ffff:ffff:: ct count over 3 }",
            128,
        ),
        ("-m connlimit --connlimit-above 3 --connlimit-mask 0", "add @n { ip saddr & 0.0.0.0 ct count over 3 }", 32),
        ("-m statistic --mode random --probability 0.50000000000", "meta random & 2147483647 < 1073741824", 32),
        ("-m statistic --mode random ! --probability 0.33332999982", "meta random & 2147483647 >= 715820724", 32),
        ("-m statistic --mode nth --every 3 --packet 0", "numgen inc mod 3 0", 32),
        ("-m statistic --mode nth --every 3", "numgen inc mod 3 == 0", 32),
        ("-m statistic --mode nth ! --every 3 --packet 1", "numgen inc mod 3 != 1", 32),
    ];

    #[test]
    fn both_spellings_of_a_count_are_one_and_different_ones_are_not() {
        let all = |text: &str, width| words(text, width, &|_| true);
        for (iptables, nft, width) in SAME {
            let called = all(iptables, width);
            assert!(called.is_some(), "{iptables}");
            assert_eq!(called, all(nft, width), "{iptables}");
        }
        let mut called: Vec<_> = SAME.iter().map(|(iptables, _, width)| (all(iptables, *width), *width)).collect();
        called.sort();
        called.dedup();
        // the third and the fourth of the last ones are the same rule
        assert_eq!(called.len(), SAME.len() - 1, "{called:#?}");
    }

    #[test]
    fn what_is_more_than_both_can_say_keeps_its_own_words() {
        for text in [
            "-m hashlimit --hashlimit-upto 5/min --hashlimit-name x",
            "-m hashlimit --hashlimit-upto 5/min --hashlimit-mode srcip --hashlimit-name x --hashlimit-rate-match",
            "-m recent --set --name x --mask 255.255.255.255 --rsource",
            "-m statistic --mode random --probability 2",
            "-m statistic --mode nth --probability 0.5",
            "meter m size 100 { ip saddr limit rate 5/second }",
            "meter m { ip saddr . iifname limit rate 5/second }",
            "meter m { ip saddr & 255.0.255.0 limit rate 5/second }",
            "meter m { ip saddr timeout 5x limit rate 5/second }",
            "meta random & 255 < 7",
            "numgen random mod 3 0",
            "numgen inc mod 3 < 2",
            "ct count over 10",
            "",
        ] {
            assert_eq!(words(text, 32, &|_| true), None, "{text}");
        }
        // two rules that count in one set count each other's
        assert_eq!(words("add @n { ip saddr ct count over 10 }", 32, &|_| false), None);
    }
}
