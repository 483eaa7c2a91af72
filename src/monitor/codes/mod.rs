//! HG51x and HG52x: what only a daemon sees. Their pages; the findings themselves are made in `monitor/said.rs`, because time
//! must pass to make one.

pub mod change_flood;
pub mod clock_jumped;
pub mod configuration_refused;
pub mod deny_burst;
pub mod failsafe_denied;
pub mod felix_ended;
pub mod lines_lost;
pub mod log_silent;
pub mod log_unreadable;
pub mod new_deny;
pub mod not_looked;
pub mod notices_missing;
pub mod outlet_failed;
pub mod rules_flushed;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::Finding;

/// All of them, in the order of their codes.
pub const CODES: &[Check] = &[
    failsafe_denied::CHECK,
    new_deny::CHECK,
    deny_burst::CHECK,
    log_silent::CHECK,
    log_unreadable::CHECK,
    lines_lost::CHECK,
    rules_flushed::CHECK,
    felix_ended::CHECK,
    not_looked::CHECK,
    clock_jumped::CHECK,
    outlet_failed::CHECK,
    notices_missing::CHECK,
    configuration_refused::CHECK,
    change_flood::CHECK,
];

/// The one with this code or name, any case.
#[must_use]
pub fn find(code: &str) -> Option<&'static Check> {
    CODES.iter().find(|check| check.code.eq_ignore_ascii_case(code) || check.name.eq_ignore_ascii_case(code))
}

/// Whether an alert is over once its cause was not seen for a while; others end when the opposite is seen.
pub(super) fn ends_with_quiet(code: &str) -> bool {
    let codes = [
        failsafe_denied::CHECK.code,
        new_deny::CHECK.code,
        deny_burst::CHECK.code,
        lines_lost::CHECK.code,
        clock_jumped::CHECK.code,
        change_flood::CHECK.code,
    ];
    codes.contains(&code)
}

/// An audit looks at one moment.
fn needs_time(_context: &Context<'_>, _check: &Check) -> Vec<Finding> {
    Vec::new()
}
