//! What the running daemon sees: a document for its socket, words for the terminal, figures for Prometheus.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::text::{Style, Tone, count};
use crate::audit::finding::Severity;
use crate::monitor::Monitor;
use crate::monitor::alert::Alert;

/// The schema of the JSON form, as shipped.
pub const SCHEMA: &str = include_str!("schemas/status.v1.json");

/// Kinds of denies that are told.
const KINDS: usize = 20;

/// What the daemon knows about itself. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// The host's name.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: i64,
    /// The time now.
    pub now: i64,
    /// The configuration it read, `None` without a file.
    pub config: Option<String>,
    /// Followed logs.
    pub logs: Vec<String>,
    /// Sources of notices it has: `nf_tables`, `routing`, `files`, `felix`.
    pub notices: Vec<String>,
    /// Connections tracked now and at most.
    pub conntrack: Option<(u64, u64)>,
    /// Milliseconds the last look took.
    pub took: Option<u64>,
    /// Looks that were started.
    pub looks: u64,
    /// Ways to the SIEM.
    pub outputs: Vec<Output>,
}

/// A way to the SIEM. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where to, in words.
    pub target: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// Messages not delivered yet.
    pub waiting: u64,
    /// Bytes of its queues.
    pub bytes: u64,
    /// Messages delivered by this process.
    pub delivered: u64,
    /// Messages the collector took for bad.
    pub refused: u64,
    /// Messages lost before they could be sent.
    pub lost: u64,
    /// When something was delivered last.
    pub delivered_at: Option<i64>,
    /// When a try failed last.
    pub failed_at: Option<i64>,
    /// Why.
    pub failure: Option<String>,
}

fn output(output: &Output) -> Value {
    json!({
        "name": output.name, "target": output.target, "connected": output.connected, "waiting": output.waiting,
        "bytes": output.bytes, "delivered": output.delivered, "refused": output.refused, "lost": output.lost,
        "delivered_at": output.delivered_at.map(time), "failed_at": output.failed_at.map(time), "failure": output.failure,
    })
}

/// An output in a line of words.
fn output_words(output: &Value) -> String {
    let (waiting, lost) = (number(output, "/waiting"), number(output, "/lost"));
    let mut words = format!(
        "{} ({}): {} delivered",
        text_of(output, "/name"),
        text_of(output, "/target"),
        number(output, "/delivered")
    );
    if waiting > 0 {
        let _ = write!(words, ", {waiting} waiting");
    }
    if lost > 0 {
        let _ = write!(words, ", {lost} lost");
    }
    if waiting > 0 && !text_of(output, "/failure").is_empty() {
        let _ = write!(words, "; last try: {}", text_of(output, "/failure"));
    }
    words
}

/// RFC 3339 in UTC, with milliseconds.
fn time(milliseconds: i64) -> Value {
    let time = chrono::DateTime::<chrono::Utc>::from_timestamp_millis(milliseconds);
    time.map_or(Value::Null, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into())
}

fn alert(alert: &Alert) -> Value {
    let mut value = json!(alert);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("first_seen".to_owned(), time(alert.first_seen));
        fields.insert("last_seen".to_owned(), time(alert.last_seen));
        fields.insert("resolved".to_owned(), alert.resolved.map_or(Value::Null, time));
    }
    value
}

