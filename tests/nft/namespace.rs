//! A network namespace to load rulesets into with the real tool, and the way of a ruleset through it: listed, read, printed,
//! loaded again.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use hepguard::ruleset::readers::nft_json;
use hepguard::ruleset::{Effect, Elements, Expr, Match, NatTarget, Rule, SetRef, Step, Table, Verdict};

/// Another nft than the one in the path: a command with its first arguments, separated by spaces.
pub(crate) const OTHER_NFT: &str = "HEPGUARD_NFT";

/// A namespace that goes away with it.
pub(crate) struct Namespace {
    name: String,
    nft: Vec<String>,
}

impl Namespace {
    /// `None` where this machine cannot make one; under CI that is a failure.
    pub(crate) fn new(purpose: &str) -> Option<Self> {
        let name = format!("hepguard-{purpose}-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let made = made.is_ok_and(|output| output.status.success());
        let nft = std::env::var(OTHER_NFT).unwrap_or_else(|_| "nft".into());
        let nft = nft.split_whitespace().map(str::to_owned).collect();
        let namespace = made.then_some(Self { name, nft });
        let works =
            namespace.as_ref().is_some_and(|namespace| namespace.nft(&["list", "ruleset"], "").status.success());
        assert!(works || std::env::var_os("CI").is_none(), "this test needs root, ip(8) and nft(8)");
        if !works {
            println!("{purpose}: SKIPPED: needs root, ip(8) and nft(8)");
        }
        namespace.filter(|_| works)
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.name, "timeout", "60", program])
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

    pub(crate) fn nft(&self, arguments: &[&str], input: &str) -> Output {
        let (program, first) = self.nft.split_first().expect("a command");
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        self.run(program, &[&first, arguments].concat(), input)
    }

    pub(crate) fn load(&self, script: &str) -> Result<(), String> {
        let output = self.nft(&["-f", "-"], script);
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// `nft -j list ruleset`; says why when nft fails or complains.
    pub(crate) fn list(&self) -> Result<Vec<u8>, String> {
        let output = self.nft(&["-j", "list", "ruleset"], "");
        match output.status.success() && output.stderr.is_empty() {
            true => Ok(output.stdout),
            false => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Reads a listing; gives what the reader could not make sense of beside it.
pub(crate) fn read(listing: &[u8]) -> (Vec<Table>, Vec<String>) {
    let parsed = nft_json::read(&Arc::from("nft-ruleset.json"), listing);
    let bad = parsed.diagnostics.iter().filter(|remark| !remark.message.contains("nft before 1.1.0"));
    let bad = bad.filter(|remark| remark.level > hepguard::diagnostic::Level::Note).map(ToString::to_string).collect();
    (parsed.value, bad)
}

/// All rules, with the place of their chain in nft's words.
pub(crate) fn rules(tables: &[Table]) -> impl Iterator<Item = (String, &Rule)> {
    tables.iter().flat_map(|table| {
        table.chains.iter().flat_map(move |chain| {
            let place = format!("{} {} {}", table.family.nft_name(), table.name, chain.name);
            chain.rules.iter().map(move |rule| (place.clone(), rule))
        })
    })
}

/// A script that replaces every rule by what `text` prints of it.
pub(crate) fn replacement(tables: &[Table], text: impl Fn(&Table, &Rule) -> String) -> String {
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
    script
}

/// The same steps with the elements of anonymous sets in order: the kernel shuffles them.
pub(crate) fn in_order(steps: &[Step]) -> Vec<Step> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        match step {
            Step::Match(Match::Lookup { set, .. }) | Step::Vmap { map: set, .. } => sort_set(set),
            Step::Match(Match::Compare { left, .. }) => sort_expr(left),
            Step::Effect(Effect::Set { value, .. }) => sort_expr(value),
            Step::Verdict(Verdict::Nat(nat)) => {
                for target in [&mut nat.address, &mut nat.port].into_iter().flatten() {
                    if let NatTarget::Expr(expr) = target {
                        sort_expr(expr);
                    }
                }
            }
            _ => {}
        }
    }
    steps
}

fn sort_expr(expr: &mut Expr) {
    match expr {
        Expr::Map { key, map } => {
            sort_expr(key);
            sort_set(map);
        }
        Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
            sort_expr(a);
            sort_expr(b);
        }
        _ => {}
    }
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
