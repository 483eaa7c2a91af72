//! Rules and sets of the copy.

use std::time::Duration;

use super::confine;
use super::{Ended, Step};
use crate::files::SnapshotFiles;
use crate::packet::Family;
use crate::ruleset::{Backend, Interval, Ruleset, Set, SetKind, Table};
use crate::snapshot::Snapshot;
use crate::system::{Real, System};

/// Time for a tool that loads a listing.
const LIMIT: Duration = Duration::from_secs(60);

/// A table of nft's own, as its tool lists it.
pub(super) struct Native {
    title: String,
    text: Result<Vec<u8>, String>,
}

/// The text of each native table of this host. Called outside the copy.
pub(super) fn native_texts(before: &Snapshot) -> Vec<Native> {
    let native = before.ruleset.tables.iter().filter(|table| table.backend == Backend::Nft);
    native
        .map(|table| {
            let arguments = ["-s", "list", "table", table.family.nft_name(), &table.name];
            let text = match Real.run("nft", &arguments, LIMIT) {
                Ok(output) if output.status == Some(0) => Ok(output.stdout),
                Ok(output) => Err(output.stderr),
                Err(error) => Err(error.to_string()),
            };
            Native { title: table.title(), text }
        })
        .collect()
}

/// Loads what the listings hold. Gives back what could not be loaded.
pub(super) fn copy(before: &Snapshot, native: &[Native]) -> Vec<String> {
    let files = &before.files;
    let mut not_copied = Vec::new();
    let mut load = |what: &str, command: &[&str], text: &[u8]| {
        if text.is_empty() {
            return;
        }
        if let Err(why) = tool(command, text) {
            not_copied.push(format!("{what}: {why}"));
        }
    };
    load("the IP sets", &["ipset", "restore"], files.bytes("ipset-save.txt").unwrap_or_default());
    let saves = [
        ("iptables-legacy-save.txt", "iptables-legacy-restore"),
        ("ip6tables-legacy-save.txt", "ip6tables-legacy-restore"),
        ("iptables-nft-save.txt", "iptables-nft-restore"),
        ("ip6tables-nft-save.txt", "ip6tables-nft-restore"),
    ];
    for (name, program) in saves {
        load(name, &[program], files.bytes(name).unwrap_or_default());
    }
    for (name, known, program) in [
        ("iptables-save.txt", ["iptables-legacy-save.txt", "iptables-nft-save.txt"], "iptables-nft-restore"),
        ("ip6tables-save.txt", ["ip6tables-legacy-save.txt", "ip6tables-nft-save.txt"], "ip6tables-nft-restore"),
    ] {
        if known.iter().all(|known| files.bytes(known).is_none()) {
            load(name, &[program], files.bytes(name).unwrap_or_default());
        }
    }
    for table in native {
        match &table.text {
            Ok(text) => load(&table.title, &["nft", "-f", "-"], text),
            Err(why) => load(&table.title, &["false"], why.as_bytes()),
        }
    }
    if native.is_empty()
        && let Some(json) = native_json(files, &before.ruleset)
    {
        load("the tables of nft's own", &["nft", "-j", "-f", "-"], &json);
    }
    not_copied
}

fn tool(command: &[&str], input: &[u8]) -> Result<(), String> {
    let step = Step {
        name: String::new(),
        command: command.iter().map(Into::into).collect(),
        input: input.to_vec(),
        folder: "/".into(),
        independent: false,
    };
    match confine::run(&step, LIMIT)? {
        (Ended::Status(0), _) => Ok(()),
        (ended, said) => {
            let words: String = said.chars().take(300).collect();
            Err(format!("'{}' failed ({ended}): {words}", command.join(" ")))
        }
    }
}

/// The part of nft's JSON listing that iptables-nft does not own.
fn native_json(files: &SnapshotFiles, ruleset: &Ruleset) -> Option<Vec<u8>> {
    let native: Vec<(&str, &str)> = ruleset
        .tables
        .iter()
        .filter(|table| table.backend == Backend::Nft)
        .map(|table| (table.family.nft_name(), &*table.name))
        .collect();
    if native.is_empty() {
        return None;
    }
    let mut listing: serde_json::Value = serde_json::from_slice(files.bytes("nft-ruleset.json")?).ok()?;
    let objects = listing.get_mut("nftables")?.as_array_mut()?;
    objects.retain(|object| {
        let Some((kind, body)) = object.as_object().and_then(|object| object.iter().next()) else { return false };
        let word = |key: &str| body.get(key).and_then(serde_json::Value::as_str);
        let table = if kind == "table" { word("name") } else { word("table") };
        kind == "metainfo" || word("family").zip(table).is_some_and(|place| native.contains(&place))
    });
    serde_json::to_vec(&listing).ok()
}

