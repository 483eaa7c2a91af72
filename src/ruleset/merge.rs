//! One table out of two listings: iptables-nft's tables as `nft -j` and as `iptables-nft-save` show them.
//!
//! Neither is the truth alone. nft hides what xt matches and targets ask (`{"xt": {"name": "set"}}`); iptables-nft-save
//! prints *wrong* rules, with exit status 0, for rules that nft users added to its tables (a set becomes no condition at
//! all). So rule *i* of a chain is taken from JSON when it has no xt part, else from the *i*-th line of the saved chain.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::readers::iptables_save::UNREAD;
use super::{Backend, Chain, Effect, Expr, Field, Match, Name, OpaqueKind, Rule, SetRef, Step, Table, Verdict};
use crate::diagnostic::{Diagnostic, Level, Parsed, Remarks, excerpt};
use crate::packet::Family;

/// First word of the line in [`Table::other`] that names a rule of nft's in a table of iptables', which the save tool
/// prints wrongly or not at all.
pub const NATIVE: &str = "native:";

/// First word of the line in [`Table::other`] of a saved table that nft's listing does not have.
pub const UNLISTED: &str = "unlisted:";

/// Pairs the tables of `nft -j list ruleset` with those of `iptables-nft-save` and `ip6tables-nft-save`.
///
/// Without a JSON listing (`nft` is empty) the saved tables are returned as they are; without saved tables the hidden parts
/// stay opaque, with a remark for each table. Each kernel rule comes out once.
#[must_use]
pub fn merge(nft: Vec<Table>, saved: Vec<Table>) -> Parsed<Vec<Table>> {
    if nft.is_empty() {
        return Parsed { value: saved, diagnostics: Vec::new() };
    }
    let mut merged = Parsed { value: Vec::with_capacity(nft.len()), diagnostics: Vec::new() };
    let mut left: HashMap<(Family, Name), Table> =
        saved.into_iter().map(|table| ((table.family, Arc::clone(&table.name)), table)).collect();
    for table in nft {
        let save = left.remove(&(table.family, Arc::clone(&table.name)));
        let mut remarks = Remarks::new(&table.source);
        let table = merge_table(table, save, &mut remarks);
        merged.value.push(table);
        merged.diagnostics.extend(remarks.finish());
    }
    let mut rest: Vec<Table> = left.into_values().collect();
    rest.sort_by(|a, b| (a.family, &a.name).cmp(&(b.family, &b.name)));
    for mut table in rest {
        table.other.push(format!("{UNLISTED} nft's listing does not have the table").into());
        let message = format!(
            "table {} {} is not in the listing of nft: the rules changed between the two listings, take them again",
            table.family.nft_name(),
            table.name
        );
        merged.diagnostics.push(Diagnostic::new(Level::Warning, &table.source, 0, 0, message));
        merged.value.push(table);
    }
    merged
}

