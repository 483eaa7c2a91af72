//! `hepguard plan -- COMMAND` on a host that is a network namespace: the verdict is right, and the host is as it was.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Why these tests cannot run here.
fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let tools = ["ip", "nft", "iptables-nft", "iptables-legacy", "ipset", "unshare", "setpriv"];
    let there = |tool: &&&str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(tool).exists())
    };
    tools.iter().find(|tool| !there(tool)).map(|tool| format!("needs {tool}"))
}

fn sh(script: &str) -> String {
    let mut child = Command::new("sh")
        .args(["-e", "-s"])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh starts");
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("sh ends");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Interfaces, addresses, sets and rules of all backends; SSH comes in by each of them.
const HOST: &str = "
ip link set lo up
ip link add ens5 type dummy 2>/dev/null || ip link add ens5 type ifb
ip link set ens5 up
ip addr add 10.0.1.10/24 dev ens5
ip route add default via 10.0.1.1 dev ens5 onlink
ipset create admins hash:ip
ipset add admins 203.0.113.7
iptables-legacy -A INPUT -m set --match-set admins src -p tcp --dport 22 -j ACCEPT
iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT
nft add table inet own
nft add chain inet own input '{ type filter hook input priority 10; policy drop; }'
nft add set inet own ports '{ type inet_service; }'
nft add element inet own ports '{ 22, 80 }'
nft add rule inet own input tcp dport @ports accept
nft add rule inet own input ct state established accept
";

const LOOK: &str = "
iptables-legacy-save | sed '/^#/d'
ip6tables-legacy-save | sed '/^#/d'
nft -a list ruleset 2>/dev/null
ipset save
ip -o addr show dev ens5 | sed 's/valid_lft.*//'
ip route show table all
ip rule
cat /proc/sys/net/ipv4/ip_forward
";

fn skipped(why: &str) {
    // nobody reads it when standard error is closed
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Runs `work` on such a host, which is gone afterwards.
fn on_a_host(work: impl FnOnce(&Path) + Send) {
    if let Some(why) = lacking() {
        skipped(&why);
        return;
    }
    std::thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            sh(HOST);
            let folder = tempfile::tempdir().expect("a folder");
            let config = folder.path().join("hepguard.toml");
            std::fs::write(&config, "[[protect]]\nname = \"the way in\"\ndirection = \"in\"\nproto = \"tcp\"\nport = 22\npeers = [\"203.0.113.7\"]\n")
                .expect("written");
            work(folder.path());
        });
        host.join().expect("the test on the host");
    });
}

fn plan(folder: &Path, change: &[&str]) -> Output {
    let config = folder.join("hepguard.toml");
    Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .args(["plan", "--format", "json", "--config"])
        .arg(config)
        .args(change)
        .output()
        .expect("hepguard runs")
}

