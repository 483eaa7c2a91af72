//! Rules written by somebody else (the `iptables` crate, through the real tools) come back from the readers as meant.
//!
//! Needs root, iptables-legacy and iptables-nft; works in a network namespace of a thread of its own, which goes with the
//! thread. Fails under `CI` when that cannot be had, and says SKIPPED elsewhere.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use std::process::Command;
use std::sync::Arc;

use hepguard::packet::{Family, Hook};
use hepguard::ruleset::readers::iptables_save;
use hepguard::ruleset::{Backend, Field, Match, Policy, Step, Table, Verdict, without_comments};
use iptables::IPTables;
use nix::sched::{CloneFlags, unshare};

/// Why the tools cannot be used here.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let tools = ["iptables-legacy-save", "iptables-nft-save"];
    let absent = tools.iter().find(|tool| Command::new(tool).arg("--version").output().is_err());
    absent.map(|tool| format!("{tool} is not installed"))
}

/// Runs `work` in a network namespace of its own.
fn in_namespace(name: &'static str, work: impl FnOnce() + Send + 'static) {
    if let Some(reason) = missing() {
        assert!(std::env::var_os("CI").is_none(), "{name}: {reason}");
        eprintln!("SKIPPED {name}: {reason}");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn saved(tool: &str, backend: Backend) -> Vec<Table> {
    let output = Command::new(tool).arg("-c").output().expect("the save tool starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let source: Arc<str> = Arc::from("listing");
    let parsed = iptables_save::read(&source, &output.stdout, backend, Family::Ipv4);
    assert_eq!(parsed.diagnostics, [], "nothing to remark on");
    parsed.value
}

fn writes_and_reads(mut writer: IPTables, save: &'static str, backend: Backend) {
    // the crate knows "iptables" only; which variant that is depends on the machine
    writer.cmd = save.strip_suffix("-save").expect("a save tool");
    writer.set_policy("filter", "FORWARD", "DROP").expect("a policy");
    writer.new_chain("filter", "guests").expect("a chain");
    let rules = [
        "-p tcp -m tcp --dport 22 -j ACCEPT",
        "-s 192.0.2.0/24 -m conntrack --ctstate NEW -j guests",
        "-i ens5 -p udp -m multiport --dports 53,123 -m comment --comment \"time and names\" -j RETURN",
        "-j DROP",
    ];
    for rule in rules {
        writer.append("filter", "INPUT", rule).expect("a rule");
    }
    let tables = saved(save, backend);
    let filter = tables.iter().find(|table| &*table.name == "filter").expect("the filter table");
    let (_, input) = filter.chain("INPUT").expect("INPUT");
    let read: Vec<String> = input.rules.iter().map(|rule| without_comments(&rule.text)).collect();
    let meant: Vec<String> = rules.iter().map(|rule| without_comments(&format!("-A INPUT {rule}"))).collect();
    assert_eq!(read, meant);
    assert_eq!(input.rules.iter().filter_map(|rule| rule.target()).collect::<Vec<_>>(), ["guests"]);
    let first = &input.rules[0].steps;
    assert!(first.contains(&Step::Match(Match::equals(Field::Dport, 22))), "{first:?}");
    assert_eq!(first.last(), Some(&Step::Verdict(Verdict::Accept)));
    assert!(input.rules[2].comments.iter().any(|comment| &**comment == "time and names"));
    let forward = filter.chain("FORWARD").and_then(|(_, chain)| chain.base.clone()).expect("FORWARD hangs on a hook");
    assert_eq!((forward.hook, forward.policy), (Hook::Forward, Policy::Drop));
    assert_eq!(writer.get_policy("filter", "FORWARD").expect("a policy"), "DROP", "the writer sees the same");
    let listed = writer.list("filter", "INPUT").expect("a list");
    assert_eq!(listed.len(), 1 + rules.len(), "the writer lists the policy and as many rules: {listed:?}");
}

#[test]
fn legacy_rules_of_an_independent_writer() {
    in_namespace("legacy_rules_of_an_independent_writer", || {
        let writer = iptables::new(false).expect("iptables is there");
        writes_and_reads(writer, "iptables-legacy-save", Backend::IptablesLegacy);
    });
}

#[test]
fn nft_rules_of_an_independent_writer() {
    in_namespace("nft_rules_of_an_independent_writer", || {
        let writer = iptables::new(false).expect("iptables is there");
        writes_and_reads(writer, "iptables-nft-save", Backend::IptablesNft);
    });
}
