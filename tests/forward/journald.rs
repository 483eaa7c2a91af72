//! systemd's own journald, alone in a mount namespace: what is sent to it, and what `journalctl` reads back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hepguard::audit::finding::{Finding, Severity};
use hepguard::forward::encode::message::{Body, Message, Notice, NoticeKind, State, id_of};
use hepguard::forward::encode::rfc5424::Header;
use hepguard::forward::encode::{Encoding, Envelope, Shape};
use hepguard::forward::sender::{Forwarder, Output};
use hepguard::forward::transport::Target;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::rig::{now, numbered, output, skip};

const DAEMON: &str = "/lib/systemd/systemd-journald";

struct Journald {
    child: Child,
    folder: PathBuf,
}

impl Journald {
    fn start(folder: &Path) -> Self {
        let settings = folder.join("run/systemd/journald.conf.d");
        fs::create_dir_all(&settings)
            .and_then(|()| fs::create_dir_all(folder.join("run/systemd/journal")))
            .expect("made");
        // nothing of the machine's own, and no limit
        let text = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToWall=no\nRateLimitIntervalSec=0\n";
        fs::write(settings.join("test.conf"), text).expect("written");
        let mut one = Self { child: spawn(folder), folder: folder.to_owned() };
        one.wait_until_up();
        one
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run/systemd/journal/socket")
    }

    fn wait_until_up(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        while UnixDatagram::unbound().and_then(|socket| socket.connect(self.socket())).is_err() {
            let ended = self.child.try_wait().expect("a child");
            let said = fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < end, "journald does not listen: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), signal).expect("sent");
    }

    fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        let _ = self.child.wait();
    }

    fn start_again(&mut self) {
        self.child = spawn(&self.folder);
        self.wait_until_up();
    }

    /// Entries of hepguard, by somebody else's reader.
    fn entries(&self) -> Vec<Value> {
        let read = Command::new("journalctl")
            .arg("-D")
            .arg(self.folder.join("run/log/journal"))
            .args(["--quiet", "--no-pager", "--all", "--output=json", "SYSLOG_IDENTIFIER=hepguard"])
            .output()
            .expect("journalctl runs");
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let text = String::from_utf8(read.stdout).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path) -> Child {
    let script = format!("mount --bind \"$1/run\" /run && exec {DAEMON}");
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("stderr")).expect("a file"))
        .spawn()
        .expect("unshare starts")
}

fn lacking() -> Option<String> {
    let there = |tool: &&&str| ["/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(tool).exists());
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if !Path::new(DAEMON).exists() {
        return Some(format!("needs {DAEMON}"));
    }
    ["unshare", "journalctl"].iter().find(|tool| !there(tool)).map(|tool| format!("needs {tool}"))
}

fn to(journald: &Journald) -> Output {
    let envelope = Envelope::Journal(Header::default());
    Output { encoding: Encoding { shape: Shape::Text, envelope }, ..output(Target::Journald(journald.socket())) }
}

/// A value as bytes: journalctl gives text as text, and anything else as numbers.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(all) => {
            all.iter().map(|byte| u8::try_from(byte.as_u64().expect("a byte")).expect("a byte")).collect()
        }
        other => panic!("{other}"),
    }
}

fn number(entry: &Value) -> Option<u64> {
    entry["HEPGUARD_NUMBER"].as_str()?.parse().ok()
}

