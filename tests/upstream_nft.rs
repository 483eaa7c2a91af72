//! The test suite of nftables' own authors, rule by rule: what their tool and this kernel take is listed, read, printed,
//! loaded again, and lists as before. The rules themselves are not part of this project: `HEPGUARD_NFTABLES_SOURCE` names
//! the source tree they come from, `HEPGUARD_NFT` another nft than the installed one.
#![expect(clippy::print_stdout, reason = "the figures are what a developer runs these tests for")]

#[path = "nft/namespace.rs"]
mod namespace;
#[path = "nft/suite.rs"]
mod suite;

use std::collections::BTreeMap;
use std::path::Path;

use hepguard::ruleset::{Rule, Table, print};
use namespace::{Namespace, in_order, read, replacement, rules};
use suite::{TestFile, files, source, stored_rules};

/// Figures, and what went wrong.
#[derive(Default)]
struct Tally {
    /// Rules tried; of them the tool or the kernel refused, and nft could not list.
    tried: usize,
    refused: usize,
    unlisted: usize,
    read: usize,
    opaque: usize,
    /// Opaque parts by their first two words.
    parts: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Tally {
    fn count(&mut self, rule: &Rule) {
        self.read += 1;
        let parts = rule.opaque_parts();
        self.opaque += usize::from(!parts.is_empty());
        for part in parts {
            let words: Vec<&str> = part.split(' ').take(2).collect();
            *self.parts.entry(words.join(" ")).or_default() += 1;
        }
    }

    fn finish(self, name: &str, at_least: usize) {
        let Self { tried, refused, unlisted, read, opaque, parts, failures } = self;
        println!(
            "{name}: {tried} rules, {refused} refused by tool or kernel, {unlisted} nft cannot list, {read} read: {} exact, \
             {opaque} opaque, {} wrong",
            read - opaque,
            failures.len()
        );
        let parts: Vec<String> = parts.iter().map(|(part, count)| format!("{part} ({count})")).collect();
        println!("{name}: opaque parts: {}", parts.join(", "));
        assert!(failures.is_empty(), "{name}: {} wrong\n{}", failures.len(), failures.join("\n"));
        assert!(read >= at_least, "{name}: only {read} rules were read");
    }
}

#[test]
fn every_stored_rule_is_read() {
    let Some(source) = source("stored rules") else { return };
    let mut tally = Tally::default();
    for end in [".t.json", ".t.json.output"] {
        for path in files(&source.join("tests/py"), end) {
            let rules_file = format!("{}.t", path.to_string_lossy().trim_end_matches(end));
            let tables = TestFile::read(Path::new(&rules_file)).tables;
            for (text, statements) in stored_rules(&path) {
                tally.tried += 1;
                let family = &tables.first().expect("a table").0;
                let listing = format!(
                    r#"{{"nftables":[{{"metainfo":{{"version":"1.1.7","json_schema_version":1}}}},
                    {{"table":{{"family":"{family}","name":"t","handle":1}}}},
                    {{"chain":{{"family":"{family}","table":"t","name":"c","handle":1}}}},
                    {{"rule":{{"family":"{family}","table":"t","chain":"c","handle":2,"expr":{statements}}}}}]}}"#
                );
                let (read, bad) = read(listing.as_bytes());
                let name = path.strip_prefix(&source).expect("inside").display();
                if !bad.is_empty() {
                    tally.failures.push(format!("{name}: {text}\n  {}", bad.join("\n  ")));
                }
                rules(&read).for_each(|(_, rule)| tally.count(rule));
            }
        }
    }
    tally.finish("stored rules", 1600);
}

/// One way to write a rule as text.
type Form = fn(&Table, &Rule) -> String;

/// A rule to load: the lines that do it, one of which must be taken.
struct Candidate {
    text: String,
    lines: Vec<String>,
}

/// Loads as many of `candidates` as the kernel takes; gives the lines that were loaded.
fn load(namespace: &Namespace, candidates: &[Candidate]) -> Vec<String> {
    let script: String = candidates.iter().filter_map(|candidate| candidate.lines.first()).cloned().collect();
    if namespace.load(&script).is_ok() {
        return candidates.iter().filter_map(|candidate| candidate.lines.first()).cloned().collect();
    }
    match candidates {
        [] => Vec::new(),
        [only] => only.lines.iter().skip(1).find(|line| namespace.load(line).is_ok()).cloned().into_iter().collect(),
        many => {
            let (first, second) = many.split_at(many.len() / 2);
            let mut loaded = load(namespace, first);
            loaded.extend(load(namespace, second));
            loaded
        }
    }
}

