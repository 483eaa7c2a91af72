//! Running a command in the copy, and looking at the copy.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Step;
use crate::ruleset::kernel::KernelTables;
use crate::system::{Output, Real, RunError, System};

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself, with this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It was not done in time, and was ended with everything it had started.
    Timeout(Duration),
}

/// Status of `setpriv` when the program is not there or cannot be run.
const NOT_STARTED: [i32; 3] = [1, 126, 127];

impl Ended {
    /// It did what it had to.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }

    /// The program could not be started at all, by what was said.
    #[must_use]
    pub fn is_not_started(self, said: &str) -> bool {
        NOT_STARTED.iter().any(|status| self == Self::Status(*status)) && said.contains("failed to execute")
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Timeout(limit) => write!(f, "not done within {} s, and ended", limit.as_secs()),
        }
    }
}

/// Most bytes kept of what a command writes: the end of it.
const KEPT: usize = 32 * 1024;

/// Where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What root may do there.
const RIGHTS: &str = "-all,+chown,+dac_override,+dac_read_search,+fowner,+fsetid,+kill,+setgid,+setuid,+setfcap,\
                      +net_bind_service,+net_broadcast,+net_admin,+net_raw,+ipc_lock";

/// Status of the wrapper when it could not make the command's own /proc.
const NOT_CONFINED: i32 = 213;

/// Its own /proc, read-only but for the network's settings; then the command, with fewer rights, below a first process whose
/// end takes everything along that is still running.
const WRAPPER: &str = "mount -t proc proc /proc && mount --bind /proc/sys/net /proc/sys/net && \
    mount -o remount,bind,ro /proc || exit 213; cd -- \"$1\" 2>/dev/null || cd /; rights=$2; shift 2; \
    setpriv --bounding-set=\"$rights\" --inh-caps=-all -- \"$@\"; exit $?";

/// Runs a step for at most `limit`.
///
/// # Errors
/// When it cannot be started, or not be confined.
pub(super) fn run(step: &Step, limit: Duration) -> Result<(Ended, String), String> {
    let mut child = Command::new("setpriv")
        // gone with the thread that made the copy
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            WRAPPER,
            "sh",
        ])
        .arg(&step.folder)
        .arg(RIGHTS)
        .args(&step.command)
        .current_dir("/")
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("'setpriv' (of util-linux) cannot be started: {error}"))?;
    let pipes = [child.stdout.take().map(tail), child.stderr.take().map(tail)];
    let input = child.stdin.take().map(|mut pipe| {
        let bytes = step.input.clone();
        // a command that does not read its input is no failure
        thread::spawn(move || drop(pipe.write_all(&bytes)))
    });
    let ended = wait(&mut child, limit);
    let _ = input.map(thread::JoinHandle::join);
    let said: Vec<String> = pipes.into_iter().flatten().filter_map(|pipe| pipe.join().ok()).collect();
    let said = said.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    if ended == Ended::Status(NOT_CONFINED) {
        return Err(format!("the command cannot be confined: {said}"));
    }
    Ok((ended, said))
}

fn wait(child: &mut Child, limit: Duration) -> Ended {
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return match (status.code(), status.signal()) {
                (Some(code), _) => Ended::Status(code),
                (None, signal) => Ended::Signal(signal.unwrap_or_default()),
            };
        }
        if Instant::now() >= deadline {
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait();
            return Ended::Timeout(limit);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a pipe to its end and keeps the last bytes.
fn tail(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut kept: Vec<u8> = Vec::new();
        let mut block = vec![0; 16 * 1024];
        while let Ok(number @ 1..) = pipe.read(&mut block) {
            kept.extend_from_slice(block.get(..number).unwrap_or_default());
            if kept.len() > 2 * KEPT {
                kept.drain(..kept.len() - KEPT);
            }
        }
        let start = kept.len().saturating_sub(KEPT);
        String::from_utf8_lossy(kept.get(start..).unwrap_or_default()).into_owned()
    })
}

/// The copy, seen by the thread that is in it: `/proc/self` is the whole process, which is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside;

fn of_thread(path: &Path) -> PathBuf {
    for (outside, inside) in [("/proc/net", "/proc/thread-self/net"), ("/proc/self", "/proc/thread-self")] {
        if let Ok(rest) = path.strip_prefix(outside) {
            return Path::new(inside).join(rest);
        }
    }
    path.to_owned()
}

impl System for Inside {
    fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<Output, RunError> {
        Real.run(program, arguments, limit)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Real.read(&of_thread(path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Real.list(&of_thread(folder))
    }

    fn link(&self, path: &Path) -> io::Result<PathBuf> {
        Real.link(&of_thread(path))
    }

    fn nf_tables(&self) -> io::Result<KernelTables> {
        Real.nf_tables()
    }

    fn nf_generation(&self) -> io::Result<u32> {
        Real.nf_generation()
    }

    fn now(&self) -> SystemTime {
        Real.now()
    }
}
