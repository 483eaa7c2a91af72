//! A private copy of a host's network, in which a change is made for real: a network namespace with the same interfaces,
//! addresses, routes, sets and rules, on private file systems.
//!
//! Everything belongs to one thread: its namespaces go with it, and so do the processes that were started there.
//!
//! **What the command cannot reach.** It sees the host's files, but what it writes goes to a memory file system that is thrown
//! away (`/run` is empty from the start, `/dev` has the harmless devices only, `/sys` and `/proc` are read-only but for
//! `/proc/sys/net`, which is the copy's own). It has its own process, IPC and host names, so it can signal nobody; it lacks
//! the rights to mount, to reboot, to set the clock, to load modules by itself. Daemons of the host are out of its reach:
//! their sockets are in `/run`, or in the host's network namespace.
//!
//! **What it can reach.** It may read every file that root can read. The kernel may load modules that a rule asks for;
//! which ones is said. Files on file systems that cannot be overlaid are read-only to it; which ones is said.

pub mod boot;
mod confine;
mod files;
mod network;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::collect;
use crate::files::{FileState, SnapshotFiles};
use crate::snapshot::{self, Snapshot};
pub use confine::Ended;
use confine::Inside;

/// Something to do in the copy.
#[derive(Clone, Debug)]
pub struct Step {
    /// What to call it.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// What it reads from standard input.
    pub input: Vec<u8>,
    /// Where it starts.
    pub folder: PathBuf,
    /// The steps behind it are done even when it fails.
    pub independent: bool,
}

