//! # HG109 felix-setting-without-effect
//!
//! ## What it checks
//! Settings of Felix without the effect their author may expect: empty values, unknown names (`FELIX_FAILSAFE_INBOUND_HOST_PORTS`),
//! bad values replaced by the default, names set twice in different letter case, local settings in the datastore, cut lines
//! of felix.cfg, duplicate failsafe entries.
//!
//! ## Why it matters
//! Felix ignores them without a word that anybody reads. The file says one thing, Felix does another, and the next person
//! trusts the file.
//!
//! ## How to fix
//! Write the name without underscores (`FELIX_FAILSAFEINBOUNDHOSTPORTS`), remove what has no effect, and check with
//! `hepguard failsafe`.
//!
//! ## Limits
//! Parameters of Calico Enterprise are unknown to open-source Felix and are reported as unknown names.

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::calico::failsafe::ProblemKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG109",
    name: "felix-setting-without-effect",
    severity: Severity::Medium,
    summary: "a setting that does not do what it seems to do",
    source: include_str!("setting_without_effect.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::from_problems(
        context,
        check,
        &[
            ProblemKind::EmptyIgnored,
            ProblemKind::UnknownName,
            ProblemKind::ValueReplaced,
            ProblemKind::SetTwice,
            ProblemKind::LocalOnly,
            ProblemKind::Duplicate,
            ProblemKind::Remark,
        ],
    )
}
