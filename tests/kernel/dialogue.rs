//! A real conversation, packet by packet: the asking and the answering side are played by the test, the host between them
//! is the kernel's. Each packet is made from the one before as the firewall let it out.

use hepguard::analysis::conversation::{Conversation, Outcome as Ending, script};
use hepguard::packet::{Direction, Packet, Protocol};

use crate::judge::Judge;
use crate::lab::{Lab, Outcome, Shot};
use crate::nflog::Seen;
use crate::wire::Extra;

/// Sequence numbers the two sides begin with.
const ASKER: u32 = 1000;
const ANSWERER: u32 = 70_000;
/// Bytes of data a packet carries.
const DATA: u32 = 8;

/// What became of one packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    /// Its name in the script.
    pub(crate) name: &'static str,
    /// What the kernel did.
    pub(crate) outcome: Outcome,
}

impl Said {
    /// How it left, when it did.
    pub(crate) fn seen(&self) -> Option<Seen> {
        match self.outcome {
            Outcome::Passed(seen) => Some(seen),
            _ => None,
        }
    }
}

/// Holds the conversation that `first` opens until a packet is stopped.
pub(crate) fn talk(lab: &mut Lab, first: &Packet, echo_id: u16) -> Result<Vec<Said>, String> {
    let mut said: Vec<Said> = Vec::new();
    for leg in script(first) {
        let extra = Extra { echo_id, numbers: numbers(leg.name), answer: leg.reply, ..Extra::default() };
        let opened = said.first().and_then(Said::seen);
        let (packet, extra) = match (leg.reply, opened) {
            (false, _) => (Packet { length: None, ..first.clone() }, extra),
            // an identifier may have been translated like a port, and nobody looks inside
            (true, Some(seen)) => {
                (answer(lab, first, &seen), Extra { echo_id: seen.echo_id.unwrap_or(echo_id), ..extra })
            }
            (true, None) => break,
        };
        let mut packet = packet;
        if !leg.first {
            (packet.tcp_flags, packet.icmp) = (leg.flags, leg.icmp);
        }
        let outcome = lab.shoot(&Shot { packet, extra, entry: None })?;
        said.push(Said { name: leg.name, outcome });
        if !matches!(outcome, Outcome::Passed(_)) {
            break;
        }
    }
    Ok(said)
}

/// TCP's numbers as both sides count them.
fn numbers(name: &str) -> Option<(u32, u32)> {
    Some(match name {
        "SYN" => (ASKER, 0),
        "SYN-ACK" => (ANSWERER, ASKER + 1),
        "ACK" | "data" => (ASKER + 1, ANSWERER + 1),
        "data back" => (ANSWERER + 1, ASKER + 1 + DATA),
        _ => return None,
    })
}

/// The packet that answers one that left as `seen`.
fn answer(lab: &Lab, first: &Packet, seen: &Seen) -> Packet {
    let direction = match (seen.leaving, first.direction) {
        (false, _) => Direction::Out,
        (true, Direction::Out) => Direction::In,
        (true, _) => Direction::Forward,
    };
    let ends = seen.ends;
    let mut packet = Packet::first(direction, first.protocol, (ends.dst, 0), (ends.src, 0));
    (packet.sport, packet.dport) = (ends.dport, ends.sport);
    packet.iif = seen.leaving.then(|| lab.interface(seen.oif).unwrap_or("lo").into());
    packet
}

/// How library and kernel compare on one conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    /// Packets the kernel was asked about.
    pub(crate) packets: usize,
    /// Of them certain in the library.
    pub(crate) certain: usize,
    /// The kernel let the whole conversation through.
    pub(crate) works: bool,
    /// The library was certain about the whole conversation.
    pub(crate) decided: bool,
}

/// Compares what was said with what the library foretold; `Err` says where they differ.
pub(crate) fn compare(said: &[Said], foretold: &Conversation) -> Result<Score, String> {
    let mut score = Score { decided: foretold.outcome != Ending::Unknown, ..Score::default() };
    for (number, said) in said.iter().enumerate() {
        let here = |what: String| Err(format!("packet {}, {}: {what}", number + 1, said.name));
        let Some(exchange) = foretold.exchanges.get(number) else {
            return here(format!("kernel {:?}; the library has no such packet: {:?}", said.outcome, foretold.outcome));
        };
        let may_pass = exchange.trace.may.iter().any(|verdict| verdict.name() == "accept");
        let may_stop = exchange.trace.may.iter().any(|verdict| verdict.name() != "accept");
        let passed = said.seen();
        if if passed.is_some() { !may_pass } else { !may_stop } {
            return here(format!("kernel {:?}; library {:?}", said.outcome, exchange.trace.verdict));
        }
        if let Some(seen) = passed.filter(|seen| !seen.state.intersects(exchange.states)) {
            return here(format!("state {} in the kernel, {} in the library", seen.state, exchange.states));
        }
        score.packets += 1;
        score.certain += usize::from(exchange.trace.certain);
    }
    score.works = said.len() == foretold.length && said.iter().all(|said| said.seen().is_some());
    match (foretold.outcome, score.works) {
        (Ending::Works, false) | (Ending::Broken, true) => {
            Err(format!("kernel: works {}; library: {:?}", score.works, foretold.outcome))
        }
        _ => Ok(score),
    }
}

/// Asks kernel and library about one conversation.
pub(crate) fn ask(
    lab: &mut Lab,
    judge: &Judge<'_>,
    first: &Packet,
    echo_id: u16,
) -> Result<(Vec<Said>, Score), String> {
    let said = talk(lab, first, echo_id)?;
    let foretold = judge.converse(first);
    match compare(&said, &foretold) {
        Ok(score) => Ok((said, score)),
        Err(error) => {
            let kernel: String = said.iter().map(|said| format!("  {said:?}\n")).collect();
            Err(format!("{error}\n{first:?}\nkernel:\n{kernel}{}", judge.explain_conversation(first)))
        }
    }
}

/// Whether a protocol's packets can be made for both sides.
pub(crate) fn speaks(packet: &Packet) -> bool {
    match packet.protocol {
        Protocol::ICMP => packet.icmp == Some((8, 0)),
        Protocol::ICMPV6 => packet.icmp == Some((128, 0)),
        _ => true,
    }
}
