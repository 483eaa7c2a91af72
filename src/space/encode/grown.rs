//! Sets that rules fill as packets pass, and whether somebody looks at them.

use std::collections::HashMap;

use crate::ruleset::{Effect, Name, Rule, Step, Table};

/// Sets of a table that its rules change: how many do, and whether others look at the set.
pub(super) type Grown = HashMap<Name, (usize, bool)>;

/// Sets that rules of `table` change.
pub(super) fn grown_sets(table: &Table) -> Grown {
    let mut grown = Grown::new();
    let rules = || table.chains.iter().flat_map(|chain| &chain.rules);
    let changed = |rule: &'_ Rule| -> Vec<Name> {
        let changed = rule.steps.iter().filter_map(|step| match step {
            Step::Effect(Effect::UpdateSet { set, .. }) => Some(set.clone()),
            _ => None,
        });
        changed.collect()
    };
    for set in rules().flat_map(changed) {
        grown.entry(set).or_default().0 += 1;
    }
    if grown.is_empty() {
        return grown;
    }
    for rule in rules().filter(|rule| rule.text.contains('@')) {
        let own = changed(rule);
        for (set, (_, looked_up)) in &mut grown {
            // a longer name counts for its beginning: that does no harm
            let mentioned = rule.text.matches(&format!("@{set}")).count();
            *looked_up |= mentioned > own.iter().filter(|one| *one == set).count();
        }
    }
    grown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ruleset::readers::nft_json;

    #[test]
    fn a_set_is_looked_up_by_whoever_does_more_than_fill_it() {
        let set = |name: &str| {
            format!(r#"{{"set":{{"family":"ip","table":"t","name":"{name}","type":"ipv4_addr","flags":["dynamic"]}}}}"#)
        };
        let rule = |expr: &str| format!(r#"{{"rule":{{"family":"ip","table":"t","chain":"c","expr":[{expr}]}}}}"#);
        let source = r#"{"payload":{"protocol":"ip","field":"saddr"}}"#;
        let add = |set: &str| {
            format!(
                r#"{{"set":{{"op":"add","elem":{source},"set":"@{set}","stmt":[{{"ct count":{{"val":10,"inv":true}}}}]}}}}"#
            )
        };
        let asks = |set: &str| format!(r#"{{"match":{{"op":"==","left":{source},"right":"@{set}"}}}}"#);
        let entries = [
            r#"{"table":{"family":"ip","name":"t"}}"#.to_owned(),
            set("own"),
            set("shared"),
            set("asked"),
            r#"{"chain":{"family":"ip","table":"t","name":"c"}}"#.to_owned(),
            rule(&add("own")),
            rule(&add("shared")),
            rule(&add("shared")),
            rule(&add("asked")),
            rule(&format!("{},{{\"drop\":null}}", asks("asked"))),
        ];
        let text = format!(r#"{{"nftables":[{}]}}"#, entries.join(","));
        let tables = nft_json::read(&Arc::from("nft-ruleset.json"), text.as_bytes()).value;
        let grown = grown_sets(&tables[0]);
        let of = |name: &str| grown.get(name).copied();
        assert_eq!([of("own"), of("shared"), of("asked")], [Some((1, false)), Some((2, false)), Some((1, true))]);
    }
}