/// The document (`hepguard/status/v1`).
#[must_use]
pub fn document(monitor: &Monitor, health: &Health) -> Value {
    let last = monitor.last.as_ref();
    let kinds = monitor.kinds.top(KINDS).into_iter().map(|(kind, known)| {
        json!({
            "kind": kind, "words": kind.words(), "count": known.count, "first": time(known.first), "last": time(known.last),
        })
    });
    let changes = monitor.changes.iter().map(|told| json!({"time": time(told.time), "what": told.what}));
    let next = monitor.next_bite(health.now);
    json!({
        "schema": "hepguard/status/v1",
        "host": health.host,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": health.pid,
        "started": time(health.started),
        "time": time(health.now),
        "config": health.config,
        "logs": health.logs,
        "notices": health.notices,
        "felix": {"pid": last.and_then(|last| last.felix), "rules": last.map(|last| last.felix_rules)},
        "firewall": {
            "judged": monitor.judged_at.map(time),
            "took_ms": health.took,
            "rules": last.map(|last| last.rules),
            "members": last.map(|last| last.members),
            "refused_flows": last.map(|last| last.refused),
            "unreadable": last.map(|last| last.unreadable.clone()).unwrap_or_default(),
        },
        "outputs": health.outputs.iter().map(output).collect::<Vec<_>>(),
        "conntrack": health.conntrack.map(|(now, most)| json!({"now": now, "most": most})),
        "totals": monitor.totals,
        "open": monitor.open_by_severity().into_iter().map(|(severity, count)| (severity.name().to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "next_bite": next.map(|(at, alert)| json!({"time": time(at), "code": alert.finding.code, "title": alert.finding.title})),
        "alerts": monitor.book.sorted().into_iter().map(alert).collect::<Vec<_>>(),
        "kinds": kinds.collect::<Vec<_>>(),
        "changes": changes.collect::<Vec<_>>(),
    })
}

fn text_of<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The severity of an alert in a document.
#[must_use]
pub fn severity(alert: &Value) -> Option<Severity> {
    let name = text_of(alert, "/severity");
    Severity::ALL.into_iter().find(|severity| severity.name() == name)
}

/// Open alerts of a document.
pub fn open(document: &Value) -> impl Iterator<Item = &Value> {
    list(document, "/alerts").iter().filter(|alert| alert.get("resolved").is_none_or(Value::is_null))
}

/// A document as text; `verbose` shows resolved alerts and more kinds, too.
#[must_use]
pub fn text(document: &Value, style: Style, verbose: bool) -> String {
    let mut out = brief(document, style);
    let all: Vec<&Value> = list(document, "/alerts").iter().filter(|alert| verbose || is_open(alert)).collect();
    for alert in all.iter().take(if verbose { usize::MAX } else { 10 }) {
        out.push('\n');
        let tone = severity(alert).filter(|_| is_open(alert)).map_or(Tone::Dim, Tone::of);
        let word = if is_open(alert) { text_of(alert, "/severity").to_uppercase() } else { "RESOLVED".to_owned() };
        let head = format!("{word} {} {}", text_of(alert, "/code"), text_of(alert, "/name"));
        let _ = writeln!(out, "{}", style.paint(tone, &head));
        out.push_str(&style.wrap("  ", text_of(alert, "/title")));
        let seen = format!(
            "first {}, last {}, {}",
            short(text_of(alert, "/first_seen")),
            short(text_of(alert, "/last_seen")),
            count(usize::try_from(number(alert, "/count")).unwrap_or(usize::MAX), "time")
        );
        out.push_str(&style.wrap("  seen  ", &seen));
        match text_of(alert, "/resolution") {
            "" => out.push_str(&style.wrap("  fix   ", text_of(alert, "/fix"))),
            how => out.push_str(&style.wrap("  ended ", &format!("{} {how}", short(text_of(alert, "/resolved"))))),
        }
    }
    if !verbose && all.len() > 10 {
        out.push_str(&style.wrap("\n", &format!("{} more; -v shows all", all.len() - 10)));
    }
    section(
        &mut out,
        style,
        "Denies by kind",
        list(document, "/kinds")
            .iter()
            .take(if verbose { KINDS } else { 5 })
            .map(|kind| format!("{} {}", number(kind, "/count"), text_of(kind, "/words"))),
    );
    let changes = list(document, "/changes");
    let latest = changes.iter().rev().take(if verbose { usize::MAX } else { 5 });
    section(
        &mut out,
        style,
        "Latest changes",
        latest.map(|change| format!("{} {}", short(text_of(change, "/time")), text_of(change, "/what"))),
    );
    out
}

fn section(out: &mut String, style: Style, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, title));
        lines.for_each(|line| out.push_str(&style.wrap("  ", &line)));
    }
}

fn is_open(alert: &Value) -> bool {
    alert.get("resolved").is_none_or(Value::is_null)
}

/// A time without its fraction.
fn short(time: &str) -> String {
    time.get(..19).map_or_else(|| time.to_owned(), |start| format!("{start}Z"))
}

