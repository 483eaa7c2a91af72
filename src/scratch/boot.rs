//! What boot loads, tried out: the loaders run in a private copy of the host that has no rules yet, in the order of their units.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::{Done, LEGACY, NFT, OTHER, Step};
use crate::analysis::reboot::{Persisted, loaders};
use crate::files::{FileState, SnapshotFiles};
use crate::snapshot::{self, Booted, Snapshot};

/// Where files that loaders read themselves belong.
const PLACES: [(&str, &str); 6] = [
    ("persisted/nftables.conf", "/etc/nftables.conf"),
    ("persisted/sysconfig/nftables.conf", "/etc/sysconfig/nftables.conf"),
    ("persisted/nftables/", "/etc/nftables/"),
    ("persisted/nftables.d/", "/etc/nftables.d/"),
    ("persisted/ufw/default", "/etc/default/ufw"),
    ("persisted/ufw/", "/etc/ufw/"),
];

/// ufw's own boot script.
const UFW: [&str; 2] = ["/usr/lib/ufw/ufw-init", "/lib/ufw/ufw-init"];

/// A loader in the copy.
#[derive(Clone, Debug)]
pub struct Tried {
    /// What came of all of them.
    pub booted: Booted,
    /// The loaders that failed.
    pub failed: Vec<Done>,
    /// What of the host could not be copied, and loaders that are not there.
    pub not_copied: Vec<String>,
}

/// Lets the loaders of a boot run, each for at most `limit`. `live`: the host is this one, whose tools are the ones to use.
///
/// # Errors
/// When no private namespaces can be made: says why and what to do.
pub fn boot(host: &Snapshot, live: bool, limit: Duration) -> Result<Tried, String> {
    let mut bare = host.files.clone();
    let listings = NFT.iter().chain(&LEGACY).chain(&OTHER).chain(&["ipset-save.txt", "nft-ruleset.txt"]);
    listings.for_each(|name| {
        bare.files.remove(*name);
    });
    let mut not_copied = Vec::new();
    let (mut steps, mut units) = (Vec::new(), Vec::new());
    for (name, state) in &host.files.files {
        if let (Some(path), FileState::Present(text)) = (place(name), state) {
            steps.push(write(&path, text));
        }
    }
    let written = steps.len();
    for loader in loaders(&host.files).0 {
        match load(&host.files, loader, live) {
            Some(step) => {
                steps.push(step);
                units.push(loader.unit);
            }
            None => not_copied.push(format!("{}: its loader is not installed here", loader.unit)),
        }
    }
    let outcome = super::rehearse(&snapshot::read(bare), false, &steps, limit)?;
    not_copied.extend(outcome.not_copied);
    let mut ran = BTreeSet::new();
    let mut failed = Vec::new();
    for (number, done) in outcome.done.into_iter().enumerate() {
        let unit = number.checked_sub(written).and_then(|at| units.get(at));
        if done.ended.is_not_started(&done.said) {
            not_copied.push(format!("{}: cannot be started here", done.name));
            continue;
        }
        ran.extend(unit.map(|unit| (*unit).to_owned()));
        if !done.ended.is_success() {
            failed.push(done);
        }
    }
    let ruleset = snapshot::read(outcome.files).ruleset;
    Ok(Tried { booted: Booted { ruleset, units: ran }, failed, not_copied })
}

/// Where a file of the snapshot belongs on the host.
fn place(name: &str) -> Option<String> {
    PLACES.iter().find_map(|(start, path)| {
        if start.ends_with('/') {
            let rest = name.strip_prefix(start)?;
            (!rest.contains("..")).then(|| format!("{path}{rest}"))
        } else {
            (name == *start).then(|| (*path).to_owned())
        }
    })
}

fn write(path: &str, text: &[u8]) -> Step {
    let script = "mkdir -p \"$(dirname \"$1\")\" && cat > \"$1\"";
    Step {
        name: format!("the copy of {path}"),
        command: ["sh", "-c", script, "sh", path].map(Into::into).to_vec(),
        input: text.to_vec(),
        folder: "/".into(),
        independent: true,
    }
}

/// How a loader is started; `None` when it is not there.
fn load(files: &SnapshotFiles, loader: Persisted, live: bool) -> Option<Step> {
    let mut input = Vec::new();
    let command: Vec<String> = match loader.program {
        "ufw" => {
            let script = UFW.into_iter().find(|path| Path::new(path).exists())?;
            vec![script.to_owned(), "start".to_owned()]
        }
        "nft" => vec!["nft".to_owned(), "-f".to_owned(), place(loader.file)?],
        program => {
            input = files.bytes(loader.file).unwrap_or_default().to_vec();
            match program {
                "ipset" => vec![program.to_owned(), "restore".to_owned()],
                program => vec![restore_tool(files, program, live)],
            }
        }
    };
    let name = format!("{}: {}", loader.unit, command.join(" "));
    Some(Step {
        name,
        command: command.into_iter().map(Into::into).collect(),
        input,
        folder: "/".into(),
        independent: true,
    })
}

/// The restore tool of the variant that the listings are of; on this host its own.
#[must_use]
pub fn restore_tool(files: &SnapshotFiles, program: &str, live: bool) -> String {
    if live {
        return program.to_owned();
    }
    let (tool, _) = program.split_once('-').unwrap_or((program, ""));
    let used = files.bytes(&format!("{tool}-legacy-save.txt")).is_some_and(|bytes| !bytes.is_empty());
    format!("{tool}-{}-restore", if used { "legacy" } else { "nft" })
}
