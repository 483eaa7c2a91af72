//! Which events are wanted, and the fields to group them by. Filters and fields have the event's names.

use std::net::IpAddr;

use super::event::{Action, Direction, Event, Source};
use super::time::Micros;
use crate::calico::settings::{Settings, ports::Entry};
use crate::packet::{PortRange, Prefix, Protocol};

/// An event's field, as a key to group by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are the event's")]
pub enum Field {
    Host,
    Source,
    Action,
    Direction,
    Family,
    Proto,
    SrcIp,
    SrcPort,
    DstIp,
    DstPort,
    IcmpType,
    IcmpCode,
    InIface,
    OutIface,
    Tier,
    Policy,
    RuleIndex,
    EndOfTier,
    Failsafe,
    LogPrefix,
}

impl Field {
    /// All fields with their names.
    pub const NAMES: [(Self, &'static str); 20] = [
        (Self::Host, "host"),
        (Self::Source, "source"),
        (Self::Action, "action"),
        (Self::Direction, "direction"),
        (Self::Family, "family"),
        (Self::Proto, "proto"),
        (Self::SrcIp, "src_ip"),
        (Self::SrcPort, "src_port"),
        (Self::DstIp, "dst_ip"),
        (Self::DstPort, "dst_port"),
        (Self::IcmpType, "icmp_type"),
        (Self::IcmpCode, "icmp_code"),
        (Self::InIface, "in_iface"),
        (Self::OutIface, "out_iface"),
        (Self::Tier, "tier"),
        (Self::Policy, "policy"),
        (Self::RuleIndex, "rule_index"),
        (Self::EndOfTier, "end_of_tier"),
        (Self::Failsafe, "failsafe"),
        (Self::LogPrefix, "log_prefix"),
    ];

    /// Those an event of whatever source tells, in the order of the contract; the prefix of kernel lines is apart.
    pub fn of_event() -> impl Iterator<Item = Self> {
        let all = Self::NAMES.into_iter().map(|(field, _)| field);
        all.filter(|field| !matches!(field, Self::Failsafe | Self::LogPrefix))
    }

    /// The key when none is asked for. The ICMP fields are absent from all but ICMP events.
    pub const DEFAULT: [Self; 11] = [
        Self::Source,
        Self::Direction,
        Self::Tier,
        Self::Policy,
        Self::RuleIndex,
        Self::Proto,
        Self::SrcIp,
        Self::DstIp,
        Self::DstPort,
        Self::IcmpType,
        Self::IcmpCode,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }

    /// A field by name; `-` is as good as `_`.
    ///
    /// # Errors
    /// Names the known fields.
    pub fn parse(name: &str) -> Result<Self, String> {
        let wanted = name.trim().replace('-', "_");
        Self::NAMES.iter().find(|(_, known)| *known == wanted).map(|(field, _)| *field).ok_or_else(|| {
            let known: Vec<&str> = Self::NAMES.iter().map(|(_, name)| *name).collect();
            format!("no event field is called {name:?}; known are {}", known.join(", "))
        })
    }
}

/// A field's value.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Value {
    /// The source does not tell.
    Null,
    /// Text, made valid UTF-8.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// An address.
    Address(IpAddr),
}

/// The failsafe lists, to tell denies that should not have happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failsafes {
    /// Inbound list.
    pub inbound: Vec<Entry>,
    /// Outbound list.
    pub outbound: Vec<Entry>,
    /// Where the lists are from, for people.
    pub source: String,
}

impl Failsafes {
    /// The lists of these settings; `source` says in words where they are from.
    #[must_use]
    pub fn of(settings: &Settings, source: &str) -> Self {
        let list = |name| settings.entries(name).unwrap_or_default();
        Self {
            inbound: list("FailsafeInboundHostPorts"),
            outbound: list("FailsafeOutboundHostPorts"),
            source: source.to_owned(),
        }
    }

    /// What Felix takes when nothing is configured.
    #[must_use]
    pub fn defaults() -> Self {
        Self::of(&Settings::resolve(&[]), "Felix's defaults")
    }

    /// Whether an event's service port is on the list of its direction, for its peer.
    #[must_use]
    pub fn covers(&self, event: &Event<'_>) -> bool {
        let (list, peer) = match event.direction {
            Some(Direction::Ingress) => (&self.inbound, event.src_ip),
            Some(Direction::Egress) => (&self.outbound, event.dst_ip),
            _ => return false,
        };
        let (Some(proto), Some(port)) = (event.proto, event.dst_port) else { return false };
        list.iter().any(|entry| {
            entry.port == port
                && entry.protocol.0 == proto
                && entry.net.is_none_or(|net| peer.is_some_and(|peer| net.contains(peer)))
        })
    }
}

