//! What connection tracking makes of packets by itself, whatever the rules say (net/netfilter/nf_conntrack_proto_*.c).

use super::walk::Walk;
use crate::packet::{CtState, Family, Hook, Protocol, TcpFlags};
use crate::ruleset::Interval;
use crate::space::bdd::{Built, Set};
use crate::space::header::Header;
use crate::space::ranges::joined;

/// TCP flags that may come with any others: PSH, ECE, CWR.
const ANYWHERE: u8 = TcpFlags::PSH.0 | 64 | 128;
const URG: u8 = TcpFlags::URG.0;

/// Flags whose bits besides [`ANYWHERE`] pass `wanted`.
fn flags(wanted: impl Fn(u8) -> bool) -> Vec<Interval> {
    joined(
        (0..=u8::MAX).filter(|flags| wanted(flags & !ANYWHERE)).map(|flags| Interval::single(flags.into())).collect(),
    )
}

/// Flags that can stand together (`tcp_valid_flags`).
fn is_sound(flags: u8) -> bool {
    const SYN: u8 = TcpFlags::SYN.0;
    const ACK: u8 = TcpFlags::ACK.0;
    const RST: u8 = TcpFlags::RST.0;
    const FIN: u8 = TcpFlags::FIN.0;
    [SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG].contains(&flags)
}

impl Walk<'_> {
    /// Splits packets by the state tracking gives them where their own bytes decide; packets in doubt are in two parts.
    pub(super) fn corrected(&mut self, header: Header, start: Set) -> Built<Vec<(Header, Set)>> {
        if matches!(header.state, CtState::INVALID | CtState::UNTRACKED) {
            return Ok(vec![(header, start)]);
        }
        let opens = header.opens_connection();
        let (untracked, invalid, doubt) = (self.never_tracked(&header)?, self.invalid(&header, opens)?, opens);
        let doubt = if doubt { self.picked_up(&header)? } else { Set::NONE };
        let words = "whether tracking picks up connections half way";
        let (not_picked_up, picked_up) = self.either(doubt, words, Hook::Prerouting, Some(&header))?;
        let bdd = &mut self.encoder.bdd;
        let rest = bdd.minus(start, untracked)?;
        let surely_invalid = bdd.minus(not_picked_up, picked_up)?;
        let not_new = bdd.or(invalid, surely_invalid)?;
        let parts = [
            (header.clone(), bdd.minus(rest, not_new)?),
            (header.clone().in_state(CtState::INVALID), {
                let invalid = bdd.or(invalid, not_picked_up)?;
                bdd.and(rest, invalid)?
            }),
            (header.in_state(CtState::UNTRACKED), bdd.and(start, untracked)?),
        ];
        Ok(parts.into_iter().filter(|(_, set)| !set.is_empty()).collect())
    }

    fn of(&mut self, header: &Header, protocol: Protocol) -> Built {
        let number = Interval::single(protocol.0.into());
        Ok(self.encoder.bound_within(header.protocol, &[number])?.certain)
    }

    /// Multicast listener and neighbour discovery messages bypass connection tracking.
    fn never_tracked(&mut self, header: &Header) -> Built {
        if self.facts.family() == Family::Ipv4 {
            return Ok(Set::NONE);
        }
        let types = [Interval { low: 130, high: 136 }, Interval::single(143)];
        let own = self.of(header, Protocol::ICMPV6)?;
        let types = self.encoder.bound_within(header.icmp_type, &types)?;
        self.encoder.bdd.and(own, types.certain)
    }

    /// TCP flags that cannot be, and first packets that open no connection.
    fn invalid(&mut self, header: &Header, opens: bool) -> Built {
        let syn = TcpFlags::SYN.0;
        let ack = TcpFlags::ACK.0;
        let loose = self.loose();
        let bad = |flags: u8| {
            let main = flags & !URG;
            !is_sound(flags) || (opens && main != syn && (main != ack || loose == Some(false)))
        };
        let bad = self.encoder.bound_within(header.tcp_flags, &flags(bad))?.certain;
        let tcp = self.of(header, Protocol::TCP)?;
        let tcp = self.encoder.bdd.and(tcp, bad)?;
        if !opens {
            return Ok(tcp);
        }
        // only requests that have an answer open a connection
        let (own, questions): (Protocol, &[u128]) = match self.facts.family() {
            Family::Ipv4 => (Protocol::ICMP, &[8, 13, 15, 17]),
            _ => (Protocol::ICMPV6, &[128, 139]),
        };
        let questions: Vec<Interval> = questions.iter().map(|kind| Interval::single(*kind)).collect();
        let others = crate::space::ranges::gaps(&questions, 8);
        let icmp = self.of(header, own)?;
        let others = self.encoder.bound_within(header.icmp_type, &others)?.certain;
        let bdd = &mut self.encoder.bdd;
        let icmp = bdd.and(icmp, others)?;
        bdd.or(tcp, icmp)
    }

    /// Packets from the middle of a connection, where nobody knows whether tracking takes them for new ones.
    fn picked_up(&mut self, header: &Header) -> Built {
        if self.loose().is_some() {
            return Ok(Set::NONE);
        }
        let middle = flags(|flags| flags & !URG == TcpFlags::ACK.0);
        let middle = self.encoder.bound_within(header.tcp_flags, &middle)?.certain;
        let tcp = self.of(header, Protocol::TCP)?;
        self.encoder.bdd.and(tcp, middle)
    }

    /// Whether connections are picked up half way; `None` when the snapshot does not tell.
    fn loose(&self) -> Option<bool> {
        let sysctls = self.facts.host().sysctls.as_ref()?;
        Some(sysctls.get("net.netfilter.nf_conntrack_tcp_loose")?.trim() != "0")
    }
}
