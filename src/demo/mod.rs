//! The lab bastion, embedded: a host one step before its lockout and one step after.
//!
//! It is the bastion of the training lab that hepguard's users tell about: 10.0.1.10, Felix with its failsafe lists in an
//! environment file, a policy that denies SSH to worker1, and somebody who takes `tcp:0.0.0.0/0:22` off the outbound list.
//! `before`: the file is edited, Felix still runs with the old one. `after`: Felix has restarted.

use crate::files::{FileState, SnapshotFiles};
use crate::snapshot::meta::Meta;

/// Which side of the restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum World {
    /// The file is edited, Felix still runs with the old one.
    Before,
    /// Felix has restarted.
    After,
}

/// The deny lines of the lab's syslog.
pub const SYSLOG: &[u8] = include_bytes!("syslog");

macro_rules! embedded {
    ($world:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!($world, "/", $name)))),+]
    };
}

macro_rules! world {
    ($world:literal) => {
        embedded!($world:
            "calico/felixconfigurations.yaml",
            "calico/globalnetworkpolicies.yaml",
            "calico/globalnetworksets.yaml",
            "calico/hostendpoints.yaml",
            "calico/tiers.yaml",
            "conntrack.txt",
            "felix/calico.env",
            "felix/environ",
            "felix/felix.cfg",
            "felix/unit.txt",
            "ip-addr.json",
            "ip-link.json",
            "ip-route.json",
            "ip-rule.json",
            "ip6tables-legacy-save.txt",
            "ipset-save.txt",
            "iptables-legacy-save.txt",
            "leases/2",
            "meta.json",
            "resolv.conf",
            "sockets.txt",
            "sysctl.txt",
        )
    };
}

const BEFORE: &[(&str, &[u8])] = world!("before");
const AFTER: &[(&str, &[u8])] = world!("after");

impl World {
    /// Both, in order of time.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];

    /// Its name, also of its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }

    /// Name and content of each file.
    #[must_use]
    pub fn embedded(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Self::Before => BEFORE,
            Self::After => AFTER,
        }
    }

    /// The snapshot's files, with what its `meta.json` says about missing ones.
    #[must_use]
    pub fn files(self) -> SnapshotFiles {
        let mut files = SnapshotFiles::default();
        for (name, bytes) in self.embedded() {
            files.files.insert((*name).to_owned(), FileState::Present(bytes.to_vec()));
        }
        if let Ok(Some(meta)) = Meta::of(&files) {
            meta.restore(&mut files);
        }
        files
    }
}
