//! # HG102 failsafe-list-off
//!
//! ## What it checks
//! A failsafe list that is empty on purpose or by accident: `none`, `[]` in FelixConfiguration, or a value of only blanks
//! and commas.
//!
//! ## Why it matters
//! Without failsafes, policy alone decides about SSH, DNS, DHCP and the datastore. One wrong policy then locks everybody
//! out, and Felix with them, so that the repair never arrives. The accident is common: `""` keeps the defaults, but `" "`
//! switches everything off (causes C02, C04).
//!
//! ## How to fix
//! Write the list you mean, at least `tcp:22` inbound and `udp:53,udp:67` outbound plus the datastore's port, then restart
//! Felix. `hepguard failsafe` shows what Felix makes of the value.
//!
//! ## Limits
//! Whether policy admits the flows all the same is judged by HG201 and `hepguard trace`.

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::calico::failsafe::ProblemKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG102",
    name: "failsafe-list-off",
    severity: Severity::High,
    summary: "a failsafe list is switched off by none, [] or a value of blanks",
    source: include_str!("list_off.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::from_problems(context, check, &[ProblemKind::ListOff])
}