/// What a step did.
#[derive(Clone, Debug)]
pub struct Done {
    /// The step's name.
    pub name: String,
    /// How it ended.
    pub ended: Ended,
    /// The end of what it wrote, standard output and standard error together; may hold any text.
    pub said: String,
    /// Rules, sets, addresses, routes or saved files are others than before it.
    pub changed: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The host's files with what the steps changed.
    pub files: SnapshotFiles,
    /// The steps, as far as they came: one that fails ends the change.
    pub done: Vec<Done>,
    /// What of the host could not be copied exactly.
    pub not_copied: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// Makes a private copy of the host that `before` tells of, does `steps` in it, each for at most `limit`, and looks at what
/// they left behind. `live`: the host is this one, so that its tools can be asked for what a snapshot does not hold.
///
/// # Errors
/// When no private namespaces can be made: says why and what to do.
pub fn rehearse(before: &Snapshot, live: bool, steps: &[Step], limit: Duration) -> Result<Outcome, String> {
    let native = if live { rules::native_texts(before) } else { Vec::new() };
    // the namespaces are the thread's, and end with it
    std::thread::scope(|scope| {
        let work = scope.spawn(|| in_private(before, &native, steps, limit));
        work.join().unwrap_or_else(|_| Err("the private copy could not be made: its thread ended early".to_owned()))
    })
}

fn in_private(before: &Snapshot, native: &[rules::Native], steps: &[Step], limit: Duration) -> Result<Outcome, String> {
    let modules = modules();
    let all = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    unshare(all).map_err(|error| {
        format!("no private network namespace can be made ({error}): run hepguard as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN")
    })?;
    let mut outcome = Outcome { notes: files::isolate()?, ..Outcome::default() };
    let network::Copied { failed, stand_ins, settings } = network::copy(&before.files);
    outcome.not_copied = failed;
    outcome.not_copied.extend(rules::copy(before, native));
    let mut start = look();
    outcome.not_copied.extend(rules::differences(&before.ruleset, &start.ruleset));
    let mut earlier = start.clone();
    for step in steps {
        let (ended, said) = confine::run(step, limit)?;
        let later = look();
        let changed = !same(&earlier, &later);
        let failed = ended != Ended::Status(0);
        outcome.done.push(Done { name: step.name.clone(), ended, said, changed });
        earlier = later;
        if failed && !step.independent {
            break;
        }
    }
    outcome.files = merge(&before.files, &mut start, &earlier);
    if !stand_ins.is_empty() {
        let text = format!("plain devices stand for {} in the copy", stand_ins.join(", "));
        if start.host.same_network(&earlier.host) {
            outcome.notes.push(format!("{text}: a command that uses what their kind does is not judged by that"));
        } else {
            outcome.not_copied.push(format!("{text}, and the change is about interfaces, addresses or routes"));
        }
    }
    if !settings.is_empty() {
        outcome.notes.push(format!("kernel settings that the copy has otherwise: {}", settings.join(", ")));
    }
    let new: Vec<String> = self::modules().difference(&modules).cloned().collect();
    if !new.is_empty() {
        outcome.notes.push(format!("the kernel loaded modules for the copy: {}", new.join(", ")));
    }
    Ok(outcome)
}

fn modules() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/modules").unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

/// What the copy looks like from inside.
fn look() -> Snapshot {
    snapshot::read(collect::network_state(&Inside))
}

/// Files that are listings of one thing, so that they are taken together.
const NFT: [&str; 4] = ["nft-ruleset.json", "nft-kernel.json", "iptables-nft-save.txt", "ip6tables-nft-save.txt"];
const LEGACY: [&str; 2] = ["iptables-legacy-save.txt", "ip6tables-legacy-save.txt"];
/// Listings of unknown variant, which the copy has in nf_tables.
const OTHER: [&str; 2] = ["iptables-save.txt", "ip6tables-save.txt"];
const HOST: [&str; 5] = ["ip-addr.json", "ip-link.json", "ip-maddr.json", "ip-route.json", "ip-rule.json"];

fn same(one: &Snapshot, other: &Snapshot) -> bool {
    let saved = |snapshot: &Snapshot| -> Vec<(String, FileState)> {
        let files = snapshot.files.files.iter().filter(|(name, _)| name.starts_with("persisted/"));
        files.map(|(name, state)| (name.clone(), state.clone())).collect()
    };
    rules::texts(&one.ruleset, |_| true) == rules::texts(&other.ruleset, |_| true)
        && rules::sets(&one.ruleset) == rules::sets(&other.ruleset)
        && one.host.same_routing(&other.host)
        && saved(one) == saved(other)
}

/// The host's files, with those of the copy where the steps changed something.
fn merge(before: &SnapshotFiles, start: &mut Snapshot, end: &Snapshot) -> SnapshotFiles {
    let mut files = before.clone();
    let mut take = |names: &[&str]| {
        for name in names {
            files.doubts.remove(*name);
            files.files.remove(*name);
            if let Some(state) = end.files.files.get(*name) {
                files.files.insert((*name).to_owned(), state.clone());
                files.labels.insert((*name).to_owned(), format!("after/{name}"));
            }
            if let Some(doubt) = end.files.doubts.get(*name) {
                files.doubts.insert((*name).to_owned(), doubt.clone());
            }
        }
    };
    let changed = |which: fn(&crate::ruleset::Table) -> bool| {
        rules::texts(&start.ruleset, which) != rules::texts(&end.ruleset, which)
    };
    if changed(rules::is_legacy) {
        take(&LEGACY);
    }
    if changed(|table| !rules::is_legacy(table)) {
        take(&NFT);
        take(&OTHER);
    }
    if rules::sets(&start.ruleset) != rules::sets(&end.ruleset) {
        take(&["ipset-save.txt"]);
    }
    if !start.host.same_network(&end.host) {
        take(&HOST);
    }
    let persisted: BTreeSet<&String> =
        start.files.files.keys().chain(end.files.files.keys()).filter(|name| name.starts_with("persisted/")).collect();
    for name in persisted {
        if start.files.files.get(name) != end.files.files.get(name) {
            take(&[name.as_str()]);
        }
    }
    settings(&mut files, &start.files, &end.files);
    files
}

/// Takes over the kernel settings that changed between two looks, and no other: the copy does not have all as the host does.
fn settings(files: &mut SnapshotFiles, start: &SnapshotFiles, end: &SnapshotFiles) {
    const NAME: &str = "sysctl.txt";
    let read = |files: &SnapshotFiles| -> BTreeMap<String, String> {
        let text = String::from_utf8_lossy(files.bytes(NAME).unwrap_or_default()).into_owned();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
    };
    let (old, new, mut all) = (read(start), read(end), read(files));
    let changed: Vec<_> = new.into_iter().filter(|(name, value)| old.get(name) != Some(value)).collect();
    if changed.is_empty() {
        return;
    }
    all.extend(changed);
    let text: String = all.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    files.files.insert(NAME.to_owned(), FileState::Present(text.into_bytes()));
    files.labels.insert(NAME.to_owned(), format!("after/{NAME}"));
}
