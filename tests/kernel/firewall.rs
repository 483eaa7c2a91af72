//! A ruleset as text: loaded by the real tools, listed by the real tools.

use std::time::Duration;

use hepguard::files::{FileState, SnapshotFiles};
use hepguard::snapshot::meta;
use hepguard::system::{Real, System as _};

use crate::harness::tool;
use crate::nflog::PROBE_TABLE;

/// Everything that makes up one firewall. Empty texts are not loaded.
#[derive(Clone, Default, Debug)]
pub(crate) struct Firewall {
    /// For `ipset restore`.
    pub(crate) ipsets: String,
    /// For `iptables-legacy-restore` and `ip6tables-legacy-restore`.
    pub(crate) legacy: [String; 2],
    /// For `iptables-nft-restore` and `ip6tables-nft-restore`.
    pub(crate) xtables_nft: [String; 2],
    /// For `nft -f`.
    pub(crate) nft: String,
}

/// Tools that load and list, with the listing's name in a snapshot.
const IPTABLES: [(&str, &str, &str, &str); 2] = [
    ("iptables-legacy-restore", "iptables-nft-restore", "iptables-legacy-save", "iptables-nft-save"),
    ("ip6tables-legacy-restore", "ip6tables-nft-restore", "ip6tables-legacy-save", "ip6tables-nft-save"),
];

/// What empties every legacy table without leaving rules or policies.
const EMPTY_LEGACY: &str = "*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n\
    *mangle\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n\
    *nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n\
    *filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n";

impl Firewall {
    /// Loads it into the calling thread's namespace, on top of what is there.
    pub(crate) fn load(&self) -> Result<(), String> {
        let load = |program: &str, arguments: &[&str], text: &str| match text {
            "" => Ok(()),
            text => {
                tool(program, arguments, text).map(|_| ()).map_err(|error| format!("{error}{}", culprit(&error, text)))
            }
        };
        load("ipset", &["restore"], &self.ipsets)?;
        for (family, (legacy, nft, ..)) in IPTABLES.iter().enumerate() {
            load(legacy, &[], &self.legacy[family])?;
            load(nft, &[], &self.xtables_nft[family])?;
        }
        load("nft", &["-f", "-"], &self.nft)
    }

    /// Loads it where `before` is loaded, whose rules go; its sets stay, so they must have other names.
    pub(crate) fn replace(&self, before: &Self) -> Result<(), String> {
        let mut whole = self.clone();
        let tables = [(&mut whole.legacy, &before.legacy), (&mut whole.xtables_nft, &before.xtables_nft)];
        for (texts, before) in tables {
            for (text, before) in texts.iter_mut().zip(before) {
                let gone = EMPTY_LEGACY.split_inclusive("COMMIT\n").filter(|table| {
                    let name = table.lines().next().unwrap_or_default();
                    before.contains(name) && !text.contains(name)
                });
                let gone: String = gone.collect();
                *text += &gone;
            }
        }
        let tables = before.nft.lines().filter(|line| line.starts_with("table "));
        let deleted: String = tables.map(|line| format!("delete {}\n", line.trim_end_matches(" {"))).collect();
        whole.nft.insert_str(0, &deleted);
        whole.load()
    }

    /// The files of a snapshot: `empty`, which is the namespace without rules, and what this firewall adds to it.
    pub(crate) fn list_onto(&self, empty: &SnapshotFiles) -> Result<SnapshotFiles, String> {
        let mut files = empty.clone();
        let mut keep = |name: &str, text: Vec<u8>| {
            files.files.insert(name.to_owned(), FileState::Present(text));
        };
        if !self.ipsets.is_empty() {
            keep("ipset-save.txt", tool("ipset", &["save"], "")?);
        }
        let of_iptables_nft = self.xtables_nft.iter().any(|text| !text.is_empty());
        if !self.nft.is_empty() || of_iptables_nft {
            keep("nft-ruleset.json", without_probe(&tool("nft", &["-j", "list", "ruleset"], "")?)?);
        }
        for (family, (_, _, legacy, nft)) in IPTABLES.iter().enumerate() {
            if !self.legacy[family].is_empty() {
                keep(&format!("{legacy}.txt"), tool(legacy, &["-c"], "")?);
            }
            if of_iptables_nft {
                keep(&format!("{nft}.txt"), tool(nft, &["-c"], "")?);
            }
        }
        // as live collection has it, and as a hand-made snapshot lacks it
        let is_even = (self.nft.len() + self.xtables_nft[0].len()).is_multiple_of(2);
        if is_even && (of_iptables_nft || !self.nft.is_empty()) {
            add_kernel(&mut files)?;
        }
        Ok(files)
    }

