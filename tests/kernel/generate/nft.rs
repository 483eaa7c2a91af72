//! Random native nftables rulesets.

use std::fmt::Write as _;

use super::{UNTRACKED_TOS, Words};

/// Own chains of each table; a chain only calls later ones.
const OWN: [&str; 3] = ["alpha", "beta", "gamma"];

/// Hooks with the priorities their base chains get.
const BASES: [(&str, &[i32]); 5] = [
    ("prerouting", &[-310, -300, -190, -150, -10]),
    ("input", &[-150, -10, 0, 5, 50]),
    ("forward", &[-150, 0, 5]),
    ("output", &[-310, -250, -150, 0, 5]),
    ("postrouting", &[-150, 0, 300]),
];

/// One to three tables from a seed.
pub(crate) fn nft(seed: u64) -> String {
    tables(Words::new(seed, true))
}

/// Like [`nft`], with conditions among them that nobody can decide.
pub(crate) fn opaque_nft(seed: u64) -> String {
    tables(Words { opaque: true, ..Words::new(seed, true) })
}

fn tables(mut words: Words) -> String {
    let families = ["inet", "inet", "ip", "ip6"];
    let mut text = String::new();
    for number in 0..words.rng.usize(1..4) {
        let family = words.pick(&families);
        words.ipv4 = family != "ip6";
        Table { words: &mut words, family, text: &mut text, network: None, transport: None }.write(number);
    }
    text
}

struct Table<'a> {
    words: &'a mut Words,
    family: &'static str,
    text: &'a mut String,
    /// What the rule being written already says: nft refuses rules that contradict themselves.
    network: Option<&'static str>,
    transport: Option<&'static str>,
}

