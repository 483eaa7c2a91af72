//! Random ipsets of the types that common kernels have and packets can be looked up in without a MAC address. `hash:mac`,
//! `hash:ip,mac`, `hash:ip,mark`, `hash:net,net` and `hash:net,port,net` are missing in the kernel these tests are written on.

use std::fmt::Write as _;

use super::Words;

/// Type, and how many dimensions rules give.
const TYPES: [(&str, usize); 11] = [
    ("hash:ip", 1),
    ("hash:net", 1),
    ("hash:net", 1),
    ("hash:ip,port", 2),
    ("hash:net,port", 2),
    ("hash:ip,port,ip", 3),
    ("hash:ip,port,net", 3),
    ("hash:net,iface", 2),
    ("bitmap:port", 1),
    ("bitmap:ip", 1),
    ("list:set", 1),
];

/// A set rules may name, with the dimensions it takes.
pub(super) struct SetName {
    pub(super) name: String,
    pub(super) dimensions: usize,
    /// Takes an interface: only `src,src` and the like make sense on every hook.
    pub(super) interface: bool,
    /// Holds other sets.
    list: bool,
}

/// Text for `ipset restore` and the sets in it.
pub(super) fn ipsets(words: &mut Words, count: usize) -> (String, Vec<SetName>) {
    let family = if words.ipv4 { "inet" } else { "inet6" };
    let (mut text, mut names) = (String::new(), Vec::<SetName>::new());
    for number in 0..count {
        let (mut kind, mut dimensions) = TYPES[words.rng.usize(..TYPES.len())];
        let members: Vec<String> = names.iter().filter(|set| !set.list).map(|set| set.name.clone()).collect();
        // bitmaps know IPv4 alone
        if kind == "bitmap:ip" && !words.ipv4 {
            (kind, dimensions) = ("hash:net", 1);
        }
        if kind == "list:set" && members.is_empty() {
            (kind, dimensions) = ("hash:ip", 1);
        }
        let name = format!("s{}-{}-{number}", if words.ipv4 { 4 } else { 6 }, words.seed % 16);
        let _ = match kind {
            "bitmap:port" => writeln!(text, "create {name} {kind} range 0-65535"),
            "bitmap:ip" => writeln!(text, "create {name} {kind} range 10.0.0.0/16"),
            "list:set" => writeln!(text, "create {name} {kind}"),
            _ => writeln!(text, "create {name} {kind} family {family}"),
        };
        for _ in 0..words.rng.usize(1..6) {
            let element =
                if kind == "list:set" { words.rng.choice(&members).cloned() } else { Some(element(words, kind)) };
            let nomatch = if kind.contains("net") && words.one_in(5) { " nomatch" } else { "" };
            // the same element twice is no error
            let _ = writeln!(text, "add {name} {}{nomatch} -exist", element.unwrap_or_default());
        }
        let list = kind == "list:set";
        if list {
            // members that want more than the rule gives never match
            dimensions = words.rng.usize(1..3);
        }
        names.push(SetName { name, dimensions, interface: kind == "hash:net,iface", list });
    }
    (text, names)
}

fn element(words: &mut Words, kind: &str) -> String {
    let parts = kind.split_once(':').map_or(kind, |(_, parts)| parts).split(',');
    let parts: Vec<String> = parts
        .map(|part| match part {
            "ip" if kind.starts_with("bitmap") => {
                words.pick(&["10.0.1.77", "10.0.1.0/24", "10.0.1.10-10.0.1.90"]).to_owned()
            }
            "ip" => words.address(),
            "net" => words.prefix(),
            "port" if kind.starts_with("bitmap") => words.port().to_string(),
            "port" => {
                let icmp = if words.ipv4 { "icmp:8/0" } else { "icmpv6:128/0" };
                if words.one_in(8) { icmp.to_owned() } else { format!("{}:{}", words.transport(), words.port()) }
            }
            _ => words.device().to_owned(),
        })
        .collect();
    parts.join(",")
}
