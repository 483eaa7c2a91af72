//! Every rule of iptables' own test suite, and rules of our own with the same coverage: read without a remark; and where
//! the kernel takes them, loaded by the real tool, saved, read, printed, loaded again and saved again: the same listing.
//!
//! The suite is not part of this repository. `HEPGUARD_IPTABLES_SOURCE` names an unpacked source of iptables 1.8
//! (`git clone https://git.netfilter.org/iptables`); without it that part says SKIPPED. `HEPGUARD_TOOLS_ROOT` names a root
//! folder whose tools are used instead of the installed ones (of another version, say).
#![expect(clippy::print_stdout, reason = "the figures are what a developer runs these tests for")]

#[path = "../kernel/harness.rs"]
#[expect(dead_code, reason = "the namespace is needed, not all of its tools")]
mod harness;
mod load;
mod suite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hepguard::diagnostic::Level;
use hepguard::packet::Family;
use hepguard::ruleset::Backend;
use hepguard::ruleset::readers::iptables_save::read;
use load::Variant;
use suite::{Case, Suite, listing};

/// Suites of a folder, in order of their names.
fn suites(folder: &Path, ending: &str) -> Vec<Suite> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == ending));
    files.sort();
    let suites: Vec<Suite> = files.iter().flat_map(|path| suite::read(path)).collect();
    assert!(!suites.is_empty(), "no .{ending} files in {}", folder.display());
    suites
}

fn own() -> Vec<Suite> {
    suites(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/xtables"), "rules")
}

/// The upstream suite, when somebody says where it is.
fn upstream(test: &str) -> Option<Vec<Suite>> {
    let Some(root) = std::env::var_os("HEPGUARD_IPTABLES_SOURCE") else {
        println!("{test}: SKIPPED: set HEPGUARD_IPTABLES_SOURCE to a checkout of https://git.netfilter.org/iptables");
        return None;
    };
    Some(suites(&Path::new(&root).join("extensions"), "t"))
}

/// What the reader says of one rule, notes excepted; and whether all of it can be decided.
fn remarks(suite: &Suite, case: &Case) -> (Vec<String>, bool) {
    let text = listing(&[case]);
    let parsed = read(&Arc::from(case.place.as_str()), text.as_bytes(), Backend::Iptables, suite.family);
    let told = parsed.diagnostics.iter().filter(|remark| remark.level > Level::Note);
    let told = told.map(|remark| format!("{} {}: {}: {remark}", suite.family, case.place, case.rule)).collect();
    let mut rules = parsed.value.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    (told, rules.all(|rule| rule.opaque_parts().is_empty()))
}

/// Reads every rule of `suites` as it is spelled in the file. Rules the tool itself refuses only must not harm.
fn read_all(name: &str, suites: &[Suite]) {
    let (mut good, mut opaque, mut refused, mut told) = (0, 0, 0, Vec::new());
    for suite in suites {
        for case in &suite.cases {
            let (remarks, decidable) = remarks(suite, case);
            if !case.good {
                refused += 1;
                continue;
            }
            good += 1;
            opaque += usize::from(!decidable);
            told.extend(remarks);
        }
    }
    println!(
        "{name}: {good} rules read, {opaque} of them with an opaque part; {refused} the tool refuses were read too"
    );
    told.dedup();
    assert!(told.is_empty(), "{} remarks:\n{}", told.len(), told.join("\n"));
    assert!(good > 100, "only {good} rules were found");
}

/// Loads, saves, reads, prints, loads and saves what the kernel takes.
fn load_all(name: &str, suites: &[Suite], may_refuse: bool) {
    harness::in_namespace(name, || {
        let mut wrong = Vec::new();
        for variant in Variant::ALL {
            let (mut taken, mut opaque, mut refused) = (0, 0, Vec::new());
            // what is spelled as no listing has it is only read
            for suite in suites.iter().filter(|suite| !suite.name.starts_with("text")) {
                match load::round_trip(suite, variant) {
                    Ok(done) => {
                        taken += done.taken;
                        opaque += done.opaque;
                        refused.extend(done.refused);
                        wrong.extend(done.wrong);
                    }
                    Err(error) => wrong.push(format!("{} {} {}: {error}", variant.name(), suite.family, suite.name)),
                }
            }
            let tool = variant.name();
            println!("{name}, {tool}: {taken} rules kept, {opaque} of them opaque, {} refused", refused.len());
            for one in &refused {
                println!("  refused by {tool}: {one}");
            }
            assert!(may_refuse || taken > 3 * refused.len(), "{tool} refuses too much to prove anything");
        }
        assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    });
}

#[test]
fn own_rules_are_read_without_a_remark() {
    read_all("own rules", &own());
}

#[test]
fn own_rules_survive_kernel_reader_and_printer() {
    load_all("own rules", &own(), false);
}

#[test]
fn upstream_rules_are_read_without_a_remark() {
    if let Some(suites) = upstream("upstream rules, as text") {
        read_all("upstream rules", &suites);
    }
}

/// Listings among the upstream shell tests: files that are no scripts and hold a table.
fn shell_listings(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![root.join("iptables/tests/shell/testcases")];
    while let Some(path) = todo.pop() {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            todo.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let has_table = text.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"*"));
        // of another tool
        let other = name.contains("ebtables") || name.contains("arptables");
        if has_table && !text.starts_with(b"#!") && !other {
            found.push((name, text));
        }
    }
    found.sort();
    found
}

#[test]
fn upstream_listings_are_read_without_a_remark() {
    let Some(root) = std::env::var_os("HEPGUARD_IPTABLES_SOURCE") else {
        println!("upstream listings: SKIPPED: set HEPGUARD_IPTABLES_SOURCE to a checkout of iptables");
        return;
    };
    let (mut tables, mut rules, mut told) = (0, 0, Vec::new());
    for (name, text) in shell_listings(Path::new(&root)) {
        let family = if name.contains("ip6") { Family::Ipv6 } else { Family::Ipv4 };
        let parsed = read(&Arc::from(name.as_str()), &text, Backend::Iptables, family);
        tables += parsed.value.len();
        rules += parsed.value.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum::<usize>();
        let remarks = parsed.diagnostics.iter().filter(|remark| remark.level > Level::Note);
        told.extend(remarks.map(ToString::to_string));
    }
    println!("upstream listings: {tables} tables with {rules} rules read");
    assert!(told.is_empty(), "{} remarks:\n{}", told.len(), told.join("\n"));
    assert!(rules > 300, "only {rules} rules were found");
}

#[test]
fn upstream_rules_survive_kernel_reader_and_printer() {
    if let Some(suites) = upstream("upstream rules, through the kernel") {
        load_all("upstream rules", &suites, true);
    }
}
