//! `src/collect/LISTINGS.md` keeps its word: every test it names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../src/collect/LISTINGS.md");

/// Names in backquotes in the last column of the page's tables.
fn named() -> BTreeSet<&'static str> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| test |"));
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Functions behind `#[test]` of all sources.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut todo: Vec<PathBuf> = vec![root.join("src"), root.join("tests")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            let after = text.split("#[test]").skip(1).filter_map(|rest| rest.split("fn ").nth(1)?.split('(').next());
            found.extend(after.map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_test_the_page_names_exists() {
    let (named, tests) = (named(), tests());
    assert!(named.len() > 25, "{named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
