//! The check on listings with known hashes, whole and damaged.

use std::sync::Arc;

use super::*;
use crate::calico::hash::ChainHash;
use crate::calico::spelling::words;

/// A small reader of save text: enough for rules of Felix, independent of the real one.
pub(crate) fn ruleset(text: &str, backend: Backend, family: Family) -> Ruleset {
    let mut tables: Vec<Table> = Vec::new();
    let new_table = |name: &str| Table {
        backend,
        family,
        name: Arc::from(name),
        dormant: false,
        chains: Vec::new(),
        sets: Vec::new(),
        source: Arc::from("test"),
        flowtables: Vec::new(),
        other: Vec::new(),
    };
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            tables.push(new_table(name));
        } else if line.starts_with("-A ") {
            if tables.is_empty() {
                tables.push(new_table("?"));
            }
            let words: Vec<String> = words(line).into_iter().map(|(word, _)| word).collect();
            let comments = words.windows(2).filter(|pair| pair[0] == "--comment").map(|pair| pair[1].clone().into());
            let jump = words.windows(2).find(|pair| pair[0] == "-j" || pair[0] == "-g").map(|pair| pair[1].as_str());
            let rule = Rule {
                comments: comments.collect(),
                text: line.into(),
                steps: jump.map(|chain| Step::Verdict(Verdict::Jump(Arc::from(chain)))).into_iter().collect(),
                ..Rule::default()
            };
            let table = tables.last_mut().expect("a table");
            let chain = words.get(1).expect("a chain name");
            if table.chain(chain).is_none() {
                table.chains.push(Chain {
                    name: Arc::from(chain.as_str()),
                    base: None,
                    rules: Vec::new().into(),
                    line: 0,
                });
            }
            let (index, _) = table.chain(chain).expect("just made");
            table.chains[index].rules.push(rule);
        }
    }
    Ruleset { tables, ipsets: Vec::new() }
}

/// The default inbound failsafe chain as saved.
const FAILSAFE_IN: [(&str, u16, &str); 9] = [
    ("tcp", 22, "wWFQM43tJU7wwnFZ"),
    ("udp", 68, "LwNV--R8MjeUYacw"),
    ("tcp", 179, "QOO5NUOqOSS1_Iw0"),
    ("tcp", 2379, "cwZWoBSwVeIAZmVN"),
    ("tcp", 2380, "7FbNXT91kugE_upR"),
    ("tcp", 5473, "8Ftbkk2dRH2eEeq1"),
    ("tcp", 6443, "-JoRSaAQZPJAegMo"),
    ("tcp", 6666, "PUKij4Rn9njHfVTi"),
    ("tcp", 6667, "vSprVE-4rient0wc"),
];

fn failsafe_lines() -> Vec<String> {
    FAILSAFE_IN
        .iter()
        .map(|(protocol, port, hash)| {
            format!(
                "-A cali-failsafe-in -p {protocol} -m comment --comment \"cali:{hash}\" -m multiport --dports {port} -j ACCEPT"
            )
        })
        .collect()
}

fn check_lines(header: &str, lines: &[String]) -> Integrity {
    check(&ruleset(&format!("{header}{}\n", lines.join("\n")), Backend::IptablesLegacy, Family::Ipv4))
}

fn kinds(integrity: &Integrity) -> Vec<(usize, MismatchKind)> {
    integrity.mismatches.iter().map(|mismatch| (mismatch.rule, mismatch.kind)).collect()
}

fn follows(rules: std::ops::RangeInclusive<usize>) -> Vec<(usize, MismatchKind)> {
    rules.map(|rule| (rule, MismatchKind::Follows)).collect()
}

#[test]
fn the_default_failsafe_chain_is_verified_whole_and_as_a_fragment() {
    for header in ["*filter\n", ""] {
        let integrity = check_lines(header, &failsafe_lines());
        assert_eq!((integrity.chains, integrity.rules, integrity.verified), (1, 9, 9), "{header}");
        assert!(integrity.mismatches.is_empty());
    }
}

#[test]
fn the_same_chain_of_two_tables_in_one_fragment_is_verified() {
    let lines = [failsafe_lines(), failsafe_lines()].concat();
    let integrity = check_lines("", &lines);
    assert_eq!((integrity.rules, integrity.verified), (18, 18));
}

#[test]
fn a_changed_port_is_named_and_every_later_rule_reported() {
    for header in ["*filter\n", ""] {
        let mut lines = failsafe_lines();
        lines[2] = lines[2].replace("--dports 179", "--dports 1179");
        let integrity = check_lines(header, &lines);
        assert_eq!(integrity.verified, 2);
        assert_eq!(kinds(&integrity), [vec![(3, MismatchKind::Edited)], follows(4..=9)].concat());
        let edited = &integrity.mismatches[0];
        assert!(edited.proven);
        let expected = "-A cali-failsafe-in HASH -p tcp -m multiport --destination-ports 179 --jump ACCEPT";
        assert_eq!(edited.expected.as_deref(), Some(expected));
        assert!(integrity.mismatches[1..].iter().all(|later| later.intact), "later rules are as Felix wrote them");
    }
}

