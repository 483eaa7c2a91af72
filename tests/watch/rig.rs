//! A daemon of its own: folder, configuration, sockets, log.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longest wait for anything: this machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) child: Option<Child>,
    /// Who runs it, when not this user.
    pub(crate) user: Option<u32>,
}

impl Rig {
    /// A folder with a log and a configuration that names both; `more` is added to it.
    pub(crate) fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("syslog"), "").expect("written");
        let rig = Self { folder, child: None, user: None };
        rig.configure(more);
        rig
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn configure(&self, more: &str) {
        let at = self.folder.path().display();
        let text = format!(
            "[logs]\nfiles = [\"{at}/syslog\"]\nfrom = \"beginning\"\njournal = \"off\"\n[state]\ndirectory = \"{at}/state\"\n\
             socket = \"{at}/status.sock\"\n[metrics]\nsocket = \"{at}/metrics.sock\"\n{more}"
        );
        fs::write(self.path("hepguard.toml"), text).expect("written");
    }

    pub(crate) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_hepguard");
        let mut command = match self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                let user = user.to_string();
                command.args(["--reuid", &user, "--regid", &user, "--clear-groups", program]);
                command
            }
        };
        command
            .arg("--config")
            .arg(self.path("hepguard.toml"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM");
        command
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&mut self) -> &mut Self {
        let errors = File::options().create(true).append(true).open(self.path("errors")).expect("opened");
        let child = self.command().arg("watch").stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn();
        self.child = Some(child.expect("starts"));
        let _ = self.until("an answer", |_| true);
        self
    }

    pub(crate) fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("started");
        Pid::from_raw(i32::try_from(child.id()).expect("a pid"))
    }

    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(self.path("errors")).unwrap_or_default()
    }

    /// What the status socket says now.
    pub(crate) fn status(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(self.path("status.sock")).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Waits until the status is as wanted, and gives it.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_within(SOON, what, wanted)
    }

    /// Waits as long as `most`.
    pub(crate) fn until_within(&mut self, most: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "{what}: the daemon ended: {ended:?}\n{}", self.errors());
            let shown = status.map(|status| format!("{:#}", status["totals"])).unwrap_or_default();
            assert!(began.elapsed() < most, "{what} does not come\n{shown}\n{}", self.errors());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the first judgement.
    pub(crate) fn judged(&mut self) -> Value {
        self.until("a judgement", |status| !status["firewall"]["judged"].is_null())
    }

    /// Ends it as the kernel does when memory runs out.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a signal is sent");
    }

    /// Ends it as systemd does, and gives the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("started");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("waited") {
                return status.code();
            }
            if began.elapsed() > SOON {
                let _ = child.kill();
                panic!("does not end\n{}", self.errors());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A line of Felix, as rsyslog writes it.
///
/// Lines differ in port, time and size only, so that denies of one port are one kind.
pub(crate) fn deny(port: u16, number: usize) -> String {
    let (caller, second) = (1024 + number % 60_000, number / 60_000 % 3600);
    let (packets, bytes) = size(number);
    format!(
        "Aug  4 16:{:02}:{:02} bastion calico-felix[312412]: INFO <nil> <nil>:  action=\"deny\" dstIP=\"147.75.40.148\" dstPort=\"{port}\" \
         inBytes=0 inPackets=0 outBytes={bytes} outPackets={packets} policy=\"hep-external\" proto=\"6\" rule=\"-1\" ruleDir=\"egress\" \
         srcIP=\"10.0.1.10\" srcPort=\"{caller}\" tier=\"security\" trafficDir=\"outbound\" updateType=report\n",
        second / 60,
        second % 60
    )
}

/// Packets and bytes of the deny with this number.
pub(crate) fn size(number: usize) -> (u64, u64) {
    let packets = 1 + number as u64 % 5;
    (packets, 60 * packets + number as u64 % 7)
}

pub(crate) fn append(path: &Path, text: &str) {
    let mut file = File::options().create(true).append(true).open(path).expect("opened");
    file.write_all(text.as_bytes()).expect("written");
}

/// Open alerts with this code.
pub(crate) fn open<'a>(status: &'a Value, code: &str) -> Vec<&'a Value> {
    let alerts = status["alerts"].as_array().expect("alerts");
    alerts.iter().filter(|alert| alert["code"] == code && alert["resolved"].is_null()).collect()
}

/// Why tests with namespaces cannot run here.
pub(crate) fn lacking(tools: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let there = |tool: &&&str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(tool).exists())
    };
    tools.iter().find(|tool| !there(tool)).map(|tool| format!("needs {tool}"))
}

/// Runs `body` in a network namespace of its own, or says why not.
pub(crate) fn in_namespace(name: &str, tools: &[&str], body: impl FnOnce() + Send) {
    if let Some(reason) = lacking(tools) {
        assert!(std::env::var_os("CI").is_none(), "{name}: {reason}");
        println!("{name}: SKIPPED: {reason}");
        return;
    }
    // each watches the machine's tools, so that they would disturb one another
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let outcome = std::thread::scope(|scope| {
        let inside = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            body();
        };
        scope.spawn(inside).join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn sh(script: &str) {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new("sh").args(["-ec", script]).env("PATH", path).output().expect("sh starts");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
