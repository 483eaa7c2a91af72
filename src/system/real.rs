//! The host this program runs on.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{MAX_BYTES, Output, RunError, System, netlink};
use crate::ruleset::kernel::KernelTables;

/// Where programs are looked for, whatever the caller's `PATH` says.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The real host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real;

impl System for Real {
    fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<Output, RunError> {
        let path = FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
        let child = Command::new(path.ok_or(RunError::NotInstalled)?)
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PATH", FOLDERS.join(":"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // its own group, so that what it starts ends with it
            .process_group(0)
            .spawn()
            .map_err(RunError::Io)?;
        Running::new(child).finish(limit)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let kind = fs::metadata(path)?;
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // a pipe or device would wait for ever
        if !kind.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
        paths.sort();
        Ok(paths)
    }

    fn link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn nf_tables(&self) -> io::Result<KernelTables> {
        netlink::tables()
    }

    fn nf_generation(&self) -> io::Result<u32> {
        netlink::generation()
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A started command; ended with its whole group when dropped early.
struct Running {
    child: Child,
    done: bool,
}

impl Running {
    fn new(child: Child) -> Self {
        Self { child, done: false }
    }

    fn finish(mut self, limit: Duration) -> Result<Output, RunError> {
        let deadline = Instant::now() + limit;
        let out = self.child.stdout.take().map(collect);
        let errors = self.child.stderr.take().map(collect);
        let stdout = receive(out, deadline, limit)?;
        let stderr = receive(errors, deadline, limit)?;
        let status = self.wait(deadline).ok_or(RunError::Timeout(limit))?;
        let mut stderr = String::from_utf8_lossy(&stderr).into_owned();
        if let Some(signal) = status.signal() {
            stderr.push_str(&format!("\nended by signal {signal}"));
        }
        Ok(Output { status: status.code(), stdout, stderr })
    }

    /// Both pipes are closed: it is about to end.
    fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        let mut pause = Duration::from_micros(50);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.done = true;
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

type Bytes = Receiver<io::Result<Vec<u8>>>;

fn collect(pipe: impl Read + Send + 'static) -> Bytes {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = pipe.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        // nobody listens any more when the time was up
        let _ = sender.send(result.map(|_| bytes));
    });
    receiver
}

fn receive(pipe: Option<Bytes>, deadline: Instant, limit: Duration) -> Result<Vec<u8>, RunError> {
    let Some(pipe) = pipe else { return Ok(Vec::new()) };
    let left = deadline.saturating_duration_since(Instant::now());
    let bytes = pipe.recv_timeout(left).map_err(|_| RunError::Timeout(limit))?.map_err(RunError::Io)?;
    if bytes.len() as u64 > MAX_BYTES { Err(RunError::TooMuch) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn output_status_and_errors_are_kept() {
        let output = Real.run("sh", &["-c", "echo out; echo err >&2; exit 3"], SOON).expect("sh exists");
        assert_eq!(output, Output { status: Some(3), stdout: b"out\n".to_vec(), stderr: "err\n".to_owned() });
    }

    #[test]
    fn the_environment_is_clean() {
        let output = Real.run("env", &[], SOON).expect("env exists");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH", "TZ"]);
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let started = Instant::now();
        let result = Real.run("sh", &["-c", "sleep 60 & sleep 60"], Duration::from_millis(200));
        assert!(matches!(result, Err(RunError::Timeout(_))), "{result:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_signal_is_told() {
        let output = Real.run("sh", &["-c", "kill -SEGV $$"], SOON).expect("sh exists");
        assert_eq!((output.status, output.stderr.as_str()), (None, "\nended by signal 11"));
    }

    #[test]
    fn much_output_on_both_pipes_does_not_block() {
        let script = "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero";
        let output = Real.run("sh", &["-c", script], SOON).expect("sh exists");
        assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, 3_000_000));
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert!(matches!(Real.run("no-such-program", &[], SOON), Err(RunError::NotInstalled)));
        assert!(matches!(Real.run("../../etc/passwd", &[], SOON), Err(RunError::NotInstalled | RunError::Io(_))));
        assert_eq!(Real.read(Path::new("/")).map_err(|e| e.kind()), Err(io::ErrorKind::IsADirectory));
    }
}
