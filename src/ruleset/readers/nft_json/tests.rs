use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::diagnostic::Parsed;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nft-json")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).expect(name)
}

fn read_fixture(name: &str) -> Parsed<Vec<Table>> {
    read(&Arc::from(name), &fixture(name))
}

/// Rules of a text listing by `family table chain`.
fn listed_rules(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut table, mut chain) = (String::new(), None);
    for line in text.lines() {
        let depth = line.len() - line.trim_start_matches('\t').len();
        let line = line.trim();
        match (depth, line) {
            (0, line) => {
                if let Some(name) = line.strip_prefix("table ") {
                    table = name.trim_end_matches(" {").to_owned();
                }
            }
            (1, line) => chain = line.strip_prefix("chain ").map(|name| name.trim_end_matches(" {").to_owned()),
            (2, line) => {
                if let Some(chain) = &chain
                    && !line.starts_with("type ")
                    && !line.starts_with("comment \"a chain")
                {
                    rules.entry(format!("{table} {chain}")).or_default().push(normal(line));
                }
            }
            _ => {}
        }
    }
    rules
}

/// A listed rule without counter values.
fn normal(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut out = Vec::new();
    let mut index = 0;
    while let Some(word) = words.get(index) {
        out.push(*word);
        index += if *word == "counter" && words.get(index + 1) == Some(&"packets") { 5 } else { 1 };
    }
    let mut text = out.join(" ");
    for (theirs, ours) in WORDINGS {
        text = text.replace(theirs, ours);
    }
    text
}

/// Where versions of nft word the same thing differently and JSON does not tell which.
const WORDINGS: &[(&str, &str)] = &[
    (" burst 5 packets", ""),
    ("tcp flags & (fin | syn | rst | ack) == syn", "tcp flags syn / fin,syn,rst,ack"),
    ("tcp flags & (fin | syn | rst | ack) != syn", "tcp flags != syn / fin,syn,rst,ack"),
    ("tcp flags & (syn | ack) == syn | ack", "tcp flags syn,ack / syn,ack"),
    ("ip frag-off & 0x1fff != 0x0", "ip frag-off & 8191 != 0"),
    ("ip frag-off & 0x1fff == 0x0", "ip frag-off & 8191 == 0"),
    ("icmp code 3", "icmp code port-unreachable"),
    ("icmp code 4", "icmp code frag-needed"),
    ("iif check", "iif oif"),
    ("dnat ip to ip daddr . meta l4proto . th dport map @svcs", "dnat to ip daddr . meta l4proto . th dport map @svcs"),
];

fn read_rules(tables: &[Table]) -> BTreeMap<String, Vec<String>> {
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for table in tables {
        for chain in &table.chains {
            for rule in &chain.rules {
                let key = format!("{} {} {}", table.family.nft_name(), table.name, chain.name);
                rules.entry(key).or_default().push(rule.text.to_string());
            }
        }
    }
    rules
}

#[test]
fn every_rule_reads_as_the_text_listing_says() {
    let mut differences = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("fixtures") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".json") else { continue };
        if name.starts_with("91-") {
            continue; // nft itself left parts out
        }
        let base = stem.trim_end_matches(".nft117");
        let list = [format!("{stem}.list.txt"), format!("{base}.list.txt")];
        let Some(list) = list.iter().find(|list| folder().join(list).exists()) else { continue };
        let parsed = read_fixture(&name);
        let expected = listed_rules(&String::from_utf8_lossy(&fixture(list)));
        let got = read_rules(&parsed.value);
        for (chain, rules) in &expected {
            let read = got.get(chain).cloned().unwrap_or_default();
            for index in 0..rules.len().max(read.len()) {
                // text listings translate xt rules back, JSON cannot: they are merge's business
                let xt = read.get(index).is_some_and(|read| read.contains("xt match") || read.contains("xt target"));
                if rules.get(index) != read.get(index) && !xt {
                    differences.push(format!(
                        "{name} {chain} {index}\n  list {:?}\n  read {:?}",
                        rules.get(index),
                        read.get(index)
                    ));
                }
            }
        }
    }
    differences.sort();
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}
