//! The lab's break 9, both halves, in every order: the outbound failsafe for SSH goes, and policy denies SSH to worker1.

use std::path::Path;

use hepguard::calico::predict::{Knowledge, Situation, predict};
use hepguard::collect;
use hepguard::ruleset::{Backend, print};
use hepguard::snapshot;
use serde_json::Value;

use crate::{WITH_SSH, WORKER, about, copy_folder, flow, json, path, without_the_deny};

/// The list of the lab before somebody trimmed it, and afterwards.
const FULL: &str = "tcp:0.0.0.0/0:22,udp:0.0.0.0/0:53,udp:0.0.0.0/0:67,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:6443";
const TRIMMED: &str = "udp:0.0.0.0/0:53,udp:0.0.0.0/0:67,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:6443";

/// The lab's policies as they are, with the deny.
fn with_the_deny() -> String {
    std::fs::read_to_string(path("src/demo/before/calico/globalnetworkpolicies.yaml")).expect("the lab's policies")
}

fn variable(list: &str) -> String {
    format!("FELIX_FAILSAFEOUTBOUNDHOSTPORTS={list}")
}

/// The bastion with other policies and another list, in the files and in the kernel: its rules as Felix renders them.
fn bastion(folder: &Path, deny: bool, list: &str) -> String {
    copy_folder(Path::new(&path("src/demo/before")), folder);
    let env = folder.join("felix/calico.env");
    let with_list = |list: &str| {
        let text = std::fs::read_to_string(&env).expect("the environment file");
        let kept = text.lines().filter(|line| !line.starts_with("FELIX_FAILSAFEOUTBOUND"));
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        std::fs::write(&env, format!("{kept}{}\n", variable(list))).expect("written");
    };
    let read = || snapshot::read(collect::saved(folder).expect("a snapshot"));
    // what the kernel has was written with the full list
    with_list(FULL);
    let live = read();
    let known = Knowledge::of(&live.files);
    if !deny {
        let policies = with_the_deny();
        let (_, others) = policies.split_once("---").expect("several policies");
        let repaired = format!("{}---{others}", without_the_deny());
        std::fs::write(folder.join("calico/globalnetworkpolicies.yaml"), repaired).expect("written");
    }
    with_list(list);
    let environ = std::fs::read(folder.join("felix/environ")).expect("the process's");
    let environ = String::from_utf8(environ).expect("text").replace(&variable(FULL), &variable(list));
    std::fs::write(folder.join("felix/environ"), environ).expect("written");
    let wanted = Knowledge::of(&read().files);
    let foretold = predict(&Situation { ruleset: &live.ruleset, host: &live.host, known: &known }, &wanted);
    assert_eq!(foretold.unknown, Vec::<String>::new());
    for family in ["iptables", "ip6tables"] {
        let name = format!("{family}-legacy-save.txt");
        let tables = foretold.ruleset.tables.iter().filter(|table| &*table.source == name.as_str());
        let text: String = tables.map(|table| print::iptables::table(table).expect("a listing")).collect();
        assert!(text.contains("cali-failsafe-out"), "{name}");
        std::fs::write(folder.join(name), text).expect("written");
    }
    assert!(live.ruleset.tables.iter().all(|table| table.backend == Backend::IptablesLegacy));
    folder.display().to_string()
}

/// A host of the lab, and what is planned on it.
struct Lab {
    folder: tempfile::TempDir,
    host: String,
}