fn answer(folder: &Path, change: &[&str]) -> Value {
    let before = sh(LOOK);
    let output = plan(folder, change);
    assert_eq!(sh(LOOK), before, "{change:?} left a trace on the host");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{change:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn way_in(plan: &Value) -> &Value {
    let all = plan["protected"].as_array().expect("protected flows");
    let found = all.iter().find(|flow| flow["name"].as_str().is_some_and(|name| name.contains("the way in")));
    found.unwrap_or_else(|| panic!("the way in is protected: {plan:#}"))
}

#[test]
fn commands_are_judged_by_what_they_do_in_the_copy() {
    on_a_host(|folder| {
        let says = |change: &[&str], verdict: &str, state: &str| {
            let plan = answer(folder, change);
            let told = (plan["verdict"].as_str(), way_in(&plan)["state"].as_str());
            assert_eq!(told, (Some(verdict), Some(state)), "{change:?}: {plan:#}");
            plan
        };
        says(&["--", "true"], "safe", "kept");
        let flushed = says(&["--", "nft", "flush", "ruleset"], "safe", "kept");
        let opened = flushed["newly_allowed"].to_string();
        assert!(opened.contains(r#""table":"own""#), "what the flushed rules refused passes: {opened}");
        says(&["--", "iptables-legacy", "-P", "INPUT", "DROP"], "safe", "kept");
        says(&["--", "ipset", "flush", "admins"], "safe", "kept");
        let both = "ipset flush admins; iptables-legacy -P INPUT DROP";
        let lost = says(&["--", "sh", "-c", both], "lockout", "lost");
        assert!(lost["findings"][0]["evidence"].to_string().contains("INPUT policy"), "{:#}", lost["findings"][0]);
        let element = "nft delete element inet own ports '{ 22 }'";
        let lost = says(&["--", "sh", "-c", element], "lockout", "lost");
        assert!(lost["findings"][0]["evidence"].to_string().contains("inet own"), "{:#}", lost["findings"][0]);
        says(&["--", "iptables", "-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"], "lockout", "lost");
        // the answer needs a way back
        says(&["--", "ip", "route", "del", "default"], "lockout", "lost");
    });
}

/// A host that lets everything in, for changes that shut it.
const OPEN: &str = "
iptables-legacy -F INPUT
nft delete table inet own
";

#[test]
fn ufw_and_plain_iptables_are_judged_like_any_command() {
    on_a_host(|folder| {
        sh(OPEN);
        let says = |change: &[&str], verdict: &str, state: &str| {
            let plan = answer(folder, change);
            assert_eq!(plan["failures"], Value::Array(Vec::new()), "{change:?}");
            let told = (plan["verdict"].as_str(), way_in(&plan)["state"].as_str());
            assert_eq!(told, (Some(verdict), Some(state)), "{change:?}: {plan:#}");
            plan
        };
        // SSH is accepted by a rule of iptables-nft: the policy alone cuts nothing of it
        assert_eq!(way_in(&answer(folder, &["--", "iptables-nft", "-P", "INPUT", "DROP"]))["state"], "kept");
        let flush = "iptables-nft -F INPUT; iptables-nft -P INPUT DROP";
        let lost = says(&["--", "sh", "-c", flush], "lockout", "lost");
        let denied = lost["newly_denied"].to_string();
        assert!(
            denied.contains("INPUT") && denied.contains("policy"),
            "the packets and the policy that drops them: {denied}"
        );
        sh("iptables-nft -F INPUT");
        says(&["--", "iptables", "-P", "INPUT", "DROP"], "lockout", "lost");
        if !Path::new("/usr/sbin/ufw").exists() {
            return skipped("needs ufw");
        }
        // ufw puts its chains behind what is there
        let lost = says(&["--", "ufw", "enable"], "lockout", "lost");
        assert!(lost["findings"][0]["evidence"].to_string().contains("INPUT"), "{:#}", lost["findings"][0]);
        let allowed = answer(folder, &["--", "sh", "-c", "ufw allow 22/tcp && ufw enable"]);
        assert_eq!(way_in(&allowed)["state"], "kept", "{allowed:#}");
        assert!(!Path::new("/etc/ufw/ufw.conf").exists() || !sh("cat /etc/ufw/ufw.conf").contains("ENABLED=yes"));
    });
}

#[test]
fn restore_files_replace_or_add() {
    on_a_host(|folder| {
        sh(OPEN);
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let state = |change: &[&str]| {
            let plan = answer(folder, change);
            assert_eq!(plan["failures"], Value::Array(Vec::new()), "{change:?}: {plan:#}");
            way_in(&plan)["state"].as_str().expect("a state").to_owned()
        };
        let shut = file("shut.v4", "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n");
        assert_eq!(state(&["--iptables-restore", &shut]), "lost", "the rule that accepts SSH goes with the old ones");
        let kept = file("more.v4", "*filter\n-A INPUT -p tcp --dport 443 -j ACCEPT\nCOMMIT\n");
        assert_eq!(state(&["--iptables-restore", &kept, "--noflush"]), "kept");
        let six = shut.replace("v4", "v6");
        std::fs::copy(&shut, &six).expect("copied");
        assert_eq!(state(&["--ip6tables-restore", &six]), "kept", "the way in is IPv4");
        // one after the other: the first table is shut, the second file is never read as IPv4
        assert_eq!(state(&["--ip6tables-restore", &six, "--iptables-restore", &shut]), "lost");
    });
}

/// The lab with an nftables file at boot, which only nft can read, and with ufw.
#[test]
fn a_boot_is_tried_out_where_only_programs_can_tell() {
    if let Some(why) = lacking() {
        skipped(&why);
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    sh(&format!("cp -r '{}/src/demo/before' '{}/host'", env!("CARGO_MANIFEST_DIR"), folder.path().display()));
    let host = folder.path().join("host");
    std::fs::create_dir_all(host.join("persisted/ufw")).expect("made");
    std::fs::create_dir_all(host.join("units")).expect("made");
    let plan = || -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_hepguard"))
            .args(["plan", "--format", "json", "--reboot", "--snapshot"])
            .arg(&host)
            .output()
            .expect("hepguard runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let flow = |plan: &Value, name: &str| -> Value {
        let all = plan["protected"].as_array().expect("flows");
        all.iter().find(|flow| flow["name"] == name).unwrap_or_else(|| panic!("no {name}: {all:#?}")).clone()
    };
    let units = |text: &str| std::fs::write(host.join("units/list.txt"), text).expect("written");
    units("nftables.service enabled enabled\n");
    let rules = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n chain input {\n  type filter hook input priority 0; policy drop;\n  \
                 ct state established accept\n  iif lo accept\n  tcp dport { 22, 9999 } accept\n }\n}\n";
    std::fs::write(host.join("persisted/nftables.conf"), rules).expect("written");
    let boot = plan();
    assert_eq!(boot["limits"], Value::Array(Vec::new()), "{:#}", boot["limits"]);
    let bird = flow(&boot, "tcp/179 in from 10.0.1.20");
    assert_eq!((&bird["state"], &bird["bites"]), (&"lost".into(), &"reboot".into()), "{:#}", boot["findings"]);
    assert_eq!(flow(&boot, "SSH in (tcp/22, ipv4)")["state"], "kept");
    let worker = flow(&boot, "tcp/22 out to 10.0.1.30");
    assert_eq!(
        (&worker["state"], &boot["verdict"]),
        (&"lost".into(), &"lockout".into()),
        "Felix restarts with the boot"
    );
    assert!(boot["newly_denied"].to_string().contains("\"table\":\"filter\""), "the packets that the file drops");
    // a file that nft refuses loads nothing
    std::fs::write(host.join("persisted/nftables.conf"), rules.replace("iif lo", "no such thing")).expect("written");
    let broken = plan();
    assert!(broken["failures"][0]["part"].as_str().is_some_and(|part| part.contains("nftables.service")), "{broken:#}");
    assert_eq!(flow(&broken, "tcp/179 in from 10.0.1.20")["state"], "kept");
    if !Path::new("/usr/sbin/ufw").exists() {
        return skipped("needs ufw");
    }
    std::fs::remove_file(host.join("persisted/nftables.conf")).expect("removed");
    units("ufw.service enabled enabled\n");
    std::fs::write(host.join("persisted/ufw/ufw.conf"), "ENABLED=yes\nLOGLEVEL=off\n").expect("written");
    let ufw = plan();
    assert!(!ufw["limits"].to_string().contains("ufw"), "{:#}", ufw["limits"]);
    let early = &flow(&ufw, "SSH in (tcp/22, ipv4)")["worlds"]["reboot-before-felix"]["after"];
    assert_eq!(early, "broken", "ufw refuses it until Felix has put its failsafe chains ahead");
}

#[test]
fn a_script_that_stops_half_way_is_told() {
    on_a_host(|folder| {
        let script =
            "iptables-legacy -F INPUT; iptables-legacy -P INPUT DROP; iptables-legacy -A INPUT --no-such-option";
        let plan = answer(folder, &["--", "sh", "-e", "-c", script]);
        assert_eq!((&plan["verdict"], &plan["failures"][0]["partial"]), (&"lockout".into(), &true.into()), "{plan:#}");
        let codes = plan["findings"].to_string();
        assert!(codes.contains("HG255") && codes.contains("fails half-way"), "{codes}");
    });
}

#[test]
fn rulesets_are_loaded_by_the_tools_themselves() {
    on_a_host(|folder| {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let nft = write(
            "new.nft",
            "table inet own {\n chain input {\n  tcp dport 443 accept\n }\n}\nadd rule inet own input drop\n",
        );
        assert_eq!(way_in(&answer(folder, &["--nft", &nft]))["state"], "kept", "its rules come behind the others");
        let nft = write(
            "flush.nft",
            "flush ruleset\ntable inet only {\n chain input {\n  type filter hook input priority 0; policy drop;\n }\n}\n",
        );
        assert_eq!(answer(folder, &["--nft", &nft])["verdict"], "lockout");
        let broken = write("broken.nft", "flush ruleset\ntable inet only {\n chain input {\n  no such thing\n }\n}\n");
        let plan = answer(folder, &["--nft", &broken]);
        assert_eq!(
            (&plan["failures"][0]["partial"], way_in(&plan)["state"].as_str()),
            (&false.into(), Some("kept")),
            "nft loads all or nothing"
        );
    });
}

#[test]
fn what_a_command_writes_and_whom_it_signals_stays_in_the_copy() {
    on_a_host(|folder| {
        let mark = format!("/etc/hepguard-test-{}", std::process::id());
        let mut victim = Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let script = format!(
            "echo x > {mark}; echo x > /var/lib/x-{0}; echo x > {1}/left; kill -9 {0} && echo killed; \
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/kernel/panic && echo kernel; \
             umount /etc && echo umounted; test -e /dev/vda && echo disk; ls /run/*.sock; mount -t tmpfs x /mnt && echo mounted; true",
            victim.id(),
            folder.display()
        );
        let plan = answer(folder, &["-v", "--", "sh", "-c", &script]);
        assert_eq!(plan["failures"], Value::Array(Vec::new()));
        assert!(!Path::new(&mark).exists() && !folder.join("left").exists(), "no file is left");
        assert!(victim.try_wait().expect("its state").is_none(), "the process lives");
        victim.kill().expect("killed");
        victim.wait().expect("ended");
        // the same script with its findings as its status: what must not succeed did not
        let check = format!("({script}) 2>/dev/null | grep -E 'killed|kernel|umounted|disk|mounted' && exit 9; exit 0");
        let plan = answer(folder, &["--", "sh", "-c", &check]);
        assert_eq!(plan["failures"], Value::Array(Vec::new()), "{:#}", plan["failures"]);
    });
}

#[test]
fn a_command_that_hangs_is_ended_with_its_children() {
    on_a_host(|folder| {
        let started = std::time::Instant::now();
        let tag = format!("{}", 61_000 + std::process::id() % 1000);
        let script = format!("iptables-legacy -P INPUT DROP; setsid sleep {tag} & sleep {tag}");
        let plan = answer(folder, &["--timeout", "2", "--", "sh", "-c", &script]);
        assert!(plan["failures"][0]["how"].as_str().is_some_and(|how| how.contains("not done within 2 s")), "{plan:#}");
        assert!(started.elapsed().as_secs() < 30);
        let left = sh(&format!("grep -alz '^{tag}$' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"));
        assert_eq!(left.trim(), "0", "nothing runs on");
    });
}

#[test]
fn a_command_that_cannot_start_is_an_error() {
    on_a_host(|folder| {
        let output = plan(folder, &["--", "no-such-command"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-command: failed to execute"), "{output:?}");
    });
}

#[test]
fn a_snapshot_is_copied_as_the_host_is() {
    if let Some(why) = lacking() {
        skipped(&why);
        return;
    }
    let lab = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/before");
    let run = |change: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_hepguard"))
            .args(["plan", "--format", "json", "--snapshot", lab, "--"])
            .args(change)
            .output()
            .expect("hepguard runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let plan = run(&["true"]);
    assert_eq!(
        (&plan["limits"], &plan["verdict"]),
        (&Value::Array(Vec::new()), &"safe".into()),
        "all of the lab is copied"
    );
    let plan = run(&["iptables-legacy", "-I", "OUTPUT", "-d", "10.0.1.30", "-p", "tcp", "--dport", "22", "-j", "DROP"]);
    assert_eq!(plan["verdict"], "lockout", "{:#}", plan["findings"]);
}
