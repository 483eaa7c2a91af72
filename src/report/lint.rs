//! A lint's report for the terminal, for code review in Markdown, and as SARIF 2.1.0.

use serde_json::{Value, json};

use super::text::{Style, Tone, count};
use crate::audit::finding::Severity;
use crate::lint::{Lint, Located, Location, Report};

/// As text: verdict first, then each finding with its place and fix.
#[must_use]
pub fn text(report: &Report, style: Style, verbose: bool) -> String {
    let mut out = headline(report, style);
    let (told, quiet): (Vec<&Located>, Vec<&Located>) =
        report.findings.iter().partition(|found| verbose || found.finding.severity > Severity::Info);
    for found in told {
        let finding = &found.finding;
        out.push('\n');
        out.push_str(
            &style.paint(Tone::of(finding.severity), &format!("{} {}", finding.code, finding.severity.name())),
        );
        out.push_str(&style.paint(Tone::Dim, &format!(" · {}", finding.name)));
        out.push('\n');
        out.push_str(&style.wrap("  ", &finding.title));
        out.push_str(&style.wrap("    at    ", &place(&found.location)));
        if !finding.fix.is_empty() {
            out.push_str(&style.wrap("    fix   ", &finding.fix));
        }
    }
    if !quiet.is_empty() {
        let mut codes: Vec<&str> = quiet.iter().map(|found| found.finding.code).collect();
        codes.dedup();
        out.push('\n');
        let text = format!("{} not shown ({}); -v shows them", count(quiet.len(), "note"), codes.join(", "));
        out.push_str(&style.wrap("", &text));
    }
    out
}

fn headline(report: &Report, style: Style) -> String {
    let worst = report.findings.first().map(|found| found.finding.severity).filter(|worst| *worst > Severity::Info);
    let (tone, word) = match worst {
        Some(severity) => (Tone::of(severity), severity.name().to_uppercase()),
        None if report.summary.complete => (Tone::Good, "CLEAN".to_owned()),
        None => (Tone::Warn, "INCOMPLETE".to_owned()),
    };
    let summary = &report.summary;
    let counted =
        [(summary.critical, "critical"), (summary.high, "high"), (summary.medium, "medium"), (summary.low, "low")];
    let parts: Vec<String> =
        counted.iter().filter(|(number, _)| *number > 0).map(|(number, name)| format!("{number} {name}")).collect();
    let found = if parts.is_empty() { "no findings".to_owned() } else { parts.join(", ") };
    let mut looked = vec![
        count(report.files.len(), "file"),
        count(summary.resources, "resource"),
        format!(
            "{} for hosts",
            if summary.policies == 1 { "1 policy".to_owned() } else { format!("{} policies", summary.policies) }
        ),
        count(summary.endpoints, "host endpoint"),
    ];
    if summary.flows > 0 {
        looked.push(count(summary.flows, "flow"));
    }
    style.headline(tone, &word, &format!("{found} in {}", looked.join(", ")))
}

/// `policies/ssh.yaml:12:5, GlobalNetworkPolicy security.ssh spec.selector`.
fn place(location: &Location) -> String {
    let mut text = location.file.clone();
    if let Some(line) = location.line {
        text.push_str(&format!(":{line}"));
        if let Some(column) = location.column {
            text.push_str(&format!(":{column}"));
        }
    }
    let what: Vec<&str> = [&location.resource, &location.field].into_iter().flatten().map(String::as_str).collect();
    if !what.is_empty() {
        text.push_str(", ");
        text.push_str(&what.join(" "));
    }
    text
}

/// As Markdown, for a comment on a change.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let style = Style { color: false, width: usize::MAX };
    let mut out = format!("**hepguard lint**: {}\n", headline(report, style).trim_end());
    if report.findings.is_empty() {
        return out;
    }
    out.push_str("\n| | finding | where | what to do |\n|---|---|---|---|\n");
    for found in &report.findings {
        let finding = &found.finding;
        out.push_str(&format!(
            "| {} | **{}** {}: {} | `{}` | {} |\n",
            finding.severity.name(),
            finding.code,
            finding.name,
            cell(&finding.title),
            place(&found.location).replace('`', "'").replace('|', "\\|"),
            cell(&finding.fix),
        ));
    }
    out
}

