//! One rule as Felix builds it, and its three texts: what Felix hashes in iptables mode and in nft mode, and what
//! `iptables-save` makes of it.

use crate::calico::hash::{ChainHash, ShortHash};
use crate::calico::names::nft_set_name;
use crate::packet::{Family, PortRange, Prefix};

/// An end of the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// A protocol as policy names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProtocolName {
    /// By name, lower case.
    Name(String),
    /// By number.
    Number(u8),
}

impl std::fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// One condition of a rule, in Felix's terms.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields say what their variant says")]
pub enum Criterion {
    /// The protocol, or any other.
    Protocol { protocol: ProtocolName, negate: bool },
    /// An address inside a net, or outside.
    Net { side: Side, net: Prefix, negate: bool },
    /// An address in an IP set; the name is iptables mode's.
    Set { side: Side, set: String, negate: bool },
    /// An address, protocol and port in an IP set; the name is iptables mode's.
    PortSet { side: Side, set: String, negate: bool },
    /// Ports, at most 15 slots.
    Ports { side: Side, ports: Vec<PortRange>, negate: bool },
    /// One destination port, matched by the protocol's own module.
    DestinationPort(u16),
    /// ICMP or ICMPv6 type and code.
    Icmp { version: Family, kind: u8, code: Option<u8>, negate: bool },
    /// All these mark bits are set.
    MarkSet(u32),
    /// All these mark bits are clear.
    MarkClear(u32),
    /// One of these mark bits is set.
    MarkNotClear(u32),
    /// Conntrack states, as iptables writes them.
    State(&'static str),
    /// The connection's destination is translated, or not.
    Dnat { negate: bool },
    /// Interface name; a trailing `*` stands for any ending.
    InInterface(String),
    /// Interface name; a trailing `*` stands for any ending.
    OutInterface(String),
    /// The address is one of the host's own.
    LocalAddress(Side),
    /// No way back to the sender through the interface it came by.
    ReversePathFails,
    /// At most so many per unit, `10/minute`.
    Limit { rate: String, burst: u16 },
}

/// What a rule does, in Felix's terms.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields say what their variant says")]
pub enum RuleAction {
    Accept,
    Drop,
    Reject,
    Return,
    Jump(String),
    Goto(String),
    /// Set these bits.
    SetMark(u32),
    /// Clear these bits.
    ClearMark(u32),
    /// Give the bits of `mask` the values in `mark`.
    SetMaskedMark {
        mark: u32,
        mask: u32,
    },
    NoTrack,
    /// Copy 80 bytes of the packet to a listener.
    Nflog {
        group: u16,
        prefix: String,
        /// iptables' older option, which does not cut the packet but what the listener is told.
        range: bool,
    },
    /// Write a kernel log line; `: ` is added to the prefix.
    Log {
        prefix: String,
    },
}

/// A rule of Felix.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FelixRule {
    /// Conditions, in the order Felix adds them.
    pub criteria: Vec<Criterion>,
    /// What it does; a rule without action only carries a comment.
    pub action: Option<RuleAction>,
    /// Felix's comments, without the hash.
    pub comments: Vec<String>,
}

impl FelixRule {
    /// A rule without comment.
    #[must_use]
    pub fn new(criteria: Vec<Criterion>, action: RuleAction) -> Self {
        Self { criteria, action: Some(action), comments: Vec::new() }
    }

    /// A rule without condition.
    #[must_use]
    pub fn always(action: RuleAction) -> Self {
        Self::new(Vec::new(), action)
    }

