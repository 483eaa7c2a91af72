//! The registry ages well: codes are unique and for ever, every page has its headings.

use std::collections::BTreeSet;

use hepguard::audit::check::Check;
use hepguard::audit::registry::{self, CHECKS};
use hepguard::lint::registry::{self as lints, LINTS};
use hepguard::monitor::codes as watch_codes;
use hepguard::plan::codes;

/// Checks of the audit, what plans and what the daemon find, in the order of their codes.
fn all() -> Vec<&'static Check> {
    let mut all: Vec<&Check> = CHECKS.iter().chain(codes::CODES).chain(watch_codes::CODES).collect();
    all.sort_by_key(|check| check.code);
    all
}

fn find(code: &str) -> Option<&'static Check> {
    registry::find(code).or_else(|| codes::find(code)).or_else(|| watch_codes::find(code))
}

#[test]
fn codes_and_names_are_unique_and_in_order() {
    for list in [CHECKS, codes::CODES, watch_codes::CODES] {
        assert!(list.is_sorted_by_key(|check| check.code), "codes are listed in order");
    }
    let codes: Vec<&str> = all().into_iter().map(|check| check.code).collect();
    let mut sorted = codes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(codes, sorted, "codes must be unique and listed in order");
    let names: BTreeSet<&str> = all().into_iter().map(|check| check.name).collect();
    assert_eq!(names.len(), all().len(), "names must be unique");
    let shared = LINTS.iter().find(|lint| codes.contains(&lint.code) || names.contains(lint.name));
    assert!(shared.is_none(), "{shared:?} shares its code or name with a check");
    let lint_names: BTreeSet<&str> = LINTS.iter().map(|lint| lint.name).collect();
    assert_eq!(lint_names.len(), LINTS.len(), "names must be unique");
    for check in all() {
        let digits = check.code.strip_prefix("HG").unwrap_or_else(|| panic!("{} must start with HG", check.code));
        assert!(digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()), "{}", check.code);
        assert!(
            check.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b.is_ascii_digit()),
            "{}",
            check.name
        );
    }
}

#[test]
fn every_page_says_what_why_how_and_limits() {
    for check in all() {
        let page: Vec<&str> = check.page().collect();
        assert_eq!(page.first().copied(), Some(format!("# {} {}", check.code, check.name).as_str()));
        let headings: Vec<&str> = page.iter().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, ["What it checks", "Why it matters", "How to fix", "Limits"], "{}", check.code);
        for heading in headings {
            let at = page.iter().position(|line| line.ends_with(heading)).expect("the heading is there");
            let words: usize =
                page.iter().skip(at + 1).take_while(|line| !line.starts_with('#')).map(|l| l.split(' ').count()).sum();
            assert!(words > 8, "{}: {heading:?} says too little", check.code);
        }
    }
}

/// Causes of lost access that pages cite: C of Calico, F of other firewalls and their files, S of services of the host.
#[test]
fn the_causes_of_lockouts_are_covered() {
    let mut cited: BTreeSet<&str> = BTreeSet::new();
    for check in all() {
        let page: Vec<&str> = check.page().collect();
        for word in page.iter().flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric())) {
            let is_cause = word.len() == 3 && word.starts_with(['C', 'F', 'S']);
            if is_cause && word.bytes().skip(1).all(|byte| byte.is_ascii_digit()) {
                cited.insert(word);
            }
        }
    }
    let count = |letter: char| cited.iter().filter(|cause| cause.starts_with(letter)).count();
    assert_eq!((count('C'), count('F'), count('S')), (25, 24, 18), "{cited:?}");
}

#[test]
fn codes_once_given_stay() {
    let recorded = include_str!("fixtures/finding-codes.txt");
    for line in recorded.lines().filter(|line| !line.starts_with('#')) {
        let (code, name) = line.split_once(' ').expect("a line is CODE name");
        let known = find(code).map(|check| check.name).or_else(|| lints::find(code).map(|lint| lint.name));
        let known = known.unwrap_or_else(|| panic!("{code} was given away once and must stay"));
        assert_eq!(known, name, "{code} keeps its name");
    }
    let given = all().into_iter().map(|check| (check.code, check.name));
    for (code, name) in given.chain(LINTS.iter().map(|lint| (lint.code, lint.name))) {
        let line = format!("{code} {name}");
        assert!(recorded.lines().any(|known| known == line), "add \"{line}\" to tests/fixtures/finding-codes.txt");
    }
}

#[test]
fn every_lint_says_what_why_how_and_limits() {
    for lint in LINTS.iter() {
        for text in [lint.what, lint.why, lint.fix, lint.limits] {
            let words = text.split(' ').count();
            assert!(words >= 4, "{}: {text:?} says too little", lint.code);
        }
        assert!(lint.code.starts_with("HG4") && lint.page().len() == 13, "{}", lint.code);
    }
}