#[test]
fn the_journal_has_every_message_intact_whatever_is_in_it() {
    if let Some(missing) = lacking() {
        return skip("the_journal_has_every_message_intact_whatever_is_in_it", &missing);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let journald = Journald::start(dir.path());
    let state = tempfile::tempdir().expect("a folder");
    let (forwarder, _) = Forwarder::start(state.path(), vec![to(&journald)], "bastion", now).expect("started");
    let hostile = [
        "plain",
        "two\nlines\r\n\nMESSAGE=forged\nPRIORITY=0\n_PID=1\n",
        "a \"quoted\" \\ value] [x y=\"z\"]",
        "\u{1b}[31mred\u{7}\u{9b}31m\0",
        "Zürich 東京 \u{202e}",
        "\n\n=\n",
    ];
    for (number, text) in (0..600).zip(hostile.iter().cycle()) {
        forwarder.submit(&numbered(number, text));
    }
    // evidence in lines, and longer than a datagram of a small host; raw lines with any byte
    let long = "line\n".repeat(3000);
    let finding = Finding::coded("HG251", "plan-flow-lost", Severity::Critical, json!({ "port": 22 }), "SSH is\nlost")
        .evidence("calico.env:4", "two\nlines");
    let much = finding.clone().evidence("rules", long);
    for (id, finding) in [("few", &finding), ("much", &much)] {
        let body = Body::Finding { finding, state: State::New };
        forwarder.submit(&Message { id: id.to_owned(), time: 1_795_241_652_345_000, host: "bastion", body });
    }
    let status = forwarder.stop(Duration::from_secs(20)).remove(0);
    assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
    let entries = journald.entries();
    assert_eq!(entries.len(), 602, "no message became two");
    for (at, entry) in entries.iter().take(600).enumerate() {
        assert_eq!((number(entry), &entry["HEPGUARD_SEQ"]), (Some(at as u64), &(at + 1).to_string().into()));
        assert_eq!(bytes(&entry["HEPGUARD_TEXT"]), hostile[at % hostile.len()].as_bytes(), "exactly what was said");
        let message = entry["MESSAGE"].as_str().expect("printable text");
        assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
        let fixed = ["PRIORITY", "SYSLOG_FACILITY", "MESSAGE_ID", "HEPGUARD_KIND", "HEPGUARD_NOTICE", "HEPGUARD_HOST"];
        let expected = ["6", "16", "6f1d0a5be3f34ec19f2f6b1a0d7c5513", "HEALTH", "test", "bastion"];
        assert_eq!(fixed.map(|key| entry[key].as_str().unwrap_or_default()), expected, "{entry:#}");
        assert_eq!(entry["_PID"], std::process::id().to_string(), "journald's own word");
    }
    let (few, much) = (&entries[600], &entries[601]);
    assert_eq!((&few["PRIORITY"], &few["HEPGUARD_CODE"]), (&"2".into(), &"HG251".into()));
    assert_eq!((&few["HEPGUARD_TITLE"], &few["HEPGUARD_CUT"]), (&"SSH is\nlost".into(), &Value::Null));
    assert_eq!(few["HEPGUARD_EVIDENCE"], "calico.env:4: two\nlines");
    assert_eq!(few["MESSAGE"], "HG251 plan-flow-lost (critical, new): SSH is\\nlost");
    assert_eq!(much["HEPGUARD_CUT"], "HEPGUARD_EVIDENCE", "what is cut is told");
    assert!(bytes(&much["HEPGUARD_EVIDENCE"]).len() > 8000);
}

/// A way whose datagrams have no room for an entry: it goes as a file in memory.
#[test]
fn the_journal_takes_an_entry_that_is_longer_than_a_datagram() {
    if let Some(missing) = lacking() {
        return skip("the_journal_takes_an_entry_that_is_longer_than_a_datagram", &missing);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let journald = Journald::start(dir.path());
    let mut link = hepguard::forward::transport::open(&Target::Journald(journald.socket())).expect("a way");
    let long = "x\n".repeat(1 << 20);
    let notice = Notice { kind: NoticeKind::Test, text: "x".to_owned(), fields: vec![("number", "7".to_owned())] };
    let message = Message { id: id_of(&[b"x"]), time: 0, host: "bastion", body: Body::Notice(notice) };
    let mut entry = to(&journald).encoding.payload(&message, ("findings", 1));
    hepguard::forward::encode::journal::field(&mut entry, "HEPGUARD_LONG", long.as_bytes());
    let mut delivered = link.send(&[entry]).expect("sent");
    let end = Instant::now() + Duration::from_secs(20);
    while delivered == 0 && Instant::now() < end {
        delivered += link.settle(Duration::from_millis(100)).expect("alive");
    }
    let entries = journald.entries();
    assert_eq!((delivered, entries.len(), number(&entries[0])), (1, 1, Some(7)));
    assert_eq!(bytes(&entries[0]["HEPGUARD_LONG"]), long.as_bytes());
}

/// Syslog on journald's own `/dev/log`: program and process are told apart, and the fields are in the text.
#[test]
fn the_journal_understands_what_its_syslog_socket_gets() {
    if let Some(missing) = lacking() {
        return skip("the_journal_understands_what_its_syslog_socket_gets", &missing);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let journald = Journald::start(dir.path());
    let state = tempfile::tempdir().expect("a folder");
    let target = Target::Unix(dir.path().join("run/systemd/journal/dev-log"));
    let encoding = Encoding { shape: Shape::Text, envelope: Envelope::Local(Header { pid: 42, ..Header::default() }) };
    let (forwarder, _) =
        Forwarder::start(state.path(), vec![Output { encoding, ..output(target) }], "bastion", now).expect("started");
    for number in 0..50 {
        forwarder.submit(&numbered(number, "two\nlines"));
    }
    assert_eq!(forwarder.stop(Duration::from_secs(10)).remove(0).lanes[0].waiting, 0);
    let end = Instant::now() + Duration::from_secs(10);
    while journald.entries().len() < 50 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let entries = journald.entries();
    assert_eq!(entries.len(), 50);
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!((&entry["SYSLOG_PID"], &entry["PRIORITY"]), (&"42".into(), &"6".into()));
        let message = entry["MESSAGE"].as_str().expect("text");
        let number = format!("[health@32473 kind=\"test\" number=\"{at}\"] two\\nlines");
        assert!(message.starts_with("HEALTH [hepguard@32473 id=\"") && message.ends_with(&number), "{message}");
    }
}

#[test]
fn a_journald_that_stops_hangs_and_dies_misses_nothing() {
    if let Some(missing) = lacking() {
        return skip("a_journald_that_stops_hangs_and_dies_misses_nothing", &missing);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut journald = Journald::start(dir.path());
    let state = tempfile::tempdir().expect("a folder");
    let (forwarder, _) = Forwarder::start(state.path(), vec![to(&journald)], "bastion", now).expect("started");
    let mut made = 0;
    let mut some = |count: u64| {
        for _ in 0..count {
            forwarder.submit(&numbered(made, "x\ny"));
            made += 1;
        }
        forwarder.flush().expect("written");
        made
    };
    for round in 0..3 {
        let _ = some(300);
        journald.stop(Signal::SIGTERM);
        let made = some(300);
        std::thread::sleep(Duration::from_millis(300));
        let waiting = forwarder.status()[0].lanes[0].waiting;
        assert!((300..=made).contains(&waiting), "round {round}: nobody is there: {waiting} wait");
        journald.start_again();
        let _ = some(300);
        // it takes nothing for a while, and is killed with what its socket holds
        let end = Instant::now() + Duration::from_secs(20);
        while forwarder.status()[0].lanes[0].waiting > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        journald.signal(Signal::SIGSTOP);
        let made = some(2000);
        std::thread::sleep(Duration::from_millis(300));
        let waiting = forwarder.status()[0].lanes[0].waiting;
        assert!(
            (2000..=made).contains(&waiting),
            "round {round}: what its socket holds does not count: {waiting} wait"
        );
        journald.stop(Signal::SIGKILL);
        journald.start_again();
    }
    let status = forwarder.stop(Duration::from_secs(30)).remove(0);
    assert_eq!((status.lanes[0].waiting, status.lost), (0, 0), "{status:?}");
    let entries = journald.entries();
    let distinct: BTreeSet<u64> = entries.iter().filter_map(number).collect();
    assert_eq!(distinct, (0..made).collect(), "{} entries", entries.len());
    let ids: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["HEPGUARD_ID"].as_str()).collect();
    assert_eq!(ids.len() as u64, made, "what came twice has the same id");
}
