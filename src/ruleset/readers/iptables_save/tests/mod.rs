mod coverage;
mod hostile;
mod meaning;

use super::*;
use crate::packet::Hook;
use crate::ruleset::{Chain, ChainKind, Match, Verdict};

fn read_text(text: &[u8]) -> Parsed<Vec<Table>> {
    read(&Arc::from("test"), text, Backend::Iptables, Family::Ipv4)
}

/// A fixture by name, read as somebody would who only knows the file.
pub(super) fn fixture(name: &str) -> Parsed<Vec<Table>> {
    let family = if name.contains("ip6tables") { Family::Ipv6 } else { Family::Ipv4 };
    read(&Arc::from(name), &fixture_bytes(name), Backend::Iptables, family)
}

fn fixture_bytes(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nft-json").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table<'t>(parsed: &'t Parsed<Vec<Table>>, name: &str) -> &'t Table {
    parsed.value.iter().find(|table| &*table.name == name).unwrap_or_else(|| panic!("no table {name}"))
}

fn chain<'t>(table: &'t Table, name: &str) -> &'t Chain {
    table.chain(name).unwrap_or_else(|| panic!("no chain {name}")).1
}

#[test]
fn both_variants_of_a_listing_read_alike_and_without_remarks() {
    for name in ["30-iptables-basic", "31-calico-iptables-like", "32-ip6tables-basic"] {
        let legacy = fixture(&format!("{name}.legacy-save.txt"));
        let nft = fixture(&format!("{name}.nft-save.txt"));
        assert_eq!((&legacy.diagnostics, &nft.diagnostics), (&vec![], &vec![]), "{name}");
        assert!(legacy.value.iter().all(|table| table.backend == Backend::IptablesLegacy), "{name}");
        assert!(nft.value.iter().all(|table| table.backend == Backend::IptablesNft), "{name}");
        for ours in &nft.value {
            let theirs = table(&legacy, &ours.name);
            for (a, b) in ours.chains.iter().zip(&theirs.chains) {
                assert_eq!((&a.name, &a.base), (&b.name, &b.base), "{name}");
                let steps = |chain: &Chain| chain.rules.iter().map(|rule| rule.steps.clone()).collect::<Vec<_>>();
                assert_eq!(steps(a), steps(b), "{name} {}", a.name);
                assert!(steps(a).iter().all(|steps| !steps.is_empty()), "{name} {}", a.name);
            }
        }
    }
}

#[test]
fn built_in_chains_hang_where_the_kernel_hangs_them() {
    let parsed = fixture("30-iptables-basic.legacy-save.txt");
    for (name, chain_name, hook, priority, kind, policy) in [
        ("raw", "OUTPUT", Hook::Output, -300, ChainKind::Filter, Policy::Accept),
        ("mangle", "OUTPUT", Hook::Output, -150, ChainKind::Route, Policy::Accept),
        ("mangle", "INPUT", Hook::Input, -150, ChainKind::Filter, Policy::Accept),
        ("nat", "PREROUTING", Hook::Prerouting, -100, ChainKind::Nat, Policy::Accept),
        ("nat", "OUTPUT", Hook::Output, -100, ChainKind::Nat, Policy::Accept),
        ("nat", "INPUT", Hook::Input, 100, ChainKind::Nat, Policy::Accept),
        ("nat", "POSTROUTING", Hook::Postrouting, 100, ChainKind::Nat, Policy::Accept),
        ("filter", "INPUT", Hook::Input, 0, ChainKind::Filter, Policy::Drop),
    ] {
        let base = chain(table(&parsed, name), chain_name).base.as_ref().expect("a base chain");
        assert_eq!((base.hook, base.priority, base.kind, base.policy), (hook, priority, kind, policy), "{name}");
    }
    assert!(chain(table(&parsed, "filter"), "SSH").base.is_none());
}

#[test]
fn a_comment_cannot_smuggle_rules_in() {
    let parsed = fixture("33-comment-injection.legacy-save.txt");
    assert_eq!(parsed.diagnostics, vec![]);
    let input = chain(table(&parsed, "filter"), "INPUT");
    let verdicts: Vec<_> = input.rules.iter().map(|rule| rule.steps.last().cloned()).collect();
    let verdict = |one| Some(Step::Verdict(one));
    assert_eq!(verdicts, [verdict(Verdict::Drop), verdict(Verdict::Accept), verdict(Verdict::Accept)]);
    let comments: Vec<&str> = input.rules.iter().map(|rule| &*rule.comments[0]).collect();
    assert_eq!(comments, ["evil\n-A INPUT -j ACCEPT\nx", "x\u{fffd}y", r#"quote " and back\slash"#]);
    assert_eq!(input.rules.iter().map(|rule| rule.line).collect::<Vec<_>>(), [6, 9, 10]);
}

#[test]
fn a_table_the_tool_gave_up_on_is_there_and_may_do_anything() {
    let parsed = fixture("35-xt-table-incompatible.nft-save.txt");
    assert_eq!(parsed.diagnostics.iter().map(|one| one.level).collect::<Vec<_>>(), [Level::Error]);
    let filter = table(&parsed, "filter");
    assert_eq!(filter.backend, Backend::IptablesNft);
    assert!(filter.other.iter().any(|line| line.starts_with(UNREAD)));
    for name in ["INPUT", "FORWARD", "OUTPUT"] {
        let chain = chain(filter, name);
        assert!(chain.base.is_some());
        assert!(matches!(chain.rules[0].steps[..], [Step::Effect(Effect::Opaque(_))]));
    }
}

#[test]
fn counters_of_every_style_are_read() {
    let text =
        b"*filter\n:INPUT ACCEPT [7:8]\n[1:2] -A INPUT -j DROP\n-A INPUT -c 3 4 -j DROP\n-A INPUT -j DROP\nCOMMIT\n";
    let parsed = read_text(text);
    assert_eq!(parsed.diagnostics, vec![]);
    let rules = &chain(table(&parsed, "filter"), "INPUT").rules;
    let counters: Vec<_> = rules.iter().map(|rule| rule.counters.map(|c| (c.packets, c.bytes))).collect();
    assert_eq!(counters, [Some((1, 2)), Some((3, 4)), None]);
    assert!(rules.iter().all(|rule| &*rule.text == "-A INPUT -j DROP"));
}

#[test]
fn grepped_failsafe_lines_become_one_table_each() {
    let text = include_bytes!("../../../../../tests/fixtures/nft-json/fragment-grep-failsafe.txt");
    let parsed = read_text(text);
    assert_eq!(parsed.value.len(), 2);
    assert!(parsed.value.iter().all(|table| &*table.name == "?"));
    assert_eq!(parsed.diagnostics.iter().map(|one| one.level).collect::<Vec<_>>(), [Level::Note, Level::Note]);
    let [raw, filter] = &parsed.value[..] else { panic!("two tables") };
    assert!(raw.chain("cali-failsafe-in").is_none());
    assert_eq!(chain(filter, "cali-failsafe-in").rules.len(), 2);
    let jump = &chain(filter, "cali-fh-any-interface-at-all").rules[0].steps;
    assert_eq!(*jump, [Step::Verdict(Verdict::Jump("cali-failsafe-in".into()))]);
    assert!(matches!(chain(raw, "cali-failsafe-out").rules[0].steps[1], Step::Match(Match::Lookup { .. })));
}
