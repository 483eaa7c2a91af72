//! # HG701 boot-set-missing
//!
//! ## What it checks
//! Save files that boot loads (`rules.v4`, `rules.v6`, `sysconfig/iptables`): every set they ask must be created by an
//! ipset file that is loaded before them.
//!
//! ## Why it matters
//! The restore stops at the table with the missing set. That table and all behind it are not loaded, while those ahead
//! are: half a firewall, or none, and nobody is told but the journal (causes F08 and F10). Felix's sets (`cali40…`) are
//! never there at boot.
//!
//! ## How to fix
//! Save the sets, too (`ipset save > /etc/iptables/ipsets` with the ipset plugin of netfilter-persistent), or take the
//! rules out. Rules that Felix or another daemon adds do not belong into the file.
//!
//! ## Limits
//! Sets that a unit of your own creates before are not seen; then this is a false alarm worth a `[[protect]]` note.

use crate::analysis::reboot::ProblemKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG701",
    name: "boot-set-missing",
    severity: Severity::Critical,
    summary: "a saved ruleset asks a set that nothing creates at boot: it is not loaded",
    source: include_str!("missing_set.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::of_file(context, check, ProblemKind::MissingSet, |about, file| {
        let holds = context.snapshot.authors.of_set(about);
        let holds = holds.map(|selector| format!(" ({selector})")).unwrap_or_default();
        format!("{file} asks set {about}{holds}, which nothing creates at boot: its table is not loaded, nor are those behind it")
    })
    .into_iter()
    .map(|finding| finding.bites(Bites::Reboot).fix("create the set before the rules are loaded, or save the ruleset anew without rules that daemons add: `iptables-save | grep -v cali` is a start; try it with `iptables-restore --test` in a private namespace (`unshare -n`); editing the file is safe over SSH"))
    .collect()
}
