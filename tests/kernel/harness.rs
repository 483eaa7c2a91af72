//! What the oracle needs of the machine: a private network namespace, and the standard tools inside it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// How long a tool may take before it counts as hung.
const TOOL_TIME: Duration = Duration::from_secs(60);

/// Tools the oracle calls; each must at least answer `--version`.
const TOOLS: [&str; 12] = [
    "ip",
    "nft",
    "ipset",
    "conntrack",
    "iptables-legacy-restore",
    "iptables-legacy-save",
    "ip6tables-legacy-restore",
    "ip6tables-legacy-save",
    "iptables-nft-restore",
    "iptables-nft-save",
    "ip6tables-nft-restore",
    "ip6tables-nft-save",
];

/// Why the kernel cannot be asked here; `None` when it can.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root (network namespaces, TUN devices, raw sockets)".to_owned());
    }
    for tool in TOOLS {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if let Err(error) = found {
            return Some(format!(
                "needs the tool {tool}: {error} (Debian: apt install iproute2 nftables iptables ipset conntrack)"
            ));
        }
    }
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        return Some(format!("needs /dev/net/tun: {error}"));
    }
    thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).err().map(|error| format!("needs a network namespace: {error}")))
        .join()
        .expect("the namespace check does not panic")
}

/// Runs `body` in a new network namespace of its own, which disappears with it; the tools `body` starts are in it too.
///
/// Where the kernel cannot be asked: fails when the environment variable `CI` is set, else says so and passes.
pub(crate) fn in_namespace(name: &str, body: impl FnOnce() + Send) {
    if let Some(reason) = missing() {
        assert!(std::env::var_os("CI").is_none(), "{name}: {reason}");
        println!("{name}: SKIPPED: {reason}");
        return;
    }
    let outcome = thread::scope(|scope| {
        let inside = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            body();
        };
        thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, inside).expect("a thread starts").join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Like [`in_namespace`] with several workers, each in a namespace of its own; `false` when they were skipped.
pub(crate) fn in_namespaces(name: &str, workers: usize, body: impl Fn() + Sync) -> bool {
    let mut asked = false;
    in_namespace(name, || {
        asked = true;
        let outcomes: Vec<thread::Result<()>> = thread::scope(|scope| {
            let worker = || {
                unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
                body();
            };
            let start = |number| thread::Builder::new().name(format!("{name} {number}")).spawn_scoped(scope, worker);
            let threads: Vec<_> = (0..workers).map(|number| start(number).expect("a thread starts")).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        if let Some(panic) = outcomes.into_iter().find_map(Result::err) {
            std::panic::resume_unwind(panic);
        }
    });
    asked
}

/// Runs a tool in the calling thread's namespace. `Err` holds the command, its status and what it said.
pub(crate) fn tool(program: &str, arguments: &[&str], input: &str) -> Result<Vec<u8>, String> {
    run(program, arguments, input).map_err(|error| format!("{program} {}: {error}", arguments.join(" ")))
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<Vec<u8>, String> {
    thread_local! {
        // a lock of its own, away from the host's: nobody else is in this namespace
        static LOCK: tempfile::NamedTempFile = tempfile::NamedTempFile::new().expect("a lock file");
    }
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("XTABLES_LOCKFILE", LOCK.with(|lock| lock.path().to_owned()))
        .stdin(given(input).map_err(|error| error.to_string())?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let said = listen(&mut child);
    if said.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let [output, complaints] = said?;
    if status.success() {
        return Ok(output);
    }
    Err(format!("{status}\n{}", String::from_utf8_lossy(&complaints)))
}

/// Standard input that holds `text`.
fn given(text: &str) -> std::io::Result<Stdio> {
    if text.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = File::from(memfd_create(c"input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads what a tool prints to its two outputs until it closes both, or its time is over.
fn listen(child: &mut Child) -> Result<[Vec<u8>; 2], String> {
    let until = Instant::now() + TOOL_TIME;
    let (mut output, mut errors) = (child.stdout.take().ok_or("no output")?, child.stderr.take().ok_or("no output")?);
    let (mut open, mut said) = ([true, true], [Vec::new(), Vec::new()]);
    let mut buffer = vec![0; 64 * 1024];
    while open.contains(&true) {
        let left = until.saturating_duration_since(Instant::now());
        let ready = {
            let mut wanted =
                [PollFd::new(output.as_fd(), PollFlags::POLLIN), PollFd::new(errors.as_fd(), PollFlags::POLLIN)];
            // a closed pipe is always ready: ask only for the other one
            let asked: &mut [PollFd<'_>] = match open {
                [true, true] => &mut wanted,
                [true, false] => &mut wanted[..1],
                _ => &mut wanted[1..],
            };
            let count =
                poll(asked, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).map_err(|e| e.to_string())?;
            if count == 0 {
                return Err(format!("still running after {} s", TOOL_TIME.as_secs()));
            }
            wanted.map(|one| one.revents().is_some_and(|events| !events.is_empty()))
        };
        for (place, ready) in ready.into_iter().enumerate() {
            if !ready || !open[place] {
                continue;
            }
            let got = if place == 0 { output.read(&mut buffer) } else { errors.read(&mut buffer) };
            match got.map_err(|error| error.to_string())? {
                0 => open[place] = false,
                got => said[place].extend(&buffer[..got]),
            }
        }
    }
    Ok(said)
}

/// Writes a sysctl of the calling thread's namespace, by its path below `/proc/sys`.
pub(crate) fn sysctl(path: &str, value: &str) -> Result<(), String> {
    std::fs::write(format!("/proc/sys/{path}"), value).map_err(|error| format!("sysctl {path}={value}: {error}"))
}