fn merge_table(mut table: Table, save: Option<Table>, remarks: &mut Remarks) -> Table {
    let hidden = table.chains.iter().flat_map(|chain| &chain.rules).filter(|rule| hides(rule)).count();
    let only_iptables = only_iptables_rules(&table) && !save.as_ref().is_some_and(is_incompatible);
    let is_iptables = has_iptables_name(&table) && (hidden > 0 || save.is_some()) && only_iptables;
    let title = format!("{} {}", table.family.nft_name(), table.name);
    let Some(save) = save else {
        if hidden > 0 {
            let tool = if table.family == Family::Ipv6 { "ip6tables-nft-save -c" } else { "iptables-nft-save -c" };
            remarks.add(
                Level::Warning,
                0,
                0,
                format!(
                    "table {title}: nft hides what {hidden} rules made by iptables ask, and no saved table shows it \
                     (not taken, or \"incompatible\"); they are undecided, add the output of `{tool}`"
                ),
            );
        }
        if is_iptables {
            table.backend = Backend::IptablesNft;
        }
        return table;
    };
    let mixed = if is_iptables { None } else { first_native_rule(&table) };
    let mut contradictions: Vec<String> = Vec::new();
    let given_up = is_incompatible(&save);
    for chain in &mut table.chains {
        if given_up {
            if chain.rules.iter().any(hides) {
                let why = "iptables-nft-save gives the table up because of rules that nft wrote into it";
                contradictions.push(undecided(chain, why, "move those rules to a table of their own"));
            }
            continue;
        }
        let Some((_, saved)) = save.chain(&chain.name) else {
            if chain.rules.iter().any(hides) {
                contradictions.push(undecided(chain, "the saved table does not have it", AGAIN));
            }
            continue;
        };
        if chain.rules.len() != saved.rules.len() {
            if chain.rules.iter().any(hides) {
                let why = format!("nft lists {} rules and the saved table {}", chain.rules.len(), saved.rules.len());
                contradictions.push(undecided(chain, &why, AGAIN));
            }
            continue;
        }
        chain.line = if is_iptables { saved.line } else { chain.line };
        for (index, (rule, line)) in chain.rules.iter_mut().zip(&saved.rules).enumerate() {
            let omitted = omitted_condition(rule, line);
            if !same_rule(rule, line) || omitted.is_some() {
                if hides(rule) || omitted.is_some() {
                    contradictions.push(format!(
                        "chain {}, rule {}: nft and the saved table show different rules ({} and {}); it is undecided, \
                         list both again",
                        chain.name,
                        index + 1,
                        excerpt(rule.text.as_bytes()),
                        excerpt(line.text.as_bytes())
                    ));
                }
                if let Some(condition) = omitted {
                    rule.steps.insert(0, condition);
                }
                continue;
            }
            pair(rule, line, is_iptables);
        }
    }
    for how in contradictions {
        remarks.add(Level::Warning, 0, 0, format!("table {title}, {how}"));
        table.disagree(&how);
    }
    if let Some(place) = mixed {
        table.other.push(format!("{NATIVE} {place}").into());
    }
    if is_iptables {
        table.backend = Backend::IptablesNft;
        table.source = save.source;
    }
    table
}

const AGAIN: &str = "list both again";

fn undecided(chain: &Chain, why: &str, what_to_do: &str) -> String {
    let hidden = chain.rules.iter().filter(|rule| hides(rule)).count();
    let rules = if hidden == 1 { "1 rule".to_owned() } else { format!("{hidden} rules") };
    format!("chain {}: {why}; {rules} with parts that nft hides stay undecided: {what_to_do}", chain.name)
}

/// Whether the save tool gave the whole table up.
fn is_incompatible(save: &Table) -> bool {
    save.other.iter().any(|line| line.starts_with(UNREAD) && line.contains("incompatible"))
}

/// A condition the saved line has and nft's listing has not, as a step nobody can decide. The save tool prints conditions
/// too few, never too many: nft's JSON leaves out what it cannot write (an interface name that is not text).
fn omitted_condition(rule: &Rule, line: &Rule) -> Option<Step> {
    if hides(rule) {
        return None;
    }
    let asks = |steps: &[Step], wanted: &[Field]| {
        steps.iter().any(|step| match step {
            Step::Match(
                Match::Compare { left: Expr::Field(field), .. } | Match::Lookup { left: Expr::Field(field), .. },
            ) => wanted.contains(field),
            _ => false,
        })
    };
    let has_opaque = rule.steps.iter().any(|step| matches!(step, Step::Match(Match::Opaque { .. })));
    let kinds = [("iifname", [Field::Iif, Field::Iifname]), ("oifname", [Field::Oif, Field::Oifname])];
    let (name, _) = kinds.iter().find(|(_, fields)| asks(&line.steps, fields) && !asks(&rule.steps, fields))?;
    let text = format!("{name} as in: {}", line.text);
    (!has_opaque).then(|| Step::Match(Match::Opaque { kind: OpaqueKind::Property, text: text.into() }))
}