    /// The same rule with one more comment.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comments.push(safe_comment(&text.into()));
        self
    }

    /// The text Felix hashes in iptables mode.
    #[must_use]
    pub fn iptables_text(&self, chain: &str) -> String {
        let mut words = vec![format!("-A {chain} HASH")];
        words.extend(self.comments.iter().map(|comment| format!("-m comment --comment \"{}\"", cut(comment, 256))));
        words.extend(self.criteria.iter().map(iptables_criterion));
        words.extend(self.action.as_ref().map(iptables_action));
        words.join(" ")
    }

    /// The text Felix sends and hashes in nft mode. `layer` is the table's name, put before chain names.
    #[must_use]
    pub fn nft_text(&self, layer: &str, family: Family) -> String {
        let transport = self.transport();
        let mut words: Vec<String> =
            self.criteria.iter().map(|criterion| nft_criterion(criterion, &transport, family)).collect();
        words.extend(self.action.as_ref().map(|action| format!("counter {}", nft_action(action, layer))));
        if words.is_empty() { "continue".to_owned() } else { words.join(" ") }
    }

    /// The line `iptables-save` prints for it.
    #[must_use]
    pub fn save_line(&self, chain: &str, hash: ShortHash, family: Family) -> String {
        let mut header = [const { String::new() }; 5];
        let mut blocks = vec![format!("-m comment --comment \"cali:{hash}\"")];
        blocks.extend(self.comments.iter().map(|comment| save_comment(&cut(comment, 256))));
        for criterion in &self.criteria {
            save_criterion(criterion, &mut header, &mut blocks, self.transport().as_str());
        }
        let mut line = format!("-A {chain}");
        let action = self.action.iter().map(|action| save_action(action, family));
        for word in header.into_iter().chain(blocks).filter(|word| !word.is_empty()).chain(action) {
            line.push(' ');
            line.push_str(&word);
        }
        line
    }

    /// The chain it calls.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match &self.action {
            Some(RuleAction::Jump(chain) | RuleAction::Goto(chain)) => Some(chain),
            _ => None,
        }
    }

    /// Whether nft mode can say it: ports need a protocol that has some.
    pub(super) fn can_be_sent(&self) -> bool {
        let ports =
            |criterion: &Criterion| matches!(criterion, Criterion::Ports { .. } | Criterion::DestinationPort(_));
        let transports = ["tcp", "udp", "sctp"];
        !self.criteria.iter().any(ports) || self.protocol().is_some_and(|name| transports.contains(&name.as_str()))
    }

    /// Name of the protocol with ports it matches, `tcp` when it says none.
    pub(super) fn transport(&self) -> String {
        self.protocol().unwrap_or_else(|| "tcp".to_owned())
    }

    fn protocol(&self) -> Option<String> {
        self.criteria.iter().find_map(|criterion| match criterion {
            Criterion::Protocol { protocol: ProtocolName::Name(name), negate: false } => Some(name.clone()),
            Criterion::Protocol { protocol: ProtocolName::Number(number), negate: false } => match number {
                6 => Some("tcp".to_owned()),
                17 => Some("udp".to_owned()),
                132 => Some("sctp".to_owned()),
                _ => None,
            },
            _ => None,
        })
    }
}

/// The hashes of a chain's rules, in order.
#[must_use]
pub fn hashes(chain: &str, texts: impl IntoIterator<Item = String>) -> Vec<ShortHash> {
    let mut state = ChainHash::of_chain(chain);
    texts
        .into_iter()
        .map(|text| {
            state = state.after(&text);
            state.short()
        })
        .collect()
}

/// Felix keeps only harmless characters of a comment.
fn safe_comment(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_ @%+=:,./-".contains(c);
    text.chars().map(|c| if safe(c) { c } else { '_' }).collect()
}

fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

fn not(negate: bool, text: &str) -> String {
    if negate { format!("! {text}") } else { text.to_owned() }
}

fn port_list(ports: &[PortRange], range: char, separator: &str) -> String {
    let one = |port: &PortRange| {
        if port.low == port.high { port.low.to_string() } else { format!("{}{range}{}", port.low, port.high) }
    };
    ports.iter().map(one).collect::<Vec<_>>().join(separator)
}