/// The first lines alone.
#[must_use]
pub fn brief(document: &Value, style: Style) -> String {
    let open: Vec<String> = Severity::ALL
        .iter()
        .map(|severity| (number(document, &format!("/open/{}", severity.name())), severity))
        .filter(|(count, _)| *count > 0)
        .map(|(count, severity)| format!("{count} {}", severity.name()))
        .collect();
    let worst = self::open(document).filter_map(severity).max();
    let (tone, verdict) = match worst {
        None => (Tone::Good, "OK: no open alert".to_owned()),
        Some(severity) => (Tone::of(severity), format!("{}: {} open", severity.name().to_uppercase(), open.join(", "))),
    };
    let mut out =
        format!("{} on {}\n", style.paint(tone, &verdict), style.paint(Tone::Plain, text_of(document, "/host")));
    let or_none = |values: &[Value]| {
        let words: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    };
    let felix = match document.pointer("/felix/pid").and_then(Value::as_u64) {
        Some(pid) => format!("pid {pid}, {} rules", number(document, "/felix/rules")),
        None => format!("not seen, {} rules", number(document, "/felix/rules")),
    };
    let judged = match text_of(document, "/firewall/judged") {
        "" => "not yet".to_owned(),
        at => format!(
            "{} in {} ms: {} rules, {} set members, {} flows refused",
            short(at),
            number(document, "/firewall/took_ms"),
            number(document, "/firewall/rules"),
            number(document, "/firewall/members"),
            number(document, "/firewall/refused_flows")
        ),
    };
    let rows = [
        ("  since    ", format!("{} (pid {})", short(text_of(document, "/started")), number(document, "/pid"))),
        ("  logs     ", or_none(list(document, "/logs"))),
        ("  notices  ", or_none(list(document, "/notices"))),
        ("  felix    ", felix),
        ("  judged   ", judged),
        (
            "  denies   ",
            format!("{} in {} lines", number(document, "/totals/denies"), number(document, "/totals/lines")),
        ),
        ("  next bite", next_bite(document)),
    ];
    for (name, value) in rows {
        out.push_str(&style.wrap(&format!("{name} "), &value));
    }
    for output in list(document, "/outputs") {
        out.push_str(&style.wrap("  forward   ", &crate::diagnostic::printable(&output_words(output))));
    }
    out
}

fn next_bite(document: &Value) -> String {
    match text_of(document, "/next_bite/time") {
        "" => "none with a known time".to_owned(),
        at => format!("{} {}", short(at), text_of(document, "/next_bite/title")),
    }
}

/// Figures in OpenMetrics form. No address or port is a label; policies are, as far as they fit.
#[must_use]
pub fn metrics(monitor: &Monitor, health: &Health) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        let _ = writeln!(out, "# TYPE hepguard_{name} {kind}\n# HELP hepguard_{name} {help}");
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        for (labels, value) in samples {
            let _ = writeln!(out, "hepguard_{name}{suffix}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value.to_string())];
    let seconds = |milliseconds: i64| {
        vec![(String::new(), format!("{}.{:03}", milliseconds / 1000, milliseconds.rem_euclid(1000)))]
    };
    let totals = &monitor.totals;
    family(
        "build",
        "info",
        "The program.",
        &[(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), "1".to_owned())],
    );
    family("log_lines", "counter", "Lines of logs that were read.", &one(totals.lines));
    family("log_bytes", "counter", "Bytes of logs that were read.", &one(totals.bytes));
    family("log_parse_errors", "counter", "Deny lines that are broken.", &one(totals.malformed));
    family("denies", "counter", "Denies, by direction, tier and policy.", &denies(monitor));
    let open: Vec<(String, String)> = monitor
        .open_by_severity()
        .iter()
        .map(|(severity, count)| (format!("{{severity=\"{}\"}}", severity.name()), count.to_string()))
        .collect();
    family("alerts_open", "gauge", "Open alerts.", &open);
    family("firewall_changes", "counter", "Changes of the firewall that were noticed.", &one(totals.changes));
    family("firewall_audits", "counter", "Times the firewall was judged.", &one(totals.audits));
    family("firewall_looks_failed", "counter", "Looks at the host that failed.", &one(totals.failed_looks));
    if let Some(at) = monitor.judged_at {
        family("firewall_judged_timestamp_seconds", "gauge", "When the firewall was judged last.", &seconds(at));
    }
    if let Some(took) = health.took.and_then(|took| i64::try_from(took).ok()) {
        family("firewall_judging_seconds", "gauge", "How long the last look took.", &seconds(took));
    }
    if let Some(last) = &monitor.last {
        family("firewall_rules", "gauge", "Rules of all backends.", &one(last.rules));
        family("firewall_set_members", "gauge", "Members of IP sets.", &one(last.members));
        family("felix_rules", "gauge", "Rules in Felix's chains.", &one(last.felix_rules));
        family("felix_up", "gauge", "Whether Felix runs.", &one(u64::from(last.felix.is_some())));
        family("flows_refused", "gauge", "Flows that must work and are refused.", &one(last.refused));
    }
    if let Some((now, most)) = health.conntrack {
        family("conntrack_entries", "gauge", "Connections tracked.", &one(now));
        family("conntrack_entries_limit", "gauge", "Connections that can be tracked.", &one(most));
    }
    if !health.outputs.is_empty() {
        let each = |value: fn(&Output) -> u64| -> Vec<(String, String)> {
            let labelled =
                |output: &Output| (format!("{{output=\"{}\"}}", label(&output.name)), value(output).to_string());
            health.outputs.iter().map(labelled).collect()
        };
        family("forward_up", "gauge", "Whether there is a connection.", &each(|output| u64::from(output.connected)));
        family("forward_waiting", "gauge", "Messages not delivered yet.", &each(|output| output.waiting));
        family("forward_spool_bytes", "gauge", "Bytes of the queues.", &each(|output| output.bytes));
        family("forward_messages", "counter", "Messages delivered.", &each(|output| output.delivered));
        family("forward_refused", "counter", "Messages the collector took for bad.", &each(|output| output.refused));
        family("forward_lost", "counter", "Messages lost before they could be sent.", &each(|output| output.lost));
    }
    family("start_timestamp_seconds", "gauge", "When the daemon started.", &seconds(health.started));
    out.push_str("# EOF\n");
    out
}

