//! # HG304 two-backends-live
//!
//! ## What it checks
//! Rules that can drop packets live in x_tables (iptables-legacy) and in nf_tables (iptables-nft or native nft) at once.
//!
//! ## Why it matters
//! The kernel runs both: a packet must pass both, and each tool shows one. `iptables-save` then prints an empty or harmless
//! ruleset while the other one drops. Felix in `auto` mode takes the backend with more rules; after a reboot that may be
//! the other one.
//!
//! ## How to fix
//! Decide on one backend. Compare `iptables-legacy-save`, `iptables-nft-save` and `nft list ruleset`, find the writer of the
//! smaller part, and move it (`update-alternatives --set iptables …`, or set `IptablesBackend` for Felix).
//!
//! ## Limits
//! Native nft tables beside one iptables backend are usual (firewalld, docker); they are reported only when the other
//! backend is legacy. Rules that merely accept, count or log are ignored.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, outcomes, rules, uses_nf_tables};
use crate::audit::finding::{Finding, Severity};
use crate::ruleset::{Chain, Policy, Table};

/// The check.
pub const CHECK: Check = Check {
    code: "HG304",
    name: "two-backends-live",
    severity: Severity::Medium,
    summary: "both x_tables and nf_tables hold rules that can drop packets",
    source: include_str!("two_backends_live.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let dropping: Vec<&Table> =
        context.ruleset().tables.iter().filter(|table| !table.dormant && can_drop(table)).collect();
    let of = |nf_tables: bool| dropping.iter().filter(move |table| uses_nf_tables(table.backend) == Some(nf_tables));
    if of(false).next().is_none() || of(true).next().is_none() {
        return Vec::new();
    }
    let mut finding = Finding::new(
        check,
        json!({ "backends": ["x_tables", "nf_tables"] }),
        "two rule sets are live: iptables-legacy and nf_tables both can drop packets",
    )
    .fix(
        "compare `iptables-legacy-save`, `iptables-nft-save` and `nft list ruleset`; keep one backend; do not flush the \
         other over SSH before `hepguard trace` shows that your way in does not need it",
    );
    for table in &dropping {
        let count = table.chains.iter().map(|chain| chain.rules.len()).sum();
        finding = finding.evidence(&*table.source, format!("{}: {}", table.title(), rules(count)));
    }
    let felix_in_both = [false, true].iter().all(|nf| of(*nf).any(|table| table.has_felix_chains()));
    vec![if felix_in_both { finding.severity(Severity::High) } else { finding }]
}

fn can_drop(table: &Table) -> bool {
    let policy = |chain: &Chain| chain.base.as_ref().is_some_and(|base| base.policy == Policy::Drop);
    let hooked = table.chains.iter().filter(|chain| chain.base.is_some());
    hooked.clone().any(policy) || hooked.flat_map(|chain| &chain.rules).any(|rule| outcomes(table, rule).drop)
}
