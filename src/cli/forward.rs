//! `hepguard forward`: try the ways to the SIEM, look at the queues, send again.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::args::{Common, ForwardArgs, ForwardVerb};
use super::exit::{CliError, Outcome};
use super::load;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::config::{self, Config};
use crate::forward::encode::message::{Body, Message, Notice, NoticeKind, State, id_of};
use crate::forward::sender::{LANES, Output};
use crate::forward::settings;
use crate::forward::spool::{self, Status};
use crate::forward::transport::{self, Failure};
use crate::logs::event::{Action, Direction, Event, Source};
use crate::report::json_pretty;
use crate::report::text::count;

/// Longest wait for a delivery.
const PATIENCE: Duration = Duration::from_secs(15);

/// Messages handed over at once in a replay.
const BATCH: usize = 2048;

/// What became of an output.
struct Told {
    name: String,
    target: String,
    /// Messages sent, and delivered.
    sent: usize,
    delivered: usize,
    failure: Option<Failure>,
    lanes: Option<[Status; 2]>,
}

/// Runs the command.
///
/// # Errors
/// When the configuration cannot be used, or names no such output.
pub fn run(common: &Common, args: &ForwardArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !matches!(common.format.as_str(), "text" | "json") {
        return Err(super::unknown_format(&common.format, &["text", "json"]));
    }
    let path = common.config.clone().unwrap_or_else(|| PathBuf::from(config::PATH));
    let config = load::config(&path)?;
    let name = match &args.verb {
        ForwardVerb::Test { name } | ForwardVerb::Drill { name } | ForwardVerb::Status { name } => name.as_deref(),
        ForwardVerb::Replay { name, .. } => Some(name.as_str()),
    };
    let outputs = outputs(&config, &path, name)?;
    let spool = config.state.directory.join("spool");
    let host = nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned());
    let mut all = Vec::new();
    for output in &outputs {
        all.push(match &args.verb {
            ForwardVerb::Test { .. } => send(output, &[test(&host)]),
            ForwardVerb::Drill { .. } => drill(output, &host),
            ForwardVerb::Status { .. } => queues(output, &spool)?,
            ForwardVerb::Replay { findings_only, .. } => replay(output, &spool, *findings_only)?,
        });
    }
    match common.format.as_str() {
        "json" => writeln!(out, "{}", json_pretty(&document(&all)))?,
        _ => text(common, &all, out)?,
    }
    Ok(Outcome { findings: all.iter().any(|one| one.failure.is_some()), incomplete: false })
}

fn outputs(config: &Config, path: &Path, name: Option<&str>) -> Result<Vec<Output>, CliError> {
    let file = path.display();
    if config.forward.is_empty() {
        return Err(CliError::Usage(format!("{file} has no [[forward]] entry: nothing is sent anywhere")));
    }
    let found: Vec<Output> = config
        .forward
        .iter()
        .filter(|entry| name.is_none_or(|name| entry.name == name))
        .map(settings::output)
        .collect();
    if found.is_empty() {
        let known: Vec<&str> = config.forward.iter().map(|entry| entry.name.as_str()).collect();
        let wanted = name.unwrap_or_default();
        return Err(CliError::Usage(format!("{file} has no output {wanted:?}; it has {}", known.join(", "))));
    }
    Ok(found)
}

/// Microseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn test(host: &str) -> Message<'_> {
    let time = now();
    Message {
        id: id_of(&[b"test", host.as_bytes(), &time.to_le_bytes()]),
        time,
        host,
        body: Body::Notice(Notice {
            kind: NoticeKind::Test,
            text: "hepguard forward test: this message has no other meaning".to_owned(),
            fields: Vec::new(),
        }),
    }
}

/// A lockout finding, its end, and a deny from the network that documents are written with (RFC 5737).
fn drill(output: &Output, host: &str) -> Told {
    let time = now();
    let finding = Finding::coded(
        "HG251",
        "plan-flow-lost",
        Severity::Critical,
        json!({ "drill": true, "host": host }),
        "DRILL: SSH to this host would be lost; nothing is wrong",
    )
    .bites(Bites::Now)
    .evidence("hepguard forward drill", "made to see whether the alarm rings");
    let event = Event {
        time: Some(time),
        host: Some(host.as_bytes()),
        source: Source::Felix,
        action: Action::Deny,
        direction: Some(Direction::Ingress),
        proto: Some(6),
        src_ip: Some([192, 0, 2, 1].into()),
        src_port: Some(51_522),
        dst_ip: Some([192, 0, 2, 2].into()),
        dst_port: Some(22),
        icmp_type: None,
        icmp_code: None,
        in_iface: None,
        out_iface: None,
        tier: Some(b"drill".as_slice().into()),
        policy: Some(b"drill".as_slice().into()),
        rule_index: Some(-1),
        log_prefix: None,
        packets: 1,
        bytes: 60,
        count: 1,
        repeats: 0,
        totals: None,
        workload: false,
        failsafe: true,
    };
    let id = |part: &[u8]| id_of(&[b"drill", part, host.as_bytes(), &time.to_le_bytes()]);
    let message = |part: &[u8], body| Message { id: id(part), time, host, body };
    let messages = [
        message(b"new", Body::Finding { finding: &finding, state: State::New }),
        message(b"deny", Body::Event { event: &event, raw: b"DRILL: hepguard forward drill" }),
        message(b"end", Body::Finding { finding: &finding, state: State::Resolved }),
    ];
    send(output, &messages)
}

