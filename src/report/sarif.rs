//! Findings as SARIF 2.1.0, for code review tools.

use serde_json::{Value, json};

use crate::audit::finding::{Finding, Severity};
use crate::diagnostic::printable;

/// One run of hepguard with these findings.
#[must_use]
pub fn document(findings: &[Finding]) -> Value {
    let mut rules: Vec<&Finding> = Vec::new();
    for finding in findings {
        if !rules.iter().any(|known| known.code == finding.code) {
            rules.push(finding);
        }
    }
    let rules: Vec<Value> = rules.iter().map(|finding| json!({ "id": finding.code, "name": finding.name })).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "hepguard",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let level = match finding.severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    };
    let text = format!("{}. Fix: {}", printable(&finding.title), printable(&finding.fix));
    let places: Vec<Value> = finding.evidence.iter().take(8).filter_map(|seen| location(&seen.source)).collect();
    json!({
        "ruleId": finding.code,
        "level": level,
        "message": { "text": text },
        "locations": places,
        "partialFingerprints": { "hepguard/v1": finding.fingerprint },
        "properties": { "bites": finding.bites, "severity": finding.severity },
    })
}

/// The file and line that a piece of evidence names: `calico.env:4`, `… rule 3 (iptables-save.txt:12)`.
fn location(source: &str) -> Option<Value> {
    let inner = source.rsplit_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(source);
    let (file, line) = match inner.rsplit_once(':') {
        Some((file, line)) => (file, line.parse::<u32>().ok().filter(|line| *line > 0)),
        None => (inner, None),
    };
    let plain =
        !file.is_empty() && file.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) && file.contains('.');
    let region = line.map_or(json!({}), |line| json!({ "region": { "startLine": line } }));
    plain.then(|| {
        let mut place = json!({ "artifactLocation": { "uri": file } });
        if let (Some(place), Some(region)) = (place.as_object_mut(), region.as_object()) {
            place.extend(region.clone());
        }
        json!({ "physicalLocation": place })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_files_with_lines() {
        let place = location("iptables-legacy ipv4 filter cali-failsafe-out rule 1 (iptables-legacy-save.txt:175)")
            .expect("a place");
        assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "iptables-legacy-save.txt");
        assert_eq!(place["physicalLocation"]["region"]["startLine"], 175);
        assert!(location("the kernel itself").is_none());
        assert_eq!(
            location("resolv.conf").expect("a file")["physicalLocation"]["artifactLocation"]["uri"],
            "resolv.conf"
        );
    }
}
