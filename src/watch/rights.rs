//! Rights that a part does not need are given up for good.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

/// A part ends with the daemon, however that ends: one that is killed cannot tell its parts, and a part deep in a long log looks up
/// late.
///
/// # Errors
/// As the kernel reports them.
pub(super) fn end_with_daemon() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// For the part that reads logs. As root it keeps `CAP_DAC_READ_SEARCH`, so that logs of other owners can be read; another user
/// keeps nothing and reads what its groups may. What is started from here on cannot get more.
///
/// Another user's rights are the ambient ones of its unit: without them this program, started anew, has none. (Giving them up
/// in place needs a system call that the unit's filter refuses.) Called before standard input is read.
///
/// # Errors
/// As the kernel reports them.
pub(super) fn drop_all_but_reading() -> io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?.permitted;
    if held.is_empty() {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
        let kept = held & CapabilitySet::DAC_READ_SEARCH;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        return Ok(set_capabilities(None, sets)?);
    }
    clear_ambient_capability_set()?;
    const AGAIN: &str = "HEPGUARD_WITHOUT_RIGHTS";
    if std::env::var_os(AGAIN).is_some() {
        return Err(io::Error::other("rights are still there after they were given up"));
    }
    let arguments = std::env::args_os().skip(1);
    Err(Command::new("/proc/self/exe").arg0("hepguard").args(arguments).env(AGAIN, "1").exec())
}