fn told(output: &Output) -> Told {
    Told {
        name: output.name.clone(),
        target: output.target.to_string(),
        sent: 0,
        delivered: 0,
        failure: None,
        lanes: None,
    }
}

/// Sends past the queues, which a running daemon holds.
fn send(output: &Output, messages: &[Message<'_>]) -> Told {
    let lines: Vec<Vec<u8>> = messages.iter().map(|message| output.encoding.payload(message, ("direct", 0))).collect();
    let mut told = Told { sent: lines.len(), ..told(output) };
    match over(output, &lines) {
        Ok(()) => told.delivered = told.sent,
        Err(failure) => told.failure = Some(failure),
    }
    told
}

/// Sends and waits until everything is delivered.
fn over(output: &Output, lines: &[Vec<u8>]) -> Result<(), Failure> {
    let mut link = transport::open(&output.target)?;
    let end = Instant::now() + PATIENCE;
    let mut delivered = link.send(lines)?;
    while delivered < lines.len() {
        if Instant::now() >= end {
            return Err(Failure::Lost(format!(
                "{} of {} not delivered within 15 s",
                lines.len() - delivered,
                lines.len()
            )));
        }
        delivered += link.settle(Duration::from_millis(500))?;
    }
    match link.refused().pop() {
        Some(refusal) => Err(Failure::Refused(refusal.why)),
        None => Ok(()),
    }
}

fn queues(output: &Output, spool: &Path) -> Result<Told, CliError> {
    let mut lanes = [Status::default(); 2];
    for (lane, status) in LANES.iter().zip(&mut lanes) {
        let folder = spool.join(&output.name).join(lane);
        *status = match spool::peek(&folder) {
            Ok(status) => status,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Status::default(),
            Err(error) => return Err(CliError::Input(format!("{}: {error}", folder.display()))),
        };
    }
    Ok(Told { lanes: Some(lanes), ..told(output) })
}

fn replay(output: &Output, spool: &Path, findings_only: bool) -> Result<Told, CliError> {
    let mut told = told(output);
    let lanes = if findings_only { &LANES[..1] } else { &LANES[..] };
    for lane in lanes {
        let folder = spool.join(&output.name).join(lane);
        let mut batch = Vec::new();
        let mut failure = None;
        let mut hand_over = |batch: &mut Vec<Vec<u8>>| {
            let count = batch.len();
            told.sent += count;
            match over(output, &std::mem::take(batch)) {
                Ok(()) => told.delivered += count,
                Err(error) => failure = Some(error),
            }
            if failure.is_some() { Err(std::io::Error::other("not delivered")) } else { Ok(()) }
        };
        let kept = spool::kept(&folder, 0, |_, payload| {
            batch.push(payload.to_vec());
            if batch.len() < BATCH { Ok(()) } else { hand_over(&mut batch) }
        });
        let kept = kept.and_then(|_| if batch.is_empty() { Ok(()) } else { hand_over(&mut batch) });
        match kept {
            _ if failure.is_some() => {
                told.failure = failure;
                break;
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CliError::Input(format!("{}: {error}", folder.display())));
            }
            _ => {}
        }
    }
    Ok(told)
}

fn document(all: &[Told]) -> Value {
    let outputs: Vec<Value> = all
        .iter()
        .map(|one| {
            let failure = one.failure.as_ref().map(|failure| {
                json!({ "text": failure.to_string(), "act": matches!(failure, Failure::Refused(_) | Failure::Unwanted(_)) })
            });
            let lanes = one.lanes.as_ref().map(|lanes| {
                let lane = |status: &Status| json!({ "waiting": status.waiting, "last": status.last, "delivered": status.acked, "bytes": status.bytes });
                json!({ "findings": lane(&lanes[0]), "denies": lane(&lanes[1]) })
            });
            json!({
                "name": one.name, "target": one.target, "sent": one.sent, "delivered": one.delivered,
                "failure": failure, "queues": lanes,
            })
        })
        .collect();
    json!({ "schema": "hepguard/forward/v1", "outputs": outputs })
}

fn text(common: &Common, all: &[Told], out: &mut dyn Write) -> Result<(), CliError> {
    let style = super::style(common);
    for one in all {
        let head = match (&one.failure, &one.lanes) {
            (Some(failure), _) => {
                let act = if matches!(failure, Failure::Refused(_) | Failure::Unwanted(_)) {
                    "refused"
                } else {
                    "not delivered"
                };
                format!("{} ({}): {act}: {failure}", one.name, one.target)
            }
            (None, Some(lanes)) => {
                let lane = |name: &str, status: &Status| {
                    format!(
                        "{} of {name} wait, {} sent, {} KiB kept",
                        status.waiting,
                        status.acked,
                        status.bytes / 1024
                    )
                };
                format!("{} ({}): {}; {}", one.name, one.target, lane("findings", &lanes[0]), lane("denies", &lanes[1]))
            }
            (None, None) => format!("{} ({}): {} delivered", one.name, one.target, count(one.delivered, "message")),
        };
        write!(out, "{}", style.wrap("", &crate::diagnostic::printable(&head)))?;
    }
    Ok(())
}
