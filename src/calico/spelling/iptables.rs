//! What Felix wrote, from a line of `iptables-save`.
//!
//! The tools keep the order of `-m` blocks, but move `-s -d -i -o -p` to the front and `--comment` before other blocks, turn
//! long options into short ones, print numbers in their own way, and leave out what is implied.

use super::{Part, Spelling, words};
use crate::calico::hash::COMMENT_PREFIX;
use crate::packet::{Family, Protocol};

/// Words of a line beyond which it is not a rule of Felix.
const MAX_WORDS: usize = 200;

/// The spelling of one `-A …` line; `chain` is the name under which Felix hashed it. `None` when it is no such line.
#[must_use]
pub fn spelling(line: &str, chain: &str, family: Family) -> Option<Spelling> {
    let words: Vec<String> = words(line).into_iter().take(MAX_WORDS + 1).map(|(word, _)| word).collect();
    if words.len() > MAX_WORDS || words.first().is_none_or(|word| word != "-A") {
        return None;
    }
    let mut reader = Reader { words: words.get(2..)?, ..Reader::default() };
    reader.read();
    let mut head = format!("-A {chain} HASH");
    for comment in &reader.comments {
        head.push_str(&format!(" -m comment --comment \"{comment}\""));
    }
    reader.add_vanished_nets(family);
    Some(Spelling { head, parts: reader.parts, actions: reader.actions, understood: reader.understood })
}

struct Reader<'a> {
    words: &'a [String],
    comments: Vec<String>,
    parts: Vec<Part>,
    actions: Vec<String>,
    understood: bool,
}

impl Default for Reader<'_> {
    fn default() -> Self {
        Self { words: &[], comments: Vec::new(), parts: Vec::new(), actions: Vec::new(), understood: true }
    }
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some(word) = self.next() {
            let (not, option) = if word == "!" { (true, self.next().unwrap_or_default()) } else { (false, word) };
            match option.as_str() {
                "-s" | "--source" => self.net("--source", not, 1),
                "-d" | "--destination" => self.net("--destination", not, 5),
                "-i" | "--in-interface" => self.plain("--in-interface", not, -4),
                "-o" | "--out-interface" => self.plain("--out-interface", not, -3),
                "-p" | "--protocol" => self.protocol(not),
                "-m" | "--match" => self.block(),
                "-j" | "--jump" => self.target(),
                "-g" | "--goto" => {
                    let chain = self.next().unwrap_or_default();
                    self.actions = vec![format!("--goto {chain}")];
                }
                other => {
                    self.understood = false;
                    let text = negated(not, other);
                    self.parts.push(Part::fixed(30, vec![text]));
                }
            }
        }
    }

    fn next(&mut self) -> Option<String> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first.clone())
    }

    fn net(&mut self, option: &str, not: bool, rank: i8) {
        let net = self.next().unwrap_or_default();
        let mut nets = vec![net.clone()];
        // Felix writes what the policy says; the tools always print a length
        if let Some(address) = net.strip_suffix("/32").or_else(|| net.strip_suffix("/128")) {
            nets.push(address.to_owned());
        }
        let spellings = nets.iter().map(|net| negated(not, &format!("{option} {net}"))).collect();
        self.parts.push(Part::free(if not { rank + 20 } else { rank }, spellings));
    }

    fn plain(&mut self, option: &str, not: bool, rank: i8) {
        let value = self.next().unwrap_or_default();
        self.parts.push(Part::free(rank, vec![negated(not, &format!("{option} {value}"))]));
    }

    fn protocol(&mut self, not: bool) {
        let value = self.next().unwrap_or_default();
        let spellings = protocol_names(&value).iter().map(|name| negated(not, &format!("-p {name}"))).collect();
        self.parts.push(Part::free(if not { 20 } else { 0 }, spellings));
    }

    /// The words up to the next block, header option or target.
    fn options(&mut self) -> Vec<String> {
        let ends = |word: &String| {
            matches!(
                word.as_str(),
                "-m" | "--match" | "-j" | "--jump" | "-g" | "--goto" | "-s" | "-d" | "-i" | "-o" | "-p"
            )
        };
        let length = self.words.iter().position(ends).unwrap_or(self.words.len());
        let (taken, rest) = self.words.split_at(length);
        self.words = rest;
        taken.to_vec()
    }

    fn block(&mut self) {
        let module = self.next().unwrap_or_default();
        if module == "comment" {
            // a comment may read like an option, so its one argument is taken blindly
            self.next();
            let text = self.next().unwrap_or_default();
            if !text.starts_with(COMMENT_PREFIX) {
                self.comments.push(text);
            }
            return;
        }
        let options = self.options();
        let (rank, spellings, understood) = block_spellings(&module, &options);
        self.understood &= understood;
        self.parts.push(Part::fixed(rank, spellings));
    }

    fn target(&mut self) {
        let target = self.next().unwrap_or_default();
        let options = self.options();
        let (actions, understood) = target_spellings(&target, &options);
        self.understood &= understood;
        self.actions = actions;
    }

    /// The kernel does not keep a net that covers everything; rules that name a protocol or a set may have had one.
    fn add_vanished_nets(&mut self, family: Family) {
        let any = if family == Family::Ipv6 { "::/0" } else { "0.0.0.0/0" };
        let mentions = |part: &Part, word: &str| part.spellings.iter().any(|text| text.contains(word));
        if !self.parts.iter().any(|part| mentions(part, "-p ") || mentions(part, "--match-set")) {
            return;
        }
        for (option, rank) in [("--source", 1), ("--destination", 5)] {
            if !self.parts.iter().any(|part| mentions(part, &format!("{option} "))) {
                self.parts.push(Part::free(rank, vec![String::new(), format!("{option} {any}")]));
            }
        }
    }
}

