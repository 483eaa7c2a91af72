//! The flows that must work, judged in several worlds, each as a whole conversation.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::analysis::conversation::{Conversation, Exchange, Outcome, Ways, converse};
use crate::analysis::flows::{EPHEMERAL, Flow, FlowKind, Links, inventory, somebody};
use crate::analysis::reboot::{self, Rehearsal};
use crate::analysis::trace::{Engine, TraceOptions, TraceVerdict};
use crate::analysis::worlds;
use crate::audit::context::place_text;
use crate::calico::failsafe::kernel::KernelChain;
use crate::calico::failsafe::{Direction as ListDirection, FAMILIES, FailsafeReport};
use crate::calico::names::Meanings;
use crate::calico::settings::Entry;
use crate::packet::{CtState, Direction, Family, Packet, Protocol, TcpFlags};
use crate::ruleset::{RuleRef, Ruleset, without_comments};
use crate::snapshot::Snapshot;

/// Why a packet was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It opens a flow of the inventory.
    Flow(Box<Flow>),
    /// It uses a failsafe entry that the next restart of Felix takes away.
    RemovedEntry(Entry),
}

/// A packet with its verdicts.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Why it was judged.
    pub reason: Reason,
    /// The packet.
    pub packet: Packet,
    /// Of a session that lives: whether its packets pass now; `None` for other flows, and where that is not certain.
    pub established: Option<bool>,
    /// The conversation it opens, as a new connection now.
    pub now: Conversation,
    /// With policy alone; `None` when there are no failsafe chains, so nothing could differ.
    pub no_failsafe: Option<Conversation>,
    /// After a restart of Felix with the failsafe lists on disk; `None` where that changes nothing.
    pub felix_restart: Option<Answer>,
    /// As the host boots, before Felix is in sync; `None` where what boot loads is not known.
    pub before_felix: Option<Answer>,
    /// After a boot, with Felix in sync.
    pub reboot: Option<Answer>,
    /// The failsafe entry it uses, when its port is on the list in the kernel.
    pub entry: Option<Entry>,
    /// That entry goes at the next restart of Felix.
    pub removed_at_restart: bool,
    /// Where the conversation is decided with policy alone, in words with the rule's text.
    pub no_failsafe_decided: Option<(String, String)>,
    /// Where the conversation is decided now.
    pub decided: Option<(String, String)>,
}

/// Addresses tried for an entry that goes, besides "somebody": those rules and sets speak of.
const MAX_PROBES: usize = 48;

/// Rules looked at for all packets of an audit together. A Felix host of 50,000 rules is judged whole within it; chains that
/// call each other many times over, which nobody writes, are not.
const MAX_RULES: u32 = 20_000_000;
/// What each packet has when all is spent.
const LEAST_RULES: u32 = 60_000;

impl Judged {
    /// Works now, and not without the failsafe.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.now.outcome == Outcome::Works
            && self.no_failsafe.as_ref().is_some_and(|alone| alone.outcome == Outcome::Broken)
    }

    /// Refused now: its first packet, or one that has to follow.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.now.outcome == Outcome::Broken
    }

    /// How it is refused now: `drop`, or `drop of the SYN-ACK` where the first packet gets through.
    #[must_use]
    pub fn refusal(&self) -> String {
        let verb = self.now.verdict().name();
        answered(&self.now).map_or_else(|| verb.to_owned(), |packet| format!("{verb} of the {}", packet.name))
    }

    /// What policy alone refuses: `it`, or `its SYN-ACK`.
    #[must_use]
    pub fn refused_alone(&self) -> String {
        let packet = self.no_failsafe.as_ref().and_then(answered);
        packet.map_or_else(|| "it".to_owned(), |packet| format!("its {}", packet.name))
    }

    /// The packet in the form of `trace --batch`.
    #[must_use]
    pub fn witness(&self) -> Value {
        witness(&self.packet)
    }
}

