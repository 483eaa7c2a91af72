//! # HG703 boot-stale-chains
//!
//! ## What it checks
//! Save files and nftables files that boot loads: chains and sets of Felix (`cali-`), kube-proxy, Docker, fail2ban and
//! CNI plugins.
//!
//! ## Why it matters
//! At boot they come back as they were when somebody saved: old peers, old policy, jumps to addresses of pods that are
//! gone, and sets that do not exist, which fails the whole file (cause F09). Felix puts its own right when it is in
//! sync; until then yesterday's policy is in force.
//!
//! ## How to fix
//! Save without them: `iptables-save | grep -v -e cali -e KUBE- -e DOCKER -e f2b-`, and check that nothing else jumps
//! there.
//!
//! ## Limits
//! Known by the names of the chains. Who saved them on purpose, as a guard until Felix is in sync, may keep them.

use std::collections::BTreeMap;

use serde_json::json;

use crate::analysis::reboot::{Problem, ProblemKind};
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG703",
    name: "boot-stale-chains",
    severity: Severity::Medium,
    summary: "chains that Felix or another daemon keeps were saved and come back at boot as they were then",
    source: include_str!("stale_saved.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    const FIX: &str = "save the ruleset anew without chains that daemons keep, and with no rule that jumps to them; editing the \
                       file is safe over SSH";
    let mut findings = Vec::new();
    for kind in [ProblemKind::StaleFelix, ProblemKind::StaleForeign] {
        let owner = if kind == ProblemKind::StaleFelix { "Felix" } else { "other daemons" };
        let of_kind = context.boot.problems.iter().filter(|problem| problem.kind == kind);
        let mut files: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
        of_kind.for_each(|problem| files.entry(&problem.file).or_default().push(problem));
        for (file, problems) in files {
            let title =
                format!("{file} holds {} chains and sets of {owner}, as they were when it was saved", problems.len());
            let subject = json!({ "file": file, "owner": owner });
            let mut finding = Finding::new(check, subject, title).bites(Bites::Reboot);
            for problem in problems.iter().take(4) {
                finding = finding.evidence(format!("{file}:{}", problem.line), &problem.text);
            }
            findings.push(finding.fix(FIX));
        }
    }
    findings
}
