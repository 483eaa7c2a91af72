//! Everything known about one host at one time: the raw files of a snapshot folder, and what they say.
//!
//! The live host and a saved folder go the same way: [`crate::collect`] (or a person with standard tools) gives
//! [`SnapshotFiles`], and [`read`] gives a [`Snapshot`]. What is missing is known too.

pub mod kind;
pub mod meta;
pub mod secrets;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::calico::names::{Authors, Meanings};
use crate::calico::resources::Resources;
use crate::config::{Collector, Protect};
use crate::diagnostic::{Diagnostic, Level, Parsed, Remarks};
pub use crate::files::{Doubt, FileState, SnapshotFiles};
use crate::host::{self, Clocks, Host};
use crate::packet::Family;
use crate::ruleset::kernel::KernelTables;
use crate::ruleset::readers::{ipset_save, iptables_save, nft_json};
use crate::ruleset::{Backend, Effect, Name, Rule, Ruleset, Step, Table, joined, merge, second_opinion};
use meta::Meta;

/// What the files say.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The raw files it was read from.
    pub files: SnapshotFiles,
    /// Which host, when, with which tools.
    pub meta: Meta,
    /// The firewall.
    pub ruleset: Ruleset,
    /// The host around it.
    pub host: Host,
    /// Remarks of all readers, in file order.
    pub diagnostics: Vec<Diagnostic>,
    /// Calico's resources of the folder `calico/`.
    pub resources: Arc<Resources>,
    /// What those say about Felix's names.
    pub authors: Arc<Authors>,
    /// Flows that the configuration protects; no part of the folder.
    pub protect: Vec<Protect>,
    /// Collectors that findings and denies are sent to; no part of the folder.
    pub outputs: Vec<Collector>,
    /// What boot loads, where that was tried out; no part of the folder.
    pub booted: Option<Booted>,
    /// The rules were not listed on the host: they are those that Felix would write.
    pub rendered: bool,
}

/// What the loaders of a boot left behind when they ran in a private copy of the host.
#[derive(Clone, Debug, Default)]
pub struct Booted {
    /// The rules and sets.
    pub ruleset: Ruleset,
    /// Units whose loaders ran, by name.
    pub units: BTreeSet<String>,
}

impl Snapshot {
    /// What the rules of the firewall mean, in the words of those who wrote the policies as far as these are known.
    #[must_use]
    pub fn meanings(&self) -> Meanings<'_> {
        Meanings::with(&self.ruleset, &self.authors)
    }
}

/// Files of a snapshot folder that have one fixed name.
pub const FILE_NAMES: [&str; 30] = [
    "meta.json",
    "iptables-save.txt",
    "ip6tables-save.txt",
    "iptables-legacy-save.txt",
    "ip6tables-legacy-save.txt",
    "iptables-nft-save.txt",
    "ip6tables-nft-save.txt",
    "nft-ruleset.json",
    "nft-ruleset.txt",
    "nft-kernel.json",
    "ipset-save.txt",
    "ip-addr.json",
    "ip-link.json",
    "ip-maddr.json",
    "ip-route.json",
    "ip-rule.json",
    "sockets.txt",
    "conntrack.txt",
    "bpf.json",
    "bpf-failsafe-v4.json",
    "bpf-failsafe-v6.json",
    "tc.txt",
    "resolv.conf",
    "sysctl.txt",
    "caller.txt",
    "dmi.txt",
    "iscsi.txt",
    "mounts.txt",
    "time-sources.txt",
    "who.txt",
];

/// Listings of iptables' save tools, by file name.
const SAVES: [(&str, Backend, Family); 6] = [
    ("iptables-legacy-save.txt", Backend::IptablesLegacy, Family::Ipv4),
    ("ip6tables-legacy-save.txt", Backend::IptablesLegacy, Family::Ipv6),
    ("iptables-nft-save.txt", Backend::IptablesNft, Family::Ipv4),
    ("ip6tables-nft-save.txt", Backend::IptablesNft, Family::Ipv6),
    ("iptables-save.txt", Backend::Iptables, Family::Ipv4),
    ("ip6tables-save.txt", Backend::Iptables, Family::Ipv6),
];

/// Folders of a snapshot folder; any file in them belongs to it.
pub const FOLDERS: [&str; 6] = ["felix/", "calico/", "persisted/", "leases/", "etc/", "units/"];

/// Whether a snapshot may hold a file of this name.
#[must_use]
pub fn is_known_name(name: &str) -> bool {
    FILE_NAMES.contains(&name) || FOLDERS.iter().any(|folder| name.starts_with(folder))
}

