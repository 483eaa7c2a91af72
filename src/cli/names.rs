//! Names of the peers an answer shows: from files of the host, and from the resolver only when asked.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::host::names::Names;
use crate::snapshot::Snapshot;

/// Felix's file of DNS answers, where nothing else is configured.
const FELIX_CACHE: &str = "/var/run/calico/felix-dns-cache.txt";

/// Bytes read of a file.
const MAX_FILE: u64 = 16 << 20;

/// Addresses the resolver is asked for at most.
const MAX_ASKED: usize = 50;

/// Of the snapshot's host, else of this one.
#[must_use]
pub(super) fn local(snapshot: Option<&Snapshot>) -> Names {
    let mut names = Names::default();
    if let Some(snapshot) = snapshot {
        let text = |file| snapshot.files.bytes(file).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        names.hosts(&text("etc/hosts").unwrap_or_default(), "etc/hosts");
        names.felix_cache(&text("felix/felix-dns-cache.txt").unwrap_or_default(), "felix-dns-cache.txt");
        return names;
    }
    names.hosts(&read(Path::new("/etc/hosts")), "/etc/hosts");
    names.felix_cache(&read(Path::new(FELIX_CACHE)), "Felix's DNS cache");
    names
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    // a host without the file has no names there
    let _ = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks the resolver for the names of some addresses, three seconds each at most.
pub(super) fn look_up(addresses: impl IntoIterator<Item = IpAddr>, names: &mut Names) {
    let mut asked = Vec::new();
    for address in addresses {
        if asked.len() >= MAX_ASKED || asked.contains(&address) || names.of(address).is_some() {
            continue;
        }
        asked.push(address);
        let output = Command::new("timeout")
            .args(["3", "getent", "hosts", &address.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let Ok(output) = output else { continue };
        if let Some(name) = String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1) {
            names.put(address, name, "reverse lookup");
        }
    }
}
