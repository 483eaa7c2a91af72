//! What the tools hide, misprint or die of, with the real tools in private namespaces: noticed, and never a wrong verdict.
//!
//! `HEPGUARD_TOOLS_ROOT` may name a root folder with other versions of the tools; the tests then run with those as well.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::lab::{Answer, HEPGUARD, Namespace, unable};

/// Tools that stand before the system's own, in a mount namespace of each call.
struct Tools(tempfile::TempDir);

impl Tools {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// A tool that is this shell script.
    fn script(self, tool: &str, script: &str) -> Self {
        let path = self.0.path().join(tool);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("runnable");
        self
    }

    /// The system's own, then those below `HEPGUARD_TOOLS_ROOT`.
    fn all_versions() -> Vec<Self> {
        let mut all = vec![Self::new()];
        match std::env::var("HEPGUARD_TOOLS_ROOT") {
            Ok(root) => {
                let tools = ["nft", "iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ipset"];
                let other = |other: Self, tool: &&str| other.script(tool, &format!("exec chroot {root} {tool} \"$@\""));
                all.push(tools.iter().fold(Self::new(), other));
            }
            Err(_) => eprintln!("HEPGUARD_TOOLS_ROOT is not set: only the system's own tools are tried"),
        }
        all
    }

    /// hepguard in the namespace, seeing these tools.
    fn hepguard(&self, namespace: &Namespace, arguments: &[&str]) -> Answer {
        let mut script = "mount --make-rprivate /; mount --bind \"$1\" /usr/local/sbin; shift".to_owned();
        if let Ok(root) = std::env::var("HEPGUARD_TOOLS_ROOT") {
            script.push_str(&format!("; mount --rbind /proc {root}/proc"));
        }
        script.push_str("; exec \"$@\"");
        let mut command = namespace.command("unshare");
        command.args(["--mount", "sh", "-ec", &script, "sh"]).arg(self.0.path()).arg(HEPGUARD).args(arguments);
        let answer: Answer = command.output().expect("starts").into();
        assert!(answer.code.is_some_and(|code| code < 6), "ended badly: {answer:?}");
        answer
    }

    /// First line of a trace.
    fn verdict(&self, namespace: &Namespace, packet: &str) -> String {
        let arguments: Vec<&str> = std::iter::once("trace").chain(packet.split(' ')).collect();
        let answer = self.hepguard(namespace, &arguments);
        let first = answer.out.lines().next().unwrap_or_else(|| panic!("{packet}: {answer:?}"));
        first.split(':').next().unwrap_or_default().to_owned()
    }

    fn audit(&self, namespace: &Namespace) -> serde_json::Value {
        let answer = self.hepguard(namespace, &["audit", "--format", "json"]);
        serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }
}

/// Titles of the findings with this code.
fn titles(audit: &serde_json::Value, code: &str) -> Vec<String> {
    let findings = audit["findings"].as_array().expect("findings").iter();
    let titles = findings.filter(|finding| finding["code"] == code).map(|finding| finding["title"].to_string());
    titles.collect()
}

const TCP22: &str = "in tcp 203.0.113.7:5000 10.0.1.10:22 -i eth0";

