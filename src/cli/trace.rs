//! `hepguard trace PACKET`: one packet, rule by rule, or the whole conversation it opens; `--batch` answers a packet a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde_json::json;

use super::args::{Common, KnownPolicies, TraceArgs};
use super::exit::{CliError, Outcome};
use crate::analysis::conversation::{Conversation, Outcome as Ending, Ways, converse};
use crate::analysis::trace::{Engine, Trace, TraceOptions, blind_spots};
use crate::calico::names::Meanings;
use crate::packet::text::{AskedPacket, PacketError, PacketSpec, from_json, read_flags, read_hook, read_icmp};
use crate::packet::text::{read_interface, read_mark, read_state, spec_from_json};
use crate::packet::{CtState, Family, Hook, Packet, Protocol, TcpFlags};
use crate::report;
use crate::snapshot::Snapshot;

/// Longest line of a batch in bytes; a packet needs a few hundred.
const MAX_LINE: u64 = 64 * 1024;

/// Runs the command.
///
/// # Errors
/// A packet that cannot be read is a usage error; a snapshot or batch that cannot be opened an input error.
pub fn run(common: &Common, args: &TraceArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    match &args.batch {
        Some(path) => {
            if common.format != "text" && common.format != "jsonl" {
                return Err(super::unknown_format(&common.format, &["jsonl"]));
            }
            let snapshot = super::load::snapshot_with(common, &args.known)?;
            if path.as_os_str() == "-" {
                batch(&snapshot, args.conversation, io::stdin().lock(), out)
            } else {
                batch(&snapshot, args.conversation, BufReader::with_capacity(256 * 1024, open(path)?), out)
            }
        }
        None => {
            if !["text", "json"].contains(&common.format.as_str()) {
                return Err(super::unknown_format(&common.format, &["text", "json"]));
            }
            let usage = |error: PacketError| CliError::Usage(error.to_string());
            let (spec, at) = spec(args).map_err(usage)?;
            if args.conversation {
                return conversation(common, &args.known, &opening(spec).map_err(CliError::Usage)?, out);
            }
            single(common, &args.known, &AskedPacket { packet: spec.build().map_err(usage)?, at }, out)
        }
    }
}

fn open(path: &Path) -> Result<File, CliError> {
    File::open(path).map_err(|error| CliError::Input(format!("cannot read {}: {error}", path.display())))
}

/// The packet the words describe, and the one hook it is asked for.
fn spec(args: &TraceArgs) -> Result<(PacketSpec, Option<Hook>), PacketError> {
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    let mut spec =
        PacketSpec::new(&word(&args.direction), &word(&args.protocol), &word(&args.source), &word(&args.destination))?;
    spec.iif = args.iif.as_deref().map(read_interface).transpose()?;
    spec.oif = args.oif.as_deref().map(read_interface).transpose()?;
    spec.state = args.state.as_deref().map(read_state).transpose()?;
    spec.mark = args.mark.as_deref().map_or(Ok(0), read_mark)?;
    spec.flags = args.flags.as_deref().map(read_flags).transpose()?;
    spec.icmp = args.icmp_type.as_deref().map(read_icmp).transpose()?;
    spec.uid = args.uid;
    Ok((spec, args.at.as_deref().map(read_hook).transpose()?))
}

/// The first packet of a conversation, and the interfaces of its answers.
fn opening(mut spec: PacketSpec) -> Result<(Packet, Ways), String> {
    let (answers_in, answers_out) = spec.take_answers_ways();
    let packet = spec.build().map_err(|error| error.to_string())?;
    if !matches!(packet.state, CtState::NEW | CtState::RELATED) {
        return Err(format!("state: a conversation starts with a packet that is new or related, not {}", packet.state));
    }
    if packet.protocol == Protocol::TCP && packet.tcp_flags != TcpFlags::SYN {
        return Err(format!("flags: a TCP conversation starts with syn, not {}", packet.tcp_flags));
    }
    let name = |name: Option<String>| name.map(String::into_boxed_str);
    Ok((packet, Ways { answers_in: name(answers_in), answers_out: name(answers_out) }))
}

