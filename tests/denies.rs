//! `hepguard denies`, as an admin calls it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const LAB: &str = "tests/fixtures/logs/lab-syslog.log";

fn hepguard(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .arg("denies")
        .args(args)
        .env("TZ", "UTC")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("hepguard runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the answer is UTF-8")
}

fn validate(schema: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/schemas").join(schema);
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    let index = compiler.compile(path.to_str().expect("a path"), &mut schemas).expect("the schema compiles");
    if let Err(error) = schemas.validate(document, index) {
        panic!("{schema}: {error:#}\n{document:#}");
    }
}

fn json(args: &[&str]) -> Value {
    let output = hepguard(&[args, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document = serde_json::from_slice(&output.stdout).expect("the answer is JSON");
    validate("denies.v1.json", &document);
    document
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("the file is written");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

fn lab() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(LAB)).expect("the lab's log")
}

#[test]
fn the_labs_four_lines_are_one_group() {
    for filter in [&[][..], &["--src-ip", "10.0.1.10", "--dst-port", "443"]] {
        let document = json(&[&[LAB], filter].concat());
        assert_eq!(document["events"], 4);
        assert_eq!(document["groups"].as_array().map(Vec::len), Some(1));
        let group = &document["groups"][0];
        let key = &group["key"];
        assert_eq!((&group["count"], &group["packets"], &group["bytes"]), (&4.into(), &10.into(), &600.into()));
        for (field, expected) in [
            ("source", Value::from("felix")),
            ("direction", "egress".into()),
            ("tier", "security".into()),
            ("policy", "hep-external".into()),
            ("rule_index", (-1).into()),
            ("proto", "tcp".into()),
            ("src_ip", "10.0.1.10".into()),
            ("dst_ip", "147.75.40.148".into()),
            ("dst_port", 443.into()),
        ] {
            assert_eq!(key[field], expected, "{field}");
        }
        assert_eq!(group["failsafe"], false);
        let why = group["why"].as_str().expect("words");
        assert!(why.starts_with("end of tier security: no rule"), "{why}");
        let times = (group["first"].as_str().expect("a time"), group["last"].as_str().expect("a time"));
        assert!(times.0.ends_with("-08-04T16:14:12Z") && times.1.ends_with("-08-04T16:14:26Z"), "{times:?}");
    }
    assert_eq!(json(&[LAB, "--dst-port", "80"])["events"], 0);
    assert_eq!(json(&[LAB, "--src-ip", "10.0.2.0/24"])["events"], 0);
}

#[test]
fn the_labs_four_lines_in_words() {
    let output = hepguard(&[LAB]);
    assert_eq!(output.status.code(), Some(0));
    let answer = stdout(&output);
    let year = answer.split("from ").nth(1).and_then(|rest| rest.get(..4)).expect("a year");
    let expected = format!(
        "\
4 denies in 1 group, 10 packets
from {year}-08-04T16:14:12Z to {year}-08-04T16:14:26Z

   denies  what, and what decided
        4  egress 10.0.1.10 -> 147.75.40.148 tcp/443
           end of tier security: no rule of any policy in it matched;
           hep-external is only the last policy of that tier here
           10 packets out, {year}-08-04T16:14:12Z to {year}-08-04T16:14:26Z
"
    );
    assert_eq!(answer, expected);
}

#[test]
fn event_lines_and_csv() {
    let output = hepguard(&[LAB, "--format", "jsonl"]);
    let lines = stdout(&output);
    assert_eq!(lines.lines().count(), 4);
    for line in lines.lines() {
        let event = serde_json::from_str(line).expect("a line is JSON");
        validate("event.v1.json", &event);
        assert_eq!((&event["end_of_tier"], &event["host"]), (&true.into(), &"bastion".into()));
    }
    let csv = stdout(&hepguard(&[LAB, "--format", "csv", "--group-by", "policy,dst_ip"]));
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("policy,dst_ip,count,packets,bytes,first,last,failsafe,why"));
    assert!(lines.next().is_some_and(|line| line.starts_with("hep-external,147.75.40.148,4,10,600,")), "{csv}");
}

