//! Reader of connection listings: `conntrack -L` (with or without `-o extended`) and `/proc/net/nf_conntrack`.

use std::net::IpAddr;
use std::sync::Arc;

use super::Session;
use crate::diagnostic::{Level, Parsed, Remarks};
use crate::packet::{CtState, CtStatus, Protocol, Tuple};

/// Reads one connection a line.
///
/// The state is the one the next packet of the first direction meets: NEW until an answer was seen, then ESTABLISHED. A
/// listing does not tell RELATED. SNAT and DNAT follow from the two tuples.
#[must_use]
pub fn read(source: &Arc<str>, text: &[u8]) -> Parsed<Vec<Session>> {
    let mut remarks = Remarks::new(source);
    let mut found = Vec::new();
    for (number, line) in (1_u32..).zip(text.split(|byte| *byte == b'\n')) {
        let line = String::from_utf8_lossy(line);
        // conntrack's own last line, caught when standard error was mixed in
        if line.trim().is_empty() || line.contains("flow entries have been shown") {
            continue;
        }
        match session(&line) {
            Ok(session) => found.push(session),
            Err((column, message)) => remarks.add(Level::Warning, number, column, format!("{message}; line not used")),
        }
    }
    remarks.with(found)
}

#[derive(Default)]
struct HalfTuple {
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    sport: Option<u16>,
    dport: Option<u16>,
}

impl HalfTuple {
    fn whole(&self) -> Option<Tuple> {
        Some(Tuple { src: self.src?, dst: self.dst?, sport: self.sport, dport: self.dport })
    }
}

