//! Rules and sets: nf_tables, x_tables, ipset.

use std::io;
use std::path::Path;

use super::{Failure, Live, ipset_counts, unreadable};
use crate::files::{Doubt, FileState};
use crate::ruleset::kernel::KernelTables;
use crate::system::System;

/// Table names iptables-nft uses in nf_tables.
const XTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// How often rules that change while they are listed are listed.
const TRIES: usize = 3;

/// Rule listings, in the order of [`Live::put`].
type Listings = Vec<(String, FileState)>;

/// One round of listings.
#[derive(Default)]
struct Round {
    files: Listings,
    doubts: Vec<(String, Doubt)>,
    /// nft's listing was put together from parts.
    of_parts: bool,
    /// Listings of rules that changed meanwhile.
    changed: Vec<String>,
}

impl Round {
    fn put(&mut self, name: impl Into<String>, state: FileState) {
        self.files.push((name.into(), state));
    }

    /// The rules of nf_tables changed: what is held against other listings, or made of parts, is of no one moment.
    fn saves_changed(&mut self) {
        let present = self.files.iter().filter(|(_, state)| matches!(state, FileState::Present(_)));
        let names = present
            .map(|(name, _)| name)
            .filter(|name| name.ends_with("-nft-save.txt") || (self.of_parts && *name == "nft-ruleset.json"));
        self.changed.extend(names.cloned());
    }
}

impl Live<'_> {
    pub(super) fn firewall(&mut self) {
        let mut round = self.round();
        for _ in 1..TRIES {
            if round.changed.is_empty() {
                break;
            }
            round = self.round();
        }
        for name in round.changed {
            let why = format!("the rules changed each of the {TRIES} times they were listed; take the listing again");
            round.doubts.push((name, Doubt::Changed(why)));
        }
        for (name, state) in round.files {
            self.put(name, state);
        }
        self.found.doubts.extend(round.doubts);
        self.ipsets();
    }

    /// A save that ends early looks like one of smaller sets: the members are counted twice.
    fn ipsets(&mut self) {
        let name = "ipset-save.txt";
        if self.surely_not_loaded("ip_set") {
            return self.put(name, FileState::Absent);
        }
        for tried in 1..=TRIES {
            let state = self.tool("ipset", &["save"]);
            let FileState::Present(saved) = &state else { return self.put(name, state) };
            let wrong = match self.output("ipset", &["list", "-t"], |_| false) {
                Ok(headers) => ipset_counts::lacking(saved, &headers),
                Err(failure) => Some(failure.why),
            };
            if wrong.is_none() || tried == TRIES {
                self.found.doubts.extend(wrong.map(|why| (name.to_owned(), Doubt::Partial(why))));
                return self.put(name, state);
            }
        }
    }

    fn round(&self) -> Round {
        let mut round = Round::default();
        let legacy = self.legacy_tables(&mut round);
        let generation = self.nf_tables(&mut round);
        // x_tables tells nobody of changes: look twice
        for (tool, before) in legacy {
            if !self.save(tool, "legacy").is_ok_and(|after| masked(&after) == masked(&before)) {
                round.changed.push(format!("{tool}-legacy-save.txt"));
            }
        }
        let Some(before) = generation else { return round };
        if self.system.nf_generation().is_ok_and(|after| after == before) {
            return round;
        }
        // one listing of nft is of one generation by itself; what is held against others or made of parts is not
        round.files.retain(|(name, _)| name != "nft-kernel.json");
        round.saves_changed();
        round
    }

    /// Saves the registered tables of x_tables; gives back what was saved.
    fn legacy_tables(&self, round: &mut Round) -> Vec<(&'static str, Vec<u8>)> {
        let mut saved = Vec::new();
        for (names, tool) in [("/proc/net/ip_tables_names", "iptables"), ("/proc/net/ip6_tables_names", "ip6tables")] {
            let state = match self.system.read(Path::new(names)) {
                Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => FileState::Absent,
                Ok(bytes) => match self.save(tool, "legacy") {
                    Ok(text) => {
                        let missing = unsaved(&bytes, &text).map(|table| {
                            let why =
                                format!("'{tool}-legacy-save -c' leaves out the table {table}, which {names} has");
                            (format!("{tool}-legacy-save.txt"), Doubt::Partial(why))
                        });
                        round.doubts.extend(missing);
                        saved.push((tool, text.clone()));
                        FileState::Present(text)
                    }
                    Err(failure) => FileState::Unreadable(failure.why),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => FileState::Absent,
                Err(error) => FileState::Unreadable(unreadable(Path::new(names), &error)),
            };
            round.put(format!("{tool}-legacy-save.txt"), state);
        }
        saved
    }

    /// Lists nf_tables; gives back the generation that the kernel told before.
    fn nf_tables(&self, round: &mut Round) -> Option<u32> {
        if self.surely_not_loaded("nf_tables") {
            // no rules without the module; asking would load it
            for name in ["nft-ruleset.json", "iptables-nft-save.txt", "ip6tables-nft-save.txt"] {
                round.put(name, FileState::Absent);
            }
            return None;
        }
        let kernel = self.system.nf_tables();
        let listing = self.nft(kernel.as_ref().ok(), round);
        for (family, tool) in [("ip", "iptables"), ("ip6", "ip6tables")] {
            let told = kernel.as_ref().ok().map(|kernel| {
                kernel.tables.iter().any(|table| table.family == family && XTABLES.contains(&table.name.as_str()))
            });
            let listed = listing.as_deref().map(|listing| has_xtables(listing, family));
            let needed = told.or(listed).unwrap_or(true) || listed == Some(true);
            let name = format!("{tool}-nft-save.txt");
            let state = match needed.then(|| self.save(tool, "nft")) {
                None => FileState::Absent,
                Some(Ok(text)) => FileState::Present(text),
                Some(Err(Failure { why, said: Some(said), .. })) if said.contains(&b'*') => {
                    round.doubts.push((name.clone(), Doubt::Partial(why)));
                    FileState::Present(said)
                }
                Some(Err(failure)) => FileState::Unreadable(failure.why),
            };
            round.put(name, state);
        }
        match kernel {
            Ok(kernel) => {
                // plain fields always serialise
                let mut text = serde_json::to_vec(&kernel).unwrap_or_default();
                text.push(b'\n');
                round.put("nft-kernel.json", FileState::Present(text));
                Some(kernel.generation)
            }
            Err(error) => {
                // whatever else closes this also closes nft, and that is said
                if error.kind() == io::ErrorKind::Interrupted {
                    round.saves_changed();
                }
                None
            }
        }
    }

    /// nft's listing, put together from parts where it has to be. Gives back its text.
    fn nft(&self, kernel: Option<&KernelTables>, round: &mut Round) -> Option<String> {
        let name = "nft-ruleset.json";
        match self.nft_listing(kernel) {
            Ok(listing) => {
                let text = String::from_utf8_lossy(&listing.text).into_owned();
                round.of_parts = listing.of_parts;
                round.doubts.extend(listing.wrong.map(|why| (name.to_owned(), Doubt::Partial(why))));
                round.put(name, FileState::Present(listing.text));
                Some(text)
            }
            Err(why) => {
                round.put(name, FileState::Unreadable(why));
                None
            }
        }
    }

    /// `iptables-nft-save -c`, or `iptables-save -c` where that turns out to be this variant. Legacy tables must already be
    /// registered: then saving them changes nothing.
    fn save(&self, tool: &str, variant: &str) -> Result<Vec<u8>, Failure> {
        // the nft variant points at legacy tables, which are collected as well
        let save = |program: &str| self.output(program, &["-c"], |line| line.contains("-legacy tables present, use"));
        let failure = match save(&format!("{tool}-{variant}-save")) {
            Err(failure) if !failure.installed => failure,
            answer => return answer,
        };
        match save(&format!("{tool}-save")) {
            Ok(text) if is_variant(&text, variant) => Ok(text),
            _ => Err(Failure { why: format!("{}; install the package iptables", failure.why), ..failure }),
        }
    }

    /// Whether `module` is known to be neither built in nor loaded. Unsure means no.
    pub(super) fn surely_not_loaded(&self, module: &str) -> bool {
        surely_not_loaded(self.system, module)
    }
}

