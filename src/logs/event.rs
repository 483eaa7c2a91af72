//! A deny event, whatever the source; its fields are those of `hepguard/event/v1`.

use std::borrow::Cow;
use std::net::IpAddr;

use super::felix::Flow;
use super::kernel::Packet;
use super::time::Micros;

/// Where an event comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Source {
    /// A report line of Felix.
    Felix,
    /// A line of the kernel's packet log.
    Kernel,
    /// A flow log of Calico.
    Flowlog,
}

impl Source {
    /// All sources.
    pub const ALL: [Self; 3] = [Self::Felix, Self::Kernel, Self::Flowlog];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Felix => "felix",
            Self::Kernel => "kernel",
            Self::Flowlog => "flowlog",
        }
    }
}

/// What happened to the packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Action {
    /// Denied by policy (Felix does not say how).
    Deny,
    /// Dropped, as the kernel log's prefix has it.
    Drop,
    /// Rejected, as the kernel log's prefix has it.
    Reject,
    /// Allowed.
    Allow,
    /// Passed on to the next tier.
    Pass,
    /// Logged by a rule that says nothing about the verdict.
    Log,
    /// The line does not say, or says something unknown.
    Unknown,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 7] =
        [Self::Deny, Self::Drop, Self::Reject, Self::Allow, Self::Pass, Self::Log, Self::Unknown];

    /// Those that keep a packet out.
    pub const DENIES: [Self; 3] = [Self::Deny, Self::Drop, Self::Reject];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Allow => "allow",
            Self::Pass => "pass",
            Self::Log => "log",
            Self::Unknown => "unknown",
        }
    }
}

/// Which way, seen from the host that logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// Towards the local endpoint. For kernel lines: no output interface, hence input or prerouting.
    Ingress,
    /// From the local endpoint.
    Egress,
    /// Through the host.
    Forward,
}

impl Direction {
    /// All directions.
    pub const ALL: [Self; 3] = [Self::Ingress, Self::Egress, Self::Forward];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Forward => "forward",
        }
    }
}

/// One event. Absent fields are those the source does not tell.
#[derive(Clone, PartialEq, Debug)]
pub struct Event<'a> {
    /// When it was logged (Felix: at least five seconds after the packet).
    pub time: Option<Micros>,
    /// Host name in the header.
    pub host: Option<&'a [u8]>,
    /// Source.
    pub source: Source,
    /// What happened.
    pub action: Action,
    /// Which way.
    pub direction: Option<Direction>,
    /// IP protocol number.
    pub proto: Option<u8>,
    /// Source address.
    pub src_ip: Option<IpAddr>,
    /// Source port, for protocols that have ports.
    pub src_port: Option<u16>,
    /// Destination address.
    pub dst_ip: Option<IpAddr>,
    /// Destination port, for protocols that have ports.
    pub dst_port: Option<u16>,
    /// ICMP or ICMPv6 type.
    pub icmp_type: Option<u8>,
    /// ICMP or ICMPv6 code.
    pub icmp_code: Option<u8>,
    /// Input interface.
    pub in_iface: Option<&'a [u8]>,
    /// Output interface.
    pub out_iface: Option<&'a [u8]>,
    /// Tier.
    pub tier: Option<Cow<'a, [u8]>>,
    /// Policy as logged, with or without the tier in front.
    pub policy: Option<Cow<'a, [u8]>>,
    /// Index of the rule in the policy's list; -1 means the end of the tier.
    pub rule_index: Option<i32>,
    /// Prefix of a kernel log line.
    pub log_prefix: Option<&'a [u8]>,
    /// Packets, both ways.
    pub packets: u64,
    /// Bytes, both ways; for denies of Felix a lower bound.
    pub bytes: u64,
    /// How many events the line stands for (`message repeated N times` stands for N).
    pub count: u64,
    /// Those of them that only a repeat notice tells of.
    pub repeats: u64,
    /// Packets and bytes of all of them, where they are not the same in each.
    pub totals: Option<(u64, u64)>,
    /// The service port is on the failsafe list of its direction.
    pub failsafe: bool,
    /// The endpoint that reports is a workload, not a host (flow logs tell).
    pub workload: bool,
}

impl<'a> Event<'a> {
    /// Whether no rule matched and the tier's default action decided.
    #[must_use]
    pub fn end_of_tier(&self) -> bool {
        self.rule_index == Some(-1)
    }

    /// Packets and bytes of all events the line stands for.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        self.totals.unwrap_or_else(|| (self.packets.saturating_mul(self.count), self.bytes.saturating_mul(self.count)))
    }

    /// The event of a report line.
    #[must_use]
    pub fn of_flow(flow: &Flow<'a>) -> Self {
        let proto = flow.proto;
        let icmp = matches!(proto, Some(1 | 58));
        let has_ports = matches!(proto, Some(6 | 17 | 33 | 132 | 136));
        // only TCP and UDP denies carry ports: elsewhere 0 means "not known"
        let port = |port: Option<u16>| port.filter(|port| has_ports && (*port != 0 || matches!(proto, Some(6 | 17))));
        // 0 is an echo reply in ICMP, and no type at all in ICMPv6
        let code = flow.dst_port.filter(|port| icmp && (proto == Some(1) || *port != 0)).map(u16::to_be_bytes);
        Self {
            time: None,
            host: None,
            source: Source::Felix,
            action: flow.action,
            direction: flow.direction,
            proto,
            src_ip: flow.src_ip,
            src_port: port(flow.src_port),
            dst_ip: flow.dst_ip,
            dst_port: port(flow.dst_port),
            icmp_type: code.map(|[kind, _]| kind),
            icmp_code: code.map(|[_, code]| code),
            in_iface: None,
            out_iface: None,
            tier: flow.tier.clone(),
            policy: flow.policy.clone(),
            rule_index: flow.rule,
            log_prefix: None,
            packets: flow.packets.unwrap_or_else(|| flow.in_packets.saturating_add(flow.out_packets)),
            bytes: flow.bytes.unwrap_or_else(|| flow.in_bytes.saturating_add(flow.out_bytes)),
            count: 1,
            repeats: 0,
            totals: None,
            failsafe: false,
            workload: false,
        }
    }

    /// The event of a kernel line: one packet.
    #[must_use]
    pub fn of_packet(packet: &Packet<'a>) -> Self {
        Self::of_judged_packet(packet, packet.action())
    }

    /// The event of a kernel line whose prefix is known to tell this verdict.
    pub(super) fn of_judged_packet(packet: &Packet<'a>, action: Action) -> Self {
        Self {
            time: None,
            host: None,
            source: Source::Kernel,
            action,
            direction: packet.direction(),
            proto: packet.protocol(),
            src_ip: packet.src,
            src_port: packet.src_port,
            dst_ip: packet.dst,
            dst_port: packet.dst_port,
            icmp_type: packet.icmp_type,
            icmp_code: packet.icmp_code,
            in_iface: packet.in_iface,
            out_iface: packet.out_iface,
            tier: None,
            policy: None,
            rule_index: None,
            log_prefix: Some(packet.prefix).filter(|prefix| !prefix.is_empty()),
            packets: 1,
            bytes: packet.length.map_or(0, u64::from),
            count: 1,
            repeats: 0,
            totals: None,
            failsafe: false,
            workload: false,
        }
    }
}
