//! Every check, in the order of its code. A new check is one file and one line here.

use super::check::Check;
use super::checks::{blindspots, exposure, integrity};

/// The checks.
pub const CHECKS: &[Check] = &[
    integrity::rules_ahead_of_felix::CHECK,
    integrity::two_backends_live::CHECK,
    integrity::stale_chains::CHECK,
    exposure::ipv6_unpoliced::CHECK,
    exposure::accept_before_felix::CHECK,
    blindspots::unreadable_input::CHECK,
    blindspots::undecidable_rules::CHECK,
    blindspots::ruleset_not_listed::CHECK,
    blindspots::bpf_programs::CHECK,
];

/// The check with this code or name, any case.
#[must_use]
pub fn find(code: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.code.eq_ignore_ascii_case(code) || check.name.eq_ignore_ascii_case(code))
}
