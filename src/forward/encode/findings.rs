//! Findings and notices as documents: Elastic Common Schema, OCSF, and hepguard's own JSON.

use serde_json::{Map, Value, json};

use super::ecs::without_nulls;
use super::message::{Body, Message, Notice, State};
use super::rfc5424::words;
use crate::audit::finding::{Confidence, Finding, Severity};
use crate::logs::time::rfc3339;

/// Most pieces of evidence in a message, and the longest, in characters: a message has to fit the limits of syslog.
const EVIDENCE: (usize, usize) = (4, 300);

/// OCSF's milliseconds.
fn millis(message: &Message<'_>) -> i64 {
    message.time.div_euclid(1000)
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The finding with its evidence cut to what a message can carry; how much is left out is said.
fn short(finding: &Finding) -> Value {
    let mut short = finding.clone();
    let left_out = short.evidence.len().saturating_sub(EVIDENCE.0);
    short.evidence.truncate(EVIDENCE.0);
    for evidence in &mut short.evidence {
        evidence.text = shortened(&evidence.text);
        evidence.source = shortened(&evidence.source);
    }
    short.title = shortened(&short.title);
    short.fix = shortened(&short.fix);
    let mut value = serde_json::to_value(&short).unwrap_or_default();
    if let (true, Some(fields)) = (left_out > 0, value.as_object_mut()) {
        fields.insert("evidence_left_out".to_owned(), json!(left_out));
    }
    value
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= EVIDENCE.1 {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(EVIDENCE.1).collect();
    short.push('…');
    short
}

fn notice_fields(notice: &Notice) -> Value {
    Value::Object(notice.fields.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<Map<_, _>>())
}

/// hepguard's own JSON: `hepguard/alert/v1` for findings, `hepguard/notice/v1` for the rest.
pub(super) fn own(message: &Message<'_>) -> Value {
    let time = rfc3339(message.time);
    match &message.body {
        Body::Finding { finding, state } => json!({
            "schema": "hepguard/alert/v1", "id": message.id, "time": time, "host": message.host,
            "state": state.name(), "finding": short(finding),
        }),
        Body::Notice(notice) => json!({
            "schema": "hepguard/notice/v1", "id": message.id, "time": time, "host": message.host,
            "kind": notice.kind.name(), "text": notice.text, "fields": notice_fields(notice),
        }),
        Body::Event { .. } => Value::Null,
    }
}

/// Elastic Common Schema: findings are `alert`s, notices `metric`-less `event`s of the host.
pub(super) fn ecs(message: &Message<'_>) -> Value {
    let mut out = json!({
        "@timestamp": rfc3339(message.time), "ecs": { "version": "9.4.0" }, "message": words(message),
        "host": { "hostname": message.host, "name": message.host },
        "observer": { "type": "firewall", "product": "hepguard", "hostname": message.host },
        "agent": { "type": "hepguard", "version": version() },
        "related": { "hosts": [message.host] },
        "log": { "level": message.severity().name() },
    });
    let more = match &message.body {
        Body::Finding { finding, state } => json!({
            "event": {
                "id": message.id, "kind": "alert", "category": ["configuration"], "type": ["info"],
                "action": finding.name, "code": finding.code, "outcome": outcome(*state),
                "module": "hepguard", "dataset": "hepguard.finding", "severity": number(finding.severity),
                "risk_score": risk(message.severity()),
            },
            "rule": {
                "id": finding.code, "name": finding.name, "category": family(finding.code), "ruleset": "hepguard",
            },
            "hepguard": { "state": state.name(), "finding": short(finding) },
        }),
        Body::Notice(notice) => json!({
            "event": {
                "id": message.id, "kind": "event", "category": ["host"], "type": ["info"],
                "action": notice.kind.name(), "module": "hepguard", "dataset": "hepguard.health",
                "severity": number(message.severity()),
            },
            "hepguard": { "notice": notice_fields(notice) },
        }),
        Body::Event { .. } => Value::Null,
    };
    if let (Some(out), Value::Object(more)) = (out.as_object_mut(), more) {
        out.extend(more);
    }
    out
}

/// A check that fails has the outcome `failure`, from the producer's view.
fn outcome(state: State) -> &'static str {
    if state == State::Resolved { "success" } else { "failure" }
}

/// Severity as a number of growing badness, hepguard's scale: info 1, low 3, medium 5, high 8, critical 10 (CEF's too).
pub(super) fn number(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 1,
        Severity::Low => 3,
        Severity::Medium => 5,
        Severity::High => 8,
        Severity::Critical => 10,
    }
}