fn conversation(
    common: &Common,
    known: &KnownPolicies,
    (first, ways): &(Packet, Ways),
    out: &mut dyn Write,
) -> Result<Outcome, CliError> {
    let snapshot = super::load::snapshot_with(common, known)?;
    let options = TraceOptions { record: common.verbose, ..TraceOptions::default() };
    let engine = Engine::new(&snapshot.ruleset, &snapshot.host);
    let spots = blind_spots(&snapshot, first.family());
    let conversation = converse(&engine, first, ways, &options).blinded(&spots);
    if common.format == "json" {
        let text = report::conversation::document(&snapshot.meanings(), &conversation).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
    } else {
        let style = super::style(common);
        write!(out, "{}", report::conversation::text(&snapshot.meanings(), &conversation, style, common.verbose))?;
    }
    Ok(ended(&conversation))
}

fn ended(conversation: &Conversation) -> Outcome {
    Outcome { findings: false, incomplete: conversation.outcome == Ending::Unknown }
}

fn single(
    common: &Common,
    known: &KnownPolicies,
    asked: &AskedPacket,
    out: &mut dyn Write,
) -> Result<Outcome, CliError> {
    let snapshot = super::load::snapshot_with(common, known)?;
    let options =
        TraceOptions { at: asked.at, record: !common.quiet, verbose: common.verbose, ..TraceOptions::default() };
    let engine = Engine::new(&snapshot.ruleset, &snapshot.host);
    let spots = blind_spots(&snapshot, asked.packet.family());
    let trace = engine.trace(&asked.packet, &options).blinded(&spots);
    if common.format == "json" {
        let text = report::trace::document(&snapshot.meanings(), &asked.packet, &trace).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
    } else {
        write!(out, "{}", report::trace::text(&snapshot.meanings(), &asked.packet, &trace, super::style(common)))?;
    }
    Ok(outcome(&trace))
}

fn outcome(trace: &Trace) -> Outcome {
    Outcome { findings: false, incomplete: !trace.certain }
}

/// Answers each line of `input` in order.
fn batch(snapshot: &Snapshot, whole: bool, mut input: impl BufRead, out: &mut dyn Write) -> Result<Outcome, CliError> {
    let judged = Judged {
        engine: Engine::new(&snapshot.ruleset, &snapshot.host),
        meanings: snapshot.meanings(),
        spots: [Family::Ipv4, Family::Ipv6].map(|family| blind_spots(snapshot, family)),
    };
    let mut all = Outcome::CLEAN;
    let mut buffer = Vec::new();
    let mut number = 0u64;
    loop {
        buffer.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut buffer);
        if read.map_err(|error| CliError::Input(format!("cannot read the batch: {error}")))? == 0 {
            return Ok(all);
        }
        number += 1;
        let ended = buffer.last() == Some(&b'\n');
        let full = !ended && u64::try_from(buffer.len()).is_ok_and(|length| length >= MAX_LINE);
        let answer = if full {
            skip_line(&mut input)?;
            Err(format!("the line is longer than {MAX_LINE} bytes"))
        } else if whole {
            judged.conversation(&buffer)
        } else {
            judged.packet(&buffer)
        };
        match answer {
            Ok((line, certain)) => {
                all.incomplete |= !certain;
                writeln!(out, "{}", line.map_err(io::Error::from)?)?;
            }
            Err(error) => {
                all.incomplete = true;
                writeln!(out, "{}", json!({"error": error, "line": number}))?;
            }
        }
    }
}

/// What answers the lines of a batch.
struct Judged<'s> {
    engine: Engine<'s>,
    meanings: Meanings<'s>,
    /// Of IPv4 and IPv6.
    spots: [Vec<String>; 2],
}

/// A line to print, and whether its answer is certain; `Err` says why the question is none.
type Answered = Result<(serde_json::Result<String>, bool), String>;