/// What must hold of the ruleset that `setup` and `lines` make.
fn examine(namespace: &Namespace, name: &str, setup: &str, lines: &[String], tally: &mut Tally) {
    let load = || {
        namespace.load("flush ruleset").expect("flushes");
        namespace.load(&format!("{setup}{}", lines.concat()))
    };
    if let Err(why) = load() {
        tally.failures.push(format!("{name}: what loaded does not load again: {why}"));
        return;
    }
    let listing = match namespace.list() {
        Ok(listing) => listing,
        Err(_) if lines.len() > 1 => {
            let (first, second) = lines.split_at(lines.len() / 2);
            examine(namespace, name, setup, first, tally);
            examine(namespace, name, setup, second, tally);
            return;
        }
        Err(why) => {
            println!("{name}: nft cannot list {}: {}", lines.concat().trim(), why.trim());
            tally.unlisted += lines.len();
            return;
        }
    };
    let (first, bad) = read(&listing);
    tally.failures.extend(bad.into_iter().map(|bad| format!("{name}: {bad}")));
    rules(&first).for_each(|(_, rule)| tally.count(rule));
    let read = rules(&first).count();
    if !lines.is_empty() && read != lines.len() {
        tally.failures.push(format!("{name}: {} rules were loaded and {read} read", lines.len()));
    }
    let forms: [(&str, Form); 2] = [
        ("its listed text", |_, rule| rule.text.to_string()),
        ("its printed text", |table, rule| print::nft::rule(table.family, rule)),
    ];
    for (form, text) in forms {
        reload(namespace, &format!("{name}, {form}"), &first, text, tally);
    }
}

/// Loads what `text` prints of each rule and compares what nft then lists.
fn reload(namespace: &Namespace, name: &str, first: &[Table], text: Form, tally: &mut Tally) {
    let whole = replacement(first, text);
    if namespace.load(&whole).is_err() {
        for line in whole.lines().filter(|line| line.starts_with("add rule")) {
            if let Err(why) = namespace.load(&format!("{line}\n")) {
                tally
                    .failures
                    .push(format!("{name}: nft refuses {line}\n  {}", why.lines().next().unwrap_or_default()));
            }
        }
        return;
    }
    let listing = match namespace.list() {
        Ok(listing) => listing,
        Err(why) => return tally.failures.push(format!("{name}: nft cannot list it any more: {why}")),
    };
    let (again, bad) = read(&listing);
    tally.failures.extend(bad.into_iter().map(|bad| format!("{name}: {bad}")));
    for ((place, before), (_, after)) in rules(first).zip(rules(&again)) {
        if in_order(&before.steps) != in_order(&after.steps) || before.comments != after.comments {
            tally.failures.push(format!("{name}: {place}\n  before {}\n  after  {}", before.text, after.text));
        }
    }
}

#[test]
fn every_rule_the_kernel_takes_lists_the_same_after_reading_and_printing() {
    let Some(source) = source("rules") else { return };
    let Some(namespace) = Namespace::new("upstream-rules") else { return };
    namespace.run("ip", &["link", "set", "lo", "up"], "");
    let mut tally = Tally::default();
    for path in files(&source.join("tests/py"), ".t") {
        let file = TestFile::read(&path);
        for table in &file.tables {
            let name = format!("{} {}", path.strip_prefix(&source).expect("inside").display(), table.0);
            let (mut setup, objects) = file.setup(table);
            namespace.load("flush ruleset").expect("flushes");
            if let Err(why) = namespace.load(&setup) {
                println!("{name}: no such table or chains here: {}", why.lines().next().unwrap_or_default());
                tally.tried += file.rules.len();
                tally.refused += file.rules.len();
                continue;
            }
            for object in objects {
                if namespace.load(&object).is_ok() {
                    setup += &format!("{object}\n");
                }
            }
            let line = |chain: &String, rule: &String| format!("add rule {} {} {chain} {rule}\n", table.0, table.1);
            let candidate = |rule: &String| Candidate {
                text: rule.clone(),
                lines: table.2.iter().map(|chain| line(chain, rule)).collect(),
            };
            let candidates: Vec<Candidate> = file.rules.iter().map(candidate).collect();
            let loaded = load(&namespace, &candidates);
            tally.tried += candidates.len();
            tally.refused += candidates.len() - loaded.len();
            for refused in candidates.iter().filter(|it| !it.lines.iter().any(|line| loaded.contains(line))) {
                println!("{name}: refused: {}", refused.text);
            }
            examine(&namespace, &name, &setup, &loaded, &mut tally);
        }
    }
    tally.finish("rules", 1500);
}

#[test]
fn every_dump_the_kernel_takes_lists_the_same_after_reading_and_printing() {
    let Some(source) = source("dumps") else { return };
    let Some(namespace) = Namespace::new("upstream-dumps") else { return };
    namespace.run("ip", &["link", "set", "lo", "up"], "");
    for device in ["dummy0", "dummy1", "d0", "d1", "eth0", "eth1", "wan0", "lan0", "ens3"] {
        namespace.run("ip", &["link", "add", device, "type", "dummy"], "");
    }
    let mut tally = Tally::default();
    let (mut dumps, mut refused) = (0, 0);
    for path in files(&source.join("tests/shell"), ".nft") {
        let Ok(script) = std::fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(&source).expect("inside").display().to_string();
        dumps += 1;
        namespace.load("flush ruleset").expect("flushes");
        if let Err(why) = namespace.load(&script) {
            refused += 1;
            println!("{name}: refused: {}", why.lines().next().unwrap_or_default());
            continue;
        }
        examine(&namespace, &name, &script, &[], &mut tally);
    }
    println!("dumps: {dumps} rulesets, {refused} refused by tool or kernel");
    tally.tried = tally.read;
    tally.finish("dumps", 200);
}