#[test]
fn an_unusual_port_is_found_by_search() {
    let state = ChainHash::of_chain("cali-failsafe-in");
    let text =
        "-A cali-failsafe-in HASH -p udp -m multiport --destination-ports 51822 --source 10.9.0.0/16 --jump ACCEPT";
    let hash = state.after(text).short();
    let line = format!(
        "-A cali-failsafe-in -s 10.9.0.0/16 -p udp -m comment --comment \"cali:{hash}\" -m multiport --dports 51823 -j ACCEPT"
    );
    let integrity = check_lines("*filter\n", &[line]);
    assert_eq!(integrity.mismatches[0].expected.as_deref(), Some(text));
}

#[test]
fn a_deleted_rule_is_named() {
    let mut lines = failsafe_lines();
    lines.remove(3);
    let integrity = check_lines("*filter\n", &lines);
    assert_eq!(kinds(&integrity), [vec![(4, MismatchKind::Missing)], follows(4..=8)].concat());
    assert!(integrity.mismatches[0].expected.as_deref().is_some_and(|text| text.contains("--destination-ports 2379 ")));
}

#[test]
fn a_foreign_rule_does_not_break_the_chain() {
    let mut lines = failsafe_lines();
    lines.insert(1, "-A cali-failsafe-in -p tcp -m tcp --dport 8080 -j ACCEPT".to_owned());
    lines.push(lines[0].clone());
    let integrity = check_lines("*filter\n", &lines);
    assert_eq!(kinds(&integrity), [(2, MismatchKind::Foreign), (11, MismatchKind::Foreign)]);
    assert_eq!((integrity.rules, integrity.verified), (11, 9));
}

#[test]
fn swapped_rules_are_out_of_order() {
    let mut lines = failsafe_lines();
    lines.swap(4, 5);
    let integrity = check_lines("*filter\n", &lines);
    assert_eq!(integrity.mismatches[0].rule, 5);
    assert_eq!(integrity.mismatches[0].kind, MismatchKind::OutOfOrder);
    assert!(
        integrity
            .mismatches
            .iter()
            .all(|mismatch| matches!(mismatch.kind, MismatchKind::OutOfOrder | MismatchKind::Follows))
    );
}

#[test]
fn a_replaced_verdict_is_named() {
    let mut lines = failsafe_lines();
    lines[0] = lines[0].replace("ACCEPT", "DROP");
    let integrity = check_lines("*filter\n", &lines);
    assert_eq!(kinds(&integrity)[0], (1, MismatchKind::Edited));
    assert!(integrity.mismatches[0].expected.as_deref().is_some_and(|text| text.ends_with("--jump ACCEPT")));
}

#[test]
fn lone_lines_of_a_grep_are_never_called_edited() {
    let line = "-A cali-th-any-interface-at-all -m comment --comment \"cali:isLh7I8mMajLdhSv\" -j cali-failsafe-out";
    let integrity = check_lines("", &[line.to_owned()]);
    assert_eq!((integrity.rules, integrity.verified, integrity.not_provable), (1, 0, 1));
    assert!(integrity.mismatches.is_empty());
    let whole = check_lines("*filter\n", &[line.to_owned()]);
    assert_eq!(kinds(&whole), [(1, MismatchKind::Edited)]);
    assert!(!whole.mismatches[0].proven);
}

#[test]
fn rules_in_words_unknown_to_us_are_not_accused() {
    let line = "-A cali-x -m comment --comment \"cali:isLh7I8mMajLdhSv\" -m newmatch --thing 3 -j ACCEPT";
    let integrity = check_lines("*filter\n", &[line.to_owned()]);
    assert_eq!((integrity.not_provable, integrity.mismatches.len()), (1, 0));
    // a condition added to a rule of Felix is another matter: without it the hash fits
    let mut lines = failsafe_lines();
    lines[0] = lines[0].replace(" -j ACCEPT", " -m newmatch --thing 3 -j ACCEPT");
    let integrity = check_lines("*filter\n", &lines);
    assert_eq!(kinds(&integrity)[0], (1, MismatchKind::Edited));
    assert!(integrity.mismatches[0].proven);
}