fn negated(not: bool, text: &str) -> String {
    if not { format!("! {text}") } else { text.to_owned() }
}

/// Names and number of a protocol, the listed one first, Felix's own spelling included.
fn protocol_names(listed: &str) -> Vec<String> {
    let mut names = vec![listed.to_owned()];
    if let Ok(protocol) = listed.parse::<Protocol>() {
        let more = match protocol {
            Protocol::ICMPV6 => &["icmpv6", "ipv6-icmp"][..],
            Protocol::UDPLITE => &["udplite"],
            _ => &[],
        };
        names.extend(more.iter().map(|name| (*name).to_owned()));
        names.push(protocol.0.to_string());
    }
    names.dedup();
    names
}

/// Rank, spellings and whether the block is one Felix writes.
fn block_spellings(module: &str, options: &[String]) -> (i8, Vec<String>, bool) {
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    let text = words.join(" ");
    let negative = words.first() == Some(&"!");
    let late = if negative { 20 } else { 0 };
    match (module, words.as_slice()) {
        ("set", [.., set, direction]) if words.contains(&"--match-set") => {
            let _ = set;
            let rank = match *direction {
                "src" => 2,
                "src,src" => 4,
                "dst" => 6,
                _ => 9,
            };
            (rank + late, vec![format!("-m set {text}")], words.len() <= 4)
        }
        ("multiport", [.., option, ports]) => {
            let (long, rank) = match *option {
                "--dports" | "--destination-ports" => ("--destination-ports", 8),
                "--sports" | "--source-ports" => ("--source-ports", 3),
                other => (other, 30),
            };
            let text = negated(negative, &format!("{long} {ports}"));
            (rank + late, vec![format!("-m multiport {text}")], rank < 30)
        }
        ("mark", [.., "--mark", value]) => {
            let spellings = hex_pair_spellings(value)
                .map(|value| format!("-m mark {}", negated(negative, &format!("--mark {value}"))));
            (30, spellings.collect(), true)
        }
        ("icmp" | "icmp6", [.., "--icmp-type" | "--icmpv6-type", _]) => {
            (10 + late, vec![format!("-m {module} {text}")], true)
        }
        ("conntrack", [.., "--ctstate", _]) | ("addrtype" | "ipvs", _) => {
            (30, vec![format!("-m {module} {text}")], true)
        }
        ("rpfilter", ["--validmark", "--invert"]) => (30, vec!["-m rpfilter --invert --validmark".to_owned()], true),
        ("udp" | "tcp", ["--dport", port]) => {
            (8, vec![format!("--dport {port}"), format!("-m {module} --dport {port}")], true)
        }
        ("limit", ["--limit", rest @ ..]) => (-5, limit_spellings(rest), true),
        _ => (30, vec![format!("-m {module} {text}").trim_end().to_owned()], false),
    }
}

