//! A namespace, certificates, a collector, and messages with numbers to count.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hepguard::audit::finding::Severity;
use hepguard::forward::encode::message::{Body, Message, Notice, NoticeKind, id_of};
use hepguard::forward::encode::rfc5424::Header;
use hepguard::forward::encode::{Encoding, Envelope, Shape};
use hepguard::forward::sender::Output;
use hepguard::forward::transport::{Target, Tls};

/// Runs `test` in a thread with a network namespace of its own.
pub(crate) fn apart(name: &str, test: impl FnOnce() + Send) {
    if let Some(missing) = missing() {
        return skip(name, &missing);
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace");
            run("ip", &["link", "set", "lo", "up"]);
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Says that a test is not run, and why; where nothing may be missing it fails.
pub(crate) fn skip(name: &str, missing: &str) {
    assert!(std::env::var_os("CI").is_none(), "{name}: {missing}");
    // nobody reads it when standard error is closed
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {missing}");
}

/// What a script says to an input; `None` when it ends with an error.
pub(crate) fn python(script: &str, input: &str) -> Option<String> {
    let mut child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let _ = child.stdin.take()?.write_all(input.as_bytes());
    let output = child.wait_with_output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).expect("text"))
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let tools = [("ip", "-V"), ("rsyslogd", "-v"), ("openssl", "version")];
    let absent = tools.iter().find(|(tool, argument)| {
        Command::new(tool).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    });
    if let Some((tool, _)) = absent {
        return Some(format!("needs {tool}"));
    }
    let modules = ["imrelp.so", "lmnsd_ossl.so"];
    let folders = [
        "/usr/lib/x86_64-linux-gnu/rsyslog",
        "/usr/lib/aarch64-linux-gnu/rsyslog",
        "/usr/lib/rsyslog",
        "/usr/lib64/rsyslog",
    ];
    let lacks = |module: &&str| !folders.iter().any(|folder| Path::new(folder).join(module).exists());
    modules.iter().find(|module| lacks(module)).map(|module| format!("needs rsyslog's {module}"))
}