/// A name with `*` for any text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// A pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// Whether all of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        glob(&self.0, text)
    }

    /// As [`Pattern::matches`] for policies, which are logged and asked for with or without the tier in front.
    fn matches_policy(&self, tier: Option<&[u8]>, policy: &[u8]) -> bool {
        fn without<'a>(name: &'a [u8], tier: &[u8]) -> Option<&'a [u8]> {
            name.strip_prefix(tier)?.strip_prefix(b".")
        }
        let bare = |name| tier.and_then(|tier| without(name, tier));
        self.matches(policy)
            || bare(policy).is_some_and(|policy| self.matches(policy))
            || bare(&self.0).is_some_and(|pattern| glob(pattern, policy))
    }
}

/// Matches with one remembered star, in time `pattern × text` at worst.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(seen) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, seen));
                at += 1;
            }
            Some(wanted) if wanted == byte => (at, seen) = (at + 1, seen + 1),
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (at, seen) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Which events are wanted. An empty list wants everything; several values of one field are alternatives, several fields
/// must all hold. An event that does not tell a field fails a filter on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Sources.
    pub source: Vec<Source>,
    /// Actions; by default those that keep a packet out.
    pub action: Vec<Action>,
    /// Directions.
    pub direction: Vec<Direction>,
    /// Protocols.
    pub proto: Vec<Protocol>,
    /// Source addresses.
    pub src_ip: Vec<Prefix>,
    /// Destination addresses.
    pub dst_ip: Vec<Prefix>,
    /// Source ports.
    pub src_port: Vec<PortRange>,
    /// Destination ports.
    pub dst_port: Vec<PortRange>,
    /// ICMP types.
    pub icmp_type: Vec<u8>,
    /// Input interfaces.
    pub in_iface: Vec<Pattern>,
    /// Output interfaces.
    pub out_iface: Vec<Pattern>,
    /// Tiers.
    pub tier: Vec<Pattern>,
    /// Policies, with or without the tier in front.
    pub policy: Vec<Pattern>,
    /// Rule indexes.
    pub rule_index: Vec<i32>,
    /// Hosts.
    pub host: Vec<Pattern>,
    /// Prefixes of kernel lines.
    pub log_prefix: Vec<Pattern>,
    /// Only events on a failsafe port, or only others.
    pub failsafe: Option<bool>,
    /// Earliest time.
    pub since: Option<Micros>,
    /// Time before which an event must be.
    pub until: Option<Micros>,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            source: Vec::new(),
            action: Action::DENIES.to_vec(),
            direction: Vec::new(),
            proto: Vec::new(),
            src_ip: Vec::new(),
            dst_ip: Vec::new(),
            src_port: Vec::new(),
            dst_port: Vec::new(),
            icmp_type: Vec::new(),
            in_iface: Vec::new(),
            out_iface: Vec::new(),
            tier: Vec::new(),
            policy: Vec::new(),
            rule_index: Vec::new(),
            host: Vec::new(),
            log_prefix: Vec::new(),
            failsafe: None,
            since: None,
            until: None,
        }
    }
}

fn among<T>(wanted: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

impl Filter {
    /// Whether everything but action and time holds.
    #[must_use]
    pub fn matches(&self, event: &Event<'_>) -> bool {
        let address = |wanted: &[Prefix], address: Option<IpAddr>| {
            among(wanted, |prefix| address.is_some_and(|address| prefix.contains(address)))
        };
        let port = |wanted: &[PortRange], port: Option<u16>| {
            among(wanted, |range| port.is_some_and(|port| range.contains(port)))
        };
        let name = |wanted: &[Pattern], name: Option<&[u8]>| {
            among(wanted, |pattern| name.is_some_and(|name| pattern.matches(name)))
        };
        let tier = event.tier.as_deref();
        address(&self.src_ip, event.src_ip)
            && address(&self.dst_ip, event.dst_ip)
            && port(&self.dst_port, event.dst_port)
            && port(&self.src_port, event.src_port)
            && among(&self.source, |source| *source == event.source)
            && among(&self.direction, |direction| Some(*direction) == event.direction)
            && among(&self.proto, |proto| Some(proto.0) == event.proto)
            && among(&self.icmp_type, |kind| Some(*kind) == event.icmp_type)
            && among(&self.rule_index, |rule| Some(*rule) == event.rule_index)
            && name(&self.in_iface, event.in_iface)
            && name(&self.out_iface, event.out_iface)
            && name(&self.host, event.host)
            && name(&self.log_prefix, event.log_prefix)
            && name(&self.tier, tier)
            && among(&self.policy, |pattern| {
                event.policy.as_deref().is_some_and(|policy| pattern.matches_policy(tier, policy))
            })
            && self.failsafe.is_none_or(|wanted| wanted == event.failsafe)
    }

    /// Whether a time is inside; an event without one is not when a bound is given.
    #[must_use]
    pub fn in_time(&self, time: Option<Micros>) -> bool {
        match time {
            Some(time) => self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until),
            None => self.since.is_none() && self.until.is_none(),
        }
    }

    /// Whether lines of a source are worth a look at all.
    #[must_use]
    pub fn wants(&self, source: Source) -> bool {
        among(&self.source, |wanted| *wanted == source)
    }

    /// Whether packets are chosen by source and action alone.
    #[must_use]
    pub fn only_by_action(&self) -> bool {
        *self == Self { source: self.source.clone(), action: self.action.clone(), ..Self::default() }
    }

    /// Whether only denied packets are wanted, so that a search for the word is enough.
    #[must_use]
    pub fn only_denies(&self) -> bool {
        !self.action.is_empty() && self.action.iter().all(|action| Action::DENIES.contains(action))
    }
}