impl Lab {
    fn new(deny: bool, list: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let host = bastion(&folder.path().join("host"), deny, list);
        std::fs::write(folder.path().join("deny.yaml"), with_the_deny()).expect("written");
        std::fs::write(folder.path().join("repaired.yaml"), without_the_deny()).expect("written");
        Self { folder, host }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn plan(&self, change: &[&str], code: i32) -> Value {
        let plan = json(&self.host, change, code);
        assert_eq!(plan["fidelity"]["rules"], plan["fidelity"]["verified"], "{change:?}: {:#}", plan["fidelity"]);
        plan
    }
}

fn says(plan: &Value, verdict: &str, state: &str) {
    let told = (plan["verdict"].as_str(), flow(plan, WORKER)["state"].as_str());
    assert_eq!(told, (Some(verdict), Some(state)), "{:#}", plan["findings"]);
}

/// A loss with all that an admin needs.
fn is_the_lockout(plan: &Value, bites: &str) {
    says(plan, "lockout", "lost");
    let lost = about(plan, "HG251", WORKER);
    assert_eq!((&lost["severity"], &lost["bites"]), (&"critical".into(), &bites.into()));
    assert_eq!((&lost["witness"]["dst"], &lost["witness"]["dport"]), (&"10.0.1.30".into(), &22.into()));
    let evidence = lost["evidence"].to_string();
    assert!(evidence.contains("security.hep-external in tier security, egress rule 0 (deny)"), "{evidence}");
    assert!(lost["fix"].as_str().is_some_and(|fix| fix.starts_with("do not apply it like this")), "{lost:#}");
}

#[test]
fn the_trimmed_list_alone_is_a_risk_because_a_guard_goes() {
    let lab = Lab::new(false, FULL);
    let trim = lab.plan(&["--set", &format!("FailsafeOutboundHostPorts={TRIMMED}")], 1);
    says(&trim, "risky", "unguarded");
    let guard = about(&trim, "HG253", WORKER);
    assert_eq!((&guard["subject"]["guard"], &guard["bites"]), (&"tcp:22".into(), &"felix-restart".into()));
}

#[test]
fn the_deny_alone_is_a_risk_because_the_failsafe_masks_it() {
    let lab = Lab::new(false, FULL);
    let deny = lab.plan(&["-f", &lab.file("deny.yaml")], 1);
    says(&deny, "risky", "masked");
    let masked = about(&deny, "HG252", WORKER);
    let evidence = masked["evidence"].to_string();
    assert!(evidence.contains("egress rule 0 (deny)") && evidence.contains("failsafe tcp:22"), "{evidence}");
    assert!(masked["fix"].as_str().is_some_and(|fix| fix.contains("tcp:22 off the failsafe list")), "{masked:#}");
}

#[test]
fn both_halves_together_are_the_lockout_of_the_next_restart() {
    let lab = Lab::new(false, FULL);
    let both = lab.plan(&["-f", &lab.file("deny.yaml"), "--set", &format!("FailsafeOutboundHostPorts={TRIMMED}")], 1);
    is_the_lockout(&both, "felix-restart");
    assert_eq!(flow(&both, WORKER)["worlds"]["now"]["after"], "works", "the open session hides it");
}

#[test]
fn the_second_half_is_the_lockout_whichever_came_first() {
    // the deny is in force and masked: trimming the list cuts
    let denied = Lab::new(true, FULL);
    let trim = denied.plan(&["--set", &format!("FailsafeOutboundHostPorts={TRIMMED}")], 1);
    is_the_lockout(&trim, "felix-restart");
    // the list is trimmed and Felix has restarted: the deny cuts new connections at once
    let trimmed = Lab::new(false, TRIMMED);
    let deny = trimmed.plan(&["-f", &trimmed.file("deny.yaml")], 1);
    is_the_lockout(&deny, "reconnect");
}

#[test]
fn the_labs_fix_is_safe() {
    // both halves are in force: SSH to worker1 is lost already; repairing one of them gives it back
    let broken = Lab::new(true, TRIMMED);
    let repaired = broken.plan(&["-f", &broken.file("repaired.yaml")], 0);
    says(&repaired, "safe", "gained");
    let listed = broken.plan(&["--set", WITH_SSH], 0);
    says(&listed, "safe", "gained");
}

#[test]
fn a_staged_deny_is_planned_as_if_it_were_enforced() {
    let lab = Lab::new(false, TRIMMED);
    let deny = with_the_deny();
    let policy = deny.split("---").next().expect("the first policy");
    let staged = policy.replacen("kind: GlobalNetworkPolicy", "kind: StagedGlobalNetworkPolicy", 1);
    std::fs::write(lab.file("staged.yaml"), staged).expect("written");
    let file = lab.file("staged.yaml");
    let only = lab.plan(&["-f", &file], 0);
    says(&only, "safe", "kept");
    assert_eq!(only["newly_denied"], Value::Array(Vec::new()));
    assert!(only["notes"].to_string().contains("--enforce-staged plans it"), "{:#}", only["notes"]);
    let enforced = lab.plan(&["-f", &file, "--enforce-staged"], 1);
    is_the_lockout(&enforced, "reconnect");
    // the exact packets, and who refuses them: policy, tier, file and line
    let denied = &enforced["newly_denied"][0];
    assert!(denied["packets"].to_string().contains("10.0.1.30"), "{denied:#}");
    let author = &denied["after"]["rule"]["calico"];
    assert_eq!(
        (&author["policy"], &author["tier"]),
        (&"security.hep-external".into(), &"security".into()),
        "{denied:#}"
    );
    assert!(author["written"].as_str().is_some_and(|place| place.contains("staged.yaml:")), "{author:#}");
    assert!(enforced["change"].to_string().contains("StagedGlobalNetworkPolicy security.hep-external is enforced"));
    // without any, nothing is there to enforce
    let none = crate::plan(&lab.host, &["--enforce-staged"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no staged policy"), "{none:?}");
}
