//! What the daemon waits for besides logs: notices of the kernel, and Felix's process.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::collect::surely_not_loaded;
use crate::system::Real;
use crate::system::notices::{NfTables, Notices, Routing};

/// Changes of nf_tables, where they can be had.
#[derive(Default)]
pub(super) struct NfNotices(Option<NfTables>);

impl NfNotices {
    /// Listens, where it does not yet. Without the module there is nothing to listen to, and nothing is loaded.
    pub(super) fn open(&mut self) -> Result<(), String> {
        if self.0.is_none() && !surely_not_loaded(&Real, "nf_tables") {
            self.0 = Some(NfTables::open().map_err(|error| format!("changes of nf_tables are not told: {error}"))?);
        }
        Ok(())
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|socket| socket.as_fd())
    }

    pub(super) fn read(&mut self) -> Notices {
        self.0.as_mut().map(NfTables::read).unwrap_or_default()
    }
}

/// Changes of links, addresses and routes.
#[derive(Default)]
pub(super) struct RoutingNotices(Option<Routing>);

impl RoutingNotices {
    pub(super) fn open(&mut self) -> Result<(), String> {
        if self.0.is_none() {
            self.0 =
                Some(Routing::open().map_err(|error| format!("changes of links and addresses are not told: {error}"))?);
        }
        Ok(())
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|socket| socket.as_fd())
    }

    pub(super) fn read(&mut self) -> bool {
        self.0.as_mut().is_some_and(Routing::read)
    }
}

/// A handle on Felix's process: the kernel tells the moment it ends.
#[derive(Default)]
pub(super) struct Felix(Option<(u32, OwnedFd)>);

impl Felix {
    /// Follows this process.
    pub(super) fn follow(&mut self, pid: u32) {
        if self.0.as_ref().is_some_and(|(known, _)| *known == pid) {
            return;
        }
        let handle =
            i32::try_from(pid).ok().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        self.0 = handle.map(|handle| (pid, handle));
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|(_, handle)| handle.as_fd())
    }

    /// The process that ended, once.
    pub(super) fn ended(&mut self) -> Option<u32> {
        let (pid, handle) = self.0.as_ref()?;
        let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        let ready = match poll(&mut fds, PollTimeout::ZERO) {
            Ok(ready) => ready > 0,
            Err(Errno::EINTR) => false,
            Err(_) => true,
        };
        let pid = *pid;
        ready.then(|| {
            self.0 = None;
            pid
        })
    }
}

/// Connections tracked now and at most, where the kernel tracks any.
pub(super) fn conntrack() -> Option<(u64, u64)> {
    let number =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?.trim().parse().ok();
    Some((number("nf_conntrack_count")?, number("nf_conntrack_max")?))
}