    /// Removes it, and every other rule and set.
    pub(crate) fn unload(&self) -> Result<(), String> {
        tool("nft", &["flush", "ruleset"], "")?;
        for (family, (restore, ..)) in IPTABLES.iter().enumerate() {
            if !self.legacy[family].is_empty() {
                tool(restore, &[], EMPTY_LEGACY)?;
            }
        }
        if self.ipsets.is_empty() {
            return Ok(());
        }
        // sets of sets let go of their members, and nf_tables of its rules, a moment later
        tool("ipset", &["flush"], "")?;
        let mut destroyed = tool("ipset", &["destroy"], "");
        for _ in 0..200 {
            if destroyed.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            destroyed = tool("ipset", &["destroy"], "");
        }
        destroyed.map(|_| ())
    }

    /// A firewall whose removal removes all there can be.
    pub(crate) fn everything() -> Self {
        let legacy = [EMPTY_LEGACY.to_owned(), EMPTY_LEGACY.to_owned()];
        Self { ipsets: "flush\n".to_owned(), legacy, ..Self::default() }
    }

    /// The text as one listing, for a person who wants to load it again.
    pub(crate) fn describe(&self) -> String {
        let parts = [
            ("ipset restore", &self.ipsets),
            ("iptables-legacy-restore", &self.legacy[0]),
            ("ip6tables-legacy-restore", &self.legacy[1]),
            ("iptables-nft-restore", &self.xtables_nft[0]),
            ("ip6tables-nft-restore", &self.xtables_nft[1]),
            ("nft -f -", &self.nft),
        ];
        let texts = parts.into_iter().filter(|(_, text)| !text.is_empty());
        texts.map(|(command, text)| format!("{command} <<'END'\n{text}\nEND\n")).collect()
    }
}

/// The line a tool complained about, where it told its number.
fn culprit(error: &str, text: &str) -> String {
    let numbers = error.split("line ").skip(1).chain(error.split("stdin:").skip(1));
    let digits = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let number: Option<usize> = numbers.filter_map(digits).next();
    let line = number.and_then(|number| text.lines().nth(number.checked_sub(1)?));
    line.map(|line| format!("culprit: {line}\n")).unwrap_or_default()
}

/// A listing as it would be if the probe's table were not there.
fn without_probe(listing: &[u8]) -> Result<Vec<u8>, String> {
    let mut listing: serde_json::Value = serde_json::from_slice(listing).map_err(|error| error.to_string())?;
    let objects = listing["nftables"].as_array_mut().ok_or("nft's listing holds no list")?;
    let of_probe = |content: &serde_json::Value| content["table"] == PROBE_TABLE || content["name"] == PROBE_TABLE;
    objects.retain(|object| !object.as_object().is_some_and(|object| object.values().any(of_probe)));
    serde_json::to_vec(&listing).map_err(|error| error.to_string())
}

/// Adds what the kernel itself says of nf_tables, as if the probe's table were not there.
pub(crate) fn add_kernel(files: &mut SnapshotFiles) -> Result<(), String> {
    let mut kernel = Real.nf_tables().map_err(|error| format!("netlink: {error}"))?;
    kernel.tables.retain(|table| table.name != PROBE_TABLE);
    let text = serde_json::to_vec(&kernel).map_err(|error| error.to_string())?;
    files.files.insert("nft-kernel.json".to_owned(), FileState::Present(text));
    Ok(())
}

/// Lists the namespace's firewall and network as a snapshot's raw files.
pub(crate) fn list() -> Result<SnapshotFiles, String> {
    let mut files = SnapshotFiles::default();
    let keep = |files: &mut SnapshotFiles, name: &str, program: &str, arguments: &[&str]| -> Result<(), String> {
        files.files.insert(name.to_owned(), FileState::Present(tool(program, arguments, "")?));
        Ok(())
    };
    keep(&mut files, "nft-ruleset.json", "nft", &["-j", "list", "ruleset"])?;
    keep(&mut files, "ipset-save.txt", "ipset", &["save"])?;
    for (_, _, legacy, nft) in IPTABLES {
        keep(&mut files, &format!("{legacy}.txt"), legacy, &["-c"])?;
        keep(&mut files, &format!("{nft}.txt"), nft, &["-c"])?;
    }
    keep(&mut files, "ip-addr.json", "ip", &["-j", "addr"])?;
    keep(&mut files, "ip-link.json", "ip", &["-j", "-d", "link"])?;
    keep(&mut files, "ip-route.json", "ip", &["-j", "route", "show", "table", "all"])?;
    keep(&mut files, "ip-maddr.json", "ip", &["-j", "maddr"])?;
    let mut rules = tool("ip", &["-j", "rule"], "")?;
    rules.extend(tool("ip", &["-6", "-j", "rule"], "")?);
    files.files.insert("ip-rule.json".to_owned(), FileState::Present(rules));
    keep(&mut files, "sysctl.txt", "sysctl", &["-a", "-r", "^net\\.(ipv[46]\\.(conf|ip_forward)|netfilter)"])?;
    // as live collection says that it took the listings itself, and what it found of the hardware clock's zone
    files.files.insert("etc/adjtime".to_owned(), FileState::Absent);
    meta::Meta { schema: meta::SCHEMA.to_owned(), ..meta::Meta::default() }.store(&mut files);
    Ok(files)
}
