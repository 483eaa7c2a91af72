//! Every check, in the order of its code. A new check is one file and one line here.

use super::check::Check;
use super::checks::{access, blindspots, exposure, failsafe, integrity};

/// The checks.
pub const CHECKS: &[Check] = &[
    failsafe::missing_in::CHECK,
    failsafe::list_off::CHECK,
    failsafe::one_family::CHECK,
    failsafe::masked::CHECK,
    failsafe::drift::CHECK,
    failsafe::malformed::CHECK,
    failsafe::unreferenced::CHECK,
    failsafe::trimmed::CHECK,
    failsafe::setting_without_effect::CHECK,
    access::flow_denied::CHECK,
    access::session_not_readmitted::CHECK,
    access::flow_undecided::CHECK,
    integrity::edited::CHECK,
    integrity::foreign::CHECK,
    integrity::rules_ahead_of_felix::CHECK,
    integrity::two_backends_live::CHECK,
    integrity::stale_chains::CHECK,
    integrity::missing::CHECK,
    integrity::reordered::CHECK,
    exposure::ipv6_unpoliced::CHECK,
    exposure::accept_before_felix::CHECK,
    exposure::host_unpoliced::CHECK,
    blindspots::unreadable_input::CHECK,
    blindspots::undecidable_rules::CHECK,
    blindspots::ruleset_not_listed::CHECK,
    blindspots::bpf_programs::CHECK,
    blindspots::rules_withheld::CHECK,
    blindspots::listings_disagree::CHECK,
    blindspots::rules_changing::CHECK,
    blindspots::set_not_listed::CHECK,
    blindspots::mixed_table::CHECK,
];

/// The check with this code or name, any case.
#[must_use]
pub fn find(code: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.code.eq_ignore_ascii_case(code) || check.name.eq_ignore_ascii_case(code))
}
