//! Listings of nf_tables held against what the kernel says of itself ([`super::kernel`]).
//!
//! A listing that says too little looks like any other: nft omits chains it cannot print, old versions print garbage for a
//! table's flags and no devices, a tool that dies halfway has said something by then. What the kernel knows for certain is
//! put right here; where rules are missing, the chain begins with a rule that may do anything, so that answers which
//! depend on it are *unknown* and all others stay exact.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::joined;
use super::kernel::{KernelChain, KernelSet, KernelTable, KernelTables};
use super::merge::UNLISTED;
use super::{
    Backend, BaseChain, Chain, Effect, Match, Name, OpaqueKind, Rule, Rules, Set, SetKind, Step, Table, Verdict,
};
use crate::diagnostic::{Diagnostic, Level, Remarks};
use crate::packet::Family;

/// First word of the lines in [`Table::other`] that say where listings of the table contradict each other.
pub const DISAGREES: &str = "disagrees:";

/// First words of the line in [`Table::other`] of a table that has a flag nobody can read.
pub const FLAG_UNKNOWN: &str = "unknown flag:";

impl Table {
    /// Where listings of the table contradict each other, in words.
    pub fn disagreements(&self) -> impl Iterator<Item = &str> {
        self.other.iter().filter_map(|line| line.strip_prefix(DISAGREES)).map(str::trim_start)
    }

    /// Notes that listings of the table contradict each other.
    pub fn disagree(&mut self, how: &str) {
        self.other.push(format!("{DISAGREES} {how}").into());
    }
}

/// Puts the tables of nf_tables right, as far as `kernel` knows; `listing` is what nft's listing is called.
pub fn apply(tables: &mut Vec<Table>, kernel: Option<&KernelTables>, listing: &Arc<str>) -> Vec<Diagnostic> {
    let mut remarks = Remarks::new(listing);
    // first, while rules stand where the kernel counted them
    joined::settle(tables, kernel);
    // who found it said it
    let told: HashSet<String> = tables.iter().flat_map(Table::disagreements).map(str::to_owned).collect();
    if let Some(kernel) = kernel {
        // what the save tool alone shows may lack conditions
        tables.retain(|table| !table.other.iter().any(|line| line.starts_with(UNLISTED)));
        for table in tables.iter_mut().filter(|table| is_nf_tables(table)) {
            match kernel.table(table.family, &table.name) {
                Some(told) => compare(table, told),
                None => blind_all(table, "the kernel has no such table: the rules changed meanwhile"),
            }
        }
        for told in &kernel.tables {
            let Some(family) = Family::from_nft_name(&told.family) else { continue };
            let listed = |table: &Table| is_nf_tables(table) && table.family == family && *table.name == *told.name;
            if !tables.iter().any(listed) {
                tables.push(unlisted(family, told, listing));
            }
        }
    }
    for table in tables.iter_mut() {
        settle_flag(table);
        for how in table.disagreements().filter(|how| !told.contains(*how)) {
            let message = format!("table {} {}: {how}", table.family.nft_name(), table.name);
            remarks.add(Level::Warning, 0, 0, message);
        }
    }
    remarks.finish()
}

fn is_nf_tables(table: &Table) -> bool {
    matches!(table.backend, Backend::Nft | Backend::IptablesNft)
}

fn compare(table: &mut Table, told: &KernelTable) {
    table.dormant = told.dormant;
    table.other.retain(|line| !line.starts_with(FLAG_UNKNOWN));
    let index: HashMap<Name, usize> =
        table.chains.iter().enumerate().map(|(at, chain)| (Arc::clone(&chain.name), at)).collect();
    let mut known = vec![false; table.chains.len()];
    for chain in &told.chains {
        match index.get(chain.name.as_str()) {
            Some(at) => {
                known.get_mut(*at).into_iter().for_each(|seen| *seen = true);
                compare_chain(table, *at, chain);
            }
            None => add_chain(table, chain),
        }
    }
    for (at, seen) in known.into_iter().enumerate() {
        if !seen {
            blind(table, at, "the kernel has no such chain: the rules changed meanwhile");
        }
    }
    let sets: HashMap<&str, &KernelSet> = told.sets.iter().map(|set| (set.name.as_str(), set)).collect();
    for set in &mut table.sets {
        if let Some(told) = sets.get(&*set.name) {
            compare_set(set, told);
        }
    }
}