#[test]
fn hook_rules_are_checked_and_unsigned_jumps_are_foreign() {
    let text = "*filter\n\
        -A INPUT -m comment --comment \"cali:Cz_u1IQiXIMmKD4c\" -j cali-INPUT\n\
        -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n\
        -A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD\n\
        -A FORWARD -j DOCKER-USER\n\
        -A FORWARD -m comment --comment \"cali:S93hcgKJrXEqnTfs\" -m comment --comment \"Policy explicitly accepted packet.\" -m mark --mark 0x10000/0x10000 -j ACCEPT\n\
        -A FORWARD -m comment --comment \"cali:mp77cMpurHhyjLrM\" -j MARK --set-xmark 0x10000/0x10000\n\
        -A OUTPUT -j cali-OUTPUT\n";
    let integrity = check(&ruleset(text, Backend::IptablesLegacy, Family::Ipv4));
    assert_eq!((integrity.chains, integrity.rules, integrity.verified), (3, 5, 4));
    let foreign = &integrity.mismatches[0];
    assert_eq!((&*foreign.chain, foreign.rule, foreign.kind), ("OUTPUT", 1, MismatchKind::Foreign));
}

#[test]
#[ignore = "needs the save text of a host with Felix: HEPGUARD_FELIX_SAVE=path"]
fn every_rule_of_a_given_host_leads_back_to_its_hash() {
    let path = std::env::var("HEPGUARD_FELIX_SAVE").expect("HEPGUARD_FELIX_SAVE names a file");
    let text = std::fs::read_to_string(path).expect("readable");
    let integrity = check(&ruleset(&text, Backend::IptablesLegacy, Family::Ipv4));
    let intact =
        integrity.mismatches.iter().filter(|mismatch| mismatch.intact && mismatch.kind == MismatchKind::Follows);
    assert_eq!(integrity.verified + intact.count(), integrity.rules, "{:#?}", integrity.mismatches);
}

/// Rules of a node with VXLAN, two of which the listing lacks.
#[test]
fn a_static_rule_that_is_gone_is_known_by_heart() {
    let text = "*filter\n\
        -A cali-OUTPUT -m comment --comment \"cali:Mq1_rAdXXH3YkrzW\" -m mark --mark 0x10000/0x10000 -j ACCEPT\n\
        -A cali-OUTPUT -o cali+ -m comment --comment \"cali:69FkRTJDvD5Vu6Vl\" -j RETURN\n\
        -A cali-OUTPUT -m comment --comment \"cali:6T0hFtymUtXMOfEV\" -j MARK --set-xmark 0x0/0x1b0000\n\
        -A cali-OUTPUT -m comment --comment \"cali:IpTGXsDHURPUaLjJ\" -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint\n";
    let integrity = check(&ruleset(text, Backend::IptablesLegacy, Family::Ipv4));
    assert_eq!(kinds(&integrity), [vec![(3, MismatchKind::Missing)], follows(3..=4)].concat());
    let gone = integrity.mismatches[0].expected.as_deref().expect("named");
    assert!(gone.contains("Allow IPv4 VXLAN packets to other allowed hosts"), "{gone}");
    assert_eq!(integrity.verified, 2);
}

#[test]
fn two_neighbours_that_are_gone_are_found() {
    let mut lines = failsafe_lines();
    lines.drain(3..5);
    let integrity = check_lines("*filter\n", &lines);
    let missing: Vec<&str> = integrity
        .mismatches
        .iter()
        .filter(|mismatch| mismatch.kind == MismatchKind::Missing)
        .filter_map(|mismatch| mismatch.expected.as_deref())
        .collect();
    assert!(matches!(missing.as_slice(), [first, second] if first.contains(" 2379 ") && second.contains(" 2380 ")));
    assert!(integrity.mismatches.iter().all(|mismatch| mismatch.intact));
}

