//! Whole snapshots: read, traced, audited, shown.

use hepguard::analysis::conversation::{Outcome, Ways, converse};
use hepguard::analysis::reach::conversation::Question;
use hepguard::analysis::reach::peers::Wanted;
use hepguard::analysis::reach::{Engine as Sets, HostFacts, Settings};
use hepguard::analysis::trace::{Engine, TraceOptions, TraceVerdict, blind_spots};
use hepguard::audit as checks;
use hepguard::calico::names::Meanings;
use hepguard::packet::text::{AskedPacket, from_json};
use hepguard::packet::{CtState, Direction, Family, Protocol};
use hepguard::report;
use hepguard::report::reach::{Told, World};
use hepguard::report::text::Style;
use hepguard::snapshot as reading;

use super::folder::{files, parts};

/// Tells what a file is.
pub(super) fn kind(input: &[u8]) {
    if let reading::kind::Kind::File(name) = reading::kind::of(input) {
        assert!(reading::is_known_name(name));
    }
}

/// A folder of files.
pub(super) fn snapshot(input: &[u8]) {
    let read = reading::read(files(input));
    assert!(read.diagnostics.len() <= 10_000);
}

/// Packets a fuzzed ruleset always gets.
const PACKETS: [&str; 5] = [
    r#"{"dir":"in","proto":"tcp","src":"203.0.113.7","sport":51522,"dst":"10.0.1.10","dport":22,"iif":"eth0"}"#,
    r#"{"dir":"out","proto":"udp","src":"10.0.1.10","sport":40000,"dst":"10.0.0.2","dport":53,"oif":"eth0","uid":0}"#,
    r#"{"dir":"forward","proto":"tcp","src":"10.1.0.1","sport":1,"dst":"10.2.0.1","dport":80,"iif":"a","oif":"b"}"#,
    r#"{"dir":"in","proto":"icmpv6","src":"fe80::1","dst":"fe80::2","iif":"eth0"}"#,
    r#"{"dir":"out","proto":"tcp","src":"::1","sport":9,"dst":"::1","dport":22,"state":"established"}"#,
];

/// Those and up to eight of the input's own.
fn packets(input: &[u8]) -> impl Iterator<Item = AskedPacket> {
    let own = parts(input)
        .into_iter()
        .filter(|(name, _)| name == "packets")
        .flat_map(|(_, lines)| lines.split(|b| *b == b'\n'));
    PACKETS.into_iter().map(str::as_bytes).chain(own.take(8)).filter_map(|line| from_json(line).ok())
}

/// A folder of files and packets (in a part `packets`, a JSON line each) through it, each in every form of answer. The
/// budget of rules is small, so that no input is slow for what it asks and all are bounded by it.
pub(super) fn trace(input: &[u8]) {
    let read = reading::read(files(input));
    let engine = Engine::new(&read.ruleset, &read.host);
    let meanings = Meanings::new(&read.ruleset);
    for asked in packets(input) {
        let options = TraceOptions { at: asked.at, record: true, verbose: true, max_rules: 20_000 };
        let spots = blind_spots(&read, asked.packet.family());
        let full = engine.trace(&asked.packet, &options).blinded(&spots);
        let brief =
            engine.trace(&asked.packet, &TraceOptions { record: false, verbose: false, ..options }).blinded(&spots);
        assert_eq!((full.verdict, full.decided_by), (brief.verdict, brief.decided_by), "recording changes the answer");
        assert_eq!(full.certain, full.may.len() == 1, "{:?}", full.may);
        let line = report::trace::line(&meanings, &full).expect("JSON");
        assert!(!line.bytes().any(|byte| byte < 0x20));
        let document = report::trace::document(&meanings, &asked.packet, &full).expect("JSON");
        assert!(document.len() < 256 << 20);
        clean(&report::trace::text(&meanings, &asked.packet, &full, Style::default()));
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        let _ = blind_spots(&read, family);
    }
}

/// A folder of files and packets, each of which opens a conversation.
pub(super) fn conversation(input: &[u8]) {
    let read = reading::read(files(input));
    let engine = Engine::new(&read.ruleset, &read.host);
    let meanings = Meanings::new(&read.ruleset);
    for asked in packets(input).filter(|asked| asked.packet.opens_connection()) {
        let options = TraceOptions { record: true, verbose: true, max_rules: 20_000, ..TraceOptions::default() };
        let full = converse(&engine, &asked.packet, &Ways::default(), &options);
        let brief = TraceOptions { record: false, verbose: false, ..options };
        let brief = converse(&engine, &asked.packet, &Ways::default(), &brief);
        assert_eq!(
            (full.outcome, full.broken_at()),
            (brief.outcome, brief.broken_at()),
            "recording changes the answer"
        );
        let first = full.exchanges.first().expect("the first packet is always judged");
        assert!(full.outcome != Outcome::Works || first.trace.may.contains(&TraceVerdict::Accept));
        let line = report::conversation::line(&meanings, &full).expect("JSON");
        assert!(!line.bytes().any(|byte| byte < 0x20));
        assert!(report::conversation::document(&meanings, &full).expect("JSON").len() < 256 << 20);
        clean(&report::conversation::text(&meanings, &full, Style::default(), true));
    }
}

/// A folder of files: who gets the port of each packet that opens a conversation, with a small budget of nodes.
pub(super) fn reach(input: &[u8]) {
    let read = reading::read(files(input));
    let mut asked: Vec<(Family, Question)> = Vec::new();
    for AskedPacket { packet, .. } in packets(input).filter(|asked| asked.packet.opens_connection()) {
        let question = Question {
            outgoing: packet.direction == Direction::Out,
            protocol: packet.protocol,
            port: packet.dport,
            state: CtState::NEW,
        };
        let is_service = packet.protocol.has_ports() || matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6);
        if is_service && packet.direction != Direction::Forward && !asked.contains(&(packet.family(), question)) {
            asked.push((packet.family(), question));
        }
    }
    for (family, question) in asked.into_iter().take(4) {
        let facts = HostFacts::new(&read.host, family);
        let mut engine = Sets::new(&read.ruleset, &facts, &Settings { budget: 200_000, ..Settings::default() });
        let wanted = Wanted { from: None, explain: true };
        let answer = engine.conversation(&question).and_then(|talk| engine.told(&talk, wanted));
        let told = Told {
            family,
            question,
            from: None,
            worlds: vec![World { name: "now", answer }],
            restart: None,
            settings: read.host.sysctls.is_some(),
            blind: blind_spots(&read, family),
        };
        let meanings = Meanings::new(&read.ruleset);
        let line = report::reach::line(&meanings, &told);
        assert!(!line.bytes().any(|byte| byte < 0x20));
        clean(&report::reach::text(&meanings, &told, Style::default(), true));
    }
}

/// A folder of files, audited.
pub(super) fn audit(input: &[u8]) {
    let read = reading::read(files(input));
    let audit = checks::audit(&read);
    clean(&report::audit::text(&audit, Style::default(), true));
    clean(&report::audit::brief(&audit, Style::default()));
    let document = serde_json::to_string(&audit).expect("JSON");
    assert!(document.starts_with('{'));
}

/// No control character reaches a terminal.
pub(super) fn clean(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}
