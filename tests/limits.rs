//! Texts no kernel would give and no person would write: each is bounded in time and memory, and what is said about it names
//! the limit. Sizes are chosen so that anything worse than linear shows.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hepguard::analysis::trace::{Engine, Trace, TraceOptions, TraceVerdict};
use hepguard::audit::audit;
use hepguard::calico::settings::{datastore, envfile, ini, unit};
use hepguard::diagnostic::{Diagnostic, Level, MAX_DIAGNOSTICS, Parsed};
use hepguard::files::{FileState, SnapshotFiles};
use hepguard::host;
use hepguard::logs::line::{Scratch, What, read as read_line};
use hepguard::logs::time::{Clock, Stamper};
use hepguard::packet::Family;
use hepguard::packet::text::from_json;
use hepguard::ruleset::readers::{ipset_save, iptables_save, nft_json};
use hepguard::ruleset::{Backend, Table};
use hepguard::snapshot::{self, Snapshot};

#[path = "fuzz/memory.rs"]
mod memory;

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting::new();

/// The counter is the process's: one test measures at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For debug builds on a busy machine; what is not linear takes minutes.
const TIME: Duration = Duration::from_secs(60);

/// Runs `work`, which may take `TIME` and `factor` times the input's size and 16 MiB.
fn bounded<T>(what: &str, size: usize, factor: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let (value, peak) = MEMORY.peak_of(work);
    let (time, most) = (start.elapsed(), factor * size + (16 << 20));
    assert!(time < TIME, "{what} took {time:?}");
    assert!(peak < most, "{what}: {size} bytes of input took {peak} bytes of memory, more than {most}");
    value
}

fn source() -> Arc<str> {
    Arc::from("x")
}

fn says<T>(parsed: &Parsed<T>, words: &str) {
    assert!(parsed.diagnostics.len() <= MAX_DIAGNOSTICS);
    let told = parsed.diagnostics.iter().any(|remark| remark.message.contains(words));
    assert!(told, "{words:?} is not in {:?}", parsed.diagnostics.iter().take(3).collect::<Vec<_>>());
}

fn saved(text: &str) -> Parsed<Vec<Table>> {
    iptables_save::read(&source(), text.as_bytes(), Backend::IptablesLegacy, Family::Ipv4)
}

fn snapshot_of(files: &[(&str, String)]) -> Snapshot {
    let mut all = SnapshotFiles::default();
    for (name, text) in files {
        all.files.insert((*name).to_owned(), FileState::Present(text.clone().into_bytes()));
    }
    snapshot::read(all)
}

/// How a SYN to port 22 fares, with the default options.
fn traced(snapshot: &Snapshot) -> Trace {
    let packet = br#"{"dir":"in","proto":"tcp","src":"203.0.113.7","sport":51522,"dst":"10.0.1.10","dport":22}"#;
    let packet = from_json(packet).expect("a packet").packet;
    Engine::new(&snapshot.ruleset, &snapshot.host).trace(&packet, &TraceOptions::default())
}

fn undecided(trace: &Trace, words: &str) {
    assert_eq!(trace.verdict, TraceVerdict::Unknown, "{trace:?}");
    assert!(trace.because.iter().any(|one| one.reason.contains(words)), "{words:?} is not in {:?}", trace.because);
}

fn filter(body: &str) -> String {
    format!("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{body}COMMIT\n")
}

/// An nft listing with one `in` chain of these rules' expressions, behind `more` objects.
fn nft(more: &str, rules: &[String]) -> String {
    let mut text = String::from(
        r#"{"nftables": [{"metainfo": {"version": "1.1.0", "json_schema_version": 1}},
{"table": {"family": "ip", "name": "t", "handle": 1}},
{"chain": {"family": "ip", "table": "t", "name": "in", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}}"#,
    );
    text.push_str(more);
    for rule in rules {
        let _ = write!(
            text,
            ",\n{{\"rule\": {{\"family\": \"ip\", \"table\": \"t\", \"chain\": \"in\", \"handle\": 2, \"expr\": [{rule}]}}}}"
        );
    }
    text + "]}"
}