/// Text that cannot end a cell or become markup.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in crate::diagnostic::printable(text).chars() {
        if matches!(c, '|' | '*' | '_' | '[' | ']' | '<' | '>' | '`' | '\\' | '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// As SARIF 2.1.0, for code scanning. `lints` is the whole catalogue.
#[must_use]
pub fn sarif(report: &Report, lints: &[Lint]) -> Value {
    let used: Vec<&Lint> =
        lints.iter().filter(|lint| report.findings.iter().any(|found| found.finding.code == lint.code)).collect();
    let rules: Vec<Value> = used.iter().map(|lint| rule(lint)).collect();
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|found| {
            let finding = &found.finding;
            let mut text = finding.title.clone();
            if !finding.fix.is_empty() {
                text.push_str("\nFix: ");
                text.push_str(&finding.fix);
            }
            json!({
                "ruleId": finding.code,
                "ruleIndex": used.iter().position(|lint| lint.code == finding.code).map_or(-1, |at| i64::try_from(at).unwrap_or(-1)),
                "level": level(finding.severity),
                "message": {"text": text},
                "locations": [location(&found.location)],
                "partialFingerprints": {"hepguard/v1": finding.fingerprint},
                "properties": {"severity": finding.severity.name(), "bites": finding.bites.name()},
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "hepguard",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{"executionSuccessful": report.summary.complete}],
            "artifacts": report.files.iter().map(|file| json!({"location": {"uri": uri(&file.path)}})).collect::<Vec<_>>(),
            "results": results,
        }],
    })
}

fn rule(lint: &Lint) -> Value {
    json!({
        "id": lint.code,
        "name": lint.name,
        "shortDescription": {"text": lint.summary},
        "fullDescription": {"text": lint.what},
        "help": {"text": format!("{}\n\n{}\n\n{}", lint.why, lint.fix, lint.limits), "markdown": lint.page().join("\n")},
        "defaultConfiguration": {"level": level(lint.severity)},
        "properties": {"tags": ["calico", "host-endpoint"], "security-severity": score(lint.severity)},
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    }
}

/// The middle of the range that code scanning gives the word.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.5",
        Severity::Low => "2.0",
        Severity::Info => "0.0",
    }
}

fn location(location: &Location) -> Value {
    let mut physical = json!({"artifactLocation": {"uri": uri(&location.file)}});
    if let (Some(line), Some(object)) = (location.line, physical.as_object_mut()) {
        let mut region = json!({"startLine": line});
        if let (Some(column), Some(region)) = (location.column, region.as_object_mut()) {
            region.insert("startColumn".to_owned(), column.into());
        }
        object.insert("region".to_owned(), region);
    }
    let mut out = json!({"physicalLocation": physical});
    let what: Vec<&str> = [&location.resource, &location.field].into_iter().flatten().map(String::as_str).collect();
    if let (false, Some(object)) = (what.is_empty(), out.as_object_mut()) {
        object.insert("logicalLocations".to_owned(), json!([{"fullyQualifiedName": what.join(" ")}]));
    }
    out
}

/// A path as a relative reference (RFC 3986 §4.2); standard input has a name of its own.
fn uri(path: &str) -> String {
    if path == "-" {
        return "stdin".to_owned();
    }
    let mut out = String::with_capacity(path.len());
    // a colon in the first part would be taken for a scheme
    if !path.starts_with(['/', '.']) && path.split('/').next().is_some_and(|first| first.contains(':')) {
        out.push_str("./");
    }
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' | b'+' | b',' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        for (path, reference) in
            [("a b/c.yaml", "a%20b/c.yaml"), ("-", "stdin"), ("x:y", "./x:y"), ("/etc/é", "/etc/%C3%A9")]
        {
            assert_eq!(uri(path), reference);
        }
    }

    #[test]
    fn cells_hold_no_markup() {
        assert_eq!(cell("a|b\n*c*"), "a\\|b\\\\n\\*c\\*");
    }
}