fn compare_chain(table: &mut Table, at: usize, told: &KernelChain) {
    let Some(chain) = table.chains.get_mut(at) else { return };
    let hangs = told.base.as_ref().map(|hook| (hook, hook.base_chain()));
    let fits = match (&mut chain.base, &hangs) {
        (Some(listed), Some((_, Some(base)))) => {
            if listed.devices.is_empty() {
                listed.devices.clone_from(&base.devices);
            }
            same_place(listed, base)
        }
        (None, None) => true,
        _ => false,
    };
    let listed = chain.rules.len();
    if !fits {
        blind(table, at, "the listing and the kernel tell it hangs in different places");
    } else if listed != told.rules {
        blind(table, at, &format!("{} listed, {} in the kernel", rules(listed), told.rules));
    }
}

fn rules(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}

/// Where the listing's devices and the kernel's differ only in order or spelling, they are the same place.
fn same_place(listed: &BaseChain, told: &BaseChain) -> bool {
    (listed.kind, listed.hook, listed.priority, listed.policy) == (told.kind, told.hook, told.priority, told.policy)
}

fn compare_set(set: &mut Set, told: &KernelSet) {
    let listed = set.elements.len() + usize::from(set.elements.catch_all().is_some());
    let SetKind::Nft { flags, .. } = &set.kind else { return };
    let changes = flags.iter().any(|flag| matches!(&**flag, "timeout" | "dynamic"));
    // of an interval the kernel may count both ends, and one more where intervals begin
    let missing = listed == 0 || (!changes && listed.saturating_mul(2) + 1 < told.elements);
    if told.elements > 0 && missing && set.incomplete.is_none() {
        let count = if told.more { format!("more than {}", told.elements) } else { told.elements.to_string() };
        set.incomplete = Some(format!("{listed} of its {count} elements were listed").into());
    }
}

/// A chain the listing omits.
fn add_chain(table: &mut Table, told: &KernelChain) {
    let base = told.base.as_ref().map(|hook| (hook, hook.base_chain()));
    let place = table.chains.len();
    let why = match base {
        Some((hook, None)) => {
            return table.disagree(&format!(
                "chain {}: it hangs at {} {}, which is not known here",
                told.name, hook.kind, hook.hook
            ));
        }
        _ => format!("not listed, {} in the kernel", rules(told.rules)),
    };
    let base = base.and_then(|(_, base)| base);
    table.chains.push(Chain { name: told.name.as_str().into(), base, rules: Rules::default(), line: 0 });
    // a chain without rules holds nothing but its policy
    if told.rules > 0 {
        blind(table, place, &why);
    }
}

/// A table the listing omits.
fn unlisted(family: Family, told: &KernelTable, source: &Arc<str>) -> Table {
    let mut table = Table {
        backend: Backend::Nft,
        family,
        name: told.name.as_str().into(),
        dormant: told.dormant,
        chains: Vec::new(),
        sets: Vec::new(),
        source: Arc::clone(source),
        flowtables: Vec::new(),
        other: Vec::new(),
    };
    for chain in &told.chains {
        add_chain(&mut table, chain);
    }
    table
}

/// Whatever comes to chain `at` meets a rule that may do anything.
fn blind(table: &mut Table, at: usize, why: &str) {
    let Some(chain) = table.chains.get_mut(at) else { return };
    let how = format!("chain {}: {why}", chain.name);
    let text: Box<str> = format!("# {why}").into();
    let line = chain.line;
    chain
        .rules
        .insert(0, Rule { steps: vec![Step::Effect(Effect::Opaque(text.clone()))], text, line, ..Rule::default() });
    table.disagree(&how);
}

fn blind_all(table: &mut Table, why: &str) {
    for at in 0..table.chains.len() {
        blind(table, at, why);
    }
}

