//! The daemon as a service: what systemd hears, what clients are answered, what a reload does, how it ends.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::{Rig, SOON, append, deny, open};

#[test]
fn systemd_hears_when_it_is_ready_reloads_and_stops() {
    let mut rig = Rig::new("");
    let ear = UnixDatagram::bind(rig.path("notify")).expect("bound");
    ear.set_read_timeout(Some(SOON)).expect("set");
    let hear = || {
        let mut buffer = [0; 4096];
        let got = ear.recv(&mut buffer).expect("a word");
        String::from_utf8_lossy(&buffer[..got]).into_owned()
    };
    let until = |start: &str| while !hear().starts_with(start) {};
    let child = rig.command().arg("watch").env("NOTIFY_SOCKET", rig.path("notify")).spawn().expect("starts");
    rig.child = Some(child);
    until("READY=1\nSTATUS=watching ");
    rig.configure("[alerts]\nburst = 7\n");
    rig.signal(Signal::SIGHUP);
    until("RELOADING=1\nMONOTONIC_USEC=");
    until("READY=1");
    rig.configure("[alerts]\nbrust = 7\n");
    rig.signal(Signal::SIGHUP);
    until("READY=1\nSTATUS=configuration refused: ");
    let status = rig.until("the refusal", |status| !open(status, "HG526").is_empty());
    let title = open(&status, "HG526")[0]["title"].as_str().expect("text").to_owned();
    assert!(title.contains(": unknown key \"brust\""), "{title}");
    rig.configure("");
    rig.signal(Signal::SIGHUP);
    rig.until("the mended file", |status| open(status, "HG526").is_empty());
    rig.signal(Signal::SIGTERM);
    until("STOPPING=1");
    assert_eq!(rig.child.take().expect("started").wait().expect("ends").code(), Some(0));
    assert!(!rig.path("status.sock").exists(), "its sockets are gone with it");
}

#[test]
fn status_answers_in_text_and_json_and_exits_as_the_contract_says() {
    let mut rig = Rig::new("[alerts]\nlearn = \"0s\"\n");
    rig.start().judged();
    append(&rig.path("syslog"), &deny(8443, 1));
    rig.until("the deny", |status| status["totals"]["denies"] == 1);
    let ask = |arguments: &[&str]| rig.command().arg("status").args(arguments).output().expect("runs");
    let output = ask(&["--format", "json", "--fail-on", "medium"]);
    assert_eq!(output.status.code(), Some(1), "a new kind of deny from this host is of medium severity");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let schema: Value = serde_json::from_str(hepguard::report::status::SCHEMA).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource("status.v1.json", schema).expect("a resource");
    let index = compiler.compile("status.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&value, index) {
        panic!("{error}\n{value:#}");
    }
    assert_eq!(open(&value, "HG511").len(), 1);
    let text = String::from_utf8(ask(&[]).stdout).expect("text");
    assert!(text.contains("denied for the first time: egress tcp/8443 by hep-external"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(ask(&["--format", "yaml"]).status.code(), Some(2));
    assert_eq!(ask(&["--socket", "/nowhere"]).status.code(), Some(2));
}

#[test]
fn metrics_come_over_the_socket_and_as_a_file() {
    let mut rig = Rig::new("");
    let file = rig.path("hepguard.prom");
    rig.configure(&format!("textfile = {file:?}\n[alerts]\nmotd = {:?}\n", rig.path("motd")));
    append(&rig.path("syslog"), &deny(443, 1));
    rig.start().judged();
    rig.until("the deny", |status| status["totals"]["denies"] == 1);
    let mut stream = UnixStream::connect(rig.path("metrics.sock")).expect("connected");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let line = "\nhepguard_denies_total{direction=\"egress\",tier=\"security\",policy=\"hep-external\"} 1\n";
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains(line) && text.ends_with("# EOF\n"), "{text}");
    let written = std::fs::read_to_string(file).unwrap_or_default();
    let findings = rig.status().expect("answers")["alerts"].as_array().map_or(0, Vec::len);
    assert!(findings == 0 || written.ends_with("# EOF\n"), "written with the first alert: {written}");
}

#[test]
fn a_second_one_and_a_mistake_are_refused() {
    let mut rig = Rig::new("");
    rig.start();
    let second = rig.command().arg("watch").output().expect("runs");
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another hepguard watch has "), "{second:?}");
    let broken = Rig::new("[alerts]\nx = 1\n");
    assert_eq!(broken.command().arg("watch").output().expect("runs").status.code(), Some(2));
    assert_eq!(rig.command().args(["--snapshot", "/tmp", "watch"]).output().expect("runs").status.code(), Some(2));
    assert_eq!(rig.stop(), Some(0));
}

#[test]
fn the_unit_is_sound_and_its_exposure_at_most_1_8() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/hepguard.service");
    let analyze = "/usr/bin/systemd-analyze";
    if !Path::new(analyze).exists() {
        assert!(std::env::var_os("CI").is_none(), "needs systemd-analyze");
        return println!("SKIPPED: needs systemd-analyze");
    }
    let output = Command::new(analyze)
        .args(["security", "--offline=yes", "--no-pager", "--threshold=18", unit])
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(output.status.success(), "{last}");
    println!("{last}");
    // the same unit with a program that is there
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("hepguard.service");
    let body = std::fs::read_to_string(unit).expect("read").replace("/usr/bin/hepguard", "/bin/true");
    std::fs::write(&copy, body).expect("written");
    let output = Command::new(analyze).args(["verify", "--man=no"]).arg(&copy).output().expect("runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