impl Table<'_> {
    fn write(&mut self, number: usize) {
        let _ = writeln!(self.text, "table {} t{number} {{", self.family);
        self.sets();
        for chain in OWN {
            let _ = writeln!(self.text, "chain {chain} {{");
            self.rules(chain, "", 5);
            *self.text += "}\n";
        }
        if number == 0 {
            self.untrack();
        }
        for (hook, priorities) in BASES {
            if self.words.one_in(3) {
                continue;
            }
            let priority = priorities[self.words.rng.usize(..priorities.len())];
            let policy = if self.words.one_in(5) { "drop" } else { "accept" };
            let kind = if hook == "output" && self.words.one_in(3) { "route" } else { "filter" };
            let _ =
                writeln!(self.text, "chain {hook} {{\ntype {kind} hook {hook} priority {priority}; policy {policy};");
            self.rules(hook, hook, 7);
            *self.text += "}\n";
        }
        for (hook, priority) in [("prerouting", -100), ("output", -100), ("postrouting", 100)] {
            if self.words.one_in(3) {
                let _ = writeln!(self.text, "chain nat_{hook} {{\ntype nat hook {hook} priority {priority};");
                for _ in 0..self.words.rng.usize(1..4) {
                    let line = self.nat(hook);
                    let _ = writeln!(self.text, "{line}");
                }
                *self.text += "}\n";
            }
        }
        *self.text += "}\n";
    }

    /// Takes some packets out of tracking before any other rule.
    fn untrack(&mut self) {
        let dscp = UNTRACKED_TOS >> 2;
        for hook in ["prerouting", "output"] {
            let _ = writeln!(self.text, "chain untrack_{hook} {{\ntype filter hook {hook} priority -320;");
            for network in ["ip", "ip6"] {
                if self.family == "inet" || self.family == network {
                    let _ = writeln!(self.text, "{network} dscp {dscp:#x} notrack");
                }
            }
            *self.text += "}\n";
        }
    }

    /// The sets and maps every table has; their members are drawn.
    fn sets(&mut self) {
        let kinds = [
            ("set nets", "ipv4_addr", "interval"),
            ("set nets6", "ipv6_addr", "interval"),
            ("set services", "inet_proto . inet_service", "interval"),
            ("set ports", "inet_service", ""),
            ("map dispatch", "ifname : verdict", ""),
            ("map port_marks", "inet_service : mark", "interval"),
        ];
        for (name, kind, flags) in kinds {
            let flags = if flags.is_empty() { String::new() } else { format!("flags {flags}; auto-merge;") };
            // nft cannot merge elements of concatenations and maps, so these must not overlap
            let flags = if kind.contains([' ', ':']) { flags.replace("auto-merge;", "") } else { flags };
            let elements = self.elements(name);
            let _ = writeln!(self.text, "{name} {{ type {kind}; {flags} elements = {{ {elements} }}; }}");
        }
    }

    fn elements(&mut self, set: &str) -> String {
        let ipv4 = self.words.ipv4;
        self.words.ipv4 = set != "set nets6";
        let words = &mut *self.words;
        let elements: Vec<String> = match set {
            "set nets" | "set nets6" => {
                (0..5).map(|n| if n % 2 == 0 { words.prefix() } else { words.range() }).collect()
            }
            "set services" => {
                let (low, high) = words.port_range();
                vec![
                    format!("tcp . {low}-{high}"),
                    format!("udp . {}", words.port()),
                    format!("sctp . {}", words.port()),
                ]
            }
            "set ports" => (0..4).map(|_| words.port().to_string()).collect(),
            "map dispatch" => {
                let mut devices = vec!["ens5", "eth1", "docker0", "lo"];
                words.rng.shuffle(&mut devices);
                let verdicts = ["accept", "jump alpha", "goto beta", "drop", "return", "continue"];
                devices.iter().take(2).map(|device| format!("{device} : {}", words.pick(&verdicts))).collect()
            }
            _ => {
                let (low, high) = words.port_range();
                vec![format!("{low}-{high} : {:#x}", words.mark()), format!("65000-65535 : {:#x}", words.mark())]
            }
        };
        self.words.ipv4 = ipv4;
        elements.join(", ")
    }

    fn rules(&mut self, chain: &str, hook: &str, most: usize) {
        for _ in 0..self.words.rng.usize(1..most) {
            let mut line = String::new();
            (self.network, self.transport) = (None, None);
            for _ in 0..self.words.rng.usize(..3) {
                let _ = write!(line, "{} ", self.condition(hook));
            }
            let statement = self.statement(chain, hook);
            let _ = writeln!(self.text, "{line}{statement}");
        }
    }

    /// `ip` or `ip6`, as the table's family allows.
    fn network(&mut self) -> &'static str {
        let network = match (self.network, self.family) {
            (Some(network), _) => network,
            (None, family @ ("ip" | "ip6")) => family,
            _ => self.words.pick(&["ip", "ip6"]),
        };
        self.network = Some(network);
        self.words.ipv4 = network == "ip";
        network
    }

    /// A protocol with ports, unless the rule already says another one.
    fn transport(&mut self) -> &'static str {
        let drawn = self.words.transport();
        match *self.transport.get_or_insert(drawn) {
            "icmp" | "icmpv6" => "th",
            transport => transport,
        }
    }

    fn not(&mut self) -> &'static str {
        if self.words.one_in(4) { "!= " } else { "" }
    }

    fn condition(&mut self, hook: &str) -> String {
        let not = self.not();
        if self.words.opaque && self.words.one_in(12) {
            let conditions =
                ["limit rate 1/second", "numgen random mod 2 0", "numgen inc mod 3 1", "quota over 2000 bytes"];
            return self.words.pick(&conditions).to_owned();
        }
        match self.words.rng.u8(..22) {
            0..5 => self.addresses(not),
            5..10 => self.ports(not),
            10..13 => self.connection(not),
            13 | 14 => self.interface(hook, not),
            15 => {
                let (mark, mask) = (self.words.mark(), self.words.mask());
                let operator = if not.is_empty() { "==" } else { "!=" };
                format!("meta mark & {mask:#x} {operator} {mark:#x}")
            }
            16 => self.messages(not),
            17 => self.flags(),
            18 if hook == "output" || hook == "postrouting" => {
                let (key, value) =
                    (self.words.pick(&["uid", "gid"]), self.words.pick(&["0", "1000", "0-999", "{ 1000, 1001 }"]));
                format!("meta sk{key} {not}{value}")
            }
            18 => format!("meta length {not}{}", self.words.pick(&["40", "0-60", "36"])),
            20 => self.headers(hook, not),
            21 => self.options(),
            _ => self.lookup(hook, not),
        }
    }

    /// Link-layer addresses, and IPv6 extension headers.
    fn headers(&mut self, hook: &str, not: &str) -> String {
        if ["prerouting", "input", "forward"].contains(&hook) && self.words.rng.bool() {
            let addresses = ["saddr 02:11:22:33:44:55", "saddr 02:11:22:33:44:56", "daddr 02:00:00:00:00:77"];
            return format!("ether {}", self.words.pick(&addresses).replace(' ', &format!(" {not}")));
        }
        if self.network() == "ip" {
            return format!("ip frag-off & 0x1fff {}0", if not.is_empty() { "== " } else { not });
        }
        let headers = [
            "exthdr hbh exists",
            "exthdr dst missing",
            "exthdr rt exists",
            "exthdr frag exists",
            "dst hdrlength 1",
            "hbh nexthdr 60",
            "rt type 4",
            "rt seg-left 0",
            "srh tag 4626",
            "srh sid[1] fd00:51::9",
            "ip6 nexthdr { 0, 6 }",
        ];
        let header = self.words.pick(&headers);
        // nft 1.0.6 takes the last of these numbers for the rule's protocol and refuses another one beside it
        if header.starts_with("ip6 nexthdr") && *self.transport.get_or_insert("tcp") != "tcp" {
            return headers[0].to_owned();
        }
        header.to_owned()
    }

    /// TCP options and what else stands in its header; bytes behind it.
    fn options(&mut self) -> String {
        if *self.transport.get_or_insert("tcp") != "tcp" {
            return format!("@th,16,16 {:#x}", self.words.port());
        }
        let options = [
            "tcp option maxseg exists",
            "tcp option maxseg size 1460",
            "tcp option maxseg size != 1460",
            "tcp option maxseg size < 500",
            "tcp option timestamp tsval 258",
            "tcp option sack-perm missing",
            "tcp option window count 7",
            "tcp option 254 exists",
            "tcp doff 5",
            "tcp window 64240",
            "@th,104,8 & 0x12 == 0x2",
        ];
        self.words.pick(&options).to_owned()
    }

    fn addresses(&mut self, not: &str) -> String {
        let (network, side) = (self.network(), self.words.pick(&["saddr", "daddr"]));
        let value = match self.words.rng.u8(..6) {
            0 | 1 => self.words.prefix(),
            2 => self.words.range(),
            3 => format!("{{ {}, {} }}", if self.words.ipv4 { "9.9.9.9" } else { "2001:9::9" }, self.words.range()),
            4 => match network {
                "ip" => "@nets".to_owned(),
                _ => "@nets6".to_owned(),
            },
            _ => {
                let transport = self.transport();
                let (address, port) = (self.words.prefix(), self.words.port());
                return format!("{network} {side} . {transport} dport {not}{{ {address} . {port} }}");
            }
        };
        format!("{network} {side} {not}{value}")
    }

    fn ports(&mut self, not: &str) -> String {
        let side = self.words.pick(&["sport", "dport", "dport"]);
        let (low, high) = self.words.port_range();
        let value = match self.words.rng.u8(..8) {
            0 | 1 => self.words.port().to_string(),
            2 => format!("{low}-{high}"),
            3 => format!("{{ 65535, {low}-{high} }}"),
            4 => "@ports".to_owned(),
            5 => {
                let (operator, port) = (self.words.pick(&["<", ">", "<=", ">="]), self.words.port().clamp(1, 65_000));
                return format!("{} {side} {operator} {port}", self.transport());
            }
            6 => return format!("meta l4proto . th dport {not}@services"),
            _ => {
                let place = self.words.pick(&["th dport", "th sport", "@th,16,16", "@th,0,16"]);
                return format!("{place} {not}{}", self.words.port());
            }
        };
        format!("{} {side} {not}{value}", self.transport())
    }

    fn connection(&mut self, not: &str) -> String {
        match self.words.rng.u8(..10) {
            7 => {
                let (network, side) = (self.network(), self.words.pick(&["saddr", "daddr"]));
                let direction = self.words.pick(&["original", "reply"]);
                format!("ct {direction} {network} {side} {not}{}", self.words.prefix())
            }
            8 => {
                let key = self.words.pick(&["original proto-dst", "original proto-src", "reply proto-src"]);
                let (low, high) = self.words.port_range();
                // nft wants to know whose ports these are
                match self.transport {
                    None => format!("meta l4proto {} ct {key} {not}{low}-{high}", self.transport()),
                    Some(_) => format!("ct mark {not}{:#x}", self.words.mark()),
                }
            }
            9 => {
                let (mark, mask) = (self.words.mark(), self.words.mask());
                let operator = if not.is_empty() { "==" } else { "!=" };
                format!("ct mark & {mask:#x} {operator} {mark:#x}")
            }
            0..3 => {
                let states = ["new", "established", "{ established, related }", "invalid", "untracked"];
                format!("ct state {not}{}", self.words.pick(&states))
            }
            3 => format!("ct state {}new,established", self.words.pick(&["", "! "])),
            4 => {
                let status = self.words.pick(&["dnat", "assured", "confirmed", "seen-reply", "snat"]);
                format!("ct status {}{status}", self.words.pick(&["", "! "]))
            }
            5 => format!("ct direction {}", self.words.pick(&["original", "reply"])),
            _ => format!("ct mark {not}{:#x}", self.words.mark()),
        }
    }

    /// ICMP, or the protocol alone where the rule is about another one.
    fn messages(&mut self, not: &str) -> String {
        let network = self.network();
        if self.transport.is_some() {
            return format!("meta length {not}0-60");
        }
        if self.words.one_in(3) {
            self.transport = Some("th");
            return format!("meta l4proto {not}{{ tcp, {} }}", self.words.pick(&["udp", "icmp", "47", "ipv6-icmp"]));
        }
        let (name, types) = match network {
            "ip" => ("icmp", ["echo-request", "destination-unreachable", "{ echo-reply, echo-request }"]),
            _ => ("icmpv6", ["echo-request", "nd-neighbor-solicit", "{ echo-reply, echo-request }"]),
        };
        self.transport = Some(name);
        format!("{name} type {not}{}", self.words.pick(&types))
    }

    fn flags(&mut self) -> String {
        if *self.transport.get_or_insert("tcp") != "tcp" {
            return format!("ct mark {:#x}", self.words.mark());
        }
        let flags = [
            "& (fin | syn | rst | ack) == syn",
            "syn",
            "! syn",
            "& (syn | ack) == syn | ack",
            "!= syn",
            "== ack",
            "& rst == rst",
        ];
        format!("tcp flags {}", self.words.pick(&flags))
    }

    /// Other header fields, and routing.
    fn lookup(&mut self, hook: &str, not: &str) -> String {
        if self.words.rng.bool() {
            let fields: &[&str] = match self.network() {
                "ip" => &[
                    "ip ttl 64",
                    "ip ttl != 64",
                    "ip ttl < 100",
                    "ip dscp ef",
                    "ip dscp != { ef, 4, 8 }",
                    "ip ecn ect0",
                    "ip length 0-40",
                    "meta pkttype host",
                ],
                _ => &[
                    "ip6 hoplimit 64",
                    "ip6 hoplimit > 64",
                    "ip6 dscp ef",
                    "ip6 dscp { 4, 8 }",
                    "ip6 ecn ect0",
                    "meta pkttype host",
                ],
            };
            return self.words.pick(fields).to_owned();
        }
        let side = match hook {
            "prerouting" | "input" | "forward" => self.words.pick(&["daddr", "saddr"]),
            _ => "daddr",
        };
        format!("fib {side} type {not}{}", self.words.pick(&["local", "unicast", "{ local, broadcast }"]))
    }

    fn interface(&mut self, hook: &str, not: &str) -> String {
        let key = match hook {
            "prerouting" | "input" => "iifname",
            "output" | "postrouting" => "oifname",
            _ => self.words.pick(&["iifname", "oifname"]),
        };
        let name = match self.words.rng.u8(..5) {
            0 => self.words.pick(&["e*", "cali*", "docker*"]).to_owned(),
            1 => "{ ens5, lo }".to_owned(),
            _ => self.words.device().to_owned(),
        };
        format!("{key} {not}{name}")
    }

    fn statement(&mut self, chain: &str, hook: &str) -> String {
        let later = match OWN.iter().position(|own| *own == chain) {
            Some(place) => &OWN[place + 1..],
            None => &OWN,
        };
        let (mark, mask) = (self.words.mark(), self.words.mask());
        match self.words.rng.u8(..26) {
            24 => format!("{} dscp set {}", self.network(), self.words.pick(&["ef", "4", "cs0"])),
            25 => match self.network() {
                "ip" => "ip ttl set 64".to_owned(),
                _ => "ip6 hoplimit set 64".to_owned(),
            },
            0..5 => "counter accept".to_owned(),
            5 | 6 => "drop".to_owned(),
            7 if ["input", "forward", "output"].contains(&hook) => {
                let how = if self.family == "inet" { " with icmpx admin-prohibited" } else { "" };
                format!("counter reject{how}")
            }
            8 | 9 => "return".to_owned(),
            10 => "continue".to_owned(),
            11..14 if !later.is_empty() => format!("counter jump {}", self.words.pick(later)),
            14 | 15 if !later.is_empty() => format!("goto {}", self.words.pick(later)),
            16 => format!("meta mark set {mark:#x}"),
            17 => format!("meta mark set meta mark & {mask:#x} | {:#x}", mark & !mask),
            18 => self.words.pick(&["ct mark set meta mark", "meta mark set ct mark", "ct mark set 0x10"]).to_owned(),
            19 => "log prefix \"seen: \" group 3".to_owned(),
            20 => format!("meta mark set {} dport map @port_marks", self.transport()),
            21 => self.vmap(hook),
            22 if ["prerouting", "output"].contains(&hook) => "notrack".to_owned(),
            _ => "accept".to_owned(),
        }
    }

    fn vmap(&mut self, hook: &str) -> String {
        match self.words.rng.u8(..4) {
            // `dispatch` names chains of our own: only base chains may use it, or they would call themselves
            0 if ["prerouting", "input"].contains(&hook) => "iifname vmap @dispatch".to_owned(),
            1 if ["output", "postrouting"].contains(&hook) => "oifname vmap @dispatch".to_owned(),
            2 => "ct state vmap { established : accept, related : accept, invalid : drop }".to_owned(),
            _ => format!("{} dport vmap {{ 22 : accept, 80-443 : drop, 1024-65535 : return }}", self.transport()),
        }
    }

    fn nat(&mut self, hook: &str) -> String {
        (self.network, self.transport) = (None, None);
        let network = self.network();
        let transport = self.words.pick(&["tcp", "udp"]);
        let (from, to, address) = (self.words.port(), self.words.port(), self.words.address());
        let with_port = if self.words.ipv4 { format!("{address}:{to}") } else { format!("[{address}]:{to}") };
        let side = if hook == "postrouting" { "saddr" } else { "daddr" };
        let guard = format!("{network} {side} {}", self.words.prefix());
        let family = if self.family == "inet" { network } else { "" };
        match (hook, self.words.rng.u8(..5)) {
            ("postrouting", 0 | 1) => format!("{guard} masquerade"),
            ("postrouting", _) => format!("{guard} snat {family} to {address}"),
            (_, 0) => format!("{guard} {transport} dport {from} redirect to :{to}"),
            (_, 1) => format!("{guard} {transport} dport {from} dnat {family} to {with_port}"),
            (_, 2) => "accept".to_owned(),
            // a map gives both
            (_, 3) => format!("{guard} dnat {network} to {transport} dport map {{ {from} : {address} . {to} }}"),
            _ => format!("{guard} dnat {family} to {address}"),
        }
    }
}
