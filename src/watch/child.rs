//! Helpers of the daemon: this program again, in another part. What they look at or read may be large or hostile; when one
//! ends, its memory is back, and a crash of it is a finding.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Longest line taken from a helper: findings of a large host.
const MAX_LINE: usize = 64 << 20;

/// A helper that runs.
pub(super) struct Helper {
    child: Child,
    /// Open as long as the helper is wanted: it ends when this does.
    _stdin: ChildStdin,
    out: ChildStdout,
    held: Vec<u8>,
    /// When it was started.
    pub(super) started: Instant,
}

/// What a helper said.
pub(super) struct Said {
    /// Whole lines.
    pub(super) lines: Vec<Vec<u8>>,
    /// It will say no more.
    pub(super) ended: bool,
}

impl Helper {
    /// Starts this program in another part, and tells it its task in one line.
    pub(super) fn start(part: &str, task: &[u8]) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("hepguard")
            .args(["watch", "--part", part])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (mut stdin, out) = pipes.ok_or_else(|| io::Error::other("a helper without pipes"))?;
        let flags = OFlag::from_bits_retain(fcntl(&out, FcntlArg::F_GETFL)?);
        fcntl(&out, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        stdin.write_all(task)?;
        stdin.write_all(b"\n")?;
        Ok(Self { child, _stdin: stdin, out, held: Vec::new(), started: Instant::now() })
    }

    /// Takes what it said, without waiting.
    pub(super) fn read(&mut self) -> io::Result<Said> {
        let mut said = Said { lines: Vec::new(), ended: false };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.out.read(&mut buffer) {
                Ok(0) => {
                    said.ended = true;
                    break;
                }
                Ok(read) => self.held.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if self.held.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "says more than 64 MiB in one line"));
            }
        }
        if let Some(end) = memchr::memrchr(b'\n', &self.held) {
            let rest = self.held.split_off(end + 1);
            let whole = std::mem::replace(&mut self.held, rest);
            let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            said.lines = lines.map(<[u8]>::to_vec).collect();
        }
        Ok(said)
    }

    /// Ends it, and says how it ended.
    pub(super) fn end(mut self) -> String {
        self.kill();
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// How it ended by itself.
    pub(super) fn ended(mut self) -> String {
        // both pipes are closed; a helper that closes them and stays is not waited for
        for _ in 0..50 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.to_string();
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.end()
    }

    fn kill(&self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl AsFd for Helper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.out.as_fd()
    }
}