#[test]
fn every_sample_is_counted_once_whatever_surrounds_it() {
    let folder = folder();
    let mut all = Vec::new();
    for samples in ["felix", "kernel", "flowlog"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/logs/{samples}-samples.jsonl"));
        for sample in fs::read_to_string(path).expect("samples").lines() {
            let sample: Value = serde_json::from_str(sample).expect("JSON");
            // a repeat notice is about the line right before it
            if sample["expect"]["kind"] != "repeat-previous" {
                all.extend_from_slice(b"\xff\xfe\0 noise\n");
            }
            all.extend_from_slice(sample["line"].as_str().expect("a line").as_bytes());
            all.push(b'\n');
        }
    }
    let path = write(&folder, "mixed.log", &all);
    let count = |args: &[&str]| json(&[&[text(&path)], args].concat())["events"].as_u64().expect("a number");
    let whole = json(&[text(&path)]);
    // 22 whole deny lines, one of them standing for 3 and followed by a notice for 2; kernel lines that tell their
    // verdict; four denied flow logs and one of Whisker
    assert_eq!(count(&["--source", "felix"]), 22 + 2 + 2, "{whole:#}");
    assert_eq!(count(&["--source", "kernel"]), 4, "{whole:#}");
    assert_eq!(count(&["--source", "flowlog"]), 5, "{whole:#}");
    assert_eq!(whole["events"], 26 + 4 + 5);
    assert_eq!(whole["repeats"], 5);
    assert_eq!(whole["files"][0]["malformed"], 2, "the cut report line and the cut flow log");
    assert!(whole["files"][0]["no_verdict"].as_u64().is_some_and(|count| count > 20), "calico-packet tells no verdict");
    assert_eq!(count(&["--action", "allow", "--source", "felix"]), 3);
}

#[test]
fn others_quoting_deny_lines_are_not_believed() {
    let folder = folder();
    let lab = String::from_utf8(lab()).expect("text");
    let report = lab.lines().next().and_then(|line| line.split("]: ").nth(1)).expect("a report");
    let forged = format!(
        "Aug  4 16:14:12 bastion sshd[1]: Invalid user {report} from 192.0.2.1\n\
         Aug  4 16:14:12 bastion sshd[1]: Invalid user \u{1b}]0;x\u{7} [UFW BLOCK] IN=eth0 OUT= SRC=1.1.1.1 DST=2.2.2.2\n\
         Aug  4 16:14:12 bastion myapp[1]: {{\"log\": \"{report}\"}}\n"
    );
    let path = write(&folder, "forged.log", forged.as_bytes());
    assert_eq!(json(&[text(&path)])["events"], 0);
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let folder = folder();
    let hostile = String::from_utf8(lab()).expect("text").replace("hep-external", "x\u{1b}[31m=cmd\u{202e}");
    let path = write(&folder, "hostile.log", hostile.as_bytes());
    for format in ["text", "csv", "json", "jsonl"] {
        let output = hepguard(&[text(&path), "--format", format]);
        assert!(!output.stdout.contains(&0x1b), "{format}");
    }
    let formula = String::from_utf8(lab()).expect("text").replace("hep-external", "=cmd|x");
    let path = write(&folder, "formula.log", formula.as_bytes());
    let csv = stdout(&hepguard(&[text(&path), "--format", "csv"]));
    assert!(csv.contains(",'=cmd|x,"), "{csv}");
}