#[cfg(test)]
mod tests {
    use super::super::felix;
    use super::*;

    const LINE: &[u8] = br#"INFO <nil> <nil>:  action="deny" dstIP="147.75.40.148" dstPort="443" inBytes=0 inPackets=0 outBytes=120 outPackets=2 policy="hep-external" proto="6" rule="-1" ruleDir="egress" srcIP="10.0.1.10" srcPort="57312" tier="security" trafficDir="outbound" updateType=report"#;

    fn matches(filter: &Filter) -> bool {
        let event = Event::of_flow(&felix::read(LINE).expect("a report line"));
        filter.matches(&event)
    }

    #[test]
    fn every_filter_lets_in_and_keeps_out() {
        let prefix = |text: &str| vec![text.parse::<Prefix>().expect("a prefix")];
        let some = Filter::default;
        assert!(matches(&some()));
        assert!(matches(&Filter { src_ip: prefix("10.0.1.0/24"), ..some() }));
        assert!(!matches(&Filter { src_ip: prefix("10.0.2.0/24"), ..some() }));
        assert!(matches(&Filter { dst_port: vec![PortRange { low: 400, high: 500 }], ..some() }));
        assert!(!matches(&Filter { dst_port: vec![PortRange::single(22)], ..some() }));
        assert!(matches(&Filter { rule_index: vec![3, -1], ..some() }));
        assert!(!matches(&Filter { direction: vec![Direction::Ingress], ..some() }));
        assert!(!matches(&Filter { in_iface: vec![Pattern::new("*")], ..some() }), "the line names no interface");
        assert!(!matches(&Filter { failsafe: Some(true), ..some() }));
        assert!(!matches(&Filter { source: vec![Source::Kernel], ..some() }));
        for (policy, expected) in
            [("hep-external", true), ("security.hep-external", true), ("hep-*", true), ("default.hep-external", false)]
        {
            assert_eq!(matches(&Filter { policy: vec![Pattern::new(policy)], ..some() }), expected, "{policy}");
        }
    }

    #[test]
    fn stars_match_any_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("*b*b*", "abab", true),
            ("", "x", false),
            ("eth*", "eth0", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn failsafe_ports_depend_on_direction_and_peer() {
        let mut lists = Failsafes::defaults();
        let mut event = Event::of_flow(&felix::read(LINE).expect("a report line"));
        assert!(!lists.covers(&event));
        event.dst_port = Some(6443);
        assert!(lists.covers(&event));
        event.dst_port = Some(22);
        assert!(!lists.covers(&event), "22 is inbound only");
        event.direction = Some(Direction::Ingress);
        assert!(lists.covers(&event));
        lists.inbound = vec![Entry { protocol: Protocol::TCP, port: 22, net: "192.0.2.0/24".parse().ok() }];
        assert!(!lists.covers(&event), "the peer is outside");
    }

    #[test]
    fn fields_are_found_by_either_spelling() {
        assert_eq!(Field::parse("dst-port"), Ok(Field::DstPort));
        for (field, name) in Field::NAMES {
            assert_eq!(Field::parse(name), Ok(field));
            assert_eq!(field.name(), name);
        }
        assert!(Field::parse("dport").is_err_and(|error| error.contains("dst_port")));
    }
}