fn iptables_criterion(criterion: &Criterion) -> String {
    match criterion {
        Criterion::Protocol { protocol, negate } => not(*negate, &format!("-p {protocol}")),
        Criterion::Net { side: Side::Source, net, negate } => not(*negate, &format!("--source {net}")),
        Criterion::Net { side: Side::Destination, net, negate } => not(*negate, &format!("--destination {net}")),
        Criterion::Ports { side, ports, negate } => {
            let option = if *side == Side::Source { "--source-ports" } else { "--destination-ports" };
            format!("-m multiport {}", not(*negate, &format!("{option} {}", port_list(ports, ':', ","))))
        }
        Criterion::DestinationPort(port) => format!("--dport {port}"),
        Criterion::MarkSet(bits) => format!("-m mark --mark {bits:#x}/{bits:#x}"),
        Criterion::MarkClear(bits) => format!("-m mark --mark 0/{bits:#x}"),
        Criterion::MarkNotClear(bits) => format!("-m mark ! --mark 0/{bits:#x}"),
        Criterion::InInterface(name) => format!("--in-interface {}", iptables_interface(name)),
        Criterion::OutInterface(name) => format!("--out-interface {}", iptables_interface(name)),
        Criterion::ReversePathFails => "-m rpfilter --invert --validmark".to_owned(),
        Criterion::Limit { rate, burst } => format!("-m limit --limit {rate} --limit-burst {burst}"),
        _ => common_block(criterion),
    }
}

fn iptables_interface(name: &str) -> String {
    name.strip_suffix('*').map_or_else(|| name.to_owned(), |prefix| format!("{prefix}+"))
}

/// Blocks that Felix and `iptables-save` spell alike.
fn common_block(criterion: &Criterion) -> String {
    match criterion {
        Criterion::Set { side, set, negate } => {
            let side = if *side == Side::Source { "src" } else { "dst" };
            format!("-m set {}", not(*negate, &format!("--match-set {set} {side}")))
        }
        Criterion::PortSet { side, set, negate } => {
            let sides = if *side == Side::Source { "src,src" } else { "dst,dst" };
            format!("-m set {}", not(*negate, &format!("--match-set {set} {sides}")))
        }
        Criterion::State(states) => format!("-m conntrack --ctstate {states}"),
        Criterion::Dnat { negate } => format!("-m conntrack {}", not(*negate, "--ctstate DNAT")),
        Criterion::LocalAddress(Side::Source) => "-m addrtype --src-type LOCAL".to_owned(),
        Criterion::LocalAddress(Side::Destination) => "-m addrtype --dst-type LOCAL".to_owned(),
        Criterion::Icmp { version, kind, code, negate } => {
            let code = code.map(|code| format!("/{code}")).unwrap_or_default();
            let (module, option) =
                if *version == Family::Ipv6 { ("icmp6", "--icmpv6-type") } else { ("icmp", "--icmp-type") };
            format!("-m {module} {}", not(*negate, &format!("{option} {kind}{code}")))
        }
        _ => String::new(),
    }
}

fn iptables_action(action: &RuleAction) -> String {
    match action {
        RuleAction::Accept => "--jump ACCEPT".to_owned(),
        RuleAction::Drop => "--jump DROP".to_owned(),
        RuleAction::Reject => "--jump REJECT".to_owned(),
        RuleAction::Return => "--jump RETURN".to_owned(),
        RuleAction::Jump(chain) => format!("--jump {chain}"),
        RuleAction::Goto(chain) => format!("--goto {chain}"),
        RuleAction::SetMark(bits) => format!("--jump MARK --set-mark {bits:#x}/{bits:#x}"),
        RuleAction::ClearMark(bits) => format!("--jump MARK --set-mark 0/{bits:#x}"),
        // Go's %#x writes zero as 0x0
        RuleAction::SetMaskedMark { mark, mask } => format!("--jump MARK --set-mark {mark:#x}/{mask:#x}"),
        RuleAction::NoTrack => "--jump NOTRACK".to_owned(),
        RuleAction::Nflog { group, prefix, range } => {
            let size = if *range { "--nflog-range" } else { "--nflog-size" };
            format!("--jump NFLOG --nflog-group {group} --nflog-prefix {prefix} {size} 80")
        }
        RuleAction::Log { prefix } => format!("--jump LOG --log-prefix \"{prefix}: \" --log-level 5"),
    }
}

