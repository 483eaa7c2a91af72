//! Random iptables tables.

use std::fmt::Write as _;

use super::ipset::{SetName, ipsets};
use super::{UNTRACKED_TOS, Words};

/// Tables with their built-in chains.
const TABLES: [(&str, &[&str]); 4] = [
    ("raw", &["PREROUTING", "OUTPUT"]),
    ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
    ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
];

/// Chains of their own in each table; a chain only calls later ones.
const OWN: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// IP sets and the four tables of one family, from a seed.
pub(crate) fn iptables(seed: u64, ipv4: bool) -> (String, String) {
    tables(Words::new(seed, ipv4))
}

/// Like [`iptables`], with conditions among them that nobody can decide.
pub(crate) fn opaque_iptables(seed: u64, ipv4: bool) -> (String, String) {
    tables(Words { opaque: true, ..Words::new(seed, ipv4) })
}

fn tables(mut words: Words) -> (String, String) {
    let (ipset_text, sets) = ipsets(&mut words, 5);
    let mut text = String::new();
    for (table, chains) in TABLES {
        // filter and raw are always there, the others now and then
        if !["filter", "raw"].contains(&table) && words.one_in(3) {
            continue;
        }
        let _ = writeln!(text, "*{table}");
        for chain in chains {
            let policy = if table == "filter" && words.one_in(3) { "DROP" } else { "ACCEPT" };
            let _ = writeln!(text, ":{chain} {policy} [0:0]");
        }
        for chain in OWN {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        if table == "raw" {
            let dscp = UNTRACKED_TOS >> 2;
            let _ = writeln!(text, "-A PREROUTING -m dscp --dscp {dscp:#x} -j CT --notrack");
            let _ = writeln!(text, "-A OUTPUT -m dscp --dscp {dscp:#x} -j CT --notrack");
        }
        for chain in chains.iter().chain(&OWN) {
            let most = if table == "filter" { 9 } else { 4 };
            for _ in 0..words.rng.usize(1..most) {
                let mut rule = Rule { words: &mut words, sets: &sets, table, chain, protocol: None };
                let line = rule.line();
                let _ = writeln!(text, "-A {chain}{line}");
            }
        }
        text += "COMMIT\n";
    }
    (ipset_text, text)
}

struct Rule<'a> {
    words: &'a mut Words,
    sets: &'a [SetName],
    table: &'a str,
    chain: &'a str,
    protocol: Option<&'static str>,
}

