//! # HG106 failsafe-malformed
//!
//! ## What it checks
//! Every source of Felix's settings with Felix's own grammar, the overridden ones too, for values that Felix dies on.
//!
//! ## Why it matters
//! A bad failsafe entry does not disable the entry: it stops Felix. The rules in the kernel stay as they were and age; after
//! a reboot there are none. Felix parses all sources, so a bad value in a FelixConfiguration kills it even where the
//! environment overrides it (cause C05).
//!
//! ## How to fix
//! Correct the value named in the evidence before Felix restarts. The grammar is `port`, `proto:port`, `proto:CIDR:port` or
//! `proto:[IPv6 CIDR]:port`, comma separated, with tcp or udp, no ranges, no names, no blanks inside.
//!
//! ## Limits
//! Parameters whose values hepguard does not check are listed by `hepguard failsafe`.

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::calico::failsafe::ProblemKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG106",
    name: "failsafe-malformed",
    severity: Severity::Critical,
    summary: "a value that stops Felix at its next start",
    source: include_str!("malformed.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::from_problems(context, check, &[ProblemKind::StopsFelix])
}
