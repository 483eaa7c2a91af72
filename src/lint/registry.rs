//! Every lint, in the order of its code.

use std::sync::LazyLock;

use super::{Lint, flows, forwarding, loopback, matches, reading, rules, selection, settings, staged, tiers};

/// The lints.
pub static LINTS: LazyLock<Vec<Lint>> = LazyLock::new(|| {
    let mut all: Vec<Lint> = reading::lints()
        .chain(selection::lints())
        .chain(tiers::lints())
        .chain(rules::lints())
        .chain(staged::lints())
        .chain(loopback::lints())
        .chain(flows::lints())
        .chain(matches::lints())
        .chain(forwarding::lints())
        .chain(settings::lints())
        .collect();
    all.sort_by_key(|lint| lint.code);
    all
});

/// The lint with this code or name, any case.
#[must_use]
pub fn find(code: &str) -> Option<&'static Lint> {
    LINTS.iter().find(|lint| lint.code.eq_ignore_ascii_case(code) || lint.name.eq_ignore_ascii_case(code))
}
