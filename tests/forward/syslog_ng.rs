//! A second receiver that judges what is sent: syslog-ng, which takes structured data apart and shows what it understood.
//!
//! It cannot be installed beside rsyslog, so that `tests/run` only unpacks it; `HEPGUARD_SYSLOG_NG` names the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hepguard::forward::frame::Framing;
use hepguard::forward::sender::Forwarder;
use hepguard::forward::transport::Target;
use serde_json::Value;

use crate::rig::{apart, certificates, now, numbered, output, skip, tls};

/// Messages as logs hold them, and what the receiver must understand.
const TEXTS: [(&str, &str); 6] = [
    ("plain", "plain"),
    ("two\nlines\r\n12 <13>1 forged", "two\\nlines\\r\\n12 <13>1 forged"),
    ("a \"quoted\" \\ value] [x y=\"z\"]", "a \"quoted\" \\ value] [x y=\"z\"]"),
    ("<script>alert(1)</script> =cmd()", "<script>alert(1)</script> =cmd()"),
    ("Zürich 東京", "Zürich 東京"),
    ("two  blanks", "two  blanks"),
];

struct SyslogNg(Child);

impl Drop for SyslogNg {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The folder it was unpacked to, or nothing when it is installed; `None` when there is none.
fn found() -> Option<PathBuf> {
    let unpacked = std::env::var_os("HEPGUARD_SYSLOG_NG").map(PathBuf::from);
    match unpacked {
        Some(folder) => folder.join("usr/sbin/syslog-ng").exists().then_some(folder),
        None => Path::new("/usr/sbin/syslog-ng").exists().then(PathBuf::new),
    }
}

/// Folders below `root` with shared libraries.
fn libraries(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in ["lib", "usr/lib"] {
        let inner = fs::read_dir(root.join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
        for folder in inner.filter(|path| path.is_dir()) {
            let deeper = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
            all.extend(
                deeper.filter(|path| path.is_dir() && path.parent().is_some_and(|up| up.ends_with("syslog-ng"))),
            );
            all.push(folder);
        }
    }
    all
}

fn start(root: &Path, folder: &Path) -> SyslogNg {
    let path = folder.display();
    let version = "@version: 3.38\n";
    let tls = format!(
        "key-file(\"{path}/server.key\") cert-file(\"{path}/server.pem\") ca-file(\"{path}/ca.pem\") \
         peer-verify(required-trusted) trusted-dn(\"*CN=bastion.test*\")"
    );
    let config = format!(
        r#"{version}options {{ keep-hostname(yes); log-msg-size(65536); }};
source s {{
  syslog(ip("127.0.0.1") port(6020) transport("tcp"));
  syslog(ip("127.0.0.1") port(6524) transport("tls") tls({tls}));
  syslog(ip("127.0.0.1") port(6525) transport("tls") tls({tls} ssl-options(no-sslv2, no-sslv3, no-tlsv1, no-tlsv11, no-tlsv13)));
  syslog(ip("127.0.0.1") port(6526) transport("tls") tls({tls} ssl-options(no-sslv2, no-sslv3, no-tlsv1, no-tlsv11, no-tlsv12)));
}};
destination d {{ file("{path}/out.json" template("$(format-json --scope rfc5424,nv-pairs,sdata)\n")); }};
log {{ source(s); destination(d); }};
"#
    );
    let file = folder.join("syslog-ng.conf");
    fs::write(&file, config).expect("written");
    let libraries = libraries(root);
    let mut command = Command::new(Path::new("/").join(root).join("usr/sbin/syslog-ng"));
    if !root.as_os_str().is_empty() {
        let modules: Vec<String> = libraries
            .iter()
            .filter(|path| path.join("libafsocket.so").exists())
            .map(|path| path.display().to_string())
            .collect();
        command
            .arg(format!("--module-path={}", modules.join(":")))
            .env("LD_LIBRARY_PATH", std::env::join_paths(&libraries).expect("paths"));
    }
    let errors = folder.join("stderr");
    let child = command
        .args(["-F", "-e", "-f"])
        .arg(&file)
        .arg("-p")
        .arg(folder.join("pid"))
        .arg("-c")
        .arg(folder.join("control"))
        .arg("-R")
        .arg(folder.join("persist"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(&errors).expect("a file"))
        .spawn()
        .expect("syslog-ng starts");
    let mut one = SyslogNg(child);
    let end = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", 6020)).is_err() {
        let said = fs::read_to_string(&errors).unwrap_or_default();
        assert!(
            one.0.try_wait().expect("a child").is_none() && Instant::now() < end,
            "syslog-ng does not listen: {said}"
        );
        std::thread::sleep(Duration::from_millis(30));
    }
    one
}

fn received(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("out.json")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn syslog_ng_understands_every_message_over_tcp_and_tls() {
    let name = "syslog_ng_understands_every_message_over_tcp_and_tls";
    let Some(root) = found() else { return skip(name, "needs syslog-ng, or HEPGUARD_SYSLOG_NG") };
    apart(name, || {
        let dir = tempfile::tempdir().expect("a folder");
        certificates(dir.path());
        let _collector = start(&root, dir.path());
        let counted = Framing::OctetCounting;
        let targets = [
            Target::Tcp { address: "127.0.0.1:6020".to_owned(), framing: counted },
            Target::Tls { address: "127.0.0.1:6524".to_owned(), tls: tls(dir.path()) },
            // one that speaks TLS 1.2 only, one that speaks TLS 1.3 only
            Target::Tls { address: "127.0.0.1:6525".to_owned(), tls: tls(dir.path()) },
            Target::Tls { address: "127.0.0.1:6526".to_owned(), tls: tls(dir.path()) },
        ];
        let all = 300;
        for (round, target) in targets.into_iter().enumerate() {
            let state = tempfile::tempdir().expect("a folder");
            let outputs = vec![output(target.clone())];
            let (forwarder, _) = Forwarder::start(state.path(), outputs, "bastion", now).expect("started");
            for number in 0..all {
                forwarder.submit(&numbered(number, TEXTS[number as usize % TEXTS.len()].0));
            }
            forwarder.flush().expect("written");
            let status = forwarder.stop(Duration::from_secs(20)).remove(0);
            assert_eq!(status.lanes[0].waiting, 0, "{target}: {status:?}");
            let from = round * all as usize;
            let end = Instant::now() + Duration::from_secs(10);
            while received(dir.path()).len() < from + all as usize && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
            let messages = received(dir.path()).split_off(from);
            assert_eq!(messages.len(), all as usize, "{target}: each message is one");
            for (number, message) in messages.iter().enumerate() {
                let data = &message["_SDATA"];
                assert_eq!(data["health@32473"]["number"], number.to_string(), "{target}: {message}");
                let id = data["hepguard@32473"]["id"].as_str();
                assert!(id.is_some_and(|id| id.len() >= 16), "{target}: {message}");
                assert_eq!(message["MESSAGE"], TEXTS[number % TEXTS.len()].1, "{target}");
                let head = ["HOST", "PROGRAM", "MSGID"].map(|key| message[key].as_str().unwrap_or_default());
                assert_eq!(head, ["bastion", "hepguard", "HEALTH"], "{target}");
            }
        }
    });
}

/// What syslog-ng says when a connection ends without `close_notify`: somebody may have cut it.
const CUT: &str = "unexpected eof while reading";

#[test]
fn syslog_ng_is_told_when_a_connection_over_tls_ends() {
    let name = "syslog_ng_is_told_when_a_connection_over_tls_ends";
    let Some(root) = found() else { return skip(name, "needs syslog-ng, or HEPGUARD_SYSLOG_NG") };
    apart(name, || {
        let dir = tempfile::tempdir().expect("a folder");
        certificates(dir.path());
        let _collector = start(&root, dir.path());
        let said = || fs::read_to_string(dir.path().join("stderr")).unwrap_or_default();
        let closed = |connections: usize| {
            let end = Instant::now() + Duration::from_secs(20);
            while said().matches("connection closed").count() < connections && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
            said()
        };
        // connections of the rig that looked whether it listens
        std::thread::sleep(Duration::from_millis(300));
        let before = said().matches("connection closed").count();
        for (count, address) in [(1, "127.0.0.1:6525"), (2, "127.0.0.1:6526")] {
            let state = tempfile::tempdir().expect("a folder");
            let to = output(Target::Tls { address: address.to_owned(), tls: tls(dir.path()) });
            let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
            forwarder.submit(&numbered(1, "x"));
            assert_eq!(forwarder.stop(Duration::from_secs(20)).remove(0).lanes[0].waiting, 0, "{address}");
            let said = closed(before + count);
            assert!(said.matches("connection closed").count() >= before + count, "{address}: {said}");
            assert!(!said.contains(CUT), "{address}: {said}");
        }
        // and it does say so when there was none
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", "127.0.0.1:6525", "-CAfile"])
            .arg(dir.path().join("ca.pem"))
            .arg("-cert")
            .arg(dir.path().join("client.pem"))
            .arg("-key")
            .arg(dir.path().join("client.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        std::thread::sleep(Duration::from_secs(1));
        let _ = client.kill();
        let _ = client.wait();
        let said = closed(before + 3);
        assert!(said.contains(CUT), "{said}");
    });
}