fn risk(severity: Severity) -> f64 {
    f64::from(number(severity)) * 10.0
}

/// What the hundreds of a code stand for.
fn family(code: &str) -> &'static str {
    match code.as_bytes().get(2) {
        Some(b'1') => "failsafe",
        Some(b'2') => "lockout",
        Some(b'3') => "integrity",
        Some(b'4') => "policy",
        Some(b'5') => "logs",
        Some(b'6') => "exposure",
        Some(b'7') => "reboot",
        _ => "blind-spot",
    }
}

/// OCSF 1.8.0: what the logs show is a Detection Finding (2004), what a check finds a Compliance Finding (2003), a notice an
/// Application Lifecycle event (6002) of the kind "Other".
pub(super) fn ocsf(message: &Message<'_>) -> Value {
    let severity = match message.severity() {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    };
    let metadata = |code: Option<&str>| {
        without_nulls(json!({
            "version": "1.8.0", "uid": message.id, "event_code": code, "profiles": ["host"],
            "product": { "name": "hepguard", "vendor_name": "hepguard", "version": version() },
        }))
    };
    let common = json!({
        "time": millis(message), "severity_id": severity.0, "severity": severity.1, "message": words(message),
        "device": { "type_id": 1, "type": "Server", "hostname": message.host },
    });
    let more = match &message.body {
        Body::Finding { finding, state } => {
            let mut out = finding_of(message, finding, *state);
            if let Some(fields) = out.as_object_mut() {
                fields.insert("metadata".to_owned(), metadata(Some(finding.code)));
            }
            out
        }
        Body::Notice(notice) => json!({
            "activity_id": 99, "activity_name": "Other", "category_uid": 6, "category_name": "Application Activity",
            "class_uid": 6002, "class_name": "Application Lifecycle", "type_uid": 600_299,
            "type_name": "Application Lifecycle: Other",
            "app": { "name": "hepguard", "vendor_name": "hepguard", "version": version() },
            "metadata": metadata(None), "status_detail": notice.kind.name(), "unmapped": notice_fields(notice),
        }),
        Body::Event { .. } => Value::Null,
    };
    let mut out = common;
    if let (Some(out), Value::Object(more)) = (out.as_object_mut(), more) {
        out.extend(more);
    }
    out
}

fn finding_of(message: &Message<'_>, finding: &Finding, state: State) -> Value {
    let (activity, activity_name) = match state {
        State::New => (1, "Create"),
        State::Open => (2, "Update"),
        State::Resolved => (3, "Close"),
    };
    let (status, status_name) = if state == State::Resolved { (4, "Resolved") } else { (1, "New") };
    let detection = family(finding.code) == "logs";
    let (class, class_name) = if detection { (2004, "Detection Finding") } else { (2003, "Compliance Finding") };
    let info = json!({
        "uid": finding.fingerprint, "title": finding.title, "types": [family(finding.code)],
        "created_time": millis(message),
        "analytic": { "type_id": 1, "type": "Rule", "uid": finding.code, "name": finding.name },
    });
    let mut out = json!({
        "activity_id": activity, "activity_name": activity_name, "category_uid": 2, "category_name": "Findings",
        "class_uid": class, "class_name": class_name, "type_uid": class * 100 + activity,
        "type_name": format!("{class_name}: {activity_name}"), "status_id": status, "status": status_name,
        "finding_info": info, "remediation": { "desc": shortened(&finding.fix) },
        "unmapped": { "finding": short(finding) },
    });
    let exact = finding.confidence == Confidence::Exact;
    if let Some(fields) = out.as_object_mut() {
        if finding.fix.is_empty() {
            fields.remove("remediation");
        }
        let resource = json!({ "name": message.host, "type": "Host" });
        fields.insert("resources".to_owned(), json!([resource]));
        if detection {
            fields.insert("confidence_id".to_owned(), json!(if exact { 3 } else { 2 }));
            fields.insert("is_alert".to_owned(), json!(true));
        } else {
            let (verdict, name) = if state == State::Resolved { (1, "Pass") } else { (3, "Fail") };
            let compliance = json!({
                "control": finding.code, "standards": ["hepguard"], "status_id": verdict, "status": name,
                "status_detail": finding.title,
            });
            fields.insert("compliance".to_owned(), compliance);
        }
    }
    out
}