/// Series of denies at most; the rest is `other`.
const SERIES: usize = 100;

fn denies(monitor: &Monitor) -> Vec<(String, String)> {
    let mut sums: std::collections::BTreeMap<(String, String, String), u64> = std::collections::BTreeMap::new();
    for (kind, known) in monitor.kinds.sorted() {
        let mut key = (kind.direction.clone(), kind.tier.clone(), kind.policy.clone());
        if sums.len() >= SERIES && !sums.contains_key(&key) {
            key = ("other".to_owned(), "other".to_owned(), "other".to_owned());
        }
        let sum = sums.entry(key).or_default();
        *sum = sum.saturating_add(known.count);
    }
    sums.into_iter()
        .map(|((direction, tier, policy), sum)| {
            let labels = format!(
                "{{direction=\"{}\",tier=\"{}\",policy=\"{}\"}}",
                label(&direction),
                label(&tier),
                label(&policy)
            );
            (labels, sum.to_string())
        })
        .collect()
}

fn label(text: &str) -> String {
    crate::diagnostic::printable(text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::monitor::deny::{Batch, Kind, Seen};
    use crate::monitor::{Event, Moment};

    fn monitor() -> Monitor {
        let now = Moment { wall: 1_800_000_000_123, steady: 0 };
        let mut monitor = Monitor::new(config::Alerts::default(), now);
        monitor.first_start = 0;
        let kind = Kind {
            source: "felix".to_owned(),
            direction: "egress".to_owned(),
            tier: "default".to_owned(),
            policy: "bad\"\n\x1b[31m".to_owned(),
            rule: Some(1),
            proto: Some(6),
            port: Some(443),
        };
        let kinds = vec![(kind.into(), Seen { count: 3, example: "".into() })];
        monitor.step(Event::Logs(Batch { kinds, lines: 9, ..Batch::default() }), now);
        monitor.step(Event::NotLooked("timeout".to_owned()), now);
        monitor
    }

    fn health() -> Health {
        Health {
            host: "bastion".to_owned(),
            pid: 7,
            now: 1_800_000_000_500,
            conntrack: Some((5, 10)),
            ..Health::default()
        }
    }

    #[test]
    fn text_says_what_is_open_first_and_escapes() {
        let text = text(&document(&monitor(), &health()), Style::default(), false);
        assert!(text.starts_with("HIGH: 1 high, 1 medium open on bastion\n"), "{text}");
        assert!(text.contains("\nHIGH HG522 look-failed\n  the firewall could not be looked at: timeout\n"), "{text}");
        assert!(text.contains("first 2027-01-15T08:00:00Z, last 2027-01-15T08:00:00Z, 3 times"), "{text}");
        assert!(!text.contains('\x1b') && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let calm = Monitor::new(config::Alerts::default(), Moment { wall: 0, steady: 0 });
        let calm = super::text(&document(&calm, &health()), Style::default(), true);
        assert!(calm.starts_with("OK: no open alert on bastion\n"), "{calm}");
    }

    #[test]
    fn metrics_are_well_formed() {
        let text = metrics(&monitor(), &health());
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("\nhepguard_log_lines_total 9\n"), "{text}");
        let labels = "{direction=\"egress\",tier=\"default\",policy=\"bad\\\"";
        assert!(text.contains(&format!("\nhepguard_denies_total{labels}")), "{text}");
        for line in text.lines() {
            let sample =
                line.starts_with('#') || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
            assert!(sample && !line.contains('\x1b'), "{line}");
        }
    }
}