/// A packet in the form of `trace --batch`.
#[must_use]
pub fn witness(packet: &Packet) -> Value {
    let direction = match packet.direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Forward => "forward",
    };
    let mut value = json!({
        "dir": direction,
        "proto": packet.protocol.to_string(),
        "src": packet.src,
        "dst": packet.dst,
        "state": packet.state.to_string(),
    });
    let mut put = |key: &str, field: Option<Value>| {
        if let (Some(object), Some(field)) = (value.as_object_mut(), field) {
            object.insert(key.to_owned(), field);
        }
    };
    put("icmp_type", packet.icmp.map(|(kind, _)| Value::from(kind)));
    put("icmp_code", packet.icmp.map(|(_, code)| code).filter(|code| *code > 0).map(Value::from));
    put("uid", packet.uid.map(Value::from));
    put("sport", packet.sport.map(Value::from));
    put("dport", packet.dport.map(Value::from));
    put("iif", packet.iif.as_deref().map(Value::from));
    put("oif", packet.oif.as_deref().map(Value::from));
    value
}

/// The packet that breaks a conversation whose first packet gets through.
fn answered(conversation: &Conversation) -> Option<&Exchange> {
    conversation.decisive().filter(|_| conversation.broken_at().is_some_and(|number| number > 1))
}

/// Judges the inventory but for the failsafe entries, and the entries that the next restart of Felix takes away.
#[must_use]
pub fn judge(
    snapshot: &Snapshot,
    failsafe: &FailsafeReport,
    restarted: Option<&Ruleset>,
    boot: &Rehearsal,
) -> Vec<Judged> {
    let flows = inventory(snapshot).flows.into_iter().filter(|flow| flow.kind != FlowKind::Failsafe);
    let mut questions: Vec<(Reason, Packet)> = flows.map(question).collect();
    questions.extend(removed_entries(snapshot, failsafe));
    // a host of which no rules are known has nothing to judge by
    if snapshot.ruleset.tables.is_empty() {
        Vec::new()
    } else {
        judge_all(snapshot, failsafe, restarted, boot, questions)
    }
}

/// Judges flows, by no rules where there are none.
#[must_use]
pub fn judge_flows(snapshot: &Snapshot, failsafe: &FailsafeReport, flows: Vec<Flow>) -> Vec<Judged> {
    let restarted = worlds::after_felix_restart(&snapshot.ruleset, failsafe);
    let boot = reboot::rehearse(snapshot, restarted.as_ref());
    judge_all(snapshot, failsafe, restarted.as_ref(), &boot, flows.into_iter().map(question).collect())
}

fn question(flow: Flow) -> (Reason, Packet) {
    let packet = flow.packet.clone();
    (Reason::Flow(Box::new(flow)), packet)
}

/// One world to ask.
struct Asked<'w> {
    engine: Engine<'w>,
    meanings: Meanings<'w>,
}

/// A conversation, and where it is decided with the rule's text.
pub type Answer = (Conversation, Option<(String, String)>);

impl<'w> Asked<'w> {
    fn beside(engine: &Engine<'_>, world: &'w Ruleset, snapshot: &'w Snapshot) -> Self {
        Self { engine: engine.beside(world, &snapshot.host), meanings: Meanings::with(world, &snapshot.authors) }
    }

    /// Holds the conversation; what it costs goes from `left`.
    fn hold(&self, packet: &Packet, left: &mut u32) -> Answer {
        let usual = TraceOptions::default();
        let share = (*left).clamp(LEAST_RULES, usual.max_rules);
        let held = converse(&self.engine, packet, &Ways::default(), &TraceOptions { max_rules: share, ..usual });
        let seen = held.exchanges.iter().fold(0, |seen: u32, one| seen.saturating_add(one.trace.rules_seen));
        *left = left.saturating_sub(seen);
        let place = held.decisive().and_then(|packet| packet.trace.decided_by);
        let words = place.map(|place| in_words(&self.meanings, place));
        (held, words)
    }

