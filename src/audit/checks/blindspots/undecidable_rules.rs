//! # HG902 undecidable-rules
//!
//! ## What it checks
//! Rules with a condition or action that hepguard does not understand, or that no look at a packet can decide (a rate limit,
//! a string match, a userspace queue, a BPF program).
//!
//! ## Why it matters
//! Where a packet's fate hangs on such a rule, hepguard answers *unknown*. These are the places where the audit's word ends.
//!
//! ## How to fix
//! Nothing needs fixing for its own sake. Look at the rules named here when an answer says *unknown*; a rule text marked as
//! not understood is worth a bug report.
//!
//! ## Limits
//! At most a few rules a table are shown; `-v` shows the readers' remarks on all of them.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, place_text, rules};
use crate::audit::finding::{Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG902",
    name: "undecidable-rules",
    severity: Severity::Info,
    summary: "some rules cannot be decided by looking at packets",
    source: include_str!("undecidable_rules.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in context.ruleset().tables.iter().filter(|table| !table.dormant) {
        let mut count = 0;
        let mut evidence = Vec::new();
        for chain in &table.chains {
            for (index, rule) in chain.rules.iter().enumerate() {
                if rule.opaque_parts().is_empty() {
                    continue;
                }
                count += 1;
                if evidence.len() < 3 {
                    evidence.push((place_text(table, chain, index), rule.opaque_parts().join("; ")));
                }
            }
        }
        if count == 0 {
            continue;
        }
        let subject = json!({ "backend": table.backend.name(), "family": table.family.name(), "table": &*table.name });
        let title = format!("{} of {} cannot be decided by looking at packets", rules(count), table.title());
        let mut finding = Finding::new(check, subject, title);
        for (source, text) in evidence {
            finding = finding.evidence(source, text);
        }
        findings.push(finding.fix("nothing to do; answers that hang on these rules say so"));
    }
    findings
}
