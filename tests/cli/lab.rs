//! What the tests of the program share: calling it, and private network namespaces.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// The program under test.
pub(crate) const HEPGUARD: &str = env!("CARGO_BIN_EXE_hepguard");

/// Exit code, standard output and standard error of a finished program.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Calls hepguard. It must end by itself, without a panic.
pub(crate) fn hepguard<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Answer {
    let answer: Answer = Command::new(HEPGUARD).args(arguments).output().expect("hepguard starts").into();
    assert!(answer.code.is_some_and(|code| code < 6), "ended badly: {answer:?}");
    answer
}

/// Why the kernel cannot be asked here, for a test called `name`: fails when `CI` is set, else says so.
pub(crate) fn unable(name: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    let tools = ["ip", "nft", "iptables-nft", "iptables-legacy", "ipset", "setpriv"];
    let missing: Vec<&str> =
        tools.into_iter().filter(|tool| Command::new(tool).arg("--version").output().is_err()).collect();
    if root && missing.is_empty() {
        return false;
    }
    let reason = if root { format!("missing: {}", missing.join(", ")) } else { "needs root".to_owned() };
    assert!(std::env::var_os("CI").is_none(), "{name}: {reason}");
    eprintln!("SKIPPED {name}: {reason}");
    true
}

/// A network namespace of its own; gone when dropped, with everything in it.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("hg-cli-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = Command::new("ip").args(["netns", "add", &name]).status().expect("ip starts");
        assert!(made.success(), "a network namespace");
        let namespace = Self { name };
        namespace.sh("ip link set lo up");
        namespace
    }

    /// A command in the namespace, ready to be changed further.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a shell script that must succeed; gives what it prints.
    pub(crate) fn sh(&self, script: &str) -> String {
        let answer: Answer = self.command("sh").args(["-ec", script]).output().expect("sh starts").into();
        assert_eq!(answer.code, Some(0), "{script}: {}", answer.err);
        answer.out
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// All files below a folder with their texts.
pub(crate) fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let bytes = std::fs::read(&path).expect("readable");
                found.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    found
}