pub(crate) fn run(tool: &str, arguments: &[&str]) {
    let output = Command::new(tool).args(arguments).output().expect(tool);
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Certificates: an authority, a server, a client, an expired server, a server of a stranger's authority.
pub(crate) fn certificates(folder: &Path) {
    let script = r#"
set -e; cd "$1"
ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout $1.key -out $1.pem \
    -subj /CN=$1 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign; }
mk() { openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $1.key -out $1.csr -subj /CN=$2
    printf 'subjectAltName=%s\nextendedKeyUsage=%s\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n' $3 $4 >$1.ext
    openssl x509 -req -in $1.csr -CA $5.pem -CAkey $5.key -CAcreateserial -days $6 -extfile $1.ext -out $1.pem; }
ca ca; ca stranger
mk server siem.test DNS:siem.test,IP:127.0.0.1 serverAuth ca 30
mk strange siem.test DNS:siem.test,IP:127.0.0.1 serverAuth stranger 30
mk client bastion.test DNS:bastion.test clientAuth ca 30
mk expired siem.test DNS:siem.test,IP:127.0.0.1 serverAuth ca 0
chmod 644 *.key
"#;
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(folder).output().expect("sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A collector.
pub(crate) struct Rsyslog {
    child: Child,
    pub(crate) folder: PathBuf,
    config: String,
}

/// What it writes for each message: sequence, id and text, from the structured data.
impl Rsyslog {
    /// Starts it with these inputs; `ruleset="rx"` writes to `out.log`.
    pub(crate) fn start(folder: &Path, inputs: &str) -> Self {
        Self::with_config(folder, &config(folder, inputs))
    }

    /// Starts it with a whole configuration.
    pub(crate) fn with_config(folder: &Path, config: &str) -> Self {
        let mut one = Self { child: spawn(folder, config), folder: folder.to_owned(), config: config.to_owned() };
        one.wait_until_up();
        one
    }

    fn wait_until_up(&mut self) {
        let ports: Vec<u16> =
            self.config.split("port=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect();
        let end = Instant::now() + Duration::from_secs(20);
        while !ports.iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
            let ended = self.child.try_wait().expect("a child");
            let log = fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < end, "rsyslogd does not listen: {log}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Ends it as `systemctl restart` does, or at once.
    pub(crate) fn stop(&mut self, gently: bool) {
        if gently {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let end = Instant::now() + Duration::from_secs(10);
            while self.child.try_wait().expect("a child").is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.folder, &self.config);
        self.wait_until_up();
    }

    /// Lines written so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = fs::read(self.folder.join("out.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    /// Waits until `enough` holds for the lines.
    pub(crate) fn wait_for(&self, patience: Duration, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let end = Instant::now() + patience;
        loop {
            let lines = self.lines();
            if enough(&lines) || Instant::now() >= end {
                return lines;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration that writes what arrives to `out.log`.
fn config(folder: &Path, inputs: &str) -> String {
    let path = folder.display();
    format!(
        r#"global(workDirectory="{path}" maxMessageSize="64k"
  defaultNetstreamDriverCAFile="{path}/ca.pem" defaultNetstreamDriverCertFile="{path}/server.pem" defaultNetstreamDriverKeyFile="{path}/server.key")
module(load="imtcp") module(load="imrelp")
template(name="dump" type="list") {{ property(name="hostname") constant(value=" | ") property(name="app-name") constant(value=" | ")
  property(name="msgid") constant(value=" | ") property(name="structured-data") constant(value=" | ") property(name="msg") constant(value="\n") }}
ruleset(name="rx") {{ action(type="omfile" file="{path}/out.log" template="dump" flushOnTXEnd="on") }}
{inputs}
"#
    )
}

fn spawn(folder: &Path, config: &str) -> Child {
    let file = folder.join("rsyslog.conf");
    fs::write(&file, config).expect("written");
    let errors = fs::File::create(folder.join("stderr")).expect("a file");
    Command::new("rsyslogd")
        .args(["-n", "-f"])
        .arg(&file)
        .arg("-i")
        .arg(folder.join("pid"))
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .expect("rsyslogd")
}

pub(crate) fn input(kind: &str, port: u16, more: &str) -> String {
    format!("input(type=\"{kind}\" port=\"{port}\" address=\"127.0.0.1\" ruleset=\"rx\" {more})\n")
}

/// An output that tries again soon.
pub(crate) fn output(target: Target) -> Output {
    Output {
        name: "siem".to_owned(),
        target,
        encoding: Encoding { shape: Shape::Text, envelope: Envelope::Syslog(Header::default()) },
        max_bytes: 16 << 20,
        max_per_second: 1_000_000,
        least: Severity::Info,
        denies: true,
        retry: (Duration::from_millis(50), Duration::from_millis(400)),
    }
}

pub(crate) fn tls(folder: &Path) -> Tls {
    Tls {
        ca: folder.join("ca.pem"),
        certificate: Some(folder.join("client.pem")),
        key: Some(folder.join("client.key")),
        name: Some("siem.test".to_owned()),
    }
}

/// A message that says its number.
pub(crate) fn numbered(number: u64, text: &str) -> Message<'static> {
    Message {
        id: id_of(&[b"test", &number.to_le_bytes()]),
        time: 1_795_241_652_345_000,
        host: "bastion",
        body: Body::Notice(Notice {
            kind: NoticeKind::Test,
            text: text.to_owned(),
            fields: vec![("number", number.to_string())],
        }),
    }
}

/// The numbers in what a collector wrote, in order.
pub(crate) fn numbers(lines: &[String]) -> Vec<u64> {
    lines.iter().filter_map(|line| line.split("number=\"").nth(1)?.split('"').next()?.parse().ok()).collect()
}

pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(0)
}
