//! Whether two snapshots hold the same rules on the same host: then every packet meets the same conditions in the same order, and
//! whatever their answers are, nothing is treated differently.

use crate::host::Host;
use crate::ruleset::{Chain, Rule, Ruleset, Set, Table};
use crate::snapshot::Snapshot;

/// Whether all that decides about packets is the same. Counters, comments, handles and places in files do not decide.
pub(super) fn same(before: &Snapshot, after: &Snapshot) -> bool {
    same_rules(&before.ruleset, &after.ruleset) && same_host(&before.host, &after.host)
}

fn same_rules(one: &Ruleset, other: &Ruleset) -> bool {
    all(&one.tables, &other.tables, same_table) && all(&one.ipsets, &other.ipsets, same_set)
}

fn same_table(one: &Table, other: &Table) -> bool {
    let flags = |table: &Table| (table.backend, table.family, table.dormant);
    flags(one) == flags(other)
        && one.name == other.name
        && one.flowtables == other.flowtables
        && one.other == other.other
        && all(&one.sets, &other.sets, same_set)
        && all(&one.chains, &other.chains, same_chain)
}

fn same_chain(one: &Chain, other: &Chain) -> bool {
    let same = |one: &Rule, other: &Rule| one.steps == other.steps;
    one.name == other.name && one.base == other.base && all(&one.rules, &other.rules, same)
}

fn same_set(one: &Set, other: &Set) -> bool {
    one.name == other.name
        && one.family == other.family
        && one.kind == other.kind
        && one.key == other.key
        && one.elements == other.elements
        && one.member_sets == other.member_sets
        // of what is not there nobody knows whether it is the same
        && one.incomplete.is_none()
        && other.incomplete.is_none()
        && one.without_exceptions == other.without_exceptions
}

/// What the path of a packet follows from.
fn same_host(one: &Host, other: &Host) -> bool {
    one.interfaces == other.interfaces
        && one.routes == other.routes
        && one.rules == other.rules
        && one.groups == other.groups
        && one.programs == other.programs
        && one.sysctls == other.sysctls
        && one.clocks == other.clocks
}

fn all<T>(one: &[T], other: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
}
