//! Looking at a live host: complete, harmless, without secrets.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::lab::{Answer, HEPGUARD, Namespace, files, unable};

/// Everything in the kernel that looking could change: registered legacy tables, rules and counters of all kinds, sets,
/// loaded modules, connections.
const STATE: &str = "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true
    echo ---; nft -j list ruleset
    echo ---; nft -j list tables | grep -q '\"family\": \"ip\"' && iptables-nft-save -c | grep -v '^#' || true
    echo ---; test ! -s /proc/net/ip_tables_names || iptables-legacy-save -c | grep -v '^#'
    echo ---; ipset save
    echo ---; cut -d' ' -f1 /proc/modules 2>/dev/null | sort || true";

fn snapshot(namespace: &Namespace, folder: &Path) -> Answer {
    namespace.command(HEPGUARD).arg("snapshot").arg(folder).output().expect("hepguard starts").into()
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default()
}

#[test]
fn a_look_at_nf_tables_changes_nothing_and_registers_no_legacy_table() {
    if unable("a_look_at_nf_tables_changes_nothing_and_registers_no_legacy_table") {
        return;
    }
    let namespace = Namespace::new();
    namespace.sh("nft add table inet own
        nft 'add chain inet own in { type filter hook input priority 5; }'
        nft add rule inet own in tcp dport 22 counter packets 7 bytes 420 accept
        printf '*filter\n:INPUT ACCEPT [5:300]\n[3:180] -A INPUT -p tcp -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n' | iptables-nft-restore -c
        ipset create cali40s:x hash:net; ipset add cali40s:x 10.0.0.0/8");
    let before = namespace.sh(STATE);
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("snap");
    let answer = snapshot(&namespace, &folder);
    assert_eq!(namespace.sh(STATE), before, "the look changed something");
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(before.starts_with("---"), "no legacy table may be registered here: {before}");
    assert!(text(&folder, "nft-ruleset.json").contains("\"packets\": 7"));
    assert!(text(&folder, "iptables-nft-save.txt").contains("[3:180] -A INPUT"));
    assert!(text(&folder, "ipset-save.txt").contains("add cali40s:x 10.0.0.0/8"));
    assert!(text(&folder, "ip-addr.json").contains("\"lo\""));
    assert!(!folder.join("iptables-legacy-save.txt").exists());
    assert!(text(&folder, "meta.json").contains("\"iptables-legacy-save.txt\""), "its absence is told");
}

#[test]
fn a_look_at_legacy_tables_changes_nothing_and_registers_no_other() {
    if unable("a_look_at_legacy_tables_changes_nothing_and_registers_no_other") {
        return;
    }
    let namespace = Namespace::new();
    namespace.sh("printf '*filter\n:INPUT DROP [9:540]\n[3:180] -A INPUT -p tcp -j ACCEPT\nCOMMIT\n' | iptables-legacy-restore -c");
    let before = namespace.sh(STATE);
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("snap");
    let answer = snapshot(&namespace, &folder);
    assert_eq!(namespace.sh(STATE), before, "the look changed something");
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(before.lines().next(), Some("filter"));
    assert!(text(&folder, "iptables-legacy-save.txt").contains(":INPUT DROP [9:540]"));
    assert!(!folder.join("ip6tables-legacy-save.txt").exists());
}

#[test]
fn without_rights_all_that_is_closed_is_named_and_the_rest_saved() {
    if unable("without_rights_all_that_is_closed_is_named_and_the_rest_saved") {
        return;
    }
    let namespace = Namespace::new();
    let scratch = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o777)).expect("opened");
    // nobody may not enter the folder the program was built in
    let program = scratch.path().join("hepguard");
    std::fs::copy(HEPGUARD, &program).expect("copied");
    let folder = scratch.path().join("snap");
    let mut command = namespace.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    let answer: Answer = command.arg(&program).arg("snapshot").arg(&folder).output().expect("starts").into();
    assert_eq!(answer.code, Some(3), "{answer:?}");
    for name in ["nft-ruleset.json", "ipset-save.txt", "conntrack.txt"] {
        let line = answer.out.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {answer:?}"));
        assert!(line.contains("unreadable") && line.contains("run as root"), "{line}");
    }
    assert!(text(&folder, "ip-addr.json").contains("\"lo\""));
    assert!(!folder.join("nft-ruleset.json").exists());
}

/// A process that looks like Felix; ended when dropped.
struct Felix(Child);

impl Drop for Felix {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn secrets_in_felix_environment_never_reach_the_folder() {
    if unable("secrets_in_felix_environment_never_reach_the_folder") {
        return;
    }
    let namespace = Namespace::new();
    let mut shell = namespace.command("bash");
    shell
        .args(["-c", "exec -a /usr/bin/calico-felix sleep 60"])
        .env("FELIX_FAILSAFEINBOUNDHOSTPORTS", "tcp:22")
        .env("FELIX_ETCDPASSWORD", "planted-1")
        .env("AWS_SECRET_ACCESS_KEY", "planted-2")
        .env("ETCD_ENDPOINTS", "https://root:planted-3@10.0.0.1:2379")
        .process_group(0);
    let felix = Felix(shell.spawn().expect("starts"));
    let cmdline = format!("/proc/{}/cmdline", felix.0.id());
    let started = Instant::now();
    while !std::fs::read_to_string(&cmdline).unwrap_or_default().starts_with("/usr/bin/calico-felix") {
        assert!(started.elapsed() < Duration::from_secs(10), "the stand-in for Felix starts");
        std::thread::sleep(Duration::from_millis(5));
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("snap");
    let answer = snapshot(&namespace, &folder);
    let environ = text(&folder, "felix/environ");
    assert!(environ.contains("FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:22\0"), "{environ:?} {answer:?}");
    assert!(environ.contains("ETCD_ENDPOINTS=https://***@10.0.0.1:2379\0"), "{environ:?}");
    for (name, text) in files(&folder) {
        assert!(!text.contains("planted"), "{name} holds a secret");
    }
    // and not another namespace's Felix
    let other = Namespace::new();
    let folder = scratch.path().join("other");
    snapshot(&other, &folder);
    assert!(!folder.join("felix/environ").exists());
}

#[test]
fn an_unchanged_host_gives_the_same_folder_twice() {
    if unable("an_unchanged_host_gives_the_same_folder_twice") {
        return;
    }
    let namespace = Namespace::new();
    namespace.sh("printf '*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n' | iptables-nft-restore");
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("snap");
    let read = || {
        assert_eq!(snapshot(&namespace, &folder).code, Some(0));
        let mut all = files(&folder);
        // the time stands in meta.json and in the tools' comments, counters of the system in sysctl.txt
        all.retain(|(name, _)| !name.ends_with("meta.json") && !name.ends_with("sysctl.txt"));
        for (_, text) in &mut all {
            *text = text.lines().filter(|line| !line.starts_with("# ")).collect::<Vec<_>>().join("\n");
        }
        all.sort();
        std::fs::remove_dir_all(&folder).expect("removed");
        all
    };
    assert_eq!(read(), read());
}