fn session(line: &str) -> Result<Session, (u32, String)> {
    let at = |part: &str| {
        let offset = (part.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
        u32::try_from(offset + 1).unwrap_or(u32::MAX)
    };
    let mut words = line.split_ascii_whitespace().peekable();
    if words.next_if(|word| matches!(*word, "ipv4" | "ipv6")).is_some() {
        words.next(); // the family's number
    }
    let name = words.next().unwrap_or_default();
    let number = words.next().unwrap_or_default();
    let protocol = number.parse().map(Protocol).map_err(|_| {
        (
            at(number),
            format!("expected a protocol and its number as in 'tcp 6', found {:?}", format!("{name} {number}")),
        )
    })?;
    words.next_if(|word| word.bytes().all(|byte| byte.is_ascii_digit())); // seconds left; offloaded entries have none
    let protocol_state = words.next_if(|word| !word.contains('=') && !word.starts_with('['));

    let (mut original, mut reply) = (HalfTuple::default(), HalfTuple::default());
    let (mut unreplied, mut assured, mut mark) = (false, false, 0_u32);
    for word in words {
        let bad = |what: &str| (at(word), format!("expected {what}, found {word:?}"));
        match word.split_once('=') {
            None if word == "[UNREPLIED]" => unreplied = true,
            None if word == "[ASSURED]" => assured = true,
            None => {}
            Some(("mark", value)) => mark = value.parse().map_err(|_| bad("a mark of 32 bits"))?,
            Some((key, value)) => {
                // `src` opens a tuple: the first is the original direction's, the second the reply's
                let tuple = if original.src.is_none() || (key != "src" && reply.src.is_none()) {
                    &mut original
                } else {
                    &mut reply
                };
                match key {
                    "src" => tuple.src = Some(value.parse().map_err(|_| bad("an address"))?),
                    "dst" => tuple.dst = Some(value.parse().map_err(|_| bad("an address"))?),
                    "sport" => tuple.sport = Some(value.parse().map_err(|_| bad("a port"))?),
                    "dport" => tuple.dport = Some(value.parse().map_err(|_| bad("a port"))?),
                    _ => {} // packets, bytes, type, code, id, zone, use, secctx, …
                }
            }
        }
    }
    let (Some(original), Some(reply)) = (original.whole(), reply.whole()) else {
        return Err((at(name), "expected src= and dst= of both directions (cut short?)".to_owned()));
    };
    let mut status = CtStatus::CONFIRMED.0;
    if !unreplied {
        status |= CtStatus::SEEN_REPLY.0;
    }
    if assured {
        status |= CtStatus::ASSURED.0;
    }
    if (original.src, original.sport) != (reply.dst, reply.dport) {
        status |= CtStatus::SNAT.0;
    }
    if (original.dst, original.dport) != (reply.src, reply.sport) {
        status |= CtStatus::DNAT.0;
    }
    Ok(Session {
        protocol,
        original,
        reply,
        state: if unreplied { CtState::NEW } else { CtState::ESTABLISHED },
        status: CtStatus(status),
        protocol_state: protocol_state.map(Into::into),
        mark,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Session {
        let read = read(&Arc::from("conntrack.txt"), line.as_bytes());
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        read.value.into_iter().next().expect("one session")
    }

    #[test]
    fn kernel_and_tool_listings_say_the_same() {
        let kernel = one(
            "ipv6     10 udp      17 29 src=0000:0000:0000:0000:0000:0000:0000:0001 dst=fd00:0000:0000:0000:0000:0000:0000:0002 \
             sport=5353 dport=99 [UNREPLIED] src=fd00:0000:0000:0000:0000:0000:0000:0002 \
             dst=0000:0000:0000:0000:0000:0000:0000:0001 sport=99 dport=5353 mark=0 zone=0 use=2",
        );
        let extended = one(
            "ipv6     10 udp      17 29 src=::1 dst=fd00::2 sport=5353 dport=99 [UNREPLIED] src=fd00::2 dst=::1 sport=99 dport=5353 mark=0 use=1",
        );
        let plain = one(
            "udp      17 29 src=::1 dst=fd00::2 sport=5353 dport=99 [UNREPLIED] src=fd00::2 dst=::1 sport=99 dport=5353 mark=0 use=1",
        );
        assert_eq!(kernel, extended);
        assert_eq!(kernel, plain);
        assert_eq!((kernel.state, kernel.status), (CtState::NEW, CtStatus::CONFIRMED));
    }

    #[test]
    fn established_with_counters_nat_and_mark() {
        let session = one(
            "ipv4     2 tcp      6 431999 ESTABLISHED src=203.0.113.7 dst=10.0.1.10 sport=51522 dport=22 packets=3 bytes=180 \
             src=10.0.1.99 dst=203.0.113.7 sport=2222 dport=51522 packets=3 bytes=200 [ASSURED] mark=65536 use=1",
        );
        assert_eq!((session.protocol, session.state, session.mark), (Protocol::TCP, CtState::ESTABLISHED, 65536));
        assert_eq!(session.protocol_state.as_deref(), Some("ESTABLISHED"));
        assert_eq!((session.original.dport, session.reply.sport), (Some(22), Some(2222)));
        assert_eq!(session.status.to_string(), "seen-reply,assured,confirmed,dnat");
    }

    #[test]
    fn icmp_has_no_ports_and_offloaded_entries_no_clock() {
        let icmp = one(
            "icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=7 mark=0 use=1",
        );
        assert_eq!((icmp.original.sport, icmp.state), (None, CtState::ESTABLISHED));
        let offloaded = one(
            "tcp      6 src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2 src=2.2.2.2 dst=1.1.1.1 sport=2 dport=1 [OFFLOAD] mark=0 use=2",
        );
        assert_eq!(offloaded.protocol_state, None);
    }

    #[test]
    fn bad_lines_cost_only_themselves_and_say_where() {
        let text = "conntrack v1.4.7 (conntrack-tools): 1 flow entries have been shown.\nudp 17 29 src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2\n\
                    tcp 6 9 CLOSE src=1.1.1.1 dst=2.2.2.2 sport=70000\n\u{fffd}\u{0}\n\
                    tcp 6 9 CLOSE src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2 src=2.2.2.2 dst=1.1.1.1 sport=2 dport=1 mark=0\n";
        let read = read(&Arc::from("conntrack.txt"), text.as_bytes());
        assert_eq!(read.value.len(), 1);
        let places: Vec<_> = read.diagnostics.iter().map(|d| (d.line, d.column)).collect();
        assert_eq!(places, [(2, 1), (3, 39), (4, 1)]);
    }
}