    /// Whether the packets of a session that lives still pass, both ways; `None` where that cannot be decided.
    fn established(&self, packet: &Packet) -> Option<bool> {
        let mut forth = packet.clone();
        forth.state = CtState::ESTABLISHED;
        if forth.protocol == Protocol::TCP {
            forth.tcp_flags = TcpFlags::ACK;
        }
        let mut back = forth.clone();
        back.direction = if forth.direction == Direction::Out { Direction::In } else { Direction::Out };
        (back.src, back.dst, back.sport, back.dport) = (forth.dst, forth.src, forth.dport, forth.sport);
        (back.iif, back.oif) = (forth.oif.clone(), forth.iif.clone());
        let mut passes = true;
        for packet in [&forth, &back] {
            let trace = self.engine.trace(packet, &TraceOptions::default());
            match (trace.certain, trace.verdict) {
                (true, TraceVerdict::Accept) => {}
                (true, _) => passes = false,
                (false, _) => return None,
            }
        }
        Some(passes)
    }
}

fn judge_all(
    snapshot: &Snapshot,
    failsafe: &FailsafeReport,
    restarted: Option<&Ruleset>,
    boot: &Rehearsal,
    questions: Vec<(Reason, Packet)>,
) -> Vec<Judged> {
    let ruleset = &snapshot.ruleset;
    if questions.is_empty() {
        return Vec::new();
    }
    let mut chains = ruleset.tables.iter().flat_map(|table| &table.chains);
    let has_failsafes = chains.any(|chain| worlds::is_failsafe_chain(&chain.name) && !chain.rules.is_empty());
    let policy_alone = has_failsafes.then(|| worlds::without_failsafes(ruleset));
    let engine = Engine::new(ruleset, &snapshot.host);
    let beside = |world| Asked::beside(&engine, world, snapshot);
    let policy = policy_alone.as_ref().map(beside);
    let restart = restarted.map(beside);
    let open = boot.before_felix.as_ref().map(beside);
    // often nothing but Felix's own comes back, and then as it is
    let synced = restarted.unwrap_or(ruleset);
    let comes_back = boot.after_felix.as_ref().is_some_and(|world| is_same(world, synced));
    let booted = boot.after_felix.as_ref().filter(|_| !comes_back).map(beside);
    let now = beside(ruleset);
    let mut left = MAX_RULES;
    let judge_one = |(reason, packet): (Reason, Packet)| {
        let mut ask = |world: &Option<Asked<'_>>| world.as_ref().map(|world| world.hold(&packet, &mut left));
        let no_failsafe = ask(&policy);
        let felix_restart = ask(&restart);
        let before_felix = ask(&open);
        let reboot = ask(&booted);
        let answer = now.hold(&packet, &mut left);
        let reboot = reboot.or_else(|| comes_back.then(|| felix_restart.as_ref().unwrap_or(&answer).clone()));
        let live = matches!(&reason, Reason::Flow(flow) if flow.live);
        let established = live.then(|| now.established(&packet)).flatten();
        let (held, decided) = answer;
        let entry = listed(failsafe, &packet);
        let removed_at_restart = entry.is_some_and(|entry| is_removed(failsafe, &packet, &entry));
        let (no_failsafe, no_failsafe_decided) = no_failsafe.unzip();
        Judged {
            reason,
            packet,
            established,
            now: held,
            no_failsafe,
            felix_restart,
            before_felix,
            reboot,
            entry,
            removed_at_restart,
            no_failsafe_decided: no_failsafe_decided.flatten(),
            decided,
        }
    };
    questions.into_iter().map(judge_one).collect()
}

/// Whether two worlds treat every packet alike, by rules read from the same places.
fn is_same(one: &Ruleset, other: &Ruleset) -> bool {
    let sources = |world: &Ruleset| world.tables.iter().map(|table| table.source.clone()).collect::<Vec<_>>();
    sources(one) == sources(other) && one.acts_as(other, |_| true, |_| true)
}