/// `0x0/X` may have been `0/X`.
fn hex_pair_spellings(value: &str) -> impl Iterator<Item = String> {
    let short = value.strip_prefix("0x0/").map(|mask| format!("0/{mask}"));
    short.into_iter().chain([value.to_owned()])
}

/// The tools shorten the unit and leave out the default burst of 5.
fn limit_spellings(rest: &[&str]) -> Vec<String> {
    let Some((rate, burst)) = rest.split_first() else { return Vec::new() };
    let (number, unit) = rate.split_once('/').unwrap_or((rate, ""));
    let units: &[&str] = match unit {
        "sec" => &["second", "sec"],
        "min" => &["minute", "min"],
        "hour" => &["hour"],
        _ => &["day"],
    };
    let bursts = if burst.is_empty() {
        vec![" --limit-burst 5".to_owned(), String::new()]
    } else {
        vec![format!(" {}", burst.join(" "))]
    };
    let mut spellings = Vec::new();
    for unit in units {
        spellings.extend(bursts.iter().map(|burst| format!("-m limit --limit {number}/{unit}{burst}")));
    }
    spellings
}

/// Spellings of a target with its options, and whether it is one Felix writes.
fn target_spellings(target: &str, options: &[String]) -> (Vec<String>, bool) {
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    let jump = |text: &str| format!("--jump {text}");
    let one = |text: String| (vec![text], true);
    match (target, words.as_slice()) {
        ("MARK" | "CONNMARK", ["--set-xmark", value]) => {
            (hex_pair_spellings(value).map(|value| jump(&format!("{target} --set-mark {value}"))).collect(), true)
        }
        ("NFLOG", _) => (nflog_spellings(&words), true),
        ("LOG", ["--log-prefix", prefix, rest @ ..]) => {
            one(jump(&format!("LOG --log-prefix \"{prefix}\" {}", rest.join(" "))))
        }
        ("REJECT", ["--reject-with", "icmp-port-unreachable" | "icmp6-port-unreachable"]) => one(jump("REJECT")),
        ("REJECT", ["--reject-with", how]) => one(jump(&format!("REJECT --reject-with {how}"))),
        ("CT", ["--notrack"]) => one(jump("NOTRACK")),
        ("DSCP", ["--set-dscp", value]) => {
            let number = value.strip_prefix("0x").and_then(|hex| u8::from_str_radix(hex, 16).ok());
            one(jump(&format!("DSCP --set-dscp {}", number.map_or((*value).to_owned(), |number| number.to_string()))))
        }
        ("MASQUERADE" | "SNAT" | "DNAT", rest) => {
            let text = jump(&format!("{target} {}", rest.join(" ")));
            one(text.trim_end().to_owned())
        }
        (_, []) => one(jump(target)),
        (_, rest) => (vec![jump(&format!("{target} {}", rest.join(" ")))], false),
    }
}

