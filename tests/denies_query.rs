//! `hepguard denies` over several logs and over time: merged, rotated, new kinds, bars, live.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

const LAB: &str = include_str!("fixtures/logs/lab-syslog.log");

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hepguard"));
    command.arg("denies").args(args).env("TZ", "UTC");
    command
}

fn hepguard(args: &[&str]) -> Output {
    command(args).output().expect("hepguard runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the answer is UTF-8")
}

fn json(args: &[&str]) -> Value {
    let output = hepguard(&[args, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document = serde_json::from_slice(&output.stdout).expect("the answer is JSON");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/schemas/denies.v1.json");
    let mut schemas = boon::Schemas::new();
    let index =
        boon::Compiler::new().compile(path.to_str().expect("a path"), &mut schemas).expect("the schema compiles");
    if let Err(error) = schemas.validate(&document, index) {
        panic!("{error:#}\n{document:#}");
    }
    document
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A report line of the lab with another time and port.
fn line(stamp: &str, port: u16) -> String {
    let lab = LAB.lines().next().expect("a line");
    let rest = lab.split_once(" bastion ").expect("a host").1;
    format!("{stamp} bastion {}\n", rest.replace("dstPort=\"443\"", &format!("dstPort=\"{port}\"")))
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("the file is written");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// `bytes` through a compressing tool; `None` where it is not installed.
fn packed(tool: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(tool).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take().expect("a pipe").write_all(bytes).expect("written");
    Some(child.wait_with_output().expect("ends").stdout)
}

fn ports(lines: &str) -> Vec<u64> {
    let port = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["dst_port"].as_u64().expect("a port");
    lines.lines().map(port).collect()
}

#[test]
fn several_logs_are_one_stream_in_the_order_of_time() {
    let folder = folder();
    let minute = |minute: usize, port| line(&format!("2026-08-21T07:{minute:02}:00Z"), port);
    let one = write(&folder, "one", [minute(1, 1), minute(3, 3), "no time here\n".to_owned(), minute(5, 5)].concat());
    let two = write(&folder, "two", [minute(0, 100), minute(2, 2), minute(4, 4)].concat());
    let output = hepguard(&[text(&one), text(&two), "--format", "jsonl"]);
    assert_eq!(ports(&stdout(&output)), [100, 1, 2, 3, 4, 5]);
    // as much as does not fit into any buffer
    let many = |from: usize| -> String {
        (from..6_000)
            .step_by(2)
            .map(|at| line(&format!("2026-08-21T{:02}:{:02}:{:02}Z", at / 3600, at / 60 % 60, at % 60), 7))
            .collect()
    };
    let (one, two) = (write(&folder, "one", many(0)), write(&folder, "two", many(1)));
    for form in ["jsonl", "ecs"] {
        let output = hepguard(&[text(&two), text(&one), "--format", form]);
        let key = if form == "ecs" { "@timestamp" } else { "time" };
        let lines = stdout(&output);
        let times: Vec<String> =
            lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")[key].to_string()).collect();
        assert!(times.len() == 6_000 && times.is_sorted(), "{form}: {}", times.len());
    }
}

#[test]
fn older_files_are_read_too_however_they_are_packed() {
    let folder = folder();
    let log = write(&folder, "syslog", line("2026-08-21T07:09:00Z", 9));
    write(&folder, "syslog.1", line("2026-08-21T07:08:00Z", 8));
    let mut expected = vec![8, 9];
    for (number, tool, end) in [(2_u16, "gzip", "gz"), (3, "xz", "xz"), (4, "zstd", "zst"), (5, "bzip2", "bz2")] {
        let port = 9 - number;
        if let Some(bytes) = packed(tool, line(&format!("2026-08-21T07:0{port}:00Z"), port).as_bytes()) {
            write(&folder, &format!("syslog.{number}.{end}"), &bytes);
            expected.insert(0, u64::from(port));
            // a cut file is said to be one
            write(&folder, "cut", &bytes[..bytes.len() - 6]);
            let output = hepguard(&[text(&folder.path().join("cut")), "--format", "json"]);
            assert_eq!(output.status.code(), Some(3), "{tool}");
        }
    }
    assert!(expected.len() > 3, "gzip at least is everywhere");
    expected.sort_unstable();
    let output = hepguard(&[text(&log), "--rotated", "--format", "jsonl"]);
    assert_eq!(ports(&stdout(&output)), expected, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json(&[text(&log), "--rotated"])["events"], expected.len());
    assert_eq!(json(&[text(&log)])["events"], 1);
}

#[test]
fn new_kinds_are_those_not_seen_before() {
    let folder = folder();
    let lines = [
        line("2026-08-20T07:00:00Z", 443),
        line("2026-08-21T07:00:00Z", 443),
        line("2026-08-21T08:00:00Z", 25),
        "[ 1.5] calico-drop: IN=eth0 OUT= SRC=10.0.0.1 DST=10.0.0.2 PROTO=TCP SPT=1 DPT=2\n".to_owned(),
    ];
    let log = write(&folder, "syslog", lines.concat());
    let document = json(&[text(&log), "--new-since", "2026-08-21T00:00:00Z"]);
    let groups = document["groups"].as_array().expect("groups");
    assert_eq!((groups.len(), &groups[0]["key"]["dst_port"], &groups[0]["count"]), (1, &25.into(), &1.into()));
    assert_eq!(document["new_since"]["seen_before"], 1);
    assert_eq!(document["files"][0]["undated"], 1, "what has no time cannot be called new");
    let words = stdout(&hepguard(&[text(&log), "--new-since", "2026-08-21T00:00:00Z"]));
    assert!(words.starts_with("1 new group of denies since 2026-08-21T00:00:00Z; 1 group seen before\n"), "{words}");
    // what counts as a kind is the key's affair
    assert_eq!(json(&[text(&log), "--new-since", "2026-08-21", "--group-by", "policy"])["groups_total"], 0);
}

#[test]
fn bars_show_denies_over_time() {
    let folder = folder();
    let hours = [0, 0, 0, 1, 5, 5];
    let log: String = hours.iter().map(|hour| line(&format!("2026-08-21T{hour:02}:10:00Z"), 443)).collect();
    let log = write(&folder, "syslog", log);
    let document = json(&[text(&log), "--histogram=1h"]);
    let bars = document["histogram"]["bars"].as_array().expect("bars");
    let told: Vec<_> = bars.iter().map(|bar| (bar["start"].as_str().expect("a time"), bar["count"].as_u64())).collect();
    let expected =
        [("2026-08-21T00:00:00Z", Some(3)), ("2026-08-21T01:00:00Z", Some(1)), ("2026-08-21T05:00:00Z", Some(2))];
    assert_eq!(told, expected);
    assert_eq!(json(&[text(&log), "--histogram"])["histogram"]["width_seconds"], 1800);
    let words = stdout(&hepguard(&[text(&log), "--histogram=1h"]));
    assert!(words.contains("denies by hour (UTC)\n2026-08-21T00:00:00Z      3 ###"), "{words}");
    assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");
    let csv = stdout(&hepguard(&[text(&log), "--histogram=1h", "--format", "csv"]));
    assert_eq!(csv.lines().next(), Some("start,count"));
    for wrong in [&["--histogram=never"][..], &["--histogram", "--format", "ecs"], &["--follow", "--format", "csv"]] {
        let output = hepguard(&[&[text(&log)], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

/// Longest wait for a line.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_suggestion_admits_one_peer_and_what_must_work_is_said() {
    let folder = folder();
    let lab = folder.path().join("lab");
    let written = Command::new(env!("CARGO_BIN_EXE_hepguard")).args(["demo", "--write", text(&lab)]).output();
    assert!(written.expect("hepguard runs").status.success());
    let api = line("2026-08-21T07:00:00Z", 6443).replace("147.75.40.148", "10.0.1.20");
    let log = write(&folder, "syslog", [line("2026-08-21T07:00:00Z", 8443), api].concat());
    let before = lab.join("before");
    let document = json(&[text(&log), "--suggest", "--snapshot", text(&before)]);
    let group = |port: u64| {
        let groups = document["groups"].as_array().expect("groups");
        groups.iter().find(|group| group["key"]["dst_port"] == port).expect("the group").clone()
    };
    assert!(group(8443).get("needed").is_none());
    assert_eq!(
        group(8443)["suggestion"]["rule"],
        "- action: Allow\n  protocol: TCP\n  destination:\n    nets: [147.75.40.148/32]\n    ports: [8443]\n"
    );
    assert!(group(6443)["needed"]["name"].as_str().is_some_and(|name| name.contains("6443")), "{:#}", group(6443));
    let words = stdout(&hepguard(&[text(&log), "--suggest", "--snapshot", text(&before)]));
    assert!(words.contains("must work on this host:") && words.contains("which also admits"), "{words}");
    assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");
    let vague = json(&[text(&log), "--suggest", "--group-by", "policy,tier,rule_index,direction"]);
    let refused = vague["groups"][0]["suggestion"]["refused"].as_str().expect("a reason");
    assert!(refused.contains("everybody"), "{refused}");
}

struct Live {
    child: Child,
    lines: Receiver<String>,
}

impl Live {
    fn new(args: &[&str], input: Stdio) -> Self {
        let mut child = command(args).stdin(input).stdout(Stdio::piped()).spawn().expect("hepguard runs");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines }
    }

    /// The next line; none when the output ended.
    fn next(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => String::new(),
            Err(RecvTimeoutError::Timeout) => panic!("no line in time"),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(path: &Path, text: &str) {
    let mut file = File::options().append(true).create(true).open(path).expect("opened");
    file.write_all(text.as_bytes()).expect("written");
}

#[test]
fn following_survives_rotation_by_rename_and_by_truncation() {
    let folder = folder();
    let log = write(&folder, "syslog", line("2026-08-21T07:00:00Z", 1));
    let mut live = Live::new(&["--follow", text(&log), "--since", "2026-08-21T00:00:00Z"], Stdio::null());
    let mut expect = |port: u16, times: &str| {
        let line = live.next();
        let told = format!("denied egress 10.0.1.10:57312 -> 147.75.40.148:{port} tcp{times}: end of tier security");
        assert!(line.contains(&told), "{told}: {line}");
    };
    expect(1, "");
    append(&log, &line("2026-08-21T07:00:02Z", 2));
    expect(2, "");
    // the notice comes after the line was printed, and says nothing about others
    append(&log, "2026-08-21T07:00:03Z bastion last message repeated 3 times\n");
    expect(2, ", 3 times");
    fs::rename(&log, folder.path().join("syslog.1")).expect("renamed");
    append(&folder.path().join("syslog.1"), &line("2026-08-21T07:00:04Z", 3));
    expect(3, "");
    append(&log, &line("2026-08-21T07:00:05Z", 4));
    expect(4, "");
    fs::copy(&log, folder.path().join("syslog.2")).expect("copied");
    File::options().write(true).truncate(true).open(&log).expect("truncated");
    append(&log, &line("2026-08-21T07:00:06Z", 5));
    expect(5, "");
}

#[test]
fn following_begins_with_what_is_new_and_reads_a_pipe() {
    let folder = folder();
    let log = write(&folder, "syslog", line("2026-08-21T07:00:00Z", 1));
    let mut live = Live::new(&["-f", text(&log), "--format", "cef"], Stdio::null());
    // it says nothing when it is ready
    std::thread::sleep(Duration::from_millis(700));
    append(&log, &line("2026-08-21T07:00:02Z", 2));
    let told = live.next();
    assert!(told.starts_with("CEF:0|hepguard|") && told.contains(" dpt=2 "), "{told}");

    let mut pipe = Live::new(&["-f", "-"], Stdio::piped());
    let mut input = pipe.child.stdin.take().expect("a pipe");
    for port in [1, 2] {
        input.write_all(line("2026-08-21T07:00:00Z", port).as_bytes()).expect("written");
        assert!(pipe.next().contains(&format!("147.75.40.148:{port} tcp")));
    }
    drop(input);
    assert_eq!(pipe.next(), "");
    assert_eq!(pipe.child.wait().expect("ends").code(), Some(0));
    let missing = hepguard(&["-f", "/nowhere/syslog"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/syslog"));
}

/// A flow log of a host endpoint.
fn flow(reporter: &str, peer: &str, proto: &str, port: u16, action: &str) -> String {
    let (source, destination) = if reporter == "src" { ("10.9.0.5", peer) } else { (peer, "10.9.0.5") };
    let kind = |own: bool| if own { "hep" } else { "net" };
    let record = serde_json::json!({
        "start_time": 1_787_296_200, "end_time": 1_787_296_500, "source_ip": source, "dest_ip": destination,
        "source_type": kind(reporter == "src"), "dest_type": kind(reporter == "dst"), "source_port": null,
        "dest_port": port, "proto": proto, "action": action, "reporter": reporter, "num_flows": 1,
        "policies": { "all_policies": [format!("0|default|default.x|{action}|0")] },
        "packets_in": 1, "packets_out": 1, "bytes_in": 60, "bytes_out": 60,
    });
    format!("{record}\n")
}

fn lint(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .arg("lint")
        .args(args)
        .args(["--format", "json"])
        .output()
        .expect("hepguard runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn a_recommendation_admits_exactly_what_was_seen() {
    let folder = folder();
    let seen = [
        flow("src", "192.0.2.80", "tcp", 443, "allow"),
        flow("src", "192.0.2.81", "tcp", 443, "allow"),
        flow("src", "192.0.2.53", "udp", 5353, "allow"),
        flow("dst", "198.51.100.7", "tcp", 9100, "allow"),
        flow("dst", "198.51.100.8", "sctp", 9101, "allow"),
    ];
    let denied = flow("dst", "203.0.113.9", "tcp", 9100, "deny");
    let logs = write(&folder, "flows.log", seen.concat() + &denied + &seen[0]);
    let output = hepguard(&[text(&logs), "--recommend"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let yaml = stdout(&output);
    assert!(yaml.contains("# Denied, hence not admitted: tcp/9100 from 203.0.113.9"), "{yaml}");
    assert!(yaml.contains("seen 2 times") && yaml.lines().all(|line| line.chars().count() <= 100), "{yaml}");
    let policy = write(&folder, "staged.yaml", &yaml);
    let alone = lint(&[text(&policy)]);
    assert_eq!(alone["findings"], serde_json::json!([]), "{yaml}\n{alone:#}");

    let hep = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata:\n  name: bastion\n  labels:\n    \
               hepguard-host: host\nspec:\n  node: bastion\n  interfaceName: eth0\n  expectedIPs: [10.9.0.5]\n  \
               profiles: [open]\n---\napiVersion: projectcalico.org/v3\nkind: Profile\nmetadata:\n  name: open\nspec:\n  \
               ingress:\n  - action: Allow\n  egress:\n  - action: Allow\n";
    // without a policy the profile admits everything: what the staged one would deny is its own doing
    let hep = write(&folder, "hep.yaml", hep);
    let would_deny = |log: &str| {
        let log = write(&folder, "other.log", log);
        let found = lint(&[text(&policy), text(&hep), "--flow-logs", text(&log)]);
        let findings = found["findings"].as_array().expect("findings").clone();
        findings.iter().filter(|finding| finding["code"] == "HG457").count()
    };
    for flow in &seen {
        assert_eq!(would_deny(flow), 0, "seen: {flow}\n{yaml}");
    }
    for flow in [
        flow("src", "192.0.2.82", "tcp", 443, "allow"),
        flow("src", "192.0.2.80", "tcp", 444, "allow"),
        flow("src", "192.0.2.80", "udp", 443, "allow"),
        flow("src", "192.0.2.53", "tcp", 5353, "allow"),
        flow("src", "198.51.100.7", "tcp", 9100, "allow"),
        flow("dst", "192.0.2.80", "tcp", 443, "allow"),
        flow("dst", "198.51.100.7", "tcp", 9101, "allow"),
        flow("dst", "203.0.113.9", "tcp", 9100, "allow"),
    ] {
        assert_eq!(would_deny(&flow), 1, "never seen: {flow}\n{yaml}");
    }
}

#[test]
fn a_recommendation_knows_what_the_host_needs_and_logs_do_not_show() {
    let folder = folder();
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/before");
    let output = hepguard(&["--recommend", "--snapshot", text(&snapshot)]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let yaml = stdout(&output);
    let words: Vec<&str> = yaml.lines().map(|line| line.trim_start_matches([' ', '#'])).collect();
    let words = words.join(" ");
    for told in ["needed, not seen in the logs: ", "No log line told of traffic", "lives now: "] {
        assert!(words.contains(told), "{told}: {yaml}");
    }
    let policy = write(&folder, "staged.yaml", &yaml);
    let alone = lint(&[text(&policy)]);
    let findings = alone["findings"].as_array().expect("findings");
    let grave = |finding: &&Value| ["critical", "high"].iter().any(|severity| finding["severity"] == *severity);
    assert_eq!(findings.iter().filter(grave).count(), 0, "{yaml}\n{alone:#}");
    let wrong = hepguard(&["--recommend", "--snapshot", text(&snapshot), "--format", "json"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn hostile_names_stay_inside_the_comments_of_a_recommendation() {
    let folder = folder();
    let log = String::from(
        "Aug  4 16:14:12 evil\u{1b}[2J:\u{a0}x calico-felix[1]: INFO <nil> <nil>:  action=\"allow\" ",
    ) + "dstIP=\"192.0.2.1\" dstPort=\"443\" policy=\"p\\n      - action: Allow\" proto=\"6\" rule=\"0\" ruleDir=\"egress\" \
           srcIP=\"10.9.0.5\" tier=\"t\"\n";
    let log = write(&folder, "evil.log", log);
    let yaml = stdout(&hepguard(&[text(&log), "--recommend"]));
    assert_eq!(yaml.matches("- action: Allow").count(), 1, "{yaml}");
    assert!(!yaml.contains('\u{1b}'), "{yaml}");
    let policy = write(&folder, "staged.yaml", &yaml);
    assert_eq!(lint(&[text(&policy)])["findings"], serde_json::json!([]), "{yaml}");
}

#[test]
fn peers_are_named_from_the_hosts_own_files_only() {
    let folder = folder();
    let log = write(&folder, "syslog", line("Aug  4 16:14:12", 443));
    let snapshot = folder.path().join("snap");
    fs::create_dir_all(snapshot.join("etc")).expect("a folder");
    fs::create_dir_all(snapshot.join("felix")).expect("a folder");
    let peer = || {
        let document = json(&[text(&log), "--snapshot", text(&snapshot), "--suggest"]);
        (document["groups"][0]["key"]["dst_ip"].clone(), document["groups"][0]["peer"].clone(), document)
    };
    fs::write(snapshot.join("etc/hosts"), "127.0.0.1 localhost\n").expect("a file");
    let (address, none, document) = peer();
    assert!(none.is_null(), "{document:#}");
    let plan = document["groups"][0]["suggestion"]["plan"].as_str().expect("a command");
    assert!(plan.starts_with("hepguard plan -f ") && plan.ends_with(".yaml"), "{plan}");
    let address = address.as_str().expect("an address");
    let cache = format!(
        "1\n{}\n{}\n",
        serde_json::json!({ "LHS": "www.example.org", "RHS": "cdn.example.net", "Type": "name" }),
        serde_json::json!({ "LHS": "cdn.example.net", "RHS": address, "Type": "ip" })
    );
    fs::write(snapshot.join("felix/felix-dns-cache.txt"), cache).expect("a file");
    assert_eq!(peer().1, serde_json::json!({ "name": "www.example.org", "source": "felix-dns-cache.txt" }));
    fs::write(snapshot.join("etc/hosts"), format!("{address} shop\u{1b}[31m\n")).expect("a file");
    let shown = stdout(&hepguard(&[text(&log), "--snapshot", text(&snapshot)]));
    assert!(shown.contains(&format!("{address} is shop\\u{{1b}}[31m (etc/hosts)")), "{shown}");
}