/// Where a verdict falls, with the meaning of Felix's rules, and the rule's text.
fn in_words(meanings: &Meanings<'_>, place: RuleRef) -> (String, String) {
    let ruleset = meanings.ruleset();
    let Some(table) = ruleset.tables.get(place.table) else { return Default::default() };
    let Some(chain) = table.chains.get(place.chain) else { return Default::default() };
    let words = place_text(table, chain, place.rule);
    let Some(rule) = ruleset.rule(place) else { return (words, "the chain's policy".to_owned()) };
    match meanings.of(place) {
        Some(meaning) => (words, format!("{meaning}: {}", without_comments(&rule.text))),
        None => (words, rule.text.to_string()),
    }
}

fn list_direction(packet: &Packet) -> ListDirection {
    if packet.direction == Direction::Out { ListDirection::Out } else { ListDirection::In }
}

fn uses(entry: &Entry, packet: &Packet) -> bool {
    let peer = if packet.direction == Direction::Out { packet.dst } else { packet.src };
    entry.protocol == packet.protocol
        && Some(entry.port) == packet.dport
        && entry.net.is_none_or(|net| net.contains(peer))
}

/// The failsafe entry of the kernel that `packet` uses.
fn listed(failsafe: &FailsafeReport, packet: &Packet) -> Option<Entry> {
    let report = failsafe.direction(list_direction(packet));
    report.deciding(packet.family()).flat_map(KernelChain::list).find(|entry| uses(entry, packet))
}

fn is_removed(failsafe: &FailsafeReport, packet: &Packet, entry: &Entry) -> bool {
    let report = failsafe.direction(list_direction(packet));
    let goes = |change: &&crate::calico::failsafe::Change| change.family == packet.family() && change.frozen.is_none();
    report.next_restart.iter().filter(goes).any(|change| change.removes.contains(entry))
}

/// For each entry that the next restart takes away: packets that use it, to or from peers that rules speak of.
fn removed_entries(snapshot: &Snapshot, failsafe: &FailsafeReport) -> Vec<(Reason, Packet)> {
    let links = Links::new(&snapshot.host);
    let mut packets = Vec::new();
    for direction in ListDirection::ALL {
        for family in FAMILIES {
            let changes = &failsafe.direction(direction).next_restart;
            let removed: BTreeSet<Entry> = changes
                .iter()
                .filter(|change| change.family == family && change.frozen.is_none())
                .flat_map(|change| change.removes.iter().copied())
                .collect();
            if removed.is_empty() {
                continue;
            }
            let mut peers = vec![somebody(family)];
            peers.extend(
                worlds::spoken_of(&snapshot.ruleset, family, MAX_PROBES)
                    .into_iter()
                    .filter_map(|bits| address(family, bits)),
            );
            for entry in removed {
                for peer in peers.iter().filter(|peer| snapshot.host.is_local(**peer) != Some(true)) {
                    let Some(packet) = probe(&links, direction, entry, *peer) else { continue };
                    if uses(&entry, &packet) {
                        packets.push((Reason::RemovedEntry(entry), packet));
                    }
                }
            }
        }
    }
    packets
}

fn address(family: Family, bits: u128) -> Option<IpAddr> {
    let address = match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(bits)),
    };
    let usable = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    usable.then_some(address)
}

fn probe(links: &Links<'_>, direction: ListDirection, entry: Entry, peer: IpAddr) -> Option<Packet> {
    let sport = if entry.protocol == Protocol::UDP && entry.port == 67 { 68 } else { EPHEMERAL };
    match direction {
        ListDirection::In => links.incoming(entry.protocol, (peer, sport), None, entry.port),
        ListDirection::Out => links.outgoing(entry.protocol, None, sport, (peer, entry.port)),
    }
}
