//! Rules printed as nft text are what was read: the kernel takes them, and nft's listing of them reads the same.
//!
//! Needs root, `ip` and `nft`; runs in a network namespace of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use hepguard::ruleset::readers::nft_json;
use hepguard::ruleset::{Effect, Elements, Expr, Match, NatTarget, Rule, SetRef, Step, Table, Verdict, print};

/// A namespace that goes away with it.
struct Namespace(String);

impl Namespace {
    /// `None` where this machine cannot make one; under CI that is a failure.
    fn new(purpose: &str) -> Option<Self> {
        let name = format!("hepguard-{purpose}-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let made = made.is_ok_and(|output| output.status.success());
        let namespace = made.then(|| Self(name));
        let works =
            namespace.as_ref().is_some_and(|namespace| namespace.nft(&["list", "ruleset"], "").status.success());
        assert!(works || std::env::var_os("CI").is_none(), "this test needs root, ip(8) and nft(8)");
        namespace.filter(|_| works)
    }

    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.0, "timeout", "60", program])
            .args(arguments)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("ends");
        let _ = writer.join();
        output
    }

    fn nft(&self, arguments: &[&str], input: &str) -> Output {
        self.run("nft", arguments, input)
    }

    fn load(&self, script: &str) -> Result<(), String> {
        let output = self.nft(&["-f", "-"], script);
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn tables(&self) -> Vec<Table> {
        let output = self.nft(&["-j", "list", "ruleset"], "");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let parsed = nft_json::read(&Arc::from("nft-ruleset.json"), &output.stdout);
        let old = |message: &str| message.contains("nft before 1.1.0");
        let bad: Vec<_> = parsed.diagnostics.iter().filter(|remark| !old(&remark.message)).collect();
        assert!(bad.is_empty(), "{bad:?}");
        parsed.value
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

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

fn rules(tables: &[Table]) -> impl Iterator<Item = (String, &Rule)> {
    tables.iter().flat_map(|table| {
        table.chains.iter().flat_map(move |chain| {
            let place = format!("{} {} {}", table.family.nft_name(), table.name, chain.name);
            chain.rules.iter().map(move |rule| (place.clone(), rule))
        })
    })
}

/// Replaces every rule by what `text` prints of it, and lists again.
fn reload(namespace: &Namespace, tables: &[Table], name: &str, text: impl Fn(&Table, &Rule) -> String) -> Vec<Table> {
    let mut script = String::new();
    for table in tables {
        for chain in &table.chains {
            let place = format!("{} {} {}", table.family.nft_name(), table.name, chain.name);
            script.push_str(&format!("flush chain {place}\n"));
            for rule in &chain.rules {
                script.push_str(&format!("add rule {place} {}\n", text(table, rule)));
            }
        }
    }
    if let Err(why) = namespace.load(&script) {
        panic!("{name}: nft refuses what was printed: {why}\n{script}");
    }
    namespace.tables()
}

/// The same steps with the elements of anonymous sets in order: the kernel shuffles them.
fn in_order(steps: &[Step]) -> Vec<Step> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        match step {
            Step::Match(Match::Lookup { set, .. }) | Step::Vmap { map: set, .. } => sort_set(set),
            Step::Effect(Effect::Set { value: Expr::Map { map, .. }, .. }) => sort_set(map),
            Step::Verdict(Verdict::Nat(nat)) => {
                if let Some(NatTarget::Expr(Expr::Map { map, .. })) = &mut nat.address {
                    sort_set(map);
                }
            }
            _ => {}
        }
    }
    steps
}

fn sort_set(set: &mut SetRef) {
    let SetRef::Anonymous(elements) = set else { return };
    let mut order: Vec<usize> = (0..elements.len()).collect();
    order.sort_by_key(|index| elements.key(*index).map(<[_]>::to_vec));
    let mut sorted = Elements::new(elements.dimensions());
    for index in order {
        let key = elements.key(index).expect("in range");
        assert!(sorted.push(key, elements.data(index).cloned(), elements.extra(index).cloned()));
    }
    if let Some(data) = elements.catch_all() {
        sorted.set_catch_all(data.clone());
    }
    **elements = sorted;
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
        let first = namespace.tables();
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