/// Whether a table is one of x_tables.
pub(super) fn is_legacy(table: &Table) -> bool {
    table.backend == Backend::IptablesLegacy
}

/// What tables say, without counters, handles and lines, in one order.
pub(super) fn texts(ruleset: &Ruleset, which: impl Fn(&Table) -> bool) -> Vec<String> {
    let mut all: Vec<String> = ruleset.tables.iter().filter(|table| which(table)).filter_map(text).collect();
    all.sort();
    all
}

/// One table; `None` when it has neither rules nor policies nor sets, which is the same as no table.
fn text(table: &Table) -> Option<String> {
    let drops = |chain: &crate::ruleset::Chain| {
        chain.base.as_ref().is_some_and(|base| base.policy == crate::ruleset::Policy::Drop)
    };
    // a base chain that accepts everything does nothing; the restore tools make all of a table's
    let chains = || table.chains.iter().filter(|chain| chain.base.is_none() || !chain.rules.is_empty() || drops(chain));
    if table.sets.is_empty() && chains().next().is_none() {
        return None;
    }
    let mut chains: Vec<String> = chains()
        .map(|chain| {
            let rules: Vec<_> = chain.rules.iter().map(|rule| (&rule.steps, &rule.comments)).collect();
            format!("{} {:?} {rules:?}", chain.name, chain.base)
        })
        .collect();
    chains.sort();
    let sets = set_texts(&table.sets);
    let legacy = if is_legacy(table) { "legacy" } else { "nf_tables" };
    Some(format!("{legacy} {} {} {} {chains:?} {sets:?}", table.family, table.name, table.dormant))
}

fn set_texts(sets: &[Set]) -> Vec<String> {
    let mut all: Vec<String> = sets.iter().map(set_text).collect();
    all.sort();
    all
}

/// What decides about a set: type, members with what hangs on them, whether they run out; not when, nor how it is kept.
fn set_text(set: &Set) -> String {
    let elements = &set.elements;
    let member = |(number, key): (usize, &[Interval])| {
        let extra = elements.extra(number);
        let extra = extra.map(|extra| (extra.nomatch, extra.expires.is_some(), extra.stateful));
        format!("{key:?}{:?}{:?}", elements.data(number), extra.unwrap_or_default())
    };
    let mut members: Vec<String> = elements.keys().enumerate().map(member).collect();
    members.sort();
    let kind = match &set.kind {
        SetKind::Ipset { type_name, options } => format!("{type_name} {}", lasting(options)),
        SetKind::Nft { map, flags, size } => format!("{map} {flags:?} {size:?}"),
    };
    let (family, catch_all) = (set.family, elements.catch_all());
    format!("{} {family:?} {kind} {members:?} {catch_all:?} {:?}", set.name, set.member_sets)
}

/// Options of an ipset but those that only say how it is kept, which the kernel may choose anew.
fn lasting(options: &str) -> String {
    let mut words = options.split_ascii_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if ["hashsize", "bucketsize", "initval"].contains(&word) {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// What ipsets hold.
pub(super) fn sets(ruleset: &Ruleset) -> Vec<String> {
    set_texts(&ruleset.ipsets)
}

/// Tables and sets of the host that the copy does not have as they are.
pub(super) fn differences(host: &Ruleset, copy: &Ruleset) -> Vec<String> {
    let there = texts(copy, |_| true);
    let tables = host.tables.iter().filter(|table| table.family != Family::Netdev || table.backend == Backend::Nft);
    let mut all: Vec<String> = tables
        .filter(|table| text(table).is_some_and(|text| !there.contains(&text)))
        .map(|table| format!("the table {} is not the same in the copy", table.title()))
        .collect();
    let (ours, theirs) = (sets(host), sets(copy));
    let lost = ours.iter().filter(|set| !theirs.contains(set)).count();
    if lost > 0 {
        all.push(format!("{lost} IP sets are not the same in the copy"));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ruleset::readers::ipset_save;

    fn read(text: &str) -> Vec<String> {
        set_texts(&ipset_save::read(&Arc::from("ipset-save.txt"), text.as_bytes()).value)
    }

    #[test]
    fn sets_are_the_same_by_what_decides() {
        let one = "create a hash:net family inet hashsize 1024 maxelem 65536 timeout 60\nadd a 10.0.0.0/8 timeout 55\nadd a 10.1.0.0/16 nomatch timeout 9\n";
        let again = one.replace("1024", "2048").replace("timeout 55", "timeout 54");
        assert_eq!(read(one), read(&again));
        for other in [one.replace(" nomatch", ""), one.replace("hash:net", "hash:ip"), one.replace("65536", "2")] {
            assert_ne!(read(one), read(&other), "{other}");
        }
    }
}