/// The first rule that iptables cannot have made, in a table that is iptables' by name and use: chain and rule number.
fn first_native_rule(table: &Table) -> Option<String> {
    let built_in =
        |chain: &Chain| chain.base.as_ref().is_some_and(|base| *chain.name == *base.hook.name().to_uppercase());
    if !has_iptables_name(table) || !table.chains.iter().any(built_in) {
        return None;
    }
    table.chains.iter().find_map(|chain| {
        let at = chain.rules.iter().position(|rule| !only_iptables_steps(rule))?;
        let text = chain.rules.get(at).map(|rule| excerpt(rule.text.as_bytes())).unwrap_or_default();
        Some(format!("{} rule {}: {text}", chain.name, at + 1))
    })
}

/// Takes from the saved line what nft hides.
fn pair(rule: &mut Rule, line: &Rule, is_iptables: bool) {
    let hidden = hides(rule);
    if hidden {
        rule.steps.clone_from(&line.steps);
    }
    if hidden || is_iptables {
        rule.text.clone_from(&line.text);
        if !line.comments.is_empty() {
            rule.comments.clone_from(&line.comments);
        }
    }
    if is_iptables {
        rule.line = line.line;
    }
    rule.counters = rule.counters.or(line.counters);
}

/// The name of the xt part a step stands for, and whether it is a target.
fn xt_part(step: &Step) -> Option<(&str, bool)> {
    let text = match step {
        Step::Match(Match::Opaque { kind: OpaqueKind::Stateful, text })
        | Step::Effect(Effect::Opaque(text) | Effect::Harmless(text))
        | Step::Verdict(Verdict::Reject(text)) => &**text,
        _ => return None,
    };
    let rest = text.strip_prefix("xt ")?;
    match (rest.strip_prefix("match \""), rest.strip_prefix("target \"")) {
        (Some(name), _) => Some((name.trim_end_matches('"'), false)),
        (_, Some(name)) => Some((name.trim_end_matches('"'), true)),
        _ => Some(("", false)),
    }
}

/// Whether nft hides a part of the rule.
fn hides(rule: &Rule) -> bool {
    rule.steps.iter().any(|step| xt_part(step).is_some())
}

/// Whether the saved line can be this rule: the same xt parts by name, the same chain called.
fn same_rule(rule: &Rule, line: &Rule) -> bool {
    let words: HashSet<&str> = line.text.split_whitespace().collect();
    let follows = |option: &str, name: &str| {
        let mut words = line.text.split_whitespace().skip_while(|word| *word != option);
        let mut found = false;
        while let Some(word) = words.next() {
            found |= word == option && words.next() == Some(name);
        }
        found
    };
    let saved = !line.text.starts_with("# "); // else it stands for lines that are not there
    saved
        && rule.steps.iter().all(|step| match (step, xt_part(step)) {
            (_, Some(("", _))) => true,
            (_, Some((name, true))) => {
                follows("-j", name)
                    || (name == "CT" && follows("-j", "NOTRACK"))
                    || (name == "NOTRACK" && follows("-j", "CT"))
            }
            // the same extension has several names over the years
            (_, Some(("conntrack" | "state", false))) => follows("-m", "conntrack") || follows("-m", "state"),
            (_, Some(("comment", false))) => words.contains("--comment"),
            (_, Some((name, false))) => follows("-m", name),
            (Step::Verdict(Verdict::Accept), None) => follows("-j", "ACCEPT"),
            (Step::Verdict(Verdict::Drop), None) => follows("-j", "DROP"),
            (Step::Verdict(Verdict::Jump(chain)), None) => follows("-j", chain),
            (Step::Verdict(Verdict::Goto(chain)), None) => follows("-g", chain),
            _ => true,
        })
}

fn has_iptables_name(table: &Table) -> bool {
    matches!(table.family, Family::Ipv4 | Family::Ipv6)
        && matches!(&*table.name, "filter" | "nat" | "mangle" | "raw" | "security")
}

/// Whether iptables can have made everything in the table: base chains by their built-in names, a counter in each rule, and
/// nothing that only nft can write.
fn only_iptables_rules(table: &Table) -> bool {
    table.sets.is_empty()
        && table.flowtables.is_empty()
        && table.other.is_empty()
        && table.chains.iter().all(|chain| {
            let named = chain.base.as_ref().is_none_or(|base| *chain.name == *base.hook.name().to_uppercase());
            named && chain.rules.iter().all(only_iptables_steps)
        })
}

