//! HG25x: what a plan says of a change. Their pages; the findings themselves are made in `plan/findings.rs`, because a
//! change is needed to make one.

pub mod change_failed;
pub mod flow_lost;
pub mod flow_masked;
pub mod flow_open;
pub mod flow_unguarded;
pub mod plan_limited;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::Finding;

/// All of them, in the order of their codes.
pub const CODES: &[Check] = &[
    flow_lost::CHECK,
    flow_masked::CHECK,
    flow_unguarded::CHECK,
    flow_open::CHECK,
    change_failed::CHECK,
    plan_limited::CHECK,
];

/// The one with this code or name, any case.
#[must_use]
pub fn find(code: &str) -> Option<&'static Check> {
    CODES.iter().find(|check| check.code.eq_ignore_ascii_case(code) || check.name.eq_ignore_ascii_case(code))
}

/// Whether a finding is about the answer, not about the change.
#[must_use]
pub fn is_about_limits(code: &str) -> bool {
    code == plan_limited::CHECK.code || code == flow_open::CHECK.code
}

/// An audit looks at no change.
fn needs_a_change(_context: &Context<'_>, _check: &Check) -> Vec<Finding> {
    Vec::new()
}