/// A router: eth0 towards the world, eth1 with a network behind it.
fn host() -> Namespace {
    let namespace = Namespace::new();
    namespace.sh("for name in eth0 eth1; do ip tuntap add dev $name mode tap; ip link set $name up; done
        ip addr add 10.0.1.10/24 dev eth0; ip addr add 10.0.0.1/24 dev eth1; ip route add default via 10.0.1.1 dev eth0
        echo 1 > /proc/sys/net/ipv4/ip_forward
        for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $file; done");
    namespace
}

/// A table that is fine, whatever happens to others.
const GOOD: &str = "nft -f - <<'.'
table inet good {
    chain fw { type filter hook forward priority 0; policy drop; tcp dport 80 accept; }
}
.
";

const FORWARDED: [(&str, &str); 2] = [
    ("forward tcp 203.0.113.7:5000 10.0.0.9:80 -i eth0 -o eth1", "accept"),
    ("forward tcp 203.0.113.7:5000 10.0.0.9:81 -i eth0 -o eth1", "drop"),
];

fn others_stay_exact(tools: &Tools, namespace: &Namespace) {
    for (packet, verdict) in FORWARDED {
        assert_eq!(tools.verdict(namespace, packet), verdict, "{packet}");
    }
}

#[test]
fn a_rule_that_nft_dies_of_leaves_only_its_own_chain_unknown() {
    if unable("a_rule_that_nft_dies_of_leaves_only_its_own_chain_unknown") {
        return;
    }
    let namespace = host();
    namespace.sh(GOOD);
    namespace.sh("nft add table inet bad
        nft add chain inet bad in '{ type filter hook input priority 0; }'
        nft add chain inet bad out '{ type filter hook output priority 0; policy drop; }'
        nft add rule inet bad in tcp option @42,16,4 5 drop");
    for tools in Tools::all_versions() {
        assert_eq!(tools.verdict(&namespace, TCP22), "unknown");
        // another chain of the same table is listed by itself
        assert_eq!(tools.verdict(&namespace, "out tcp 10.0.1.10:5000 203.0.113.7:22 -o eth0"), "drop");
        others_stay_exact(&tools, &namespace);
        let audit = tools.audit(&namespace);
        assert!(titles(&audit, "HG901").iter().any(|title| title.contains("only in part")), "{audit:#}");
        assert!(titles(&audit, "HG906").iter().any(|title| title.contains("inet bad")), "{audit:#}");
        assert_eq!(audit["summary"]["complete"], false);
    }
}

#[test]
fn an_interface_name_that_nft_leaves_out_is_not_taken_as_any_interface() {
    if unable("an_interface_name_that_nft_leaves_out_is_not_taken_as_any_interface") {
        return;
    }
    let namespace = host();
    namespace.sh(GOOD);
    // 1.0.6 aborts; 1.1.7 prints `accept` without the condition, with exit status 0
    namespace.sh("iptables-nft -P INPUT DROP; iptables-nft -A INPUT -i \"$(printf '\\377x')\" -j ACCEPT");
    for tools in Tools::all_versions() {
        assert_eq!(tools.verdict(&namespace, TCP22), "unknown");
        others_stay_exact(&tools, &namespace);
        let audit = tools.audit(&namespace);
        assert!(!titles(&audit, "HG906").is_empty(), "{audit:#}");
    }
}

#[test]
fn the_kernel_tells_which_table_is_dormant_and_where_a_device_chain_hangs() {
    if unable("the_kernel_tells_which_table_is_dormant_and_where_a_device_chain_hangs") {
        return;
    }
    let namespace = host();
    namespace.sh("nft add table inet asleep '{ flags dormant; }'
        nft add chain inet asleep in '{ type filter hook input priority 0; policy drop; }'
        nft add table netdev nd
        nft add chain netdev nd in '{ type filter hook ingress device \"eth1\" priority 0; policy drop; }'");
    for tools in Tools::all_versions() {
        assert_eq!(tools.verdict(&namespace, TCP22), "accept", "asleep, and another device");
        assert_eq!(tools.verdict(&namespace, &TCP22.replace("eth0", "eth1")), "drop");
        assert!(titles(&tools.audit(&namespace), "HG906").is_empty());
    }
    namespace.sh("nft add table inet asleep");
    for tools in Tools::all_versions() {
        assert_eq!(tools.verdict(&namespace, TCP22), "drop", "awake");
    }
    let Ok(root) = std::env::var("HEPGUARD_TOOLS_ROOT") else { return };
    // nft 1.0.6 does not list a chain on all devices of a name, and says nothing about it
    namespace.sh(&format!(
        "nft flush ruleset; chroot {root} nft add table netdev nd
        chroot {root} nft add chain netdev nd in '{{ type filter hook ingress device \"eth*\" priority 0; policy drop; }}'"
    ));
    for tools in Tools::all_versions() {
        assert_eq!(tools.verdict(&namespace, TCP22), "drop", "it has no rules, only its policy");
    }
    namespace.sh(&format!("chroot {root} nft add rule netdev nd in accept"));
    assert_eq!(Tools::new().verdict(&namespace, TCP22), "unknown");
}

#[test]
fn what_iptables_misprints_of_a_mixed_table_is_judged_by_nft() {
    if unable("what_iptables_misprints_of_a_mixed_table_is_judged_by_nft") {
        return;
    }
    const OTHER: &str = "in tcp 198.51.100.1:5000 10.0.1.10:22 -i eth0";
    // printed as a rule without its condition; table given up; stops in the middle with exit status 3
    for (native, misprint) in [
        ("ip saddr '{ 203.0.113.7, 203.0.113.8 }' accept", "-A INPUT -j ACCEPT"),
        ("ip saddr 203.0.113.7 ct state new accept", "is incompatible"),
        ("ip saddr 203.0.113.7 th dport 22 accept", "exit 3"),
    ] {
        let namespace = host();
        namespace.sh("iptables-nft -P INPUT DROP
            iptables-nft -A INPUT -p tcp -m multiport --dports 23 -j ACCEPT");
        namespace.sh(&format!("nft add rule ip filter INPUT {native}"));
        let saved = namespace.sh("iptables-nft-save 2>&1 || echo exit $?");
        assert!(saved.contains(misprint), "the tool lies otherwise now: {saved}");
        for tools in Tools::all_versions() {
            let hidden = misprint == "is incompatible";
            // multiport is told by the save listing alone
            let telnet = tools.verdict(&namespace, &OTHER.replace(":22", ":23"));
            assert_eq!(telnet, if hidden { "unknown" } else { "accept" }, "{native}");
            assert_eq!(tools.verdict(&namespace, OTHER), if hidden { "unknown" } else { "drop" }, "{native}");
            if !hidden {
                assert_eq!(tools.verdict(&namespace, TCP22), "accept", "{native}");
            }
            let audit = tools.audit(&namespace);
            assert_eq!(titles(&audit, "HG909").len(), 1, "{native}: {audit:#}");
            assert_eq!(titles(&audit, "HG905").len(), usize::from(hidden), "{native}: {audit:#}");
        }
    }
}

#[test]
fn a_newline_in_a_comment_is_no_rule() {
    if unable("a_newline_in_a_comment_is_no_rule") {
        return;
    }
    let namespace = host();
    namespace.sh("for tool in iptables-nft iptables-legacy; do
            $tool -P INPUT DROP
            $tool -A INPUT -s 192.0.2.1 -m comment --comment \"$(printf 'x\\n-A INPUT -j ACCEPT\\n[0:0] -A INPUT -j ACCEPT\\n')y\" -j ACCEPT
        done");
    for tools in Tools::all_versions() {
        assert_eq!(tools.verdict(&namespace, TCP22), "drop");
        assert_eq!(tools.verdict(&namespace, &TCP22.replace("203.0.113.7", "192.0.2.1")), "accept");
    }
}

/// A tool and what it does instead.
const LIARS: [(&str, &str); 16] = [
    ("nft", "exit 0"),
    ("nft", "kill -SEGV $$"),
    ("nft", "echo 'json_pack failure' >&2; exec /usr/sbin/nft \"$@\""),
    ("nft", "/usr/sbin/nft \"$@\" | head -c 300"),
    ("nft", "echo '{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\"}}]}'"),
    ("nft", "/usr/sbin/nft \"$@\" | sed 's/, {\"rule\": {[^{]*\"chain\": \"in\".*}}//; s/[^]]$/&]}/'"),
    ("nft", "yes '{'| head -c 3000000"),
    ("iptables-nft-save", "exit 0"),
    ("iptables-nft-save", "exit 1"),
    ("iptables-nft-save", "/usr/sbin/iptables-nft-save \"$@\" | head -n 4; exit 3"),
    ("iptables-nft-save", "/usr/sbin/iptables-nft-save \"$@\" | head -n 4"),
    ("iptables-legacy-save", "exit 0"),
    ("iptables-legacy-save", "/usr/sbin/iptables-legacy-save \"$@\" | head -n 4"),
    ("iptables-legacy-save", "echo \"*filter\"; echo COMMIT; exit 1"),
    ("ipset", "exit 0"),
    ("ipset", "if [ $1 = save ]; then /usr/sbin/ipset save | head -n 2; else exec /usr/sbin/ipset \"$@\"; fi"),
];

#[test]
fn no_lie_of_a_single_tool_makes_a_wrong_verdict() {
    if unable("no_lie_of_a_single_tool_makes_a_wrong_verdict") {
        return;
    }
    // the peer is let in nowhere, each time because of one part of the firewall
    let parts = [
        (
            "nft",
            "nft add table inet own; nft add chain inet own in '{ type filter hook input priority 5; }'
            nft add rule inet own in ip saddr 203.0.113.7 drop",
        ),
        ("iptables-nft", "iptables-nft -A INPUT -s 203.0.113.7 -m conntrack --ctstate NEW -j DROP"),
        ("iptables-legacy", "iptables-legacy -A INPUT -s 203.0.113.7 -m conntrack --ctstate NEW -j DROP"),
        (
            "ipset",
            "ipset create bad hash:ip; ipset add bad 192.0.2.9; ipset add bad 203.0.113.7
            iptables-legacy -A INPUT -m set --match-set bad src -j DROP",
        ),
    ];
    for (part, script) in parts {
        let namespace = host();
        namespace.sh(script);
        assert_eq!(Tools::new().verdict(&namespace, TCP22), "drop", "{part}: with honest tools");
        let answers: Vec<(&str, &str, String)> = LIARS
            .iter()
            .map(|(tool, lie)| (*tool, *lie, Tools::new().script(tool, lie).verdict(&namespace, TCP22)))
            .collect();
        for (tool, lie, verdict) in &answers {
            assert!(["drop", "unknown"].contains(&verdict.as_str()), "{part}: {tool} does '{lie}': {verdict}");
        }
        assert!(answers.iter().any(|(_, _, verdict)| verdict == "unknown"), "{part}: no lie was noticed");
    }
}

#[test]
fn without_one_right_what_it_hides_is_unknown() {
    if unable("without_one_right_what_it_hides_is_unknown") {
        return;
    }
    let namespace = host();
    namespace.sh("iptables-legacy -A INPUT -s 203.0.113.7 -j DROP");
    let scratch = tempfile::tempdir().expect("a folder");
    fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).expect("opened");
    let program = scratch.path().join("hepguard");
    fs::copy(HEPGUARD, &program).expect("copied");
    const ALL: [&str; 4] = ["net_admin", "net_raw", "dac_read_search", "sys_ptrace"];
    let ask = |rights: &[&str]| {
        let list = rights.iter().map(|right| format!("+{right}")).collect::<Vec<_>>().join(",");
        let mut command = namespace.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(["--inh-caps", &list, "--ambient-caps", &list]).arg(&program).arg("trace").args(TCP22.split(' '));
        let answer: Answer = command.output().expect("starts").into();
        (answer.code, answer.out.split(':').next().unwrap_or_default().to_owned(), answer)
    };
    let (code, verdict, answer) = ask(&ALL);
    assert_eq!((code, verdict.as_str()), (Some(0), "drop"), "all rights: {answer:?}");
    for missing in ["net_admin", "net_raw", "dac_read_search"] {
        let rights: Vec<&str> = ALL.into_iter().filter(|right| *right != missing).collect();
        let (code, verdict, answer) = ask(&rights);
        assert_eq!((code, verdict.as_str()), (Some(3), "unknown"), "without {missing}: {answer:?}");
        assert!(answer.out.contains("CAP_NET_ADMIN"), "it says what to do: {answer:?}");
    }
}

#[test]
fn rules_that_change_while_they_are_listed_never_mix_into_a_wrong_verdict() {
    if unable("rules_that_change_while_they_are_listed_never_mix_into_a_wrong_verdict") {
        return;
    }
    let namespace = host();
    // the peer is refused in both; one's nft rules with the other's hidden ones would let it in
    let scratch = tempfile::tempdir().expect("a folder");
    let write = |name: &str, rules: &str| {
        let text = format!("*filter\n:INPUT DROP [0:0]\n{rules}COMMIT\n");
        fs::write(scratch.path().join(name), text).expect("written");
    };
    write("a", "-A INPUT -s 203.0.113.7/32 -j DROP\n-A INPUT -p tcp -m multiport --dports 22 -j ACCEPT\n");
    write("b", "-A INPUT -s 203.0.113.9/32 -j ACCEPT\n-A INPUT -p tcp -m multiport --dports 23 -j ACCEPT\n");
    let folder = scratch.path().display();
    let mut writer = namespace.command("sh");
    let script =
        format!("while [ -e {folder}/a ]; do iptables-nft-restore {folder}/a; iptables-nft-restore {folder}/b; done");
    let mut writer = writer.args(["-c", &script]).spawn().expect("starts");
    let tools = Tools::new();
    let answers: Vec<String> = (0..12).map(|_| tools.verdict(&namespace, TCP22)).collect();
    fs::remove_file(scratch.path().join("a")).expect("removed");
    writer.wait().expect("ended");
    assert!(answers.iter().all(|verdict| ["drop", "unknown"].contains(&verdict.as_str())), "{answers:?}");
    assert_eq!(tools.verdict(&namespace, TCP22), "drop", "at rest");
}

/// The whole state that looking could change, of both families.
fn kernel_state(namespace: &Namespace, folder: &Path) -> String {
    let snapshot: Answer =
        namespace.command(HEPGUARD).arg("snapshot").arg("--force").arg(folder).output().expect("starts").into();
    assert_eq!(snapshot.code, Some(0), "{snapshot:?}");
    let kernel = fs::read_to_string(folder.join("nft-kernel.json")).unwrap_or_default();
    let rest = namespace.sh("cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true
        echo ---; cut -d' ' -f1 /proc/modules 2>/dev/null | sort || true; ls /sys/module
        echo ---; nft -j list ruleset; iptables-nft-save -c | grep -v '^#'
        echo ---; test ! -s /proc/net/ip_tables_names || iptables-legacy-save -c | grep -v '^#'
        echo ---; ipset save; cat /proc/net/nf_conntrack 2>/dev/null || true; ip -s -j link");
    format!("{kernel}---\n{rest}")
}

#[test]
fn no_command_that_looks_leaves_a_trace_in_the_kernel() {
    if unable("no_command_that_looks_leaves_a_trace_in_the_kernel") {
        return;
    }
    for legacy in [false, true] {
        let namespace = host();
        namespace.sh("nft add table inet own
            nft add chain inet own in '{ type filter hook input priority 5; }'
            nft add rule inet own in tcp dport 22 counter packets 7 bytes 420 accept
            nft add set inet own s '{ type ipv4_addr; }'; nft add element inet own s '{ 10.0.0.1, 10.0.0.2 }'
            printf '*filter\n:INPUT ACCEPT [5:300]\n[3:180] -A INPUT -p tcp -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n' | iptables-nft-restore -c
            ipset create cali40s:x hash:net; ipset add cali40s:x 10.0.0.0/8");
        if legacy {
            namespace.sh("printf '*filter\n:INPUT ACCEPT [9:540]\n[3:180] -A INPUT -p tcp -j ACCEPT\nCOMMIT\n' | iptables-legacy-restore -c");
        }
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().join("snap");
        let before = kernel_state(&namespace, &folder);
        assert!(before.contains("\"generation\":"), "{before}");
        let trace: Vec<&str> = std::iter::once("trace").chain(TCP22.split(' ')).collect();
        for arguments in
            [&["audit"][..], &["failsafe"], &["audit", "--format", "json"], &["reach", "in", "tcp/22"], &trace]
        {
            let answer: Answer = namespace.command(HEPGUARD).args(arguments).output().expect("starts").into();
            assert!(answer.code.is_some_and(|code| code < 2 || code == 3), "{arguments:?}: {answer:?}");
            assert_eq!(kernel_state(&namespace, &folder), before, "{arguments:?} changed something");
        }
        assert_eq!(
            before.contains("\nfilter\n") || before.starts_with("filter\n") || before.contains("---\nfilter"),
            legacy
        );
    }
}

#[test]
fn the_language_and_time_zone_of_the_caller_change_nothing() {
    if unable("the_language_and_time_zone_of_the_caller_change_nothing") {
        return;
    }
    let namespace = host();
    namespace.sh("nft add table inet own
        nft add chain inet own in '{ type filter hook input priority 5; }'
        nft add rule inet own in meta hour \\\"08:00\\\"-\\\"09:00\\\" drop");
    let listed = |zone: &str| {
        let scratch = tempfile::tempdir().expect("a folder");
        let mut command = namespace.command("env");
        command.args([&format!("TZ={zone}"), "LC_ALL=de_DE.UTF-8", "PATH=/nowhere", HEPGUARD, "snapshot"]);
        command.arg(scratch.path());
        let answer: Answer = command.output().expect("starts").into();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        fs::read_to_string(scratch.path().join("nft-ruleset.json")).expect("listed")
    };
    assert_eq!(listed("America/Los_Angeles"), listed("Asia/Kolkata"));
}