/// Rows of a table with quoted cells.
fn cells(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = csv.chars().peekable();
    while let Some(one) = rest.next() {
        match one {
            '"' if quoted && rest.peek() == Some(&'"') => cell.push(rest.next().expect("seen")),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    rows
}

#[test]
fn what_a_log_holds_stays_data_in_every_format() {
    let folder = folder();
    let lab = String::from_utf8(lab()).expect("text");
    let report = lab.lines().next().expect("a line");
    // as Felix would quote them, and as they cannot be: escape sequences, markup, formulas, fields forged inside quotes
    let names = [
        "x\u{1b}[31m\u{7}\u{9b}2J\u{202e}",
        "<script>alert(1)</script><img src=x onerror=y>",
        "=cmd|' /C calc'!A0",
        "+1+1",
        "@SUM(A1)",
        "-1+1|x",
        r#"a\" action=\"allow\" srcIP=\"6.6.6.6\" policy=\"b"#,
        "p|q=r\\\\s\\nCEF:0|x|y|z|1|forged|10|src=6.6.6.6",
        "a,b;\\\"c\\\",\\\"6.6.6.6",
        "{\\\"src_ip\\\":\\\"6.6.6.6\\\"}",
    ];
    let mut log: String = names.iter().map(|name| format!("{}\n", report.replace("hep-external", name))).collect();
    log.push_str(
        "Aug  4 16:14:12 bastion kernel: [1.0] =x\"|<b>\u{1b}[2J drop: IN=e<\"> OUT= SRC=10.0.1.10 DST=147.75.40.148 LEN=60 \
         PROTO=TCP SPT=1 DPT=443 SYN\n",
    );
    let events = names.len() + 1;
    let path = write(&folder, "hostile.log", log.as_bytes());
    let ask = |format: &str| {
        let output = hepguard(&[text(&path), "--format", format]);
        assert_eq!(output.status.code(), Some(0), "{format}: {}", String::from_utf8_lossy(&output.stderr));
        let answer = stdout(&output);
        let raw = |c: char| c.is_control() && !matches!(c, '\n' | '\r') || matches!(c, '\u{202a}'..='\u{202e}');
        assert_eq!(answer.chars().find(|c| raw(*c)), None, "{format}: {answer}");
        answer
    };
    assert!(ask("text").contains("147.75.40.148"));
    let document = json(&[text(&path)]);
    assert_eq!(document["events"], events);
    for group in document["groups"].as_array().expect("groups") {
        assert_eq!(group["key"]["src_ip"], "10.0.1.10", "{group}");
    }
    let forged: Vec<&Value> = document["groups"].as_array().expect("groups").iter().collect();
    assert!(
        forged
            .iter()
            .any(|group| group["key"]["policy"].as_str().is_some_and(|name| name.contains("srcIP=\"6.6.6.6\"")))
    );
    for (format, source) in [("jsonl", "/src_ip"), ("ecs", "/source/ip"), ("ocsf", "/src_endpoint/ip")] {
        let answer = ask(format);
        assert_eq!(answer.lines().count(), events, "{format}");
        for line in answer.lines() {
            let event: Value = serde_json::from_str(line).expect("a line is JSON");
            assert_eq!(event.pointer(source), Some(&"10.0.1.10".into()), "{format}: {line}");
        }
    }
    let cef = ask("cef");
    assert_eq!(cef.lines().count(), events, "{cef}");
    for line in cef.lines() {
        // a pipe in the header and an equals sign in a value are escaped
        let plain = line.replace("\\\\", "").replace("\\|", "").replace("\\=", "");
        let fields: Vec<&str> = plain.splitn(8, '|').collect();
        assert_eq!((fields.len(), fields[0]), (8, "CEF:0"), "{line}");
        let sources = fields[7].split(' ').filter(|pair| pair.starts_with("src="));
        assert_eq!(sources.collect::<Vec<_>>(), ["src=10.0.1.10"], "{line}");
    }
    let csv = ask("csv");
    let rows = cells(&csv);
    let place = rows[0].iter().position(|name| name == "src_ip").expect("a column");
    assert_eq!(rows.len(), events + 1, "{csv}");
    for row in &rows[1..] {
        assert_eq!((row.len(), row[place].as_str()), (rows[0].len(), "10.0.1.10"), "{row:?}");
        let formula = |cell: &&String| cell.starts_with(['=', '+', '@', '-', '\t']) && cell.parse::<i64>().is_err();
        assert_eq!(row.iter().find(formula), None, "{csv}");
    }
}

#[test]
fn failsafe_ports_are_pointed_out() {
    let folder = folder();
    let denied = String::from_utf8(lab()).expect("text").replace("dstPort=\"443\"", "dstPort=\"6443\"");
    let path = write(&folder, "failsafe.log", denied.as_bytes());
    let document = json(&[text(&path)]);
    assert_eq!(document["groups"][0]["failsafe"], true);
    assert_eq!(json(&[text(&path), "--failsafe", "false"])["events"], 0);
    fs::create_dir_all(folder.path().join("snap/felix")).expect("a folder");
    fs::write(folder.path().join("snap/felix/calico.env"), "FELIX_FAILSAFEOUTBOUNDHOSTPORTS=tcp:22\n").expect("a file");
    let snapshot = folder.path().join("snap");
    let document = json(&[text(&path), "--snapshot", text(&snapshot)]);
    assert_eq!(document["groups"][0]["failsafe"], false);
    assert_eq!(document["failsafe_lists"]["out"], serde_json::json!(["tcp:22"]));
}

#[test]
fn unreadable_files_are_said_and_the_others_are_still_read() {
    let folder = folder();
    let missing = folder.path().join("missing.log");
    let output = hepguard(&[LAB, text(&missing), text(folder.path()), "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    validate("denies.v1.json", &document);
    assert_eq!((&document["events"], document["unreadable"].as_array().map(Vec::len)), (&4.into(), Some(2)));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("missing.log: ") && words.contains("is a directory"), "{words}");
    let nothing = hepguard(&[text(&missing)]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(nothing.stdout.is_empty());
}

#[test]
fn wrong_words_are_usage_errors() {
    for args in [
        &["--format", "xml"][..],
        &["--since", "soon"],
        &["--group-by", "dport"],
        &["--src-ip", "10.0.0.0/33"],
        &["--dst-port", "70000"],
        &["--action", "eat"],
    ] {
        let output = hepguard(&[&[LAB], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compresses");
    encoder.finish().expect("compresses")
}

#[test]
fn compressed_files_joined_members_and_standard_input() {
    let folder = folder();
    let twice = [gzip(&lab()), gzip(&lab())].concat();
    // told by its first bytes, not by its name
    let path = write(&folder, "syslog.1", &twice);
    let document = json(&[text(&path), LAB]);
    assert_eq!((&document["events"], &document["groups"][0]["packets"]), (&12.into(), &30.into()));
    assert!(document["groups"][0]["examples"][0].as_str().is_some_and(|line| line.starts_with("Aug  4")));

    let cut = write(&folder, "cut.gz", twice.get(..twice.len() - 30).expect("long enough"));
    let output = hepguard(&[text(&cut), "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(document["events"].as_u64().is_some_and(|events| events >= 4), "{document:#}");

    let mut child = Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .args(["denies", "-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("hepguard runs");
    child.stdin.take().expect("a pipe").write_all(&lab()).expect("written");
    let output = child.wait_with_output().expect("hepguard ends");
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["events"], 4);
}

#[test]
fn giant_lines_garbage_and_emptiness_are_survived() {
    let folder = folder();
    let mut giant = vec![b'x'; 10 << 20];
    giant.push(b'\n');
    let long_deny = [lab().trim_ascii_end(), b" pad=\"", &vec![b'y'; 200 << 10], b"\"\n"].concat();
    let bytes = [giant.as_slice(), &lab(), &long_deny, &giant, &lab()].concat();
    let path = write(&folder, "giant.log", &bytes);
    let document = json(&[text(&path)]);
    let file = &document["files"][0];
    // of the long deny line the first three lines are whole, and its own pad is cut
    assert_eq!((&document["events"], &file["lines"]), (&11.into(), &14.into()), "{document:#}");
    assert_eq!(file["truncated"], 3);
    assert_eq!(file["bytes"].as_u64(), u64::try_from(bytes.len()).ok());

    let mut random = fastrand::Rng::with_seed(7);
    let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(3 << 20).collect();
    let path = write(&folder, "garbage.log", &garbage);
    assert_eq!(json(&[text(&path)])["events"], 0);
    let path = write(&folder, "empty.log", b"");
    assert_eq!(json(&[text(&path)])["events"], 0);
    let path = write(&folder, "unterminated.log", lab().trim_ascii_end());
    assert_eq!(json(&[text(&path)])["events"], 4);
}

#[test]
fn times_limit_what_is_counted() {
    let folder = folder();
    let lab =
        String::from_utf8(lab()).expect("text").replace("Aug  4 ", "2022-08-04T").replace(" bastion", "Z bastion");
    let path = write(&folder, "dated.log", lab.as_bytes());
    let events = |args: &[&str]| json(&[&[text(&path)], args].concat())["events"].as_u64();
    assert_eq!(events(&["--since", "2022-08-04T16:14:17Z"]), Some(3));
    assert_eq!(events(&["--until", "2022-08-04 16:14:17 UTC"]), Some(1));
    assert_eq!(events(&["--since", "2h ago"]), Some(0));
}

#[test]
fn groups_by_other_fields_and_the_largest_only() {
    let document = json(&[LAB, "--group-by", "src_port", "--top", "2"]);
    assert_eq!(document["groups"].as_array().map(Vec::len), Some(2));
    assert_eq!(document["groups_total"], 4);
    assert_eq!(document["groups"][0]["key"], serde_json::json!({"src_port": 57316}), "most packets first");
}

/// A report line that its container's runtime cut in two, or three.
#[test]
fn lines_cut_by_a_containers_runtime_are_put_together() {
    let line = "2026-08-21 07:11:02.010 [INFO][61] felix/x.go 1: ";
    let lab = String::from_utf8(lab()).expect("text");
    let report = lab.lines().next().and_then(|line| line.split_once("]: ")).expect("a report").1;
    let folder = folder();
    for cut in (1..report.len()).step_by(13) {
        let (head, tail) = report.split_at(cut);
        let cri = format!(
            "2026-08-21T07:11:02.010551207Z stdout F {line}nothing\n\
             2026-08-21T07:11:02.010551207Z stdout P {head}\n\
             2026-08-21T07:11:02.020551207Z stderr F {report}\n\
             2026-08-21T07:11:03.010551207Z stdout F {tail}\n\
             2026-08-21T07:11:04.010551207Z stdout F {line}nothing\n\
             2026-08-21T07:11:05.010551207Z stdout P {head}\n"
        );
        let object = |log: &str, stream: &str, second: u8| {
            let time = format!("2026-08-21T07:11:{second:02}.01Z");
            format!("{}\n", serde_json::json!({ "log": log, "stream": stream, "time": time }))
        };
        // serde_json sorts keys as Docker writes them
        let docker = [
            object(&format!("{line}nothing\n"), "stdout", 1),
            object(head, "stdout", 2),
            object(&format!("{report}\n"), "stderr", 2),
            object(&format!("{tail}\n"), "stdout", 3),
            object(head, "stdout", 4),
        ];
        for (name, log) in [("cri.log", cri), ("docker.log", docker.concat())] {
            let path = write(&folder, name, log.as_bytes());
            let document = json(&[text(&path)]);
            let group = &document["groups"][0];
            assert_eq!((&document["events"], &group["packets"]), (&2.into(), &4.into()), "{name} cut at {cut}: {log}");
            assert_eq!(group["first"].as_str().and_then(|time| time.get(..19)), Some("2026-08-21T07:11:02"));
            // the rest of the last one never came
            let broken = u64::from(head.contains("eny"));
            assert_eq!(document["files"][0]["malformed"], broken, "{name} cut at {cut}");
        }
    }
}

#[test]
fn the_second_part_of_a_cut_line_is_not_taken_for_a_line() {
    let report = String::from_utf8(lab()).expect("text");
    let report = report.lines().next().and_then(|line| line.split_once("]: ")).expect("a report").1.to_owned();
    let folder = folder();
    // whoever chooses the text of a long line chooses where it is cut
    let cri = format!(
        "2026-08-21T07:11:02.010551207Z stdout P {}\n2026-08-21T07:11:02.010551207Z stdout F {report}\n",
        "x".repeat(16 << 10)
    );
    let docker = format!(
        "{}\n{}\n",
        serde_json::json!({ "log": "x".repeat(16 << 10), "stream": "stdout", "time": "2026-08-21T07:11:02Z" }),
        serde_json::json!({ "log": format!("{report}\n"), "stream": "stdout", "time": "2026-08-21T07:11:02Z" })
    );
    for (name, log) in [("cri.log", cri), ("docker.log", docker)] {
        let path = write(&folder, name, log.as_bytes());
        assert_eq!(json(&[text(&path)])["events"], 0, "{name}");
    }
}

#[test]
fn flow_logs_that_are_cut_are_counted_whatever_they_were() {
    let sample = include_str!("fixtures/logs/flowlog-samples.jsonl").lines().next().expect("a sample");
    let sample: Value = serde_json::from_str(sample).expect("JSON");
    let deny = sample["line"].as_str().expect("a line").trim_end();
    let allow = deny.replace("deny", "allow");
    let folder = folder();
    for at in (2..deny.len()).step_by(7).chain([deny.len() - 1]) {
        let log = format!("{allow}\n{}\n{deny}\n{}\n{{\n", &allow[..at], &deny[..at]);
        let path = write(&folder, "flows.log", log.as_bytes());
        let document = json(&[text(&path)]);
        assert_eq!((&document["events"], &document["files"][0]["malformed"]), (&1.into(), &2.into()), "cut at {at}");
    }
}

#[test]
fn denied_failsafe_ports_get_their_reasons() {
    let folder = folder();
    let denied = String::from_utf8(lab()).expect("text").replace("dstPort=\"443\"", "dstPort=\"6443\"");
    let path = write(&folder, "failsafe.log", denied.as_bytes());
    let reasons = |snapshot: Option<&Path>| {
        let mut args = vec![text(&path)];
        args.extend(snapshot.map(|path| ["--snapshot", text(path)]).into_iter().flatten());
        let document = json(&args);
        let reasons = document["groups"][0]["despite_failsafe"].as_array().cloned().unwrap_or_default();
        reasons.iter().map(|reason| reason.as_str().expect("text").to_owned()).collect::<Vec<_>>().join("\n")
    };
    assert!(reasons(None).contains("--snapshot"), "the host is not known");
    let snapshot = folder.path().join("snap");
    fs::create_dir_all(snapshot.join("felix")).expect("a folder");
    let addresses = r#"[{"ifindex":2,"ifname":"eth0","flags":["UP"],"link_type":"ether","addr_info":[{"family":"inet","local":"ADDR","prefixlen":24}]}]"#;
    let put = |name: &str, text: &str| fs::write(snapshot.join(name), text).expect("a file");
    put("ip-addr.json", &addresses.replace("ADDR", "10.0.1.10"));
    put("felix/calico.env", "FELIX_FAILSAFEOUTBOUNDHOSTPORTS=tcp:6443\n");
    put("felix/environ", "FELIX_FAILSAFEOUTBOUNDHOSTPORTS=tcp:6443,udp:53\0");
    let chain = |rules: &str| {
        format!(
            "*filter\n:OUTPUT ACCEPT [0:0]\n:cali-OUTPUT - [0:0]\n:cali-th-eth0 - [0:0]\n:cali-failsafe-out - [0:0]\n\
             -A OUTPUT -j cali-OUTPUT\n-A cali-OUTPUT -o eth0 -j cali-th-eth0\n-A cali-th-eth0 -j cali-failsafe-out\n\
             {rules}COMMIT\n"
        )
    };
    put("iptables-save.txt", &chain("-A cali-failsafe-out -p udp -m multiport --dports 53 -j ACCEPT\n"));
    assert!(
        reasons(Some(&snapshot)).contains("kernel's ipv4 rules do not have the entry"),
        "{}",
        reasons(Some(&snapshot))
    );
    put("iptables-save.txt", &chain("-A cali-failsafe-out -p tcp -m multiport --dports 6443 -j ACCEPT\n"));
    let now = reasons(Some(&snapshot));
    assert!(now.contains("in the kernel now") && !now.contains("no address of this host"), "{now}");
    put("ip-addr.json", &addresses.replace("ADDR", "10.0.1.99"));
    assert!(reasons(Some(&snapshot)).contains("10.0.1.10 is no address of this host"));
    fs::create_dir_all(snapshot.join("calico")).expect("a folder");
    put(
        "calico/policies.yaml",
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: security.hep-external\nspec:\n  \
         tier: security\n  selector: all()\n  applyOnForward: true\n  preDNAT: true\n  ingress:\n  - action: Deny\n",
    );
    assert!(reasons(Some(&snapshot)).contains("is a preDNAT policy"), "{}", reasons(Some(&snapshot)));
}
