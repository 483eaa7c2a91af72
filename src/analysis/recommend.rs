//! A staged policy for this host endpoint from what was seen of its traffic, and from what the host needs and the traffic
//! has not shown yet.
//!
//! A rule admits the peers and the service that were seen, one by one, and nothing else. What was denied is not admitted but
//! told, and so is everything that cannot be put in a rule. Every rule carries its evidence as a comment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::denied::{is_somebody, protocol_name};
use super::flows::{Flow, FlowKind, inventory};
use crate::calico::predict::Knowledge;
use crate::calico::resources::Spec;
use crate::diagnostic::printable;
use crate::logs::event::{Action, Direction, Event, Source};
use crate::logs::time::{Micros, rfc3339};
use crate::packet::{self, Protocol};
use crate::snapshot::Snapshot;

/// Kinds of traffic kept at most; beyond that new ones are only counted.
const MAX_SEEN: usize = 20_000;

/// Kinds of denied traffic that are told one by one.
const MAX_DENIED: usize = 20;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Service {
    Port(u16),
    Icmp(u8, Option<u8>),
    /// A protocol without ports.
    Whole,
}

/// What one rule admits, but for the peers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kind {
    egress: bool,
    protocol: u8,
    service: Service,
    ipv6: bool,
}

/// One kind of traffic with one peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    kind: Kind,
    peer: IpAddr,
    allowed: bool,
}

/// How often and when.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Sum {
    count: u64,
    first: Option<Micros>,
    last: Option<Micros>,
    /// Felix, kernel, flow log.
    sources: [bool; 3],
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = [self.last, other.last].into_iter().flatten().max();
        for (own, other) in self.sources.iter_mut().zip(other.sources) {
            *own |= other;
        }
    }

    /// `seen 12 times, 2022-08-04T16:14:12Z to 2022-08-04T16:14:29Z, in report lines`.
    fn words(&self) -> String {
        let times = if self.count == 1 { "once".to_owned() } else { format!("{} times", self.count) };
        let when = match (self.first.and_then(rfc3339), self.last.and_then(rfc3339)) {
            (Some(first), Some(last)) if first != last => format!(", {first} to {last}"),
            (Some(first), _) => format!(", {first}"),
            _ => String::new(),
        };
        let names = ["report lines", "kernel lines", "flow logs"];
        let from: Vec<&str> = names.into_iter().zip(self.sources).filter_map(|(name, is)| is.then_some(name)).collect();
        format!("{times}{when}, in {}", from.join(" and "))
    }
}

/// The traffic of a host as its logs tell it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    seen: BTreeMap<Key, Sum>,
    /// Everything that was looked at.
    total: Sum,
    /// Events whose peer or service the log does not tell.
    vague: u64,
    /// Events of workloads, and forwarded ones.
    others: u64,
    /// Events of kinds beyond the bound.
    left_out: u64,
}

impl Observed {
    /// Takes an event.
    pub fn add(&mut self, event: &Event<'_>) {
        let allowed = match event.action {
            Action::Allow => true,
            Action::Deny | Action::Drop | Action::Reject => false,
            // what becomes of it is told elsewhere, or by nobody
            Action::Pass | Action::Log | Action::Unknown => return,
        };
        let source = match event.source {
            Source::Felix => 0,
            Source::Kernel => 1,
            Source::Flowlog => 2,
        };
        let mut sum = Sum { count: event.count, first: event.time, last: event.time, sources: [false; 3] };
        if let Some(is) = sum.sources.get_mut(source) {
            *is = true;
        }
        self.total.add(&sum);
        let (egress, peer) = match event.direction {
            Some(Direction::Egress) if !event.workload => (true, event.dst_ip),
            Some(Direction::Ingress) if !event.workload => (false, event.src_ip),
            _ => {
                self.others += event.count;
                return;
            }
        };
        let service = event.proto.and_then(|proto| match (Protocol(proto), event.dst_port, event.icmp_type) {
            (Protocol::TCP | Protocol::UDP | Protocol::SCTP, port, _) => {
                port.filter(|port| *port > 0).map(Service::Port)
            }
            (Protocol::ICMP | Protocol(58), _, kind) => kind.map(|kind| Service::Icmp(kind, event.icmp_code)),
            _ => Some(Service::Whole),
        });
        let (Some(protocol), Some(service), Some(peer)) = (event.proto, service, peer.filter(|ip| is_somebody(*ip)))
        else {
            self.vague += event.count;
            return;
        };
        let key = Key { kind: Kind { egress, protocol, service, ipv6: peer.is_ipv6() }, peer, allowed };
        self.put(key, &sum);
    }

    fn put(&mut self, key: Key, sum: &Sum) {
        if let Some(known) = self.seen.get_mut(&key) {
            known.add(sum);
        } else if self.seen.len() < MAX_SEEN {
            self.seen.insert(key, sum.clone());
        } else {
            self.left_out = self.left_out.saturating_add(sum.count);
        }
    }