impl Rule<'_> {
    fn line(&mut self) -> String {
        let target = self.target();
        let mut line = String::new();
        // the protocol first: other matches depend on it, and some targets bring theirs
        if let Some(protocol) = self.protocol {
            let _ = write!(line, " -p {protocol}");
        } else if self.words.rng.u8(..5) < 3 {
            let icmp = if self.words.ipv4 { "icmp" } else { "ipv6-icmp" };
            let protocol = self.words.pick(&["tcp", "tcp", "tcp", "udp", "udp", "sctp", icmp, icmp, "47"]);
            let negated = if self.words.one_in(8) { " !" } else { "" };
            let _ = write!(line, "{negated} -p {protocol}");
            self.protocol = negated.is_empty().then_some(protocol);
        }
        for _ in 0..self.words.rng.usize(..4) {
            let next = self.condition();
            // most matches may be given once
            let option = next.split_whitespace().find(|word| word.starts_with('-')).unwrap_or_default();
            let module = next.split_whitespace().nth(1).unwrap_or_default();
            let so_far = format!("{line} ");
            let again = so_far.contains(&format!(" {option} {module}"));
            if !again && (option == "-m" || !so_far.contains(&format!(" {option} "))) {
                line += &next;
            }
        }
        line + &target
    }

    fn not(&mut self) -> &'static str {
        if self.words.one_in(4) { " !" } else { "" }
    }

    fn condition(&mut self) -> String {
        let not = self.not();
        let side = self.words.pick(&["src", "dst"]);
        if self.words.opaque && self.words.one_in(12) {
            return self.opaque();
        }
        match self.words.rng.u8(..25) {
            0 => format!("{not} -s {}", self.words.prefix()),
            1 => format!("{not} -d {}", self.words.prefix()),
            2 | 3 => self.interface(not),
            4 | 5 => self.transport(not),
            6 => self.transport(not),
            7 => format!(" -m iprange{not} --{side}-range {}", self.words.range()),
            8 => {
                let states = self.words.pick(&[
                    "NEW",
                    "ESTABLISHED",
                    "RELATED,ESTABLISHED",
                    "INVALID",
                    "UNTRACKED",
                    "NEW,INVALID",
                    "DNAT",
                    "SNAT",
                ]);
                format!(" -m conntrack{not} --ctstate {states}")
            }
            9 => {
                let status = self.words.pick(&["NONE", "SEEN_REPLY", "ASSURED", "CONFIRMED", "ASSURED,CONFIRMED"]);
                format!(" -m conntrack{not} --ctstatus {status}")
            }
            10 => format!(" -m conntrack{not} --ctdir {}", self.words.pick(&["ORIGINAL", "REPLY"])).replace(" !", ""),
            11 => format!(" -m mark{not} --mark {:#x}/{:#x}", self.words.mark(), self.words.mask()),
            12 => format!(" -m connmark{not} --mark {:#x}/{:#x}", self.words.mark(), self.words.mask()),
            13 | 14 => self.set(not),
            15 => {
                let other = if self.words.ipv4 { "BROADCAST" } else { "MULTICAST" };
                let kinds = self.words.pick(&["LOCAL", "LOCAL", "UNICAST", "LOCAL,UNICAST", other]);
                format!(" -m addrtype{not} --{side}-type {kinds}")
            }
            16 if ["OUTPUT", "POSTROUTING"].contains(&self.chain) => {
                let owner = self.words.pick(&[
                    "--uid-owner 1000",
                    "--gid-owner 1000",
                    "--uid-owner 0-999",
                    "--uid-owner 1001",
                    "--socket-exists",
                ]);
                format!(" -m owner{not} {owner}")
            }
            16 => format!(" -m length{not} --length {}", self.words.pick(&["0:40", "44", "36:60", "61:65535"])),
            19 => format!(" -m dscp{not} --dscp {}", self.words.pick(&["0x00", "0x2e", "0x01", "0x04", "0x08"])),
            20 => {
                format!(" -m tos{not} --tos {}", self.words.pick(&["0x10/0xff", "0x10/0x3f", "0xb8/0xff", "0x00/0xfc"]))
            }
            21 => format!(" -m ecn{not} --ecn-ip-ect {}", self.words.pick(&["0", "1", "2"])),
            22 => self.tuple(not),
            23 => self.header(not),
            24 => self.option(not),
            17 => format!(" -m pkttype{not} --pkt-type {}", self.words.pick(&["unicast", "broadcast", "multicast"])),
            _ if self.words.ipv4 => {
                format!(" -m ttl {}", self.words.pick(&["--ttl-eq 64", "--ttl-lt 64", "--ttl-gt 64"]))
            }
            _ => format!(" -m hl {}", self.words.pick(&["--hl-eq 64", "--hl-lt 64", "--hl-gt 64"])),
        }
    }

    /// Link-layer addresses and IPv6 extension headers.
    fn header(&mut self, not: &str) -> String {
        if ["PREROUTING", "INPUT", "FORWARD"].contains(&self.chain) && (self.words.ipv4 || self.words.rng.bool()) {
            return format!(" -m mac{not} --mac-source 02:11:22:33:44:{}", self.words.pick(&["55", "55", "56"]));
        }
        if self.words.ipv4 {
            return format!("{not} -f");
        }
        let headers = [
            " -m ipv6header --header hop-by-hop --soft",
            " -m ipv6header ! --header dst --soft",
            " -m ipv6header --header hop-by-hop,dst,protocol",
            " -m hbh",
            " -m dst --dst-len 16",
            " -m dst",
            " -m rt --rt-type 4",
            " -m rt ! --rt-segsleft 1",
            " -m srh --srh-tag 4626",
            " -m srh ! --srh-lsid fd00:51::/32",
        ];
        self.words.pick(&headers).to_owned()
    }

    /// TCP options, where the rule is about TCP.
    fn option(&mut self, not: &str) -> String {
        match (self.protocol, self.words.rng.bool()) {
            (Some("tcp"), true) => format!(" -m tcp{not} --tcp-option {}", self.words.pick(&["2", "8", "254", "4"])),
            (Some("tcp"), false) => {
                format!(" -m tcpmss{not} --mss {}", self.words.pick(&["536:1400", "1460", "0:500"]))
            }
            _ => format!("{not} -s {}", self.words.prefix()),
        }
    }

    /// What conntrack knows of the connection's two directions.
    fn tuple(&mut self, not: &str) -> String {
        let tuple = match self.words.rng.u8(..5) {
            0 => format!("--ctproto {}", self.words.pick(&["6", "17", "1", "132"])),
            1 => format!("--ctorigdstport {}", self.words.port()),
            2 => format!("--ctorigsrcport 1024:{}", self.words.port().max(1024)),
            _ => {
                let end = self.words.pick(&["--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst"]);
                format!("{end} {}", self.words.prefix())
            }
        };
        format!(" -m conntrack{not} {tuple}")
    }

    /// What depends on more than the packet.
    fn opaque(&mut self) -> String {
        let conditions = [
            "statistic --mode random --probability 0.5",
            "limit --limit 1/s --limit-burst 2",
            "recent --rcheck --name seen",
            "quota --quota 2000",
            "hashlimit --hashlimit-above 1/s --hashlimit-mode srcip --hashlimit-name h",
            "string --string guard --algo bm",
            "connlimit --connlimit-above 1",
        ];
        format!(" -m {}", self.words.pick(&conditions))
    }

    /// An interface match the chain's hook allows; chains of our own are reached from everywhere.
    fn interface(&mut self, not: &str) -> String {
        let incoming = match self.chain {
            "PREROUTING" | "INPUT" => true,
            "OUTPUT" | "POSTROUTING" => false,
            _ => self.words.rng.bool(),
        };
        let name = match self.words.rng.u8(..4) {
            0 => self.words.pick(&["e+", "cali+", "eth+", "docker0+"]),
            _ => self.words.device(),
        };
        format!("{not} {} {name}", if incoming { "-i" } else { "-o" })
    }

    /// Matches inside the protocol's header, where the rule names the protocol.
    fn transport(&mut self, not: &str) -> String {
        let side = self.words.pick(&["sport", "dport", "dport"]);
        match self.protocol {
            Some(protocol @ ("tcp" | "udp" | "sctp")) => match self.words.rng.u8(..4) {
                0 => {
                    let side = self.words.pick(&["sports", "dports", "dports", "ports"]);
                    let (low, high) = self.words.port_range();
                    format!(" -m multiport{not} --{side} {},{},{low}:{high}", self.words.port(), self.words.port())
                }
                1 if protocol == "tcp" => {
                    let flags = self.words.pick(&[
                        "FIN,SYN,RST,ACK SYN",
                        "SYN,ACK ACK",
                        "ALL NONE",
                        "SYN,FIN SYN,FIN",
                        "RST RST",
                        "ALL SYN,ACK",
                    ]);
                    format!(" -m tcp{not} --tcp-flags {flags}")
                }
                2 => {
                    let (low, high) = self.words.port_range();
                    format!(" -m {protocol}{not} --{side} {low}:{high}")
                }
                _ => format!(" -m {protocol}{not} --{side} {}", self.words.port()),
            },
            Some("icmp") => {
                format!(" -m icmp{not} --icmp-type {}", self.words.pick(&["8", "3", "3/4", "0", "13", "any", "3/1"]))
            }
            Some("ipv6-icmp") => {
                format!(" -m icmp6{not} --icmpv6-type {}", self.words.pick(&["128", "1", "1/4", "129", "135", "136"]))
            }
            _ => format!("{not} -s {}", self.words.prefix()),
        }
    }

    fn set(&mut self, not: &str) -> String {
        let Some(set) = self.words.rng.choice(self.sets) else { return String::new() };
        // with too few directions nothing matches
        let given = if self.words.one_in(12) { 1 } else { set.dimensions };
        let directions: Vec<&str> = (0..given)
            .map(|dimension| if set.interface && dimension == 1 { "src" } else { self.words.pick(&["src", "dst"]) })
            .collect();
        format!(" -m set{not} --match-set {} {}", set.name, directions.join(","))
    }

    fn target(&mut self) -> String {
        let later: Vec<&str> = match OWN.iter().position(|own| *own == self.chain) {
            Some(place) => OWN[place + 1..].to_vec(),
            None => OWN.to_vec(),
        };
        let own = |words: &mut Words, how: &str| match later.is_empty() {
            true => String::new(),
            false => format!(" {how} {}", words.pick(&later)),
        };
        match self.words.rng.u8(..26) {
            0..4 => " -j ACCEPT".to_owned(),
            4..6 if self.table != "nat" => " -j DROP".to_owned(),
            6..8 => " -j RETURN".to_owned(),
            8..12 => own(self.words, "-j"),
            12..14 => own(self.words, "-g"),
            14 => String::new(),
            15 => " -j NFLOG --nflog-prefix \"DPI|default\" --nflog-group 1".to_owned(),
            16 => " -j LOG --log-prefix \"calico-packet: \" --log-level 5".to_owned(),
            17..20 => self.mark(),
            20 => self.connmark(),
            _ => self.special(),
        }
    }

    fn mark(&mut self) -> String {
        let (mark, mask) = (self.words.mark(), self.words.mask());
        match self.words.rng.u8(..5) {
            0 => format!(" -j MARK --and-mark {mask:#x}"),
            1 => format!(" -j MARK --or-mark {mark:#x}"),
            2 => format!(" -j MARK --xor-mark {mark:#x}"),
            3 => format!(" -j MARK --set-mark {mark:#x}/{mask:#x}"),
            _ => format!(" -j MARK --set-xmark {mark:#x}/{mask:#x}"),
        }
    }

    fn connmark(&mut self) -> String {
        let (mark, mask) = (self.words.mark(), self.words.mask());
        match self.words.rng.u8(..4) {
            0 => format!(" -j CONNMARK --set-xmark {mark:#x}/{mask:#x}"),
            1 => format!(" -j CONNMARK --save-mark --nfmask {mask:#x} --ctmask {mask:#x}"),
            2 => " -j CONNMARK --restore-mark".to_owned(),
            _ => format!(" -j CONNMARK --restore-mark --nfmask {mask:#x} --ctmask 0xffffffff"),
        }
    }

    /// What only one table can do, where the chain's hook allows it.
    fn special(&mut self) -> String {
        let port = self.words.port();
        match (self.table, self.chain) {
            ("raw", _) => " -j CT --notrack".to_owned(),
            ("mangle", _) => match (self.words.rng.u8(..4), self.words.ipv4) {
                (0, _) => format!(" -j DSCP --set-dscp {}", self.words.pick(&["0x2e", "0x04", "0x00"])),
                (1, _) => format!(" -j TOS --set-tos {}", self.words.pick(&["0x10/0xff", "0x08/0x1c"])),
                (_, true) => format!(" -j TTL {}", self.words.pick(&["--ttl-set 64", "--ttl-inc 1"])),
                (_, false) => format!(" -j HL {}", self.words.pick(&["--hl-set 64", "--hl-inc 1"])),
            },
            ("filter", _) => match (self.protocol.is_none() && self.words.one_in(3), self.words.ipv4) {
                (true, _) => {
                    self.protocol = Some("tcp");
                    " -j REJECT --reject-with tcp-reset".to_owned()
                }
                (false, true) => " -j REJECT --reject-with icmp-admin-prohibited".to_owned(),
                (false, false) => " -j REJECT --reject-with icmp6-adm-prohibited".to_owned(),
            },
            ("nat", "PREROUTING" | "OUTPUT") => match self.words.rng.u8(..3) {
                0 => format!(" -j DNAT --to-destination {}", self.words.address()),
                1 if self.protocol.is_none() => {
                    self.protocol = Some(self.words.pick(&["tcp", "udp"]));
                    let address = self.words.address();
                    let address = if self.words.ipv4 { address } else { format!("[{address}]") };
                    format!(" -j DNAT --to-destination {address}:{port}")
                }
                _ if self.protocol.is_none() => {
                    self.protocol = Some(self.words.pick(&["tcp", "udp"]));
                    format!(" -j REDIRECT --to-ports {port}")
                }
                _ => " -j REDIRECT".to_owned(),
            },
            ("nat", "POSTROUTING") if self.words.rng.bool() => " -j MASQUERADE".to_owned(),
            ("nat", "POSTROUTING" | "INPUT") => format!(" -j SNAT --to-source {}", self.words.address()),
            _ => " -j ACCEPT".to_owned(),
        }
    }
}
