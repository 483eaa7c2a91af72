//! Each lint against a case where it fires and one where it stays silent.

use std::collections::BTreeMap;

use super::registry::LINTS;
use super::*;
use crate::logs::line::{Scratch, What, read};
use crate::logs::time::{Clock, Stamper};

const CASES: [&str; 5] = [
    include_str!("../../tests/lint/reading.cases"),
    include_str!("../../tests/lint/selection.cases"),
    include_str!("../../tests/lint/tiers.cases"),
    include_str!("../../tests/lint/flows.cases"),
    include_str!("../../tests/lint/matches.cases"),
];

/// `@gnp name labels | spec` as the whole resource; other lines as they are.
fn expanded(line: &str) -> String {
    let Some((head, spec)) = line.strip_prefix('@').and_then(|rest| rest.split_once('|')) else {
        return format!("{line}\n");
    };
    let mut words = head.trim().splitn(3, ' ');
    let short = words.next().unwrap_or_default();
    let kind = match short {
        "gnp" => "GlobalNetworkPolicy",
        "sgnp" => "StagedGlobalNetworkPolicy",
        "np" => "NetworkPolicy",
        "hep" => "HostEndpoint",
        "gns" => "GlobalNetworkSet",
        "tier" => "Tier",
        "profile" => "Profile",
        "felix" => "FelixConfiguration",
        "kcc" => "KubeControllersConfiguration",
        "node" => "Node",
        other => panic!("{other:?} stands for no kind"),
    };
    let name = words.next().unwrap_or_default();
    let labels = words.next().unwrap_or_default();
    let spec = spec.trim().replace("LONG", &format!("{}has(a)", "has(a) && ".repeat(120)));
    let spec = if spec.is_empty() || spec.starts_with('{') { spec } else { format!("{{{spec}}}") };
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec: {spec}\n"
    )
}

/// Text of each section by its heading; a `flows` section belongs to the one before it.
fn sections() -> Vec<(String, String, String)> {
    let mut all: Vec<(String, String, String)> = Vec::new();
    let mut in_flows = false;
    for line in CASES.iter().flat_map(|cases| cases.lines()) {
        if let Some(heading) = line.strip_prefix("=== ") {
            in_flows = heading.ends_with(" flows");
            if !in_flows {
                all.push((heading.to_owned(), String::new(), String::new()));
            }
        } else if let Some((_, text, flows)) = all.last_mut() {
            if in_flows {
                flows.push_str(line);
                flows.push('\n');
            } else {
                text.push_str(&expanded(line));
            }
        }
    }
    all
}

fn records(flows: &str) -> Vec<Record> {
    let to_utc = |local: i64| local;
    let mut stamper = Stamper::new(Clock { reference: 0, to_utc: &to_utc });
    let mut scratch = Scratch::default();
    let mut found = Vec::new();
    for line in flows.lines() {
        match read(line.as_bytes(), &mut scratch, &mut stamper).what {
            What::FlowLog(record) => found.push(*record),
            other => panic!("{other:?}"),
        }
    }
    found
}

fn report(text: &str, flows: &str) -> Report {
    let resources = Resources::of([("case.yaml", text.as_bytes())]);
    lint(&resources, vec![FileRead { path: "case.yaml".to_owned(), resources: resources.len() }], &records(flows))
}

#[test]
fn each_lint_fires_and_stays_silent() {
    let mut seen: BTreeMap<&str, [bool; 2]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (heading, text, flows) in sections() {
        let (code, sort) = heading.split_once(' ').expect("CODE fires|silent");
        let lint = registry::find(code).unwrap_or_else(|| panic!("{code} is no lint"));
        let fires = sort == "fires";
        let report = report(&text, &flows);
        let found: Vec<&Located> = report.findings.iter().filter(|found| found.finding.code == code).collect();
        if found.is_empty() == fires {
            let codes: Vec<&str> = report.findings.iter().map(|found| found.finding.code).collect();
            wrong.push(format!("{heading}: found {codes:?}\n{text}"));
        }
        for found in found {
            assert_eq!(found.location.file, "case.yaml", "{heading}");
            assert!(!found.finding.fix.is_empty() && found.location.line.is_some(), "{heading}: {found:?}");
        }
        if let Some(slot) = seen.entry(lint.code).or_default().get_mut(usize::from(fires)) {
            *slot = true;
        }
    }
    assert!(wrong.is_empty(), "{} cases are off:\n{}", wrong.len(), wrong.join("\n"));
    let lacking: Vec<&str> =
        LINTS.iter().map(|lint| lint.code).filter(|code| seen.get(code) != Some(&[true, true])).collect();
    assert!(lacking.is_empty(), "no pair of cases for {lacking:?}");
}

#[test]
fn the_catalogue_is_large_and_in_order() {
    let codes: Vec<&str> = LINTS.iter().map(|lint| lint.code).collect();
    let mut sorted = codes.clone();
    sorted.dedup();
    assert!(codes.len() >= 60 && codes == sorted && codes.is_sorted(), "{codes:?}");
}

#[test]
fn findings_are_stable_and_worst_first() {
    let text: String = sections().into_iter().map(|(_, text, _)| text).collect();
    let (one, two) = (report(&text, ""), report(&text, ""));
    assert_eq!(one.findings, two.findings);
    assert!(one.findings.is_sorted_by(|a, b| a.finding.severity >= b.finding.severity));
}