fn nft_criterion(criterion: &Criterion, transport: &str, family: Family) -> String {
    let ip = if family == Family::Ipv6 { "ip6" } else { "ip" };
    let ne = |negate: bool| if negate { "!= " } else { "" };
    let address = |side: Side| if side == Side::Source { "saddr" } else { "daddr" };
    match criterion {
        Criterion::Protocol { protocol, negate } => format!("meta l4proto {}{protocol}", ne(*negate)),
        Criterion::Net { side, net, negate } => format!("{ip} {} {}{net}", address(*side), ne(*negate)),
        Criterion::Set { side, set, negate } => {
            format!("{ip} {} {}@{}", address(*side), ne(*negate), nft_set_name(set))
        }
        Criterion::PortSet { side, set, negate } => {
            let port = if *side == Side::Source { "sport" } else { "dport" };
            let set = nft_set_name(set);
            format!("{ip} {} . meta l4proto . th {port} {}@{set}", address(*side), ne(*negate))
        }
        Criterion::Ports { side, ports, negate } => {
            let port = if *side == Side::Source { "sport" } else { "dport" };
            format!("{transport} {port} {}{{ {} }}", ne(*negate), port_list(ports, '-', ", "))
        }
        Criterion::DestinationPort(port) => format!("{transport} dport {port}"),
        Criterion::Icmp { version, kind, code, negate } => {
            let icmp = if *version == Family::Ipv6 { "icmpv6" } else { "icmp" };
            let code = code.map(|code| format!(" code {}{code}", ne(*negate))).unwrap_or_default();
            format!("{icmp} type {}{kind}{code}", ne(*negate))
        }
        Criterion::MarkSet(bits) => format!("meta mark & {bits:#x} == {bits:#x}"),
        Criterion::MarkClear(bits) => format!("meta mark & {bits:#x} == 0"),
        Criterion::MarkNotClear(bits) => format!("meta mark & {bits:#x} != 0"),
        Criterion::State(states) => format!("ct state {}", states.to_ascii_lowercase()),
        Criterion::Dnat { negate } => format!("ct status {}dnat", ne(*negate)),
        Criterion::InInterface(name) => format!("iifname {name}"),
        Criterion::OutInterface(name) => format!("oifname {name}"),
        Criterion::LocalAddress(side) => format!("fib {} type local", address(*side)),
        Criterion::ReversePathFails => "fib saddr . mark . iif oif 0".to_owned(),
        Criterion::Limit { rate, burst } => format!("limit rate {rate} burst {burst} packets"),
    }
}

fn nft_action(action: &RuleAction, layer: &str) -> String {
    match action {
        RuleAction::Accept => "accept".to_owned(),
        RuleAction::Drop => "drop".to_owned(),
        RuleAction::Reject => "reject".to_owned(),
        RuleAction::Return => "return".to_owned(),
        RuleAction::Jump(chain) => format!("jump {layer}-{chain}"),
        RuleAction::Goto(chain) => format!("goto {layer}-{chain}"),
        RuleAction::SetMark(bits) => format!("meta mark set mark or {bits:#x}"),
        RuleAction::ClearMark(bits) => format!("meta mark set mark & {:#x}", !bits),
        RuleAction::SetMaskedMark { mark, mask } => format!("meta mark set mark & {:#x} ^ {mark:#x}", !mask),
        RuleAction::NoTrack => "notrack".to_owned(),
        RuleAction::Nflog { group, prefix, .. } => format!("log prefix \"{prefix}\" snaplen 80 group {group}"),
        RuleAction::Log { prefix } => format!("log prefix \"{prefix}: \" level info"),
    }
}

