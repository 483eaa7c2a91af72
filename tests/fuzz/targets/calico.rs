//! Calico's resources, the selectors in them, and what is built on both.

use std::collections::BTreeMap;

use hepguard::calico::names::Generation;
use hepguard::calico::order::Model;
use hepguard::calico::resources::Resources;
use hepguard::calico::selector::Selector;
use hepguard::lint::{FileRead, lint, registry};
use hepguard::report;
use hepguard::report::text::Style;

use super::whole::clean;

/// A text as a file of resources, checked as `hepguard lint` does.
pub(super) fn resources(input: &[u8]) {
    let read = Resources::of([("fuzzed.yaml", input)]);
    for problem in &read.problems {
        let _ = problem.diagnostic();
    }
    for generation in [Generation::UpTo327, Generation::From332] {
        let model = Model::of(&read, generation);
        for endpoint in &model.endpoints {
            let _ = model.for_endpoint(endpoint);
        }
    }
    let report = lint(&read, vec![FileRead { path: "fuzzed.yaml".to_owned(), resources: read.len() }], &[]);
    clean(&report::lint::text(&report, Style::default(), true));
    let _ = report::lint::markdown(&report);
    let _ = report::lint::sarif(&report, &registry::LINTS);
    assert!(serde_json::to_string(&report).expect("JSON").starts_with('{'));
    let mut again = Resources::default();
    again.apply(&read);
}

/// A selector's canonical text reads as the same selector, and says the same of any labels: those of the lines behind it.
pub(super) fn selector(input: &[u8]) {
    let all = String::from_utf8_lossy(input);
    let (text, rest) = all.split_once('\n').unwrap_or((&all, ""));
    let labels: BTreeMap<String, String> = rest
        .lines()
        .take(20)
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    match Selector::parse(text) {
        Ok(selector) => {
            let canonical = selector.canonical();
            let again = Selector::parse(&canonical).unwrap_or_else(|error| panic!("{canonical:?}: {error}"));
            assert_eq!(again.canonical(), canonical);
            assert_eq!(again.matches(&labels), selector.matches(&labels), "{canonical:?} of {labels:?}");
            let terms = selector.terms();
            assert!(!selector.matches(&labels) || !selector.is_contradictory(), "{canonical:?}, {terms:?}");
            assert!(selector.matches(&labels) || !selector.is_everything(), "{canonical:?}, {terms:?}");
            let _ = selector.prefixed("pcns.").canonical();
        }
        Err(error) => assert!(error.column >= 1, "{error}"),
    }
}
