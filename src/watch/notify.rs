//! Words to systemd (`sd_notify(3)`), and nothing where nobody listens.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often the watchdog wants to hear from us at least.
    pub(super) watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let own = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| own).map(Duration::from_micros);
        Self { to: std::env::var_os("NOTIFY_SOCKET").as_deref().and_then(open), watchdog }
    }

    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    pub(super) fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    pub(super) fn reloading(&self) {
        let now =
            clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            // without systemd's ear there is nobody to tell
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

fn open(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).ok()?,
        None => SocketAddr::from_pathname(name).ok()?,
    };
    Some((UnixDatagram::unbound().ok()?, address))
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
