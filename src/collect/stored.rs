//! What boot loads, who resolves names, which leases are held.

use std::path::Path;

use super::{Live, as_is};
use crate::files::FileState;

/// Rule files of the usual loaders and their names in `persisted/`.
const RULES: [(&str, &str); 20] = [
    ("/etc/iptables/rules.v4", "rules.v4"),
    ("/etc/iptables/rules.v6", "rules.v6"),
    ("/etc/iptables/ipsets", "ipsets"),
    ("/etc/ipset.conf", "ipset.conf"),
    ("/etc/nftables.conf", "nftables.conf"),
    ("/etc/sysconfig/iptables", "sysconfig/iptables"),
    ("/etc/sysconfig/ip6tables", "sysconfig/ip6tables"),
    ("/etc/sysconfig/ipset", "sysconfig/ipset"),
    ("/etc/sysconfig/nftables.conf", "sysconfig/nftables.conf"),
    ("/etc/default/ufw", "ufw/default"),
    ("/etc/ufw/ufw.conf", "ufw/ufw.conf"),
    ("/etc/ufw/before.rules", "ufw/before.rules"),
    ("/etc/ufw/before6.rules", "ufw/before6.rules"),
    ("/etc/ufw/user.rules", "ufw/user.rules"),
    ("/etc/ufw/user6.rules", "ufw/user6.rules"),
    ("/etc/ufw/after.rules", "ufw/after.rules"),
    ("/etc/ufw/after6.rules", "ufw/after6.rules"),
    ("/etc/firewalld/firewalld.conf", "firewalld/firewalld.conf"),
    ("/etc/firewalld/direct.xml", "firewalld/direct.xml"),
    ("/etc/firewalld/lockdown-whitelist.xml", "firewalld/lockdown-whitelist.xml"),
];

/// Folders of such files: every file with the ending is taken.
const RULE_FOLDERS: [(&str, &str, &str); 5] = [
    ("/etc/nftables", "nft", "nftables"),
    ("/etc/nftables.d", "nft", "nftables.d"),
    ("/etc/firewalld/zones", "xml", "firewalld/zones"),
    ("/etc/firewalld/policies", "xml", "firewalld/policies"),
    ("/etc/firewalld/ipsets", "xml", "firewalld/ipsets"),
];

/// DHCP leases of dhclient, systemd-networkd and NetworkManager.
const LEASES: [(&str, &str); 4] = [
    ("/var/lib/dhcp", "leases"),
    ("/var/lib/dhclient", "leases"),
    ("/run/systemd/netif/leases", ""),
    ("/var/lib/NetworkManager", "lease"),
];

/// Files taken of one folder.
const MAX_FILES: usize = 256;

/// The three files a Debian-like host boots from: their absence is an answer.
const ANSWERS: [&str; 3] = ["rules.v4", "rules.v6", "nftables.conf"];

impl Live<'_> {
    pub(super) fn stored(&mut self) {
        for (path, name) in RULES {
            let state = self.file(path, as_is);
            if state != FileState::Absent || ANSWERS.contains(&name) {
                self.put(format!("persisted/{name}"), state);
            }
        }
        for (folder, ending, name) in RULE_FOLDERS {
            self.take_folder(folder, ending, &format!("persisted/{name}"), as_is);
        }
        for (folder, ending) in LEASES {
            self.take_folder(folder, ending, "leases", as_is);
        }
        let resolver = self.resolver();
        self.put("resolv.conf", resolver);
    }

    pub(super) fn take_folder(&mut self, folder: &str, ending: &str, name: &str, clean: fn(&[u8]) -> Vec<u8>) {
        for path in self.system.list(Path::new(folder)).unwrap_or_default().into_iter().take(MAX_FILES) {
            let fits = ending.is_empty() || path.extension().is_some_and(|extension| extension == ending);
            let Some(file) = path.file_name().filter(|_| fits) else { continue };
            let name = format!("{name}/{}", file.to_string_lossy());
            let state = self.file(&path, clean);
            self.put(name, state);
        }
    }

    /// The resolver's file; behind systemd-resolved's stub also the servers it asks.
    fn resolver(&self) -> FileState {
        let state = self.file("/etc/resolv.conf", as_is);
        let FileState::Present(mut text) = state else { return state };
        let upstream = Path::new("/run/systemd/resolve/resolv.conf");
        if String::from_utf8_lossy(&text).contains("127.0.0.53")
            && let Ok(servers) = self.system.read(upstream)
        {
            text.extend_from_slice(format!("\n# {}\n", upstream.display()).as_bytes());
            text.extend_from_slice(&servers);
        }
        FileState::Present(text)
    }
}
