//! What the oracle needs of the machine: a private network namespace, and the standard tools inside it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Seconds a tool may take before it counts as hung.
const TOOL_SECONDS: &str = "60";

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

/// Runs a tool in the calling thread's namespace. `Err` holds the command, its status and what it said.
pub(crate) fn tool(program: &str, arguments: &[&str], input: &str) -> Result<Vec<u8>, String> {
    let describe = || format!("{program} {}", arguments.join(" "));
    // a lock of its own, away from the host's: nobody else is in this namespace
    let lock = tempfile::NamedTempFile::new().map_err(|error| format!("lock file: {error}"))?;
    let mut child = Command::new("timeout")
        .args([TOOL_SECONDS, program])
        .args(arguments)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("XTABLES_LOCKFILE", lock.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", describe()))?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    let output = thread::scope(|scope| {
        // a tool that fails early closes its end; its status says so better than the broken pipe
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("{}: {error}", describe()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{}: {}\n{}", describe(), output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Writes a sysctl of the calling thread's namespace, by its path below `/proc/sys`.
pub(crate) fn sysctl(path: &str, value: &str) -> Result<(), String> {
    std::fs::write(format!("/proc/sys/{path}"), value).map_err(|error| format!("sysctl {path}={value}: {error}"))
}
