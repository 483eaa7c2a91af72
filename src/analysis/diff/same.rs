//! Whether two snapshots hold the same rules on the same host: then every packet meets the same conditions in the same order, and
//! whatever their answers are, nothing is treated differently.

use crate::ruleset::Ruleset;
use crate::snapshot::Snapshot;

/// Whether all that decides about packets is the same, and known. Counters, comments, handles and places in files do not decide.
pub(super) fn same(before: &Snapshot, after: &Snapshot) -> bool {
    before.ruleset.acts_as(&after.ruleset, |_| true, |_| true)
        && sets_are_whole(&before.ruleset)
        && before.host.acts_as(&after.host)
}

/// Of what is not there nobody knows whether it is the same.
fn sets_are_whole(ruleset: &Ruleset) -> bool {
    let of_tables = ruleset.tables.iter().flat_map(|table| &table.sets);
    of_tables.chain(&ruleset.ipsets).all(|set| set.incomplete.is_none())
}