    /// Adds what another thread saw.
    pub fn merge(&mut self, other: Self) {
        self.total.add(&other.total);
        self.vague += other.vague;
        self.others += other.others;
        self.left_out += other.left_out;
        for (key, sum) in other.seen {
            self.put(key, &sum);
        }
    }
}

/// A peer that a rule admits, and why.
type Peers = BTreeMap<IpAddr, String>;

/// The policy as YAML with comments; `host` is the name of the host where the logs tell it.
#[must_use]
pub fn policy(observed: &Observed, snapshot: Option<&Snapshot>, host: Option<&str>) -> String {
    let mut rules: BTreeMap<Kind, Peers> = BTreeMap::new();
    for (key, sum) in observed.seen.iter().filter(|(key, _)| key.allowed) {
        rules.entry(key.kind).or_default().insert(key.peer, format!("seen {}", sum.words()));
    }
    let mut apart = Vec::new();
    for flow in snapshot.map(inventory).map(|inventory| inventory.flows).unwrap_or_default() {
        need(&flow, &mut rules, &mut apart);
    }
    let known = snapshot.map(|snapshot| Knowledge::of(&snapshot.files));
    let node = known.as_ref().and_then(|known| known.node.clone());
    let node = node.or_else(|| snapshot?.meta.host.clone()).or(host.map(str::to_owned));
    let node: String = node.unwrap_or_else(|| "host".to_owned()).to_ascii_lowercase();
    let node: String =
        node.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).take(40).collect();
    let node = node.trim_matches('-');
    let node = if node.is_empty() { "host" } else { node };
    let mut out = head(observed, snapshot.is_some());
    told(observed, &apart, &mut out);
    let (selector, remark) = selector(known.as_ref(), node);
    let _ = write!(
        out,
        "apiVersion: projectcalico.org/v3\nkind: StagedGlobalNetworkPolicy\nmetadata:\n  name: default.hepguard-{node}\nspec:\n  \
         tier: default\n  order: 1000\n{}  selector: {}\n  types:\n    - Ingress\n    - Egress\n",
        comment("  ", &remark),
        serde_json::Value::from(selector)
    );
    for egress in [false, true] {
        let list: Vec<_> = rules.iter().filter(|(kind, _)| kind.egress == egress).collect();
        let name = if egress { "egress" } else { "ingress" };
        if list.is_empty() {
            let _ = writeln!(out, "  # nothing was seen or is needed this way, and nothing is admitted\n  {name}: []");
            continue;
        }
        let _ = writeln!(out, "  {name}:");
        for (kind, peers) in list {
            rule(*kind, peers, &mut out);
        }
    }
    out
}

/// What a flow of the inventory adds: a rule for its peer, or a remark where no single peer is known.
fn need(flow: &Flow, rules: &mut BTreeMap<Kind, Peers>, apart: &mut Vec<String>) {
    let packet = &flow.packet;
    let egress = packet.direction == packet::Direction::Out;
    let peer = if egress { packet.dst } else { packet.src };
    let service = match (packet.protocol, packet.dport, packet.icmp) {
        (Protocol::TCP | Protocol::UDP | Protocol::SCTP, Some(port), _) => Some(Service::Port(port)),
        (Protocol::ICMP | Protocol(58), _, Some((kind, code))) => Some(Service::Icmp(kind, Some(code))),
        (Protocol::TCP | Protocol::UDP | Protocol::SCTP | Protocol::ICMP | Protocol(58), ..) => None,
        _ => Some(Service::Whole),
    };
    // peers of these are anybody, a link's own, or an answer to something: one address would say too little or too much
    let single = match flow.kind {
        FlowKind::SshIn | FlowKind::Neighbour | FlowKind::Gateway | FlowKind::Loopback | FlowKind::Failsafe => false,
        FlowKind::Caller | FlowKind::Session => true,
        _ => packet.direction != packet::Direction::Forward,
    };
    let why = printable(&format!("{} ({}: {})", flow.name, flow.source, flow.evidence));
    match service.filter(|_| single && !peer.is_loopback() && !peer.is_unspecified()) {
        Some(service) => {
            let kind = Kind { egress, protocol: packet.protocol.0, service, ipv6: peer.is_ipv6() };
            rules.entry(kind).or_default().entry(peer).or_insert_with(|| {
                let how = if flow.live { "lives now" } else { "needed, not seen in the logs" };
                format!("{how}: {why}")
            });
        }
        None => apart.push(why),
    }
}

/// What the policy rests on.
fn head(observed: &Observed, snapshot: bool) -> String {
    let mut text = String::from(
        "Recommended by hepguard from what was seen: read it, it is a proposal. Staged, it denies nothing; Calico only reports \
         what it would do. hepguard lint FILE --flow-logs LOG says what it would deny of other flows, and hepguard plan -f FILE \
         what it cuts once its kind is GlobalNetworkPolicy.",
    );
    let _ = match observed.total.count {
        0 => write!(text, " No log line told of traffic."),
        _ => write!(text, " The logs: {}.", observed.total.words()),
    };
    if !snapshot {
        text.push_str(
            " What the host needs and the logs do not show (DHCP, NTP, name resolution, BGP) is not in it: with --snapshot DIR it \
             is.",
        );
    }
    comment("", &text)
}