/// Reads every file with its reader. Never fails: what is wrong is among the diagnostics, what is missing stays `None`.
#[must_use]
pub fn read(files: SnapshotFiles) -> Snapshot {
    let mut reading = Reading { files: &files, diagnostics: Vec::new() };
    let meta = reading.file(meta::NAME, read_meta).unwrap_or_default();
    let ruleset = reading.firewall();
    let host = reading.host(meta.schema == meta::SCHEMA);
    reading.ignored();
    let diagnostics = reading.diagnostics;
    let resources = Arc::new(Resources::of_files(&files));
    let authors = Arc::new(Authors::of(&resources));
    let (protect, outputs) = (Vec::new(), Vec::new());
    Snapshot {
        meta,
        ruleset,
        host,
        diagnostics,
        files,
        resources,
        authors,
        protect,
        outputs,
        booted: None,
        rendered: false,
    }
}

fn read_meta(source: &Arc<str>, text: &[u8]) -> Parsed<Meta> {
    read_json(source, text)
}

fn read_kernel(source: &Arc<str>, text: &[u8]) -> Parsed<Option<KernelTables>> {
    read_json(source, text)
}

fn read_json<T: serde::de::DeserializeOwned + Default>(source: &Arc<str>, text: &[u8]) -> Parsed<T> {
    let mut remarks = Remarks::new(source);
    let value = serde_json::from_slice(text).unwrap_or_else(|error| {
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        remarks.add(Level::Error, number(error.line()), number(error.column()), format!("not used: {error}"));
        T::default()
    });
    remarks.with(value)
}

struct Reading<'a> {
    files: &'a SnapshotFiles,
    diagnostics: Vec<Diagnostic>,
}

/// Whether a saved table of unknown variant is the one of nft's listing: the same chains with as many rules each.
fn have_the_same_rules(saved: &Table, native: &Table) -> bool {
    let shape = |table: &Table| {
        let chains = table.chains.iter().filter(|chain| !chain.rules.is_empty());
        let mut shape: Vec<(Name, usize)> = chains.map(|chain| (chain.name.clone(), chain.rules.len())).collect();
        shape.sort();
        shape
    };
    saved.family == native.family
        && saved.name == native.name
        && !shape(saved).is_empty()
        && shape(saved) == shape(native)
}

/// A rule that the reader put where lines could not be read.
fn stands_for_unread(rule: &Rule) -> bool {
    rule.text.starts_with("# ") && matches!(rule.steps.as_slice(), [Step::Effect(Effect::Opaque(_))])
}

