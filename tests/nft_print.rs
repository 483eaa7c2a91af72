//! Rules printed as nft text are what was read: the kernel takes them, and nft's listing of them reads the same.
//!
//! Needs root, `ip` and `nft`; runs in a network namespace of its own.
#![expect(clippy::print_stdout, reason = "tells when it cannot run")]

#[path = "nft/namespace.rs"]
mod namespace;

use std::path::Path;

use hepguard::ruleset::{Rule, Table, print};
use namespace::{Namespace, in_order, read, replacement, rules};

fn scripts() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nft-json");
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(folder).expect("fixtures") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        // 90 and 91 are what nft itself cannot list
        if name.ends_with(".nft") && !name.starts_with('9') {
            let mut script = std::fs::read_to_string(&path).expect("text");
            if name.starts_with("34-") {
                // it adds to a table that iptables-nft has made
                let table = "add table ip filter\nadd chain ip filter INPUT { type filter hook input priority 0; }\n";
                script.insert_str(0, table);
            }
            scripts.push((name, script));
        }
    }
    scripts.sort();
    scripts
}

fn listed(namespace: &Namespace) -> Vec<Table> {
    let (tables, bad) = read(&namespace.list().expect("nft lists"));
    assert!(bad.is_empty(), "{bad:?}");
    tables
}

/// Replaces every rule by what `text` prints of it, and lists again.
fn reload(namespace: &Namespace, tables: &[Table], name: &str, text: impl Fn(&Table, &Rule) -> String) -> Vec<Table> {
    let script = replacement(tables, text);
    if let Err(why) = namespace.load(&script) {
        panic!("{name}: nft refuses what was printed: {why}\n{script}");
    }
    listed(namespace)
}

#[test]
fn printed_rules_load_and_read_back_the_same() {
    let Some(namespace) = Namespace::new("print") else { return };
    namespace.run("ip", &["link", "set", "lo", "up"], "");
    namespace.run("ip", &["link", "add", "v0", "type", "veth", "peer", "name", "v1"], "");
    let mut loaded = 0;
    for (name, script) in scripts() {
        namespace.load("flush ruleset").expect("flushes");
        if let Err(why) = namespace.load(&script) {
            // a kernel without one of the rarer expressions
            assert!(std::env::var_os("CI").is_none(), "{name}: {why}");
            continue;
        }
        let first = listed(&namespace);
        let listed = reload(&namespace, &first, &name, |_, rule| rule.text.to_string());
        let canonical = reload(&namespace, &first, &name, |table, rule| print::nft::rule(table.family, rule));
        for again in [listed, canonical] {
            assert_eq!(rules(&again).count(), rules(&first).count(), "{name}");
            for ((place, before), (_, after)) in rules(&first).zip(rules(&again)) {
                assert_eq!(in_order(&after.steps), in_order(&before.steps), "{name} {place}: {}", before.text);
                assert_eq!(after.comments, before.comments, "{name} {place}: {}", before.text);
            }
        }
        loaded += rules(&first).count();
    }
    assert!(loaded > 250, "only {loaded} rules were tried");
}