fn save_comment(text: &str) -> String {
    let bare = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if bare { format!("-m comment --comment {text}") } else { format!("-m comment --comment \"{text}\"") }
}

/// Header slots are `-s -d -i -o -p`.
fn save_criterion(criterion: &Criterion, header: &mut [String; 5], blocks: &mut Vec<String>, transport: &str) {
    let [source, destination, input, output, protocol_slot] = header;
    match criterion {
        Criterion::Protocol { protocol, negate } => {
            let name = match protocol {
                ProtocolName::Number(number) => crate::packet::Protocol(*number).to_string(),
                ProtocolName::Name(name) if name == "icmpv6" => "ipv6-icmp".to_owned(),
                ProtocolName::Name(name) => name.clone(),
            };
            *protocol_slot = not(*negate, &format!("-p {name}"));
        }
        // a net of everything is no condition for the kernel
        Criterion::Net { net, negate: false, .. } if net.length() == 0 => {}
        Criterion::Net { side: Side::Source, net, negate } => *source = not(*negate, &format!("-s {net}")),
        Criterion::Net { side: Side::Destination, net, negate } => *destination = not(*negate, &format!("-d {net}")),
        Criterion::InInterface(name) => *input = format!("-i {}", iptables_interface(name)),
        Criterion::OutInterface(name) => *output = format!("-o {}", iptables_interface(name)),
        Criterion::Ports { side, ports, negate } => {
            let option = if *side == Side::Source { "--sports" } else { "--dports" };
            blocks.push(format!("-m multiport {}", not(*negate, &format!("{option} {}", port_list(ports, ':', ",")))));
        }
        Criterion::DestinationPort(port) => blocks.push(format!("-m {transport} --dport {port}")),
        Criterion::MarkSet(bits) => blocks.push(format!("-m mark --mark {bits:#x}/{bits:#x}")),
        Criterion::MarkClear(bits) => blocks.push(format!("-m mark --mark 0x0/{bits:#x}")),
        Criterion::MarkNotClear(bits) => blocks.push(format!("-m mark ! --mark 0x0/{bits:#x}")),
        Criterion::ReversePathFails => blocks.push("-m rpfilter --validmark --invert".to_owned()),
        Criterion::Limit { rate, burst } => {
            let rate = rate.replace("second", "sec").replace("minute", "min");
            let burst = if *burst == 5 { String::new() } else { format!(" --limit-burst {burst}") };
            blocks.push(format!("-m limit --limit {rate}{burst}"));
        }
        _ => blocks.push(common_block(criterion)),
    }
}

fn save_action(action: &RuleAction, family: Family) -> String {
    match action {
        RuleAction::Reject if family == Family::Ipv6 => "-j REJECT --reject-with icmp6-port-unreachable".to_owned(),
        RuleAction::Reject => "-j REJECT --reject-with icmp-port-unreachable".to_owned(),
        RuleAction::SetMark(bits) => format!("-j MARK --set-xmark {bits:#x}/{bits:#x}"),
        RuleAction::ClearMark(bits) => format!("-j MARK --set-xmark 0x0/{bits:#x}"),
        RuleAction::SetMaskedMark { mark, mask } => format!("-j MARK --set-xmark {mark:#x}/{mask:#x}"),
        RuleAction::Nflog { group, prefix, range } => {
            let size = if *range { "--nflog-range" } else { "--nflog-size" };
            let quoted = prefix.chars().any(|c| !(c.is_ascii_alphanumeric() || "_-".contains(c)));
            let prefix = if quoted { format!("\"{prefix}\"") } else { prefix.clone() };
            format!("-j NFLOG --nflog-prefix {prefix} --nflog-group {group} {size} 80")
        }
        RuleAction::Log { prefix } => {
            format!("-j LOG --log-prefix \"{}\" --log-level 5", cut(&format!("{prefix}: "), 29))
        }
        RuleAction::Goto(chain) => format!("-g {chain}"),
        other => iptables_action(other).replacen("--jump", "-j", 1),
    }
}