impl Judged<'_> {
    fn spots(&self, packet: &Packet) -> &[String] {
        let [v4, v6] = &self.spots;
        if is_v4(packet) { v4 } else { v6 }
    }

    fn packet(&self, line: &[u8]) -> Answered {
        let asked = from_json(line).map_err(|error| error.to_string())?;
        let options = TraceOptions { at: asked.at, ..TraceOptions::default() };
        let trace = self.engine.trace(&asked.packet, &options).blinded(self.spots(&asked.packet));
        Ok((report::trace::line(&self.meanings, &trace), trace.certain))
    }

    fn conversation(&self, line: &[u8]) -> Answered {
        let (spec, at) = spec_from_json(line).map_err(|error| error.to_string())?;
        if at.is_some() {
            return Err("at: a conversation crosses every hook".to_owned());
        }
        let (first, ways) = opening(spec)?;
        let conversation = converse(&self.engine, &first, &ways, &TraceOptions::default()).blinded(self.spots(&first));
        let certain = conversation.outcome != Ending::Unknown;
        Ok((report::conversation::line(&self.meanings, &conversation), certain))
    }
}

fn is_v4(packet: &Packet) -> bool {
    packet.family() == Family::Ipv4
}

/// Reads on to the end of a line without keeping it.
fn skip_line(input: &mut impl BufRead) -> Result<(), CliError> {
    loop {
        let chunk = input.fill_buf().map_err(|error| CliError::Input(format!("cannot read the batch: {error}")))?;
        if chunk.is_empty() {
            return Ok(());
        }
        let end = memchr::memchr(b'\n', chunk);
        let length = end.map_or(chunk.len(), |at| at + 1);
        input.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{FileState, SnapshotFiles};

    fn snapshot(text: &str) -> Snapshot {
        let mut files = SnapshotFiles::default();
        files.files.insert("iptables-save.txt".to_owned(), FileState::Present(text.as_bytes().to_vec()));
        crate::snapshot::read(files)
    }

    fn answers(snapshot: &Snapshot, input: &str) -> (Vec<serde_json::Value>, Outcome) {
        let mut out = Vec::new();
        let outcome = batch(snapshot, false, input.as_bytes(), &mut out).expect("a batch");
        let lines = String::from_utf8(out).expect("UTF-8");
        (lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(), outcome)
    }

    const FILTER: &str = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n";

    #[test]
    fn every_line_is_answered_in_order_and_bad_ones_by_number() {
        let packet = |port: u16| {
            format!(r#"{{"dir":"in","proto":"tcp","src":"203.0.113.7","sport":1,"dst":"10.0.1.10","dport":{port}}}"#)
        };
        let long = format!("{{\"dir\":\"{}\"}}", "x".repeat(100_000));
        let input = [packet(22), "nonsense".to_owned(), long, String::new(), packet(23)].join("\n");
        let (answers, outcome) = answers(&snapshot(FILTER), &input);
        assert_eq!(answers.len(), 5);
        assert_eq!(answers[0]["verdict"], "accept");
        assert_eq!(answers[0]["decided_by"]["rule"], 1);
        assert_eq!(answers[0]["decided_by"]["table"], "filter");
        assert_eq!(answers[1]["line"], 2);
        assert!(answers[2]["error"].as_str().is_some_and(|error| error.contains("longer")));
        assert_eq!(answers[3]["line"], 4);
        assert_eq!((&answers[4]["verdict"], &answers[4]["decided_by"]["rule"]), (&json!("drop"), &json!("policy")));
        assert_eq!(outcome.code(), 3);
        let (_, outcome) = super::tests::answers(&snapshot(FILTER), &packet(23));
        assert_eq!(outcome.code(), 0, "a drop is no error");
    }

    #[test]
    fn a_family_that_was_not_listed_is_unknown() {
        let line = r#"{"dir":"in","proto":"tcp","src":"2001:db8::1","dst":"2001:db8::2","dport":22}"#;
        let (answers, outcome) = answers(&snapshot(FILTER), line);
        assert_eq!((&answers[0]["verdict"], outcome.code()), (&json!("unknown"), 3));
        assert!(answers[0]["because"][0]["reason"].as_str().is_some_and(|reason| reason.contains("ip6tables-save")));
    }
}