#[test]
fn nft_tables_of_felix_are_checked_and_others_left_alone() {
    let rule = |text: &str, comment: &str| Rule {
        text: format!("{text} comment \"{comment}\"").into(),
        comments: vec![comment.into()],
        ..Rule::default()
    };
    let chain =
        |name: &str, rules: Vec<Rule>| Chain { name: Arc::from(name), base: None, rules: rules.into(), line: 0 };
    let mut foreign = rule("tcp dport 8080 counter accept", "mine");
    foreign.comments.clear();
    let chains = vec![
        chain(
            "filter-FORWARD",
            vec![
                rule("counter packets 0 bytes 0 jump filter-cali-FORWARD", "cali:dpfqBgJrpRwlrqw1;"),
                rule(
                    "meta mark & 0x00010000 == 0x00010000 counter packets 0 bytes 0 accept",
                    "cali:yp7iNUYNEhDmKF6E; Policy explicitly accepted packet.",
                ),
                rule("counter meta mark set meta mark | 0x00010000", "cali:fXaqbwKfGHq5dvHP;"),
                foreign,
            ],
        ),
        chain(
            "filter-cali-failsafe-in",
            vec![
                rule("tcp dport 22 counter packets 1 bytes 60 accept", "cali:HlTa1PD_-4eyg5XK;"),
                rule("udp dport 69 counter packets 1 bytes 60 accept", "cali:-iM2t8TQ--2sZcxe;"),
                rule("tcp dport 179 counter packets 1 bytes 60 accept", "cali:kOyilmFN_60cWijk;"),
            ],
        ),
    ];
    let table = |name: &str| Table {
        backend: Backend::Nft,
        family: Family::Ipv4,
        name: Arc::from(name),
        dormant: false,
        chains: chains.clone(),
        sets: Vec::new(),
        source: Arc::from("test"),
        flowtables: Vec::new(),
        other: Vec::new(),
    };
    let integrity = check(&Ruleset { tables: vec![table("calico")], ipsets: Vec::new() });
    assert_eq!((integrity.rules, integrity.verified), (7, 4));
    assert_eq!(kinds(&integrity), [(4, MismatchKind::Foreign), (2, MismatchKind::Edited), (3, MismatchKind::Follows)]);
    let expected = integrity.mismatches[1].expected.as_deref();
    assert_eq!(expected, Some("meta l4proto udp udp dport { 68 } counter accept"));
    let other = check(&Ruleset { tables: vec![table("other")], ipsets: Vec::new() });
    assert_eq!(other.chains, 0, "a table of another owner is not Felix's");
}

/// Save lines of `chains` chains with so many rules each, all with hashes that fit nowhere.
fn garbage(chains: usize, rules: usize, rule: impl Fn(usize) -> String) -> String {
    let mut text = "*filter\n".to_owned();
    for chain in 0..chains {
        for number in 0..rules {
            let name = if chain == 0 { "cali-failsafe-in".to_owned() } else { format!("cali-pi-x{chain}") };
            let hash = ChainHash::of_chain(&format!("{chain} {number}")).short();
            text.push_str(&format!("-A {name} -m comment --comment \"cali:{hash}\" {}\n", rule(number)));
        }
    }
    text
}

/// The work that no listing of these rules may exceed: what is granted to each, and the fixed rounds.
fn bound(ruleset: &Ruleset) -> usize {
    let rules = ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    let granted: usize = rules.map(|rule| budget::granted(&rule.text)).sum();
    granted + ROUNDS.iter().map(|(_, work)| work).sum::<usize>()
}

#[test]
fn hostile_listings_are_judged_within_the_budget_and_every_break_is_reported() {
    let edited = |number: usize| format!("-s 10.0.0.{}/32 -p tcp -m multiport --dports {number} -j DROP", number % 250);
    let many_parts = |_: usize| format!("{} -j ACCEPT", "-s 10.0.0.1 -d 10.0.0.2 -i a -o b -p tcp ".repeat(6));
    let unspellable = |_: usize| format!("{} -m limit --limit -j ACCEPT", "-s 10.0.0.1 -o b ".repeat(20));
    let listings = [
        garbage(200, 50, edited),
        garbage(1, 20_000, edited),
        garbage(5_000, 1, edited),
        garbage(20, 20, many_parts),
        garbage(20, 20, unspellable),
    ];
    for text in listings {
        let ruleset = ruleset(&text, Backend::IptablesLegacy, Family::Ipv4);
        let integrity = check(&ruleset);
        assert!(integrity.work <= bound(&ruleset), "{} of {}", integrity.work, bound(&ruleset));
        assert_eq!((integrity.verified, integrity.mismatches.len()), (0, integrity.rules));
        assert!(integrity.mismatches.iter().all(|mismatch| !mismatch.proven));
    }
}

#[test]
fn chains_in_order_are_verified_and_cheap_causes_named_however_much_garbage_there_is() {
    let rule = |number: usize| format!("-s 10.0.0.9/32 -p tcp -m multiport --dports {} -j DROP", 1 + number % 60_000);
    let mut text = garbage(300, 20, rule).replace("cali-failsafe-in", "cali-failsafe-out");
    text.push_str("*raw\n");
    text.push_str(&failsafe_lines().join("\n"));
    text.push_str("\n*mangle\n");
    text.push_str(&failsafe_lines().join("\n").replace("--dports 6443", "--dports 6444"));
    let integrity = check(&ruleset(&text, Backend::IptablesLegacy, Family::Ipv4));
    assert_eq!(integrity.verified, 9 + 6);
    let named: Vec<&str> = integrity.mismatches.iter().filter_map(|one| one.expected.as_deref()).collect();
    assert!(matches!(named.as_slice(), [one] if one.contains("--destination-ports 6443 ")), "{named:?}");
}