/// A table that may be asleep: each of its base chains may let everything pass.
fn settle_flag(table: &mut Table) {
    let before = table.other.len();
    table.other.retain(|line| !line.starts_with(FLAG_UNKNOWN));
    if table.other.len() == before {
        return;
    }
    let text: Box<str> = format!("table {} {} may be dormant", table.family.nft_name(), table.name).into();
    for chain in table.chains.iter_mut().filter(|chain| chain.base.is_some()) {
        let asleep = Step::Match(Match::Opaque { kind: OpaqueKind::Property, text: text.clone() });
        let steps = vec![asleep, Step::Verdict(Verdict::Accept)];
        chain.rules.insert(0, Rule { steps, text: format!("# {text}").into(), line: chain.line, ..Rule::default() });
    }
    table.disagree("it has a flag, and nft before 1.1.0 does not tell which: it may be dormant (without effect)");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::kernel::KernelHook;
    use crate::ruleset::readers::nft_json;

    fn listed(objects: &str) -> Vec<Table> {
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6", "json_schema_version": 1}}}},
            {{"table": {{"family": "ip", "name": "t", "handle": 1}}}},
            {{"chain": {{"family": "ip", "table": "t", "name": "in", "handle": 1, "type": "filter", "hook": "input",
                "prio": 0, "policy": "accept"}}}},
            {{"rule": {{"family": "ip", "table": "t", "chain": "in", "handle": 2, "expr": [{{"drop": null}}]}}}}{objects}]}}"#
        );
        nft_json::read(&Arc::from("nft-ruleset.json"), text.as_bytes()).value
    }

    fn hook() -> KernelHook {
        KernelHook { kind: "filter".to_owned(), hook: "input".to_owned(), ..KernelHook::default() }
    }

    fn told(change: impl FnOnce(&mut KernelTable)) -> KernelTables {
        let chain = KernelChain { name: "in".to_owned(), rules: 1, base: Some(hook()), ..KernelChain::default() };
        let mut table = KernelTable { family: "ip".to_owned(), name: "t".to_owned(), ..KernelTable::default() };
        table.chains.push(chain);
        change(&mut table);
        KernelTables { tables: vec![table], ..KernelTables::default() }
    }

    fn apply_to(mut tables: Vec<Table>, kernel: &KernelTables) -> (Vec<Table>, String) {
        let remarks = apply(&mut tables, Some(kernel), &Arc::from("nft-ruleset.json"));
        (tables, remarks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    fn is_blind(table: &Table, chain: &str) -> bool {
        let (_, chain) = table.chain(chain).expect("the chain");
        matches!(chain.rules.first().map(|rule| rule.steps.as_slice()), Some([Step::Effect(Effect::Opaque(_))]))
    }

    #[test]
    fn a_listing_the_kernel_confirms_stays_as_it_is() {
        let (tables, remarks) = apply_to(listed(""), &told(|_| {}));
        assert_eq!(remarks, "");
        assert_eq!((tables.len(), tables[0].chains[0].rules.len()), (1, 1));
    }

    #[test]
    fn a_chain_with_other_rules_than_the_kernel_counts_may_do_anything() {
        let two = told(|table| table.chains[0].rules = 2);
        let (tables, remarks) = apply_to(listed(""), &two);
        assert!(is_blind(&tables[0], "in"));
        assert_eq!(remarks, "nft-ruleset.json: table ip t: chain in: 1 rule listed, 2 in the kernel");
        let changes: [fn(&mut KernelHook); 3] =
            [|hook| hook.drops = true, |hook| hook.priority = 1, |hook| hook.hook.clear()];
        for change in changes {
            let moved = told(|table| change(table.chains[0].base.as_mut().expect("a base chain")));
            assert!(is_blind(&apply_to(listed(""), &moved).0[0], "in"));
        }
        let gone = told(|table| table.chains.clear());
        assert!(is_blind(&apply_to(listed(""), &gone).0[0], "in"));
        assert!(is_blind(&apply_to(listed(""), &KernelTables::default()).0[0], "in"));
    }

    #[test]
    fn tables_and_chains_a_listing_omits_are_put_where_they_hang() {
        let kernel = told(|table| {
            table.chains.push(KernelChain {
                name: "omitted".to_owned(),
                rules: 3,
                base: Some(hook()),
                ..KernelChain::default()
            });
            let policy = KernelHook { drops: true, ..hook() };
            table.chains.push(KernelChain {
                name: "empty".to_owned(),
                rules: 0,
                base: Some(policy),
                ..KernelChain::default()
            });
        });
        let (tables, remarks) = apply_to(listed(""), &kernel);
        assert!(!is_blind(&tables[0], "in") && is_blind(&tables[0], "omitted"));
        // without rules there is only the policy, and that is known
        let (_, empty) = tables[0].chain("empty").expect("put there");
        let base = empty.base.as_ref().expect("a base chain");
        assert_eq!((empty.rules.len(), base.policy), (0, super::super::Policy::Drop));
        assert_eq!(remarks, "nft-ruleset.json: table ip t: chain omitted: not listed, 3 rules in the kernel");

        let (tables, _) = apply_to(Vec::new(), &told(|_| {}));
        assert!(is_blind(&tables[0], "in") && tables[0].chains[0].base.is_some());
    }

    #[test]
    fn a_table_that_the_save_tool_alone_lists_is_not_believed() {
        let saved = || {
            let mut tables = listed("");
            tables[0].backend = Backend::IptablesNft;
            tables[0].other.push(format!("{UNLISTED} by nft").into());
            tables
        };
        let (tables, _) = apply_to(saved(), &told(|_| {}));
        assert!(tables.len() == 1 && is_blind(&tables[0], "in"));
        assert!(apply_to(saved(), &KernelTables::default()).0.is_empty(), "it does not exist");
        let mut alone = saved();
        apply(&mut alone, None, &Arc::from("nft-ruleset.json"));
        assert!(!is_blind(&alone[0], "in"), "nobody knows better");
    }

    #[test]
    fn the_kernel_knows_which_flag_and_which_device() {
        let garbled = || {
            let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
                {"table": {"family": "netdev", "name": "t", "handle": 1, "flags": "t"}},
                {"chain": {"family": "netdev", "table": "t", "name": "in", "handle": 1, "type": "filter", "hook": "ingress",
                    "prio": 0, "policy": "drop"}}]}"#;
            nft_json::read(&Arc::from("nft-ruleset.json"), text.as_bytes()).value
        };
        for dormant in [true, false] {
            let mut kernel = told(|table| {
                table.dormant = dormant;
                let base = KernelHook { drops: true, devices: vec!["eth0".to_owned()], ..hook() };
                table.chains[0].rules = 0;
                table.chains[0].base = Some(KernelHook { hook: "ingress".to_owned(), ..base });
            });
            kernel.tables[0].family = "netdev".to_owned();
            let (tables, remarks) = apply_to(garbled(), &kernel);
            assert_eq!((tables[0].dormant, remarks.as_str()), (dormant, ""));
            let base = tables[0].chains[0].base.as_ref().expect("a base chain");
            assert_eq!(base.devices, ["eth0".into()]);
        }
        // nobody knows: it may be asleep and let all pass, or awake and drop
        let mut tables = garbled();
        apply(&mut tables, None, &Arc::from("nft-ruleset.json"));
        let first = &tables[0].chains[0].rules[0].steps;
        assert!(matches!(first.as_slice(), [Step::Match(Match::Opaque { .. }), Step::Verdict(Verdict::Accept)]));
        assert_eq!(tables[0].disagreements().count(), 1);
    }

    #[test]
    fn a_set_listed_without_its_members_is_not_empty() {
        let set = |elements: &str, flags: &str| {
            let set = format!(
                r#",{{"set": {{"family": "ip", "name": "s", "table": "t", "type": "ipv4_addr", "handle": 3{elements}{flags}}}}}"#
            );
            listed(&set)
        };
        let count = |elements, more| {
            told(|table| {
                table.sets.push(KernelSet { name: "s".to_owned(), elements, more, map: false });
            })
        };
        let why = |tables: Vec<Table>, kernel: &KernelTables| apply_to(tables, kernel).0[0].sets[0].incomplete.clone();
        assert_eq!(why(set("", ""), &count(0, false)), None);
        assert_eq!(why(set("", ""), &count(9, false)).as_deref(), Some("0 of its 9 elements were listed"));
        let more = why(set("", ""), &count(1_000_000, true));
        assert_eq!(more.as_deref(), Some("0 of its more than 1000000 elements were listed"));
        let two = r#", "elem": ["10.0.0.1", "10.0.0.2"]"#;
        // both ends of an interval, and one where they begin
        assert_eq!(why(set(two, ""), &count(5, false)), None);
        assert!(why(set(two, ""), &count(6, false)).is_some());
        assert_eq!(why(set(two, r#", "flags": ["timeout"]"#), &count(6, false)), None, "members come and go");
    }
}
