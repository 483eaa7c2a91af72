//! The journal, through `journalctl --follow`: its output format is stable, and nothing is linked.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// A `journalctl` that ended is started again after that.
const AGAIN: Duration = Duration::from_secs(10);
/// Longest entry that is held.
const MAX_ENTRY: usize = 1 << 20;
/// Bytes taken in one go.
const MAX_AT_ONCE: usize = 4 << 20;

pub(super) struct Journal {
    cursor: Option<String>,
    from_beginning: bool,
    child: Option<(Child, ChildStdout)>,
    held: Vec<u8>,
    tried: Option<Instant>,
    told: bool,
}

impl Journal {
    pub(super) fn new(cursor: Option<String>, from_beginning: bool) -> Self {
        Self { cursor, from_beginning, child: None, held: Vec::new(), tried: None, told: false }
    }

    /// The place behind the last entry that was read.
    pub(super) fn cursor(&self) -> Option<String> {
        self.cursor.clone()
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(|(_, out)| out.as_fd())
    }

    /// Whether a trouble that was told is over.
    pub(super) fn mended(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }

    /// Gives entries, one a call, without waiting. Says whether there were some, and what is wrong for the first time.
    pub(super) fn read(&mut self, give: &mut dyn FnMut(&[u8])) -> (bool, Option<String>) {
        let now = Instant::now();
        if self.child.is_none() && self.tried.is_none_or(|tried| now.duration_since(tried) >= AGAIN) {
            self.tried = Some(now);
            match self.start() {
                Ok(child) => self.child = Some(child),
                Err(error) => return (false, self.trouble(format!("journalctl cannot be started: {error}"))),
            }
        }
        let Some((_, out)) = &mut self.child else { return (false, None) };
        let mut buffer = vec![0; 64 * 1024];
        let mut taken = 0;
        let ended = loop {
            match out.read(&mut buffer) {
                Ok(0) => break true,
                Ok(read) => {
                    taken += read;
                    self.held.extend_from_slice(buffer.get(..read).unwrap_or_default());
                    if taken >= MAX_AT_ONCE {
                        break false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        let mut grew = false;
        if let Some(end) = memchr::memrchr(b'\n', &self.held) {
            let rest = self.held.split_off(end + 1);
            let whole = std::mem::replace(&mut self.held, rest);
            for line in whole.split_inclusive(|byte| *byte == b'\n') {
                grew = true;
                if let Some(cursor) = cursor_of(line) {
                    self.cursor = Some(cursor);
                }
                // what this daemon says is no deny
                if memchr::memmem::find(line, b"\"SYSLOG_IDENTIFIER\":\"hepguard\"").is_none() {
                    give(line);
                }
            }
        }
        if self.held.len() > MAX_ENTRY {
            self.held.clear();
        }
        if ended && let Some((mut child, _)) = self.child.take() {
            let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            return (grew, self.trouble(format!("journalctl ended ({how}); it is started again")));
        }
        (grew, None)
    }

    fn trouble(&mut self, why: String) -> Option<String> {
        (!std::mem::replace(&mut self.told, true)).then_some(why)
    }

    fn start(&self) -> io::Result<(Child, ChildStdout)> {
        let mut command = Command::new("journalctl");
        command
            .args(["--follow", "--output=json", "--quiet"])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        match &self.cursor {
            Some(cursor) => command.arg("--no-tail").arg(format!("--after-cursor={cursor}")),
            None if self.from_beginning => command.arg("--no-tail"),
            None => command.arg("--lines=0"),
        };
        let mut child = command.stderr(Stdio::null()).spawn()?;
        let out = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let flags = OFlag::from_bits_retain(fcntl(&out, FcntlArg::F_GETFL)?);
        fcntl(&out, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok((child, out))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The cursor of an entry; journald writes it among the first fields.
fn cursor_of(line: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"__CURSOR\":\"";
    let start = memchr::memmem::find(line, KEY)? + KEY.len();
    let rest = line.get(start..)?;
    let cursor = std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()?;
    let sound =
        cursor.len() < 512 && cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=;-_:".contains(&byte));
    sound.then(|| cursor.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_taken_when_it_is_one() {
        let line = br#"{"MESSAGE":"x","__CURSOR":"s=1;i=2;b=ab;m=3;t=4;x=5","a":"b"}"#;
        assert_eq!(cursor_of(line).as_deref(), Some("s=1;i=2;b=ab;m=3;t=4;x=5"));
        assert_eq!(cursor_of(br#"{"__CURSOR":"--file=/etc/shadow"}"#), None);
        assert_eq!(cursor_of(b"{"), None);
    }
}
