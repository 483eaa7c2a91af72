//! An audit for the terminal: verdict first, findings with what to do, then what was looked at, the calendar last.

use super::text::{Style, Tone, count};
use crate::audit::Audit;
use crate::audit::calendar::Entry;
use crate::audit::finding::{Finding, Severity};

/// The audit as text.
#[must_use]
pub fn text(audit: &Audit, style: Style, verbose: bool) -> String {
    let mut out = headline(audit, style);
    let (told, quiet): (Vec<&Finding>, Vec<&Finding>) =
        audit.findings.iter().partition(|finding| verbose || finding.severity > Severity::Info);
    for finding in told {
        out.push('\n');
        out.push_str(&one(finding, style));
    }
    if !quiet.is_empty() {
        let codes: Vec<&str> = quiet.iter().map(|finding| finding.code).collect();
        out.push('\n');
        out.push_str(
            &style.wrap("", &format!("{} not shown ({}); -v shows them", count(quiet.len(), "note"), codes.join(", "))),
        );
    }
    out.push('\n');
    out.push_str(&looked_at(audit, style));
    out.push('\n');
    out.push_str(&calendar(&audit.calendar, style));
    out
}

/// Verdict and calendar only.
#[must_use]
pub fn brief(audit: &Audit, style: Style) -> String {
    headline(audit, style) + &calendar(&audit.calendar, style)
}

fn headline(audit: &Audit, style: Style) -> String {
    let (tone, word, found) = verdict(audit);
    let host = audit.host.as_deref().unwrap_or("this host");
    style.headline(tone, &word, &format!("{host}: {found}"))
}

/// The verdict: its tone, its word, and the findings by severity with the inputs that could not be read.
pub(super) fn verdict(audit: &Audit) -> (Tone, String, String) {
    let worst = audit.findings.first().map(|finding| finding.severity).filter(|worst| *worst > Severity::Info);
    let (tone, word) = match worst {
        Some(severity) => (Tone::of(severity), severity.name().to_uppercase()),
        None if audit.unreadable.is_empty() => (Tone::Good, "CLEAN".to_owned()),
        None => (Tone::Warn, "INCOMPLETE".to_owned()),
    };
    let mut parts: Vec<String> = Vec::new();
    for severity in Severity::ALL {
        let number = audit.findings.iter().filter(|finding| finding.severity == severity).count();
        if number > 0 && severity > Severity::Info {
            parts.push(format!("{number} {}", severity.name()));
        }
    }
    let found = if parts.is_empty() { "no findings".to_owned() } else { parts.join(", ") };
    let blind = match audit.unreadable.len() {
        0 => String::new(),
        number => format!("; {} unreadable", count(number, "input")),
    };
    (tone, word, found + &blind)
}

/// One finding, ready to act on.
#[must_use]
pub fn one(finding: &Finding, style: Style) -> String {
    let mut out = style.paint(Tone::of(finding.severity), &format!("{} {}", finding.code, finding.severity.name()));
    let when = match &finding.bites_at {
        Some(at) => format!(" bites {} ({at})", finding.bites.name()),
        None => format!(" bites {}", finding.bites.name()),
    };
    out.push_str(&style.paint(Tone::Dim, &format!(" · {} ·{when}", finding.name)));
    out.push('\n');
    out.push_str(&style.wrap("  ", &finding.title));
    for evidence in &finding.evidence {
        out.push_str(&style.wrap("    seen  ", &format!("{}: {}", evidence.source, evidence.text)));
    }
    if let Some(packet) = &finding.witness {
        out.push_str(&style.wrap("    try   ", &witness_command(packet)));
    }
    if !finding.fix.is_empty() {
        out.push_str(&style.wrap("    fix   ", &finding.fix));
    }
    out
}

/// The `trace` command that shows a witness packet.
pub(super) fn witness_command(packet: &serde_json::Value) -> String {
    let word = |key: &str| match packet.get(key) {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let end = |address: &str, port: &str| {
        let address = word(address).unwrap_or_default();
        match word(port) {
            Some(port) if address.contains(':') => format!("[{address}]:{port}"),
            Some(port) => format!("{address}:{port}"),
            None => address,
        }
    };
    let mut text = format!(
        "hepguard trace {} {} {} {}",
        word("dir").unwrap_or_default(),
        word("proto").unwrap_or_default(),
        end("src", "sport"),
        end("dst", "dport")
    );
    for (key, option) in [("iif", "-i"), ("oif", "-o"), ("icmp_type", "--icmp-type"), ("uid", "--uid")] {
        if let Some(mut value) = word(key) {
            if let Some(code) = word("icmp_code").filter(|_| key == "icmp_type") {
                value = format!("{value}/{code}");
            }
            text.push_str(&format!(" {option} {value}"));
        }
    }
    match word("state") {
        Some(state) if state != "new" => text + " --state " + &state,
        _ => text,
    }
}

fn looked_at(audit: &Audit, style: Style) -> String {
    let mut out = style.paint(Tone::Strong, "Looked at");
    out.push('\n');
    let line = |name: &str, text: &str| style.wrap(&format!("  {name:<12} "), text);
    out.push_str(&line("dataplane", &audit.dataplane.describe()));
    for (direction, list) in [("in", &audit.failsafe.inbound), ("out", &audit.failsafe.outbound)] {
        let text = if list.is_empty() { "none seen in the kernel".to_owned() } else { list.join(" ") };
        out.push_str(&line(&format!("failsafe-{direction}"), &text));
    }
    let integrity = &audit.integrity;
    out.push_str(&line(
        "integrity",
        &format!("{} of {} Felix rules verified in {} chains", integrity.verified, integrity.rules, integrity.chains),
    ));
    if !audit.policies.is_empty() {
        let told = audit.policies.iter().map(|group| {
            let number = if group.count > 1 { format!(", {} times", group.count) } else { String::new() };
            format!("{} {} ({}{number}, {})", group.code, group.name, group.severity.name(), group.at)
        });
        let told = told.collect::<Vec<_>>().join("; ");
        out.push_str(&line("policies", &format!("{told}; `hepguard lint` says more")));
    }
    if !audit.unreadable.is_empty() {
        let names: Vec<&str> = audit.unreadable.iter().map(|missing| missing.input.as_str()).collect();
        let told = ["HG901", "HG906"].into_iter().filter(|code| audit.findings.iter().any(|found| found.code == *code));
        let codes: Vec<&str> = told.collect();
        out.push_str(&line("not read", &format!("{} (see {})", names.join(", "), codes.join(", "))));
    }
    out
}

/// The calendar: findings by when they bite.
#[must_use]
pub fn calendar(entries: &[Entry], style: Style) -> String {
    let mut out = style.paint(Tone::Strong, "Calendar");
    out.push('\n');
    if entries.is_empty() {
        out.push_str("  nothing is known to bite\n");
    }
    for entry in entries {
        let when = entry.bites.name();
        let at = entry.at.as_deref().map(|at| format!(" at {at}")).unwrap_or_default();
        let text =
            format!("{}{at}: {} ({})", count(entry.findings, "finding"), entry.codes.join(", "), entry.severity.name());
        out.push_str(&style.wrap(&format!("  {when:<14}"), &text));
    }
    out
}