/// What is not admitted, and why.
fn told(observed: &Observed, apart: &[String], out: &mut String) {
    let denied: Vec<_> = observed.seen.iter().filter(|(key, _)| !key.allowed).collect();
    for (key, sum) in denied.iter().take(MAX_DENIED) {
        let way = if key.kind.egress { "to" } else { "from" };
        let text = format!("Denied, hence not admitted: {} {way} {}, {}", service(key.kind), key.peer, sum.words());
        out.push_str(&comment("", &text));
    }
    let more = denied.len().saturating_sub(MAX_DENIED);
    for (count, words) in [
        (u64::try_from(more).unwrap_or(0), "more kinds of denied traffic"),
        (observed.vague, "events do not tell the peer, or its port or ICMP type, so that no rule is made of them"),
        (observed.others, "events are of workloads or forwarded traffic, which is not the host's own"),
        (observed.left_out, "events are left out, for there are too many kinds of traffic"),
    ] {
        if count > 0 {
            out.push_str(&comment("", &format!("Not admitted: {count} {words}")));
        }
    }
    for why in apart {
        out.push_str(&comment(
            "",
            &format!("Needed, but no rule is made of it, since its peers are not one address: {why}"),
        ));
    }
}

/// A selector of the host endpoint, and what there is to say about it.
fn selector(known: Option<&Knowledge>, node: &str) -> (String, String) {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let endpoint = known.and_then(|known| {
        known.resources.iter().find(|resource| {
            let Spec::HostEndpoint(endpoint) = &resource.spec else { return false };
            known.node.is_none() || endpoint.node.as_ref().map(|field| &field.value) == known.node.as_ref()
        })
    });
    let labels = endpoint.map(|endpoint| endpoint.meta.plain_labels()).unwrap_or_default();
    let terms: Vec<String> = labels
        .iter()
        .filter(|(key, value)| plain(key) && plain(value))
        .map(|(key, value)| format!("{key} == '{value}'"))
        .collect();
    if let (Some(endpoint), false) = (endpoint, terms.is_empty()) {
        return (terms.join(" && "), format!("the labels of {}", endpoint.meta.title()));
    }
    (format!("hepguard-host == '{node}'"), "no host endpoint is known here: give it this label".to_owned())
}

fn service(kind: Kind) -> String {
    let protocol = Protocol(kind.protocol);
    match kind.service {
        Service::Port(port) => format!("{protocol}/{port}"),
        Service::Icmp(icmp, Some(code)) => format!("{protocol} type {icmp} code {code}"),
        Service::Icmp(icmp, None) => format!("{protocol} type {icmp}"),
        Service::Whole => protocol.to_string(),
    }
}

fn rule(kind: Kind, peers: &Peers, out: &mut String) {
    let way = if kind.egress { "to" } else { "from" };
    let many = if peers.len() == 1 { "one peer".to_owned() } else { format!("{} peers", peers.len()) };
    out.push_str(&comment("    ", &format!("{} {way} {many}", service(kind))));
    let _ = writeln!(out, "    - action: Allow\n      protocol: {}", protocol_name(Protocol(kind.protocol)));
    if let Service::Icmp(icmp, code) = kind.service {
        let _ = writeln!(out, "      icmp:\n        type: {icmp}");
        if let Some(code) = code {
            let _ = writeln!(out, "        code: {code}");
        }
    }
    let mut nets = String::from("        nets:\n");
    for (peer, why) in peers {
        nets.push_str(&comment("          ", why));
        let width = if peer.is_ipv4() { 32 } else { 128 };
        let _ = writeln!(nets, "          - {peer}/{width}");
    }
    let ports = match kind.service {
        Service::Port(port) => format!("        ports:\n          - {port}\n"),
        _ => String::new(),
    };
    let _ = match (kind.egress, ports.is_empty()) {
        (true, _) => write!(out, "      destination:\n{nets}{ports}"),
        (false, true) => write!(out, "      source:\n{nets}"),
        (false, false) => write!(out, "      source:\n{nets}      destination:\n{ports}"),
    };
}

/// A text as comment lines of at most 100 columns.
fn comment(indent: &str, text: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    let mut flush = |line: &mut String| {
        if !line.is_empty() {
            let _ = writeln!(out, "{indent}# {line}");
            line.clear();
        }
    };
    // no word of it can end the comment: blanks and line ends alike part words
    for word in printable(text).split_whitespace() {
        if !line.is_empty() && indent.len() + 3 + line.chars().count() + word.chars().count() > 100 {
            flush(&mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    flush(&mut line);
    out
}
