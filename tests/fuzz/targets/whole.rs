//! Whole snapshots: read, traced, audited, shown.

use hepguard::analysis::trace::{Engine, TraceOptions, blind_spots};
use hepguard::audit as checks;
use hepguard::calico::names::Meanings;
use hepguard::packet::Family;
use hepguard::packet::text::from_json;
use hepguard::report;
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

/// A folder of files and packets (in a part `packets`, a JSON line each) through it, each in every form of answer. The
/// budget of rules is small, so that no input is slow for what it asks and all are bounded by it.
pub(super) fn trace(input: &[u8]) {
    let read = reading::read(files(input));
    let engine = Engine::new(&read.ruleset, &read.host);
    let meanings = Meanings::new(&read.ruleset);
    let own = parts(input)
        .into_iter()
        .filter(|(name, _)| name == "packets")
        .flat_map(|(_, lines)| lines.split(|b| *b == b'\n'));
    for line in PACKETS.into_iter().map(str::as_bytes).chain(own.take(8)) {
        let Ok(asked) = from_json(line) else { continue };
        let options = TraceOptions { at: asked.at, record: true, verbose: true, max_rules: 20_000 };
        let spots = blind_spots(&read, asked.packet.family());
        let full = engine.trace(&asked.packet, &options).blinded(&spots);
        let brief =
            engine.trace(&asked.packet, &TraceOptions { record: false, verbose: false, ..options }).blinded(&spots);
        assert_eq!((full.verdict, full.decided_by), (brief.verdict, brief.decided_by), "recording changes the answer");
        assert_eq!(full.certain, full.may.len() == 1, "{:?}", full.may);
        let line = report::trace::line(&meanings, &full).expect("JSON");
        assert!(!line.bytes().any(|byte| byte < 0x20));
        let document = report::trace::document(&read.ruleset, &asked.packet, &full).expect("JSON");
        assert!(document.len() < 256 << 20);
        clean(&report::trace::text(&read.ruleset, &asked.packet, &full, Style::default()));
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        let _ = blind_spots(&read, family);
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
fn clean(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}