fn only_iptables_steps(rule: &Rule) -> bool {
    let counts = rule.steps.iter().any(|step| matches!(step, Step::Effect(Effect::Count)));
    counts
        && rule.steps.iter().all(|step| match step {
            Step::Vmap { .. } => false,
            Step::Effect(Effect::Set { .. } | Effect::UpdateSet { .. } | Effect::NoTrack | Effect::Offload(_)) => false,
            Step::Match(Match::Lookup { set: SetRef::Named(_), .. }) => false,
            Step::Match(Match::Lookup { set: SetRef::Anonymous(elements), .. }) => elements.len() == 1,
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::readers::{iptables_save, nft_json};

    fn fixture(name: &str) -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nft-json").join(name);
        String::from_utf8_lossy(&std::fs::read(path).expect(name)).into_owned()
    }

    fn listed(name: &str) -> Vec<Table> {
        nft_json::read(&Arc::from(name), fixture(name).as_bytes()).value
    }

    /// A stand-in for the save reader: tables, chains, and each rule as one opaque step with its own text.
    fn saved(name: &str, family: Family) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        for (number, line) in fixture(name).lines().enumerate() {
            if let Some(table) = line.strip_prefix('*') {
                tables.push(Table {
                    backend: Backend::IptablesNft,
                    family,
                    name: table.into(),
                    dormant: false,
                    chains: Vec::new(),
                    sets: Vec::new(),
                    source: name.into(),
                    flowtables: Vec::new(),
                    other: Vec::new(),
                });
            }
            let Some(table) = tables.last_mut() else { continue };
            let chain = |name: &str| Chain { name: name.into(), base: None, rules: Vec::new().into(), line: 0 };
            if let Some(name) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                table.chains.push(chain(name));
            }
            if let Some((_, text)) = line.split_once("-A ") {
                let name = text.split(' ').next().unwrap_or_default();
                let rule = Rule {
                    steps: vec![Step::Effect(Effect::Harmless("saved".into()))],
                    comments: vec!["from the saved line".into()],
                    line: u32::try_from(number + 1).expect("short file"),
                    text: format!("-A {text}").into(),
                    ..Rule::default()
                };
                if let Some(chain) = table.chains.iter_mut().find(|chain| &*chain.name == name) {
                    chain.rules.push(rule);
                }
            }
        }
        tables
    }

    fn is_saved(rule: &Rule) -> bool {
        rule.steps == [Step::Effect(Effect::Harmless("saved".into()))]
    }

    #[test]
    fn hidden_rules_come_from_the_saved_lines_and_clear_ones_from_json() {
        for (base, family, clear) in [
            ("30-iptables-basic", Family::Ipv4, 3),
            ("31-calico-iptables-like", Family::Ipv4, 1),
            ("32-ip6tables-basic", Family::Ipv6, 4),
        ] {
            let json = listed(&format!("{base}.json"));
            let merged = merge(json.clone(), saved(&format!("{base}.nft-save.txt"), family));
            assert_eq!(merged.diagnostics, [], "{base}");
            let mut from_json = 0;
            for (table, before) in merged.value.iter().zip(&json) {
                assert_eq!(table.backend, Backend::IptablesNft, "{base} {}", table.name);
                assert_eq!(&*table.source, format!("{base}.nft-save.txt"));
                for (chain, before) in table.chains.iter().zip(&before.chains) {
                    assert_eq!(chain.base, before.base, "the base chain is JSON's");
                    assert_eq!(chain.rules.len(), before.rules.len(), "each rule once");
                    for (rule, before) in chain.rules.iter().zip(&before.rules) {
                        assert_eq!(is_saved(rule), hides(before), "{base} {}", rule.text);
                        assert_eq!(rule.handle, before.handle);
                        assert!(rule.text.starts_with("-A ") && rule.line > 0, "{}", rule.text);
                        from_json += usize::from(!is_saved(rule));
                    }
                }
            }
            assert_eq!(from_json, clear, "{base}");
        }
    }

    #[test]
    fn real_listings_of_iptables_nft_leave_nothing_hidden() {
        for (base, family) in [
            ("30-iptables-basic", Family::Ipv4),
            ("31-calico-iptables-like", Family::Ipv4),
            ("32-ip6tables-basic", Family::Ipv6),
        ] {
            let name = format!("{base}.nft-save.txt");
            let source: Arc<str> = Arc::from(name.as_str());
            let save = iptables_save::read(&source, fixture(&name).as_bytes(), Backend::IptablesNft, family).value;
            let merged = merge(listed(&format!("{base}.json")), save);
            assert_eq!(merged.diagnostics, [], "{base}");
            let rules = || merged.value.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
            assert!(rules().all(|rule| !hides(rule)), "{base}");
            if base.starts_with("30") {
                let set = rules().find(|rule| rule.text.contains("--match-set trusted src")).expect("the set rule");
                assert!(
                    matches!(set.steps.first(), Some(Step::Match(Match::Ipset { name, .. })) if &**name == "trusted")
                );
                let web = rules().find(|rule| rule.text.contains("8000:8010")).expect("the commented rule");
                assert_eq!(web.comments, ["web from lan".into()]);
            }
        }
    }

    #[test]
    fn wrong_saved_lines_of_native_rules_lose_against_json() {
        let json = listed("34-native-rules-in-xt-table.json");
        let merged = merge(json.clone(), saved("34-native-rules-in-xt-table.nft-save.txt", Family::Ipv4));
        let table = merged.value.first().expect("one table");
        assert_eq!(merged.value.len(), 1);
        assert_eq!(table.backend, Backend::Nft, "a mixed table is nft's");
        let rules = &table.chains.first().expect("INPUT").rules;
        let texts: Vec<&str> = rules.iter().map(|rule| &*rule.text).collect();
        assert_eq!(texts.get(1), Some(&"ip saddr { 1.2.3.4, 1.2.3.5 } accept"), "and not `-A INPUT -j ACCEPT`");
        assert!(!rules.iter().any(is_saved), "{texts:?}");
        assert_eq!(merged.diagnostics, []);
    }

    #[test]
    fn an_incompatible_table_is_read_from_json_alone() {
        let save = saved("35-xt-table-incompatible.nft-save.txt", Family::Ipv4);
        assert!(save.is_empty(), "the save tool gave up");
        let merged = merge(listed("35-xt-table-incompatible.json"), save);
        let rules = merged.value.first().and_then(|table| table.chains.first()).expect("INPUT").rules.len();
        assert_eq!((rules, merged.diagnostics.len()), (9, 0), "nothing hidden, nothing lost");
    }

    #[test]
    fn hidden_rules_stay_undecided_without_a_matching_saved_chain() {
        let json = || listed("30-iptables-basic.json");
        let alone = merge(json(), Vec::new());
        assert_eq!(alone.diagnostics.len(), 4, "one remark a table: {:?}", alone.diagnostics);
        assert!(alone.value.iter().all(|table| table.backend == Backend::IptablesNft));
        let text = alone.diagnostics.first().expect("remark").to_string();
        assert!(text.contains("iptables-nft-save -c"), "says what to do: {text}");

        let mut short = saved("30-iptables-basic.nft-save.txt", Family::Ipv4);
        for table in &mut short {
            for chain in &mut table.chains {
                chain.rules.pop();
            }
        }
        let merged = merge(json(), short);
        assert!(!merged.value.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules).any(is_saved));
        assert!(merged.diagnostics.iter().all(|remark| remark.message.contains("undecided")));

        // a rule was replaced between the two listings
        let mut moved = saved("30-iptables-basic.nft-save.txt", Family::Ipv4);
        let input = moved.iter_mut().find(|table| &*table.name == "filter").and_then(|table| table.chains.first_mut());
        input.and_then(|chain| chain.rules.get_mut(7)).expect("the set rule").text = "-A INPUT -p tcp -j ACCEPT".into();
        let merged = merge(json(), moved);
        assert_eq!(merged.diagnostics.len(), 1, "{:?}", merged.diagnostics);
        assert!(merged.diagnostics.iter().all(|remark| remark.message.contains("different rules")));
    }

    #[test]
    fn saved_tables_alone_are_kept_and_foreign_ones_too() {
        let save = saved("30-iptables-basic.nft-save.txt", Family::Ipv4);
        assert_eq!(merge(Vec::new(), save.clone()).value.len(), save.len());
        let merged = merge(listed("01-basic-input.json"), save);
        assert_eq!(merged.value.len(), 5);
        assert_eq!(merged.diagnostics.len(), 4, "tables nft did not list are news");
    }

    fn one_rule(expr: &str, saved: &str) -> Parsed<Vec<Table>> {
        let json = format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.1.7", "json_schema_version": 1}}}},
            {{"table": {{"family": "ip", "name": "filter", "handle": 1}}}},
            {{"chain": {{"family": "ip", "table": "filter", "name": "INPUT", "handle": 1, "type": "filter",
                "hook": "input", "prio": 0, "policy": "accept"}}}},
            {{"rule": {{"family": "ip", "table": "filter", "chain": "INPUT", "handle": 2, "expr": [{expr}]}}}}]}}"#
        );
        let save = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {saved}\nCOMMIT\n");
        let (json_name, save_name) = (Arc::from("nft-ruleset.json"), Arc::from("iptables-nft-save.txt"));
        let save = iptables_save::read(&save_name, save.as_bytes(), Backend::IptablesNft, Family::Ipv4).value;
        merge(nft_json::read(&json_name, json.as_bytes()).value, save)
    }

    #[test]
    fn a_condition_that_nft_leaves_out_is_not_taken_as_none() {
        const COUNT: &str = r#"{"counter": {"packets": 0, "bytes": 0}}"#;
        let steps = |expr: &str, saved: &str| {
            let merged = one_rule(expr, saved);
            let table = merged.value.first().expect("a table").clone();
            let told = table.disagreements().count();
            (table.chains.first().and_then(|chain| chain.rules.first()).expect("a rule").steps.clone(), told)
        };
        let accept = format!(r#"{COUNT}, {{"accept": null}}"#);
        // an interface name that is not text: nft's JSON has no word for it
        let (found, told) = steps(&accept, "-i \u{fffd}x -j ACCEPT");
        assert!(matches!(found.first(), Some(Step::Match(Match::Opaque { .. }))), "{found:?}");
        assert_eq!(told, 1);
        let there = r#"{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}}"#;
        let (found, told) = steps(&format!("{there}, {accept}"), "-i eth0 -j ACCEPT");
        assert!(!matches!(found.first(), Some(Step::Match(Match::Opaque { .. }))), "{found:?}");
        assert_eq!(told, 0);
    }

    #[test]
    fn a_verdict_that_changed_between_the_listings_is_noticed() {
        let xt = r#"{"xt": {"type": "match", "name": "comment"}}, {"counter": {"packets": 0, "bytes": 0}}, {"accept": null}"#;
        let merged = one_rule(xt, "-m comment --comment x -j DROP");
        let table = merged.value.first().expect("a table");
        assert_eq!(table.disagreements().count(), 1);
        assert!(table.chains.first().and_then(|chain| chain.rules.first()).is_some_and(hides), "it stays undecided");
        let same = one_rule(xt, "-m comment --comment x -j ACCEPT");
        assert_eq!((same.diagnostics.len(), same.value[0].disagreements().count()), (0, 0));
    }

    #[test]
    fn rules_of_nft_in_a_table_of_iptables_are_named() {
        let set = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
            "right": {"set": ["192.0.2.1", "192.0.2.2"]}}}, {"accept": null}"#;
        let mixed = one_rule(set, "-j ACCEPT");
        let native = |merged: &Parsed<Vec<Table>>| merged.value[0].other.iter().any(|line| line.starts_with(NATIVE));
        assert!(native(&mixed), "{:?}", mixed.value[0].other);
        let plain = one_rule(r#"{"counter": {"packets": 0, "bytes": 0}}, {"accept": null}"#, "-j ACCEPT");
        assert!(!native(&plain), "{:?}", plain.value[0].other);
    }
}