/// The tools print the prefix first; Felix the group.
fn nflog_spellings(words: &[&str]) -> Vec<String> {
    let value =
        |name: &str| words.iter().position(|word| *word == name).and_then(|place| words.get(place + 1)).copied();
    let group = value("--nflog-group").unwrap_or("0");
    let prefix = value("--nflog-prefix").unwrap_or_default();
    let base = format!("--jump NFLOG --nflog-group {group} --nflog-prefix {prefix}");
    let sizes =
        ["--nflog-size", "--nflog-range"].map(|option| value(option).map(|size| format!("{base} {option} {size}")));
    let mut spellings: Vec<String> = sizes.into_iter().flatten().collect();
    if spellings.is_empty() {
        spellings.push(base);
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::spelling as spelling_of;
    use super::*;
    use crate::calico::hash::ChainHash;

    /// Hashes of the originals that `lines` must lead back to.
    fn rebuild(chain: &str, family: Family, lines: &[(&str, &str)]) {
        let mut state = ChainHash::of_chain(chain);
        for (line, hash) in lines {
            let spelling = spelling(line, chain, family).expect("an -A line");
            assert!(spelling.understood, "{line}");
            let text = spelling.find(|text| state.after(text).short().to_string() == *hash);
            let text = text.unwrap_or_else(|| panic!("no spelling of {line} hashes to {hash}"));
            state = state.after(&text);
        }
    }

    #[test]
    fn saved_failsafe_rules_lead_back_to_their_hashes() {
        rebuild(
            "cali-failsafe-in",
            Family::Ipv4,
            &[
                (
                    "-A cali-failsafe-in -p tcp -m comment --comment \"cali:x\" -m multiport --dports 22 -j ACCEPT",
                    "wWFQM43tJU7wwnFZ",
                ),
                ("-A cali-failsafe-in -p udp -m multiport --dports 68 -j ACCEPT", "LwNV--R8MjeUYacw"),
            ],
        );
    }

    #[test]
    fn headers_are_put_back_where_felix_had_them() {
        let line = "-A c -s 10.0.0.0/8 -p udp -m multiport --dports 4789 -m addrtype --dst-type LOCAL -j DROP";
        let spelling = spelling(line, "c", Family::Ipv4).expect("an -A line");
        assert_eq!(
            spelling.likeliest(),
            "-A c HASH -p udp --source 10.0.0.0/8 -m multiport --destination-ports 4789 -m addrtype --dst-type LOCAL --jump DROP"
        );
        // a net of everything is lost in the kernel, on either side
        for (ports, net) in [("--dports", "--destination"), ("--sports", "--source"), ("--dports", "--source")] {
            let line = format!("-A c -p tcp -m multiport {ports} 22 -j ACCEPT");
            let spelling = spelling_of(&line, "c", Family::Ipv4).expect("an -A line");
            let long = if ports == "--dports" { "--destination-ports" } else { "--source-ports" };
            let text = format!("-A c HASH -p tcp -m multiport {long} 22 {net} 0.0.0.0/0 --jump ACCEPT");
            assert!(spelling.find(|candidate| candidate == text).is_some(), "{text}");
        }
        let failsafe = "-A c HASH -p 17 -m multiport --destination-ports 4789 --source 10.0.0.0/8 -m addrtype --dst-type LOCAL --jump DROP";
        assert!(spelling.find(|text| text == failsafe).is_some());
    }

    #[test]
    fn targets_get_felix_options_back() {
        for (line, text) in [
            ("-j MARK --set-xmark 0x0/0x1b0000", "--jump MARK --set-mark 0/0x1b0000"),
            ("-j MARK --set-xmark 0x10000/0x10000", "--jump MARK --set-mark 0x10000/0x10000"),
            (
                "-j NFLOG --nflog-prefix \"API0|gnp/a\" --nflog-group 1 --nflog-size 80",
                "--jump NFLOG --nflog-group 1 --nflog-prefix API0|gnp/a --nflog-size 80",
            ),
            (
                "-j LOG --log-prefix \"calico-packet: \" --log-level 5",
                "--jump LOG --log-prefix \"calico-packet: \" --log-level 5",
            ),
            ("-j REJECT --reject-with icmp-port-unreachable", "--jump REJECT"),
            ("-j CT --notrack", "--jump NOTRACK"),
            ("-g cali-fh-eth0", "--goto cali-fh-eth0"),
            ("-m limit --limit 10/min -j DROP", "-m limit --limit 10/minute --limit-burst 5 --jump DROP"),
            ("-m mark ! --mark 0x0/0x30000 -j RETURN", "-m mark ! --mark 0/0x30000 --jump RETURN"),
        ] {
            let spelling = spelling(&format!("-A c {line}"), "c", Family::Ipv4).expect("an -A line");
            assert!(spelling.understood, "{line}");
            assert_eq!(spelling.likeliest(), format!("-A c HASH {text}"));
        }
    }

    #[test]
    fn foreign_words_are_kept_and_said_to_be_foreign() {
        for line in ["-m string --string x --algo bm -j DROP", "-j TTL --ttl-set 3", "-f -j DROP"] {
            let spelling = spelling(&format!("-A c {line}"), "c", Family::Ipv4).expect("an -A line");
            assert!(!spelling.understood, "{line}");
        }
        assert!(spelling("COMMIT", "c", Family::Ipv4).is_none());
        assert!(spelling(&format!("-A c {}", "-m x ".repeat(300)), "c", Family::Ipv4).is_none());
    }
}
