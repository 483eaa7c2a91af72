//! `hepguard failsafe` as an admin lives it: folders and fragments, both formats, exit codes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The lab bastion's environment file; its break takes `tcp:0.0.0.0/0:22` out of the second list.
const LAB: &str = r#"FELIX_DATASTORETYPE=kubernetes
CALICO_NETWORKING_BACKEND=none
FELIX_FAILSAFEINBOUNDHOSTPORTS="tcp:0.0.0.0/0:22,udp:0.0.0.0/0:68,udp:0.0.0.0/0:53,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:80"
FELIX_FAILSAFEOUTBOUNDHOSTPORTS="tcp:0.0.0.0/0:22,udp:0.0.0.0/0:53,udp:0.0.0.0/0:67,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:6443"
"#;
const UNIT: &str = "# /etc/systemd/system/calico.service\n[Service]\nEnvironmentFile=/etc/calico/calico.env\n\
                    ExecStart=/usr/local/bin/cnx-node -felix\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    folder
}

fn hepguard(snapshot: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .arg("failsafe")
        .arg("--snapshot")
        .arg(snapshot)
        .args(arguments)
        .output()
        .expect("hepguard runs")
}

fn json(snapshot: &Path, code: i32) -> Value {
    let output = hepguard(snapshot, &["--format", "json"]);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let schema: Value =
        serde_json::from_str(include_str!("../src/report/schemas/failsafe.v1.json")).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("failsafe.v1.json", schema).expect("a resource");
    let index = compiler.compile("failsafe.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&value, index) {
        panic!("{error}\n{value:#}");
    }
    value
}

fn text(snapshot: &Path, code: i32) -> String {
    let output = hepguard(snapshot, &[]);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line:?}");
    }
    text
}

/// A save listing as `iptables-save` prints Felix's chains.
fn save(inbound: &str, outbound: &str) -> String {
    let rules = |chain: &str, list: &str| -> String {
        let one = |entry: &str| {
            let (protocol, port) = entry.split_once(':').expect("proto:port");
            format!(
                "-A {chain} -p {protocol} -m comment --comment \"cali:aaaaaaaaaaaaaaaa\" -m multiport --dports {port} -j ACCEPT\n"
            )
        };
        list.split(',').filter(|entry| !entry.is_empty()).map(one).collect()
    };
    format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:cali-failsafe-in - [0:0]\n\
         :cali-failsafe-out - [0:0]\n:cali-fh-ens5 - [0:0]\n:cali-th-ens5 - [0:0]\n{}{}\
         -A cali-fh-ens5 -j cali-failsafe-in\n-A cali-th-ens5 -j cali-failsafe-out\nCOMMIT\n",
        rules("cali-failsafe-in", inbound),
        rules("cali-failsafe-out", outbound)
    )
}

fn lab(environment: &str) -> tempfile::TempDir {
    let environ = LAB.replace('"', "");
    let rules = save("tcp:22,udp:68,udp:53,tcp:179,tcp:80", "tcp:22,udp:53,udp:67,tcp:179,tcp:6443");
    folder(&[
        ("meta.json", "{\"host\":\"bastion\"}"),
        ("felix/calico.env", environment),
        ("felix/environ", &environ),
        ("felix/unit.txt", UNIT),
        ("iptables-legacy-save.txt", &rules),
        ("ip6tables-legacy-save.txt", &save("", "")),
    ])
}

#[test]
fn the_lab_before_its_break_is_fine_but_for_ipv6() {
    let folder = lab(LAB);
    let report = json(folder.path(), 0);
    assert_eq!(report["out"]["next_restart"][0]["removes"], serde_json::json!([]));
    let kinds: Vec<&Value> = report["problems"].as_array().expect("a list").iter().map(|p| &p["kind"]).collect();
    assert_eq!(kinds, ["one-family", "one-family"]);
    assert!(text(folder.path(), 0).contains("tcp:[::/0]:22"));
}

#[test]
fn the_lab_break_is_told_before_felix_restarts() {
    let folder = lab(&LAB.replace("OUTBOUNDHOSTPORTS=\"tcp:0.0.0.0/0:22,", "OUTBOUNDHOSTPORTS=\""));
    let report = json(folder.path(), 1);
    let change = &report["out"]["next_restart"][0];
    assert_eq!((&change["family"], &change["removes"]), (&"ipv4".into(), &serde_json::json!(["tcp:22"])));
    assert_eq!(change["certain"], true);
    assert_eq!(report["in"]["next_restart"][0]["removes"], serde_json::json!([]));
    let text = text(folder.path(), 1);
    let first = text.lines().next().expect("a verdict");
    assert_eq!(first, "bastion: the next restart of Felix removes tcp:22 outbound (IPv4)");
    assert!(text.contains("felix/calico.env:4") && text.contains("/etc/calico/calico.env"), "{text}");
}