impl Reading<'_> {
    /// The file's content as `reader` reads it; `None` when it is not there or cannot be read.
    fn file<T>(&mut self, name: &str, reader: impl FnOnce(&Arc<str>, &[u8]) -> Parsed<T>) -> Option<T> {
        let bytes = self.files.bytes(name)?;
        let source: Arc<str> = Arc::from(self.files.label(name));
        let parsed = reader(&source, bytes);
        self.diagnostics.extend(parsed.diagnostics);
        Some(parsed.value)
    }

    fn firewall(&mut self) -> Ruleset {
        let mut tables = Vec::new();
        let mut saved_nft = Vec::new();
        let native = self.file("nft-ruleset.json", nft_json::read).unwrap_or_default();
        for (name, backend, family) in SAVES {
            let read = self.file(name, |source, text| iptables_save::read(source, text, backend, family));
            let (told, new): (Vec<Table>, Vec<Table>) = read
                .into_iter()
                .flatten()
                .partition(|table| backend == Backend::Iptables && self.is_told_elsewhere(table));
            if !told.is_empty() {
                self.remark(Level::Note, name, "not used: the listing of the same variant beside it says the same");
            }
            for mut table in new {
                if table.backend == Backend::Iptables && native.iter().any(|other| have_the_same_rules(&table, other)) {
                    table.backend = Backend::IptablesNft;
                }
                if table.backend == Backend::IptablesNft { saved_nft.push(table) } else { tables.push(table) }
            }
        }
        let kernel = self.file("nft-kernel.json", read_kernel).flatten();
        self.doubts(!native.is_empty(), kernel.is_some());
        self.let_nft_tell(&native, &mut saved_nft, kernel.is_some());
        let merged = merge::merge(native, saved_nft);
        self.diagnostics.extend(merged.diagnostics);
        let mut of_nf_tables = merged.value;
        let source: Arc<str> = Arc::from(self.files.label("nft-ruleset.json"));
        self.diagnostics.extend(second_opinion::apply(&mut of_nf_tables, kernel.as_ref(), &source));
        // tables of unknown variant
        joined::settle(&mut tables, None);
        tables.extend(of_nf_tables);
        if self.files.bytes("nft-ruleset.txt").is_some() && self.files.bytes("nft-ruleset.json").is_none() {
            let message = "a listing for people, not read; add the output of 'nft -j list ruleset' as nft-ruleset.json";
            self.remark(Level::Error, "nft-ruleset.txt", message);
        }
        let mut ipsets = self.file("ipset-save.txt", ipset_save::read).unwrap_or_default();
        if let Some(Doubt::Partial(why) | Doubt::Changed(why)) = self.files.doubts.get("ipset-save.txt") {
            ipsets.iter_mut().for_each(|set| set.incomplete = set.incomplete.take().or(Some(why.as_str().into())));
        }
        Ruleset { tables, ipsets }
    }

    /// Whether a file has no errors so far.
    fn is_sound(&self, name: &str) -> bool {
        let label = self.files.label(name);
        !self.diagnostics.iter().any(|remark| remark.level == Level::Error && *remark.source == *label)
    }

    /// What the collector has to say about files that are there. Nothing is lost where another listing tells the same: nft's
    /// for what a save tool leaves out, the kernel's count for what nft does.
    fn doubts(&mut self, native: bool, kernel: bool) {
        for (name, doubt) in &self.files.doubts {
            let told_elsewhere = match name.as_str() {
                "iptables-nft-save.txt" | "ip6tables-nft-save.txt" => native && self.is_sound("nft-ruleset.json"),
                "nft-ruleset.json" => kernel,
                _ => false,
            };
            match doubt {
                Doubt::Partial(why) if told_elsewhere => self.remark(Level::Warning, name, why),
                Doubt::Partial(why) | Doubt::Changed(why) => self.remark(Level::Error, name, why),
            }
        }
    }

    /// Where a save listing of iptables-nft gave up on a table or was cut off, nft's listing tells all but what it withholds,
    /// and that stays undecided rule by rule: what was an error is then only a remark. Listings `of_one_moment` also fit each
    /// other up to the place where one stops.
    fn let_nft_tell(&mut self, native: &[Table], saved: &mut Vec<Table>, of_one_moment: bool) {
        if native.is_empty() || !self.is_sound("nft-ruleset.json") {
            return;
        }
        let unread = |table: &Table| table.other.iter().any(|text| text.starts_with(iptables_save::UNREAD));
        let sources: BTreeSet<Name> =
            saved.iter().filter(|table| unread(table)).map(|table| Name::clone(&table.source)).collect();
        let listed =
            |table: &Table| native.iter().any(|other| (other.family, &other.name) == (table.family, &table.name));
        saved.retain(|table| !unread(table) || listed(table));
        for table in saved.iter_mut().filter(|table| unread(table)) {
            let told = native.iter().find(|other| (other.family, &other.name) == (table.family, &table.name));
            let cut = table.other.iter().any(|text| text.contains(iptables_save::ENDS_EARLY));
            for chain in &mut table.chains {
                // what stands for lines that are not here; the number of rules says whether all the others are
                chain.rules.retain(|rule| !stands_for_unread(rule));
                let whole = told.and_then(|table| table.chain(&chain.name)).filter(|_| cut && of_one_moment);
                let length = whole.map_or(0, |(_, whole)| whole.rules.len()).max(chain.rules.len());
                chain.rules.resize_with(length, || Rule { text: "# not saved".into(), ..Rule::default() });
            }
        }
        let changed = |remark: &Diagnostic| {
            let changed = |(name, doubt): (&String, &Doubt)| {
                *self.files.label(name) == *remark.source
                    && matches!(doubt, Doubt::Changed(why) if *why == remark.message)
            };
            self.files.doubts.iter().any(changed)
        };
        let of_saves = self.diagnostics.iter_mut().filter(|remark| sources.contains(&remark.source));
        for remark in of_saves.filter(|remark| !changed(remark)) {
            remark.level = remark.level.min(Level::Warning);
        }
    }

    /// Whether a table of `iptables-save.txt` stands in the listing of its variant, too; for one of unknown variant in
    /// either's.
    fn is_told_elsewhere(&self, table: &Table) -> bool {
        SAVES.iter().any(|(name, backend, family)| {
            let same = table.backend == Backend::Iptables || *backend == table.backend;
            *backend != Backend::Iptables && same && *family == table.family && self.files.bytes(name).is_some()
        })
    }

    fn remark(&mut self, level: Level, name: &str, message: &str) {
        let source: Arc<str> = Arc::from(self.files.label(name));
        self.diagnostics.push(Diagnostic::new(level, &source, 0, 0, message));
    }

    /// The host's facts; `own` when hepguard itself took the listings.
    fn host(&mut self, own: bool) -> Host {
        let mut interfaces = self.file("ip-addr.json", host::ip::interfaces);
        for link in self.file("ip-link.json", host::ip::interfaces).into_iter().flatten() {
            host::ip::merge(interfaces.get_or_insert_default(), link);
        }
        let mut programs = self.file("bpf.json", host::bpf::attached).unwrap_or_default();
        for interface in interfaces.iter().flatten() {
            host::bpf::merge(&mut programs, interface.programs.clone());
        }
        host::bpf::merge(&mut programs, self.files.bytes("tc.txt").map(host::bpf::filters).unwrap_or_default());
        let mut tables = host::ip::TableNumbers::default();
        Host {
            interfaces,
            routes: self.file("ip-route.json", |source, text| host::ip::routes(source, text, &mut tables)),
            rules: self.file("ip-rule.json", |source, text| host::ip::rules(source, text, &mut tables)),
            programs,
            groups: self.file("ip-maddr.json", host::ip::groups),
            sockets: self.file("sockets.txt", host::sockets::read),
            sessions: self.file("conntrack.txt", host::conntrack::read),
            sysctls: self.file("sysctl.txt", host::sysctl::read),
            clocks: Clocks { listed_in_utc: own, kernel_in_utc: self.kernel_in_utc() },
        }
    }

    /// Whether the hardware clock is known to run in UTC (hwclock(8): the third line of `/etc/adjtime`, which may be missing).
    fn kernel_in_utc(&self) -> bool {
        match self.files.files.get("etc/adjtime") {
            Some(FileState::Present(text)) => {
                String::from_utf8_lossy(text).lines().nth(2).is_none_or(|line| line.trim() == "UTC")
            }
            Some(FileState::Absent) => true,
            Some(FileState::Unreadable(_)) | None => false,
        }
    }

    fn ignored(&mut self) {
        for name in &self.files.ignored {
            let source: Arc<str> = Arc::from(name.as_str());
            let message = "not a file name of a snapshot; not looked at";
            self.diagnostics.push(Diagnostic::new(Level::Note, &source, 0, 0, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(files: &[(&str, &str)]) -> Snapshot {
        let mut all = SnapshotFiles::default();
        for (name, text) in files {
            all.files.insert((*name).to_owned(), FileState::Present(text.as_bytes().to_vec()));
        }
        read(all)
    }

    fn tables(snapshot: &Snapshot) -> Vec<String> {
        let texts = snapshot.ruleset.tables.iter();
        texts
            .map(|table| format!("{} {} {} {}", table.backend.name(), table.family, table.name, table.source))
            .collect()
    }

    const FILTER: &str = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n";

    #[test]
    fn where_the_save_tool_gives_up_nfts_listing_tells() {
        let rule = |expr: &str| {
            format!(
                r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6", "json_schema_version": 1}}}},
                {{"table": {{"family": "ip", "name": "filter", "handle": 1}}}},
                {{"chain": {{"family": "ip", "table": "filter", "name": "INPUT", "handle": 1, "type": "filter",
                    "hook": "input", "prio": 0, "policy": "accept"}}}},
                {{"rule": {{"family": "ip", "table": "filter", "chain": "INPUT", "handle": 3, "expr": [{expr}]}}}}]}}"#
            )
        };
        let save = "# Table `filter' is incompatible, use 'nft' tool.\n";
        let errors = |snapshot: &Snapshot| snapshot.diagnostics.iter().filter(|d| d.level == Level::Error).count();
        let told = snapshot(&[("nft-ruleset.json", &rule(r#"{"drop": null}"#)), ("iptables-nft-save.txt", save)]);
        assert_eq!((tables(&told).len(), errors(&told)), (1, 0), "{:?}", told.diagnostics);
        assert!(told.diagnostics.iter().any(|d| d.message.contains("native nft rules")), "it is still said");
        let xt = rule(r#"{"xt": {"type": "match", "name": "set"}}, {"drop": null}"#);
        let hidden = snapshot(&[("nft-ruleset.json", &xt), ("iptables-nft-save.txt", save)]);
        let rules = hidden.ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        assert!(rules.clone().count() == 1 && rules.clone().all(Rule::is_withheld), "its rule stays undecided");
        assert_eq!(hidden.ruleset.tables[0].disagreements().count(), 1, "and that is said: {:?}", hidden.diagnostics);
        let alone = snapshot(&[("iptables-nft-save.txt", save)]);
        assert!(errors(&alone) > 0);
    }

    #[test]
    fn a_save_of_unknown_variant_is_paired_with_the_nft_listing_it_is_of() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"table": {"family": "ip", "name": "filter", "handle": 1}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "handle": 1, "type": "filter",
                "hook": "input", "prio": 0, "policy": "accept"}},
            {"rule": {"family": "ip", "table": "filter", "chain": "INPUT", "handle": 3, "expr": [
                {"xt": {"type": "match", "name": "multiport"}}, {"drop": null}]}}]}"#;
        let save = "# Generated by iptables-save v1.8.7 on Thu Aug  4 16:21:29 2022\n*filter\n:INPUT ACCEPT [0:0]\n\
                    -A INPUT -p tcp -m multiport --dports 22 -j DROP\nCOMMIT\n";
        let both = snapshot(&[("nft-ruleset.json", json), ("iptables-save.txt", save)]);
        assert_eq!(tables(&both).len(), 1, "one table, told once: {:?}", tables(&both));
        let rules: Vec<_> = both.ruleset.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules).collect();
        assert!(rules.iter().all(|rule| !rule.is_withheld()), "{rules:?}");
        // another ruleset is x_tables', or nobody knows
        let other = save.replace("COMMIT", "-A INPUT -j ACCEPT\nCOMMIT");
        let apart = snapshot(&[("nft-ruleset.json", json), ("iptables-save.txt", &other)]);
        assert_eq!(tables(&apart).len(), 2);
    }

    #[test]
    fn backend_and_family_come_from_the_file_name_and_the_header() {
        let nft = format!("# Generated by ip6tables-nft-save v1.8.9 (nf_tables) on Sat\n{FILTER}");
        let found = snapshot(&[("iptables-legacy-save.txt", FILTER), ("ip6tables-save.txt", &nft)]);
        assert_eq!(
            tables(&found),
            ["iptables-legacy ipv4 filter iptables-legacy-save.txt", "iptables-nft ipv6 filter ip6tables-save.txt"]
        );
    }

    #[test]
    fn a_listing_given_twice_counts_once() {
        let legacy = format!("# Generated by iptables-save v1.8.9 on Sat\n{FILTER}");
        let found = snapshot(&[("iptables-legacy-save.txt", FILTER), ("iptables-save.txt", &legacy)]);
        assert_eq!(tables(&found), ["iptables-legacy ipv4 filter iptables-legacy-save.txt"]);
        assert!(found.diagnostics.iter().any(|d| &*d.source == "iptables-save.txt" && d.message.contains("not used")));
        // of the other variant it is not the same
        let found = snapshot(&[("iptables-nft-save.txt", FILTER), ("iptables-save.txt", &legacy)]);
        assert_eq!(found.ruleset.tables.len(), 2);
    }

    #[test]
    fn a_listing_for_people_is_not_an_empty_firewall() {
        let found = snapshot(&[("nft-ruleset.txt", "table ip filter {\n}\n")]);
        assert!(found.diagnostics.iter().any(|d| d.level == Level::Error && d.message.contains("nft -j list ruleset")));
    }

    #[test]
    fn the_rest_is_read_when_one_file_is_damaged() {
        let found = snapshot(&[
            ("iptables-save.txt", FILTER),
            ("ip-addr.json", "[{\"ifname\":\"lo\"},{\"ifname\":"),
            ("ip-link.json", "[{\"ifname\":\"lo\",\"linkinfo\":{\"info_kind\":\"dummy\"}}]"),
            ("meta.json", "{"),
            ("bpf.json", "nothing"),
        ]);
        assert_eq!(found.ruleset.rule_count(), 1);
        assert_eq!(found.host.interface("lo").map(|lo| &*lo.kind), Some("dummy"));
        assert!(found.host.routes.is_none(), "what is not there stays unknown");
        let bad: Vec<&str> = found.diagnostics.iter().filter(|d| d.level == Level::Error).map(|d| &*d.source).collect();
        assert_eq!(bad, ["meta.json", "ip-addr.json", "bpf.json"]);
    }

    #[test]
    fn a_file_given_alone_is_named_as_its_owner_knows_it() {
        let mut files = SnapshotFiles::default();
        files.files.insert("ip-rule.json".to_owned(), FileState::Present(b"{".to_vec()));
        files.labels.insert("ip-rule.json".to_owned(), "/tmp/mine".to_owned());
        assert_eq!(read(files).diagnostics.first().map(|d| d.source.to_string()).as_deref(), Some("/tmp/mine"));
    }
}