fn nested(depth: usize, open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn json_nests_to_a_named_depth() {
    let _alone = alone();
    let deep = nested(100_000, "[", "", "]");
    let size = deep.len();
    let mut tables = host::ip::TableNumbers::default();
    let lost =
        |remarks: &[Diagnostic]| assert!(remarks.iter().any(|remark| remark.level == Level::Error), "{remarks:?}");
    for text in [deep.clone(), format!("[{{\"dst\":{deep}}}]")] {
        bounded("ip -j addr", size, 8, || host::ip::interfaces(&source(), text.as_bytes()));
        bounded("ip -j rule", size, 8, || host::ip::rules(&source(), text.as_bytes(), &mut tables));
        lost(
            &bounded("ip -j route", size, 8, || host::ip::routes(&source(), text.as_bytes(), &mut tables)).diagnostics,
        );
    }
    lost(&bounded("meta.json", size, 8, || snapshot_of(&[("meta.json", deep.clone())])).diagnostics);
    bounded("bpf.json", size, 8, || snapshot_of(&[("bpf.json", deep.clone())]));
    let line = format!("{{\"dir\":{deep}}}");
    let error = bounded("a batch line", size, 8, || from_json(line.as_bytes())).expect_err("no packet");
    assert!(error.to_string().contains("recursion limit"), "{error}");
    let mut scratch = Scratch::default();
    let mut stamper = Stamper::new(Clock::utc(0));
    let what = bounded("a log line", size, 8, || read_line(line.as_bytes(), &mut scratch, &mut stamper).what.clone());
    assert!(!matches!(what, What::Flow(_) | What::Packet(_) | What::FlowLog(_)));

    // within a listing only its own rule is lost
    let whole = bounded("nft", size, 8, || {
        nft_json::read(&source(), nft("", &[deep.clone(), r#"{"drop": null}"#.into()]).as_bytes())
    });
    says(&whole, "recursion limit");
    assert_eq!(whole.value.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum::<usize>(), 2);
    let not = nested(100, r#"{"&": ["#, r#"{"meta": {"key": "mark"}}"#, ", 1]}");
    let rule = format!(r#"{{"match": {{"op": "==", "left": {not}, "right": 1}}}}, {{"drop": null}}"#);
    let read = snapshot_of(&[("nft-ruleset.json", nft("", &[rule]))]);
    assert_eq!(traced(&read).verdict, TraceVerdict::Unknown);
}

#[test]
fn yaml_nests_and_repeats_within_named_limits() {
    let _alone = alone();
    let read = |text: &str| datastore::read(std::iter::once(("calico/x.yaml", text.as_bytes())), None);
    let head = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata:\n  name: default\nspec:\n";
    let deep = format!("{head}  x: {}", nested(20_000, "[", "1", "]"));
    let found = bounded("deep YAML", deep.len(), 64, || read(&deep));
    assert!(found.diagnostics.iter().any(|remark| remark.message.contains("64 deep")), "{:?}", found.diagnostics);
    let mut bomb = format!("{head}  a0: &a0 [x, x]\n");
    for n in 1..60 {
        let _ = writeln!(bomb, "  a{n}: &a{n} [*a{}, *a{}]", n - 1, n - 1);
    }
    let found = bounded("a bomb of aliases", bomb.len(), 1_000, || read(&bomb));
    assert!(found.diagnostics.iter().any(|remark| remark.message.contains("odes")), "{:?}", found.diagnostics);
    let many = "---\nkind: FelixConfiguration\n".repeat(20_000);
    bounded("many documents", many.len(), 64, || read(&many));
}

#[test]
fn jumps_end_however_they_are_laid() {
    let _alone = alone();
    let chains = |count: usize| (0..count).map(|n| format!(":c{n} - [0:0]\n")).collect::<String>();
    let circle = filter(":a - [0:0]\n:b - [0:0]\n-A INPUT -j a\n-A a -j b\n-A b -j a\n");
    let read = snapshot_of(&[("iptables-legacy-save.txt", circle)]);
    undecided(&bounded("a circle", 1 << 20, 8, || traced(&read)), "100");

    let mut deep = chains(150) + "-A INPUT -j c0\n";
    for n in 0..149 {
        let _ = writeln!(deep, "-A c{n} -j c{}", n + 1);
    }
    let read = snapshot_of(&[("iptables-legacy-save.txt", filter(&deep))]);
    undecided(&bounded("150 jumps", 1 << 20, 8, || traced(&read)), "100");

    // 2^60 paths that all come back
    let mut doubling = chains(61) + "-A INPUT -j c0\n";
    for n in 0..60 {
        let _ = writeln!(doubling, "-A c{n} -j c{0}\n-A c{n} -j c{0}", n + 1);
    }
    let read = snapshot_of(&[("iptables-legacy-save.txt", filter(&doubling))]);
    undecided(&bounded("2^60 paths", 1 << 20, 8, || traced(&read)), "4000000");
    // an audit asks for many packets: all of them together are bounded, too
    let found = bounded("an audit of 2^60 paths", 1 << 20, 64, || audit(&read));
    assert!(!found.findings.is_empty());
}

#[test]
fn verdict_maps_chain_to_a_named_depth() {
    let _alone = alone();
    let mut objects = String::new();
    for n in 0..150 {
        let _ = write!(
            objects,
            ",\n{{\"chain\": {{\"family\": \"ip\", \"table\": \"t\", \"name\": \"c{n}\", \"handle\": 1}}}}"
        );
    }
    let vmap = |target: usize| {
        format!(
            r#"{{"vmap": {{"key": {{"payload": {{"protocol": "tcp", "field": "dport"}}}}, "data": {{"set": [[22, {{"jump": {{"target": "c{target}"}}}}]]}}}}}}"#
        )
    };
    for n in 0..149 {
        let _ = write!(
            objects,
            ",\n{{\"rule\": {{\"family\": \"ip\", \"table\": \"t\", \"chain\": \"c{n}\", \"handle\": 2, \"expr\": [{}]}}}}",
            vmap(n + 1)
        );
    }
    let read = snapshot_of(&[("nft-ruleset.json", nft(&objects, &[vmap(0)]))]);
    undecided(&bounded("150 verdict maps", 1 << 20, 16, || traced(&read)), "100");
}

#[test]
fn lists_of_lists_of_sets_end() {
    let _alone = alone();
    let mut sets = String::from("create l0 list:set size 8\n");
    for n in 1..1_000 {
        let _ = writeln!(sets, "create l{n} list:set size 8\nadd l{n} l{}\nadd l{n} l{}", n - 1, n - 1);
    }
    sets.push_str("add l0 l999\n");
    let rules = filter("-A INPUT -m set --match-set l999 src -j DROP\n");
    let read = snapshot_of(&[("iptables-legacy-save.txt", rules), ("ipset-save.txt", sets)]);
    let trace = bounded("lists in a circle", 1 << 20, 16, || traced(&read));
    undecided(&trace, "list");
}

#[test]
fn huge_sets_cost_what_their_text_does() {
    let _alone = alone();
    let mut sets = String::from("create s hash:net family inet hashsize 1024 maxelem 1000000\n");
    for n in 0..300_000_u32 {
        let _ = writeln!(sets, "add s 10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    }
    let found = bounded("an ipset", sets.len(), 12, || ipset_save::read(&source(), sets.as_bytes()));
    assert_eq!(found.value[0].elements.len(), 300_000);

    let elements: Vec<String> =
        (0..100_000_u32).map(|n| format!(r#""10.{}.{}.{}""#, n >> 16, n >> 8 & 255, n & 255)).collect();
    let set = format!(
        ",\n{{\"set\": {{\"family\": \"ip\", \"table\": \"t\", \"name\": \"s\", \"handle\": 3, \"type\": \"ipv4_addr\", \"elem\": [{}]}}}}",
        elements.join(",")
    );
    let text = nft(&set, &[]);
    let found = bounded("an nft set", text.len(), 24, || nft_json::read(&source(), text.as_bytes()));
    assert_eq!(found.value[0].sets[0].elements.len(), 100_000);

    // more parts than a concatenation may have
    let wide = vec![r#"{"meta": {"key": "mark"}}"#; 40].join(",");
    let value = vec!["1"; 40].join(",");
    let rule = format!(
        r#"{{"match": {{"op": "==", "left": {{"concat": [{wide}]}}, "right": {{"set": [{{"concat": [{value}]}}]}}}}}}, {{"drop": null}}"#
    );
    let read = snapshot_of(&[("nft-ruleset.json", nft("", &[rule]))]);
    assert_eq!(traced(&read).verdict, TraceVerdict::Unknown);
    // everything at once
    let rule = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"set": [{"range": ["0.0.0.0", "255.255.255.255"]}]}}}, {"drop": null}"#;
    let read = snapshot_of(&[("nft-ruleset.json", nft("", &[rule.into()]))]);
    assert_eq!(traced(&read).verdict, TraceVerdict::Drop);
}

#[test]
fn huge_lines_cost_what_they_are_long() {
    let _alone = alone();
    let long = "x".repeat(16 << 20);
    let spaced = "x ".repeat(8 << 20);
    for text in [&long, &spaced] {
        let (bytes, size) = (text.as_bytes(), text.len());
        let rule = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {text} -j DROP\nCOMMIT\n");
        bounded("iptables-save", size, 12, || saved(&rule));
        bounded("ipset save", size, 12, || ipset_save::read(&source(), bytes));
        bounded("nft", size, 12, || nft_json::read(&source(), bytes));
        bounded("ss", size, 12, || host::sockets::read(&source(), bytes));
        bounded("conntrack", size, 12, || host::conntrack::read(&source(), bytes));
        bounded("sysctl", size, 12, || host::sysctl::read(&source(), bytes));
        bounded("calico.env", size, 12, || envfile::systemd(&source(), bytes));
        bounded("environ", size, 12, || envfile::environ(&source(), bytes));
        bounded("felix.cfg", size, 12, || ini::read(&source(), bytes));
        bounded("a unit", size, 12, || unit::read(&source(), bytes));
        let list = format!("FELIX_FAILSAFEINBOUNDHOSTPORTS={}", text[..1 << 18].replace('x', "tcp:22,"));
        bounded("a failsafe list", list.len(), 64, || {
            let loaded = envfile::systemd(&source(), list.as_bytes()).felix();
            hepguard::calico::settings::Settings::resolve(&loaded.assignments)
        });
    }
    let words = saved(&filter(&format!("-A INPUT {} -j DROP\n", "x ".repeat(10_000))));
    says(&words, "4096 words");
}

#[test]
fn many_tables_chains_and_rules_cost_what_their_text_does() {
    let _alone = alone();
    let mut text = String::new();
    for n in 0..20_000 {
        let _ = writeln!(text, "*t{n}\n:INPUT ACCEPT [0:0]\nCOMMIT");
    }
    bounded("tables", text.len(), 40, || saved(&text));
    let mut text = String::new();
    for n in 0..200_000 {
        let _ = writeln!(text, ":c{n} - [0:0]");
    }
    for n in 0..200_000 {
        let _ = writeln!(text, "-A c{n} -p tcp -m tcp --dport {} -j ACCEPT", n % 60_000);
    }
    let text = filter(&text);
    let parsed = bounded("chains", text.len(), 24, || saved(&text));
    assert_eq!(parsed.value[0].chains.len(), 200_003);
}

/// Rules with hashes that fit nothing, each alone in a chain: every one could have been edited.
#[test]
fn garbage_in_felix_chains_is_judged_in_bounded_work() {
    let _alone = alone();
    let mut text = String::new();
    for n in 0..10_000 {
        let _ = writeln!(text, ":cali-pi-{n} - [0:0]");
    }
    for n in 0..10_000 {
        let _ = writeln!(
            text,
            "-A cali-pi-{n} -p tcp -m comment --comment \"cali:aaaaaaaaaa{n:06}\" -m multiport --dports {n} -j ACCEPT"
        );
    }
    let read = snapshot_of(&[("iptables-legacy-save.txt", filter(&text))]);
    let proof = bounded("garbage chains", text.len(), 24, || hepguard::calico::integrity::check(&read.ruleset));
    assert!(!proof.mismatches.is_empty());
}
