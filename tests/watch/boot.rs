//! The unit under a real systemd: the host's own root as an overlay, booted in namespaces (`boot.sh`).

use std::path::Path;
use std::process::Command;

use crate::rig::lacking;

/// What is asked inside, and what must be among the answers.
const INSIDE: &str = r#"
set -u
echo "active=$(systemctl is-active hepguard)"
for i in $(seq 100); do hepguard status --format json >/run/s.json 2>/dev/null; grep -q '"judged": "' /run/s.json && break; sleep .2; done
P=$(systemctl show -p MainPID --value hepguard)
R=$(cat /proc/$P/task/$P/children | cut -d' ' -f1)
echo "user=$(stat -c %u /proc/$P | awk '{print ($1 > 60000) ? "dynamic" : $1}')"
echo "daemon=$(awk '/^CapPrm/{print $2}' /proc/$P/status) reader=$(awk '/^CapPrm/{print $2}' /proc/$R/status) seccomp=$(awk '/^Seccomp:/{print $2}' /proc/$R/status)"
grep -o '"notices": \[[^]]*\]' <<<"$(tr -d '\n' </run/s.json)" | tr -d ' '
echo 'Aug  4 16:14:12 b calico-felix[3]: INFO <nil> <nil>:  action="deny" dstIP="192.0.2.1" dstPort="22" inBytes=0 inPackets=0 outBytes=1 outPackets=1 policy="p" proto="6" rule="-1" ruleDir="egress" srcIP="10.0.1.10" srcPort="1" tier="t" trafficDir="outbound" updateType=report' >>/var/log/syslog
nft add table inet seen
sleep 3
hepguard status --format json >/run/s.json; grep -o '"denies": 1' /run/s.json; grep -o 'nf_tables by nft (pid [0-9]*)' /run/s.json | sed 's/[0-9]*)/N)/' | head -1
grep -o '"unreadable": \[[^]]*\]' <<<"$(tr -d '\n' </run/s.json)" | tr -d ' '
echo "entries=$(journalctl -q MESSAGE_ID=6f1d0a5be3f34ec19f2f6b1a0d7c5504 -o cat | grep -c 'the firewall changed')"
systemctl reload hepguard; echo "reloaded=$?"
systemctl kill -s KILL hepguard; sleep 4; echo "again=$(systemctl is-active hepguard) restarts=$(systemctl show -p NRestarts --value hepguard)"
sleep 1; hepguard status --format json | grep -o '"denies": 1'
systemctl stop hepguard; echo "result=$(systemctl show -p Result --value hepguard)"
mkdir -p /etc/hepguard; printf '[logs]\njournal = "on"\n[[forward]]\nname = "journal"\ntransport = "journald"\ndenies = "each"\n' >/etc/hepguard/hepguard.toml
F='INFO <nil> <nil>:  action="deny" dstIP="192.0.2.1" dstPort="22" inBytes=0 inPackets=0 outBytes=1 outPackets=1 policy="p" proto="6" rule="-1" ruleDir="egress" srcIP="10.0.1.10" srcPort="1" tier="t" trafficDir="outbound" updateType=report'
denies() { hepguard status --format json 2>/dev/null | grep -o '"denies": [0-9]*' | head -1; }
until_denies() { for i in $(seq 150); do [ "$(denies)" = "\"denies\": $1" ] && break; sleep .2; done; sleep 1; echo "journal $(denies)"; }
systemctl start hepguard; sleep 4
logger -t calico-felix "$F"; systemd-cat -t calico-felix <<<"$F"; until_denies 3
systemctl stop hepguard; logger -t calico-felix "$F"; systemctl start hepguard; until_denies 4
systemctl kill -s KILL hepguard; logger -t calico-felix "$F"; until_denies 5
systemctl reset-failed hepguard; systemctl restart hepguard; until_denies 5
systemctl kill -s KILL systemd-journald; logger -t calico-felix "$F"; until_denies 6
for i in $(seq 50); do hepguard forward status | grep -q '0 of denies wait' && break; sleep .2; done; journalctl --sync
forwarded() { journalctl -q HEPGUARD_KIND=DENY -o json | grep -o "$1" | sort -u | wc -l; }
echo "forwarded=$(forwarded '"HEPGUARD_ID":"[0-9a-f]*"') to=$(forwarded '"HEPGUARD_DST_IP":"192.0.2.1"') unit=$(forwarded '"_SYSTEMD_UNIT":"hepguard.service"')"
echo "limit=$(systemctl show -p LogRateLimitIntervalUSec --value hepguard)"
"#;

#[test]
fn the_unit_works_under_a_real_systemd() {
    let tools = ["unshare", "nsenter", "pivot_root", "nft", "systemctl", "journalctl"];
    let missing =
        lacking(&tools).or_else(|| (!Path::new("/lib/systemd/systemd").exists()).then(|| "needs systemd".to_owned()));
    if let Some(reason) = missing {
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        return println!("SKIPPED: {reason}");
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("timeout")
        .args(["-k", "5", "150", "bash"])
        .arg(here.join("tests/watch/boot.sh"))
        .args([
            env!("CARGO_BIN_EXE_hepguard").as_ref(),
            here.join("systemd/hepguard.service").as_os_str(),
            INSIDE.as_ref(),
        ])
        .output()
        .expect("bash starts");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) {
        return println!("SKIPPED: no systemd can be booted here: {errors}");
    }
    let expected = [
        "active=active",
        "user=dynamic",
        // CAP_NET_ADMIN, CAP_NET_RAW, CAP_DAC_READ_SEARCH; the reader has none
        "daemon=0000000000003004 reader=0000000000000000 seccomp=2",
        "\"nf_tables\",\"routing\",\"files\"",
        "\"denies\": 1",
        "nf_tables by nft (pid N)",
        "reloaded=0",
        "again=active restarts=1",
        "result=success",
        // an entry of the journal counts once, whatever becomes of the daemon
        "journal \"denies\": 3\njournal \"denies\": 4\njournal \"denies\": 5\njournal \"denies\": 5\njournal \"denies\": 6\n",
        // and each since the output is configured is in the journal as an entry of its own, which nobody takes for a deny again
        "forwarded=5 to=1 unit=1",
        "limit=0",
    ];
    for line in expected {
        assert!(said.contains(line), "{line} is missing:\n{said}\n{errors}");
    }
    assert!(!said.contains("entries=0"), "{said}");
    println!("{said}");
}