/// Whether `module` of the kernel is known to be neither built in nor loaded, so that asking would load it. Unsure means no.
#[must_use]
pub fn surely_not_loaded(system: &dyn System, module: &str) -> bool {
    let text = |path: &str| system.read(Path::new(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (Ok(loaded), Ok(release)) = (text("/proc/modules"), text("/proc/sys/kernel/osrelease")) else {
        return false;
    };
    let Ok(builtin) = text(&format!("/lib/modules/{}/modules.builtin", release.trim())) else { return false };
    let is_loaded = loaded.lines().any(|line| line.split(' ').next() == Some(module));
    let file = format!("/{module}.ko");
    let is_builtin = builtin.lines().any(|line| line.trim().ends_with(&file));
    let in_sys = system.list(Path::new(&format!("/sys/module/{module}"))).is_ok();
    !is_loaded && !is_builtin && !in_sys
}

/// Whether a listing of nf_tables has a table iptables-nft may own.
fn has_xtables(listing: &str, family: &str) -> bool {
    // spaces in the tool's JSON differ by version
    let compact: String = listing.chars().filter(|c| *c != ' ' && *c != '\n').collect();
    XTABLES.iter().any(|name| {
        compact.contains(&format!("\"family\":\"{family}\",\"table\":\"{name}\""))
            || compact.contains(&format!("{{\"table\":{{\"family\":\"{family}\",\"name\":\"{name}\""))
    })
}

/// A registered table that a listing does not have.
fn unsaved(names: &[u8], listing: &[u8]) -> Option<String> {
    let names = String::from_utf8_lossy(names).into_owned();
    let has =
        |name: &str| listing.split(|byte| *byte == b'\n').any(|line| line.strip_prefix(b"*") == Some(name.as_bytes()));
    names.split_ascii_whitespace().find(|name| !has(name)).map(str::to_owned)
}

/// A saved listing without what changes by itself: comments with the time, counters.
fn masked(text: &[u8]) -> Vec<&[u8]> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#"));
    let masked = lines.map(|line| match line.first() {
        Some(b'[') => memchr::memmem::find(line, b"] ").and_then(|at| line.get(at..)).unwrap_or(line),
        Some(b':') => memchr::memmem::rfind(line, b" [").and_then(|at| line.get(..at)).unwrap_or(line),
        _ => line,
    });
    masked.collect()
}

/// By the first line: `# Generated by iptables-save v1.8.9 (nf_tables) on …`.
fn is_variant(text: &[u8], variant: &str) -> bool {
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let nft = first.contains("nf_tables") || first.contains("-nft-") || first.contains("xtables-save");
    nft == (variant == "nft")
}