#[test]
fn a_grepped_listing_gives_nine_and_nine() {
    let inbound = "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";
    let outbound = "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";
    // what grep leaves of mangle (out only) and filter (both)
    let grep = |text: String| -> String {
        text.lines().filter(|line| line.contains("failsafe")).map(|line| format!("{line}\n")).collect()
    };
    let mangle: String =
        grep(save("", outbound)).lines().filter(|line| !line.contains("-in")).map(|line| format!("{line}\n")).collect();
    let folder = folder(&[("iptables-save.txt", &(mangle + &grep(save(inbound, outbound))))]);
    for path in [folder.path().to_owned(), folder.path().join("iptables-save.txt")] {
        let report = json(&path, 3);
        for (list, expected) in [("in", inbound), ("out", outbound)] {
            let entries: Vec<&str> = report[list]["entries"]
                .as_array()
                .expect("rows")
                .iter()
                .filter_map(|row| row["entry"].as_str())
                .collect();
            assert_eq!(entries.join(","), expected);
        }
        assert_eq!(report["problems"], serde_json::json!([]));
        text(&path, 3);
    }
}

#[test]
fn nft_mode_is_read_from_what_nft_lists() {
    // listed by nft 1.0.6 from rules written as Felix writes them
    let folder = folder(&[("nft-ruleset.json", include_str!("fixtures/failsafe/nft-ruleset.json"))]);
    let report = json(folder.path(), 1);
    let entries = |index: usize, field: &str| -> Vec<String> {
        let list = report["in"]["kernel"][index][field].as_array().expect("a list");
        list.iter().filter_map(|entry| entry["entry"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(
        entries(0, "entries"),
        ["tcp:22", "udp:10.0.0.0/8:68", "tcp:10.0.0.1/32:23", "tcp:24", "tcp:10.16.0.0/12:25"]
    );
    assert_eq!((entries(1, "entries"), entries(1, "replies")), (vec!["tcp:22".to_owned()], vec!["udp:53".to_owned()]));
    assert_eq!(entries(2, "entries"), ["tcp:[fd00::/8]:22", "tcp:[fd00::1/128]:23", "tcp:[fd00:1234::/44]:24"]);
    let chains = report["in"]["kernel"].as_array().expect("chains");
    assert!(chains.iter().all(|chain| chain["foreign"] == serde_json::json!([])), "{chains:#?}");
    let references: Vec<&Value> = chains.iter().map(|chain| &chain["references"]).collect();
    assert_eq!(references, [1, 0, 0]);
}

#[test]
fn malformed_values_are_findings_with_their_line() {
    let folder = lab(&LAB.replace("udp:0.0.0.0/0:68", "sctp:0.0.0.0/0:68"));
    let report = json(folder.path(), 1);
    assert_eq!((&report["starts"], &report["problems"][0]["kind"]), (&false.into(), &"stops-felix".into()));
    assert_eq!(report["problems"][0]["place"], "felix/calico.env:3");
    assert!(text(folder.path(), 1).starts_with("bastion: Felix does not start"));
}

#[test]
fn hostile_input_neither_crashes_nor_reaches_the_terminal() {
    let folder = folder(&[
        ("felix/calico.env", "FELIX_FAILSAFEINBOUNDHOSTPORTS=\"tcp:\u{1b}]0;owned\u{7}22\"\nFELIX_\u{202e}X=1\n"),
        ("felix/felix.cfg", "[\u{1b}[31m\n"),
        ("calico/f.yaml", "kind: FelixConfiguration\nspec: [[[[\u{1b}\n"),
        ("iptables-legacy-save.txt", "*filter\n:cali-failsafe-in - [0:0]\n-A cali-failsafe-in -j \u{1b}[2J\n"),
    ]);
    let text = text(folder.path(), 1);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
    json(folder.path(), 1);
}

#[test]
fn a_clean_host_is_clean_and_an_unknown_format_is_named() {
    let all = "FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:22\nFELIX_FAILSAFEOUTBOUNDHOSTPORTS=udp:53\n";
    let folder = folder(&[
        ("felix/calico.env", all),
        ("felix/environ", all),
        ("iptables-legacy-save.txt", &save("tcp:22", "udp:53")),
        ("ip6tables-legacy-save.txt", &save("tcp:22", "udp:53")),
    ]);
    assert!(text(folder.path(), 0).starts_with("the failsafe lists agree"));
    let output = hepguard(folder.path(), &["--format", "xml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("text, json"));
}
