//! Listings of rules and sets.

use std::sync::Arc;

use hepguard::calico::{integrity as proof, names::Meanings};
use hepguard::diagnostic::{MAX_DIAGNOSTICS, Parsed};
use hepguard::packet::Family;
use hepguard::ruleset::readers::{ipset_save as ipsets, iptables_save as saves, nft_json as nft};
use hepguard::ruleset::{Backend, Effect, Match, Rule, Ruleset, Step, Table, Verdict, merge as merging, print};

use super::folder::parts;

pub(super) fn source() -> Arc<str> {
    Arc::from("fuzzed")
}

fn few<T>(parsed: Parsed<T>) -> T {
    assert!(parsed.diagnostics.len() <= MAX_DIAGNOSTICS);
    parsed.value
}

/// Every rule in both syntaxes; whatever comes out, nothing may panic.
fn printed(tables: &[Table]) {
    for table in tables {
        let _ = print::iptables::table(table);
        for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
            let _ = print::nft::rule(table.family, rule);
            let _ = rule.opaque_parts();
        }
    }
}

pub(super) fn iptables_save(input: &[u8]) {
    for (backend, family) in [(Backend::Iptables, Family::Ipv4), (Backend::IptablesNft, Family::Ipv6)] {
        printed(&few(saves::read(&source(), input, backend, family)));
    }
}

/// Matches that are known and kept as text.
const UNDECIDED: [&str; 6] = ["-m string ", "-m u32 ", "-m bpf ", "-m time ", "-m hashlimit ", "-m recent "];

/// Words no rule has; a reader keeps them, but has nothing to say about their order.
fn odd(rule: &Rule) -> bool {
    let odd = |kept: &str| !UNDECIDED.iter().any(|start| kept.starts_with(start));
    rule.steps.iter().any(|step| match step {
        Step::Match(Match::Opaque { text, .. }) => odd(text),
        Step::Match(Match::Not(inner)) => matches!(&**inner, Match::Opaque { text, .. } if odd(text)),
        Step::Effect(Effect::Opaque(_)) | Step::Verdict(Verdict::Opaque(_)) => true,
        _ => false,
    })
}

/// What is printed reads back as the same rules, given that it was text: bytes that are none are lost in texts.
pub(super) fn iptables_print(input: &[u8]) {
    if std::str::from_utf8(input).is_err() {
        return;
    }
    let family = if input.first() == Some(&b'6') { Family::Ipv6 } else { Family::Ipv4 };
    for mut first in saves::read(&source(), input, Backend::IptablesLegacy, family).value {
        if &*first.name == "?" {
            continue; // where a fragment ends is a guess
        }
        first.chains.iter_mut().for_each(|chain| chain.rules.retain(|rule| !odd(rule)));
        let Some(text) = print::iptables::table(&first) else { continue };
        let again = saves::read(&source(), text.as_bytes(), first.backend, first.family);
        let [second] = &again.value[..] else {
            panic!("{} tables, not one, in\n{text}\n{:?}", again.value.len(), again.diagnostics)
        };
        assert_eq!(first.chains.len(), second.chains.len(), "{text}");
        for (a, b) in first.chains.iter().zip(&second.chains) {
            assert_eq!((&a.name, &a.base, a.rules.len()), (&b.name, &b.base, b.rules.len()), "{text}");
            for (x, y) in a.rules.iter().zip(&b.rules) {
                assert_eq!(x.steps, y.steps, "{}\nprinted as\n{}", x.text, y.text);
                assert_eq!((&x.comments, x.counters), (&y.comments, y.counters), "{}", x.text);
            }
        }
    }
}

pub(super) fn nft_json(input: &[u8]) {
    printed(&few(nft::read(&source(), input)));
}

pub(super) fn ipset_save(input: &[u8]) {
    for set in few(ipsets::read(&source(), input)) {
        for index in 0..set.elements.len() {
            assert_eq!(set.elements.key(index).map(<[_]>::len), Some(set.elements.dimensions()));
        }
    }
}

/// Two parts: `==== nft` and `==== save`.
pub(super) fn merge(input: &[u8]) {
    let (mut native, mut saved) = (Vec::new(), Vec::new());
    for (name, content) in parts(input) {
        match name.as_str() {
            "nft" => native = few(nft::read(&source(), content)),
            "save6" => {
                saved.extend(few(saves::read(&source(), content, Backend::IptablesNft, Family::Ipv6)));
            }
            _ => saved.extend(few(saves::read(&source(), content, Backend::IptablesNft, Family::Ipv4))),
        }
    }
    printed(&few(merging::merge(native, saved)));
}

/// Felix's hashes of a listing, and what the names in it mean.
pub(super) fn integrity(input: &[u8]) {
    let tables = if input.first() == Some(&b'{') {
        nft::read(&source(), input).value
    } else {
        saves::read(&source(), input, Backend::IptablesLegacy, Family::Ipv4).value
    };
    let ruleset = Ruleset { tables, ipsets: Vec::new() };
    let _ = proof::check(&ruleset);
    let meanings = Meanings::new(&ruleset);
    for (t, table) in ruleset.tables.iter().enumerate() {
        for (c, chain) in table.chains.iter().enumerate() {
            for (r, rule) in chain.rules.iter().enumerate() {
                let place = hepguard::ruleset::RuleRef { table: t, chain: c, rule: r };
                let _ = meanings.of(place).map(|meaning| meaning.to_string());
                let _ = rule.steps.iter().filter(|step| matches!(step, Step::Verdict(_))).count();
            }
        }
    }
}
