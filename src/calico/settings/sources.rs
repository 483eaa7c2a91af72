//! Everything a snapshot says about Felix's settings, put together into worlds: what Felix would read now, and what the
//! running Felix has read.

use std::sync::Arc;

use super::datastore::{self, Found};
use super::envfile::{self, Variable, Variables};
use super::unit::{self, Unit};
use super::{Broken, Loaded, Outcome, Place, Remark, Settings, ini};
use crate::files::{FileState, SnapshotFiles};

/// What is known about a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was read.
    Read,
    /// It does not exist on the host.
    Absent,
    /// Nobody looked.
    NotLooked,
    /// It could not be read: why.
    Unreadable(String),
}

impl Known {
    /// Whether what it says, or that it says nothing, can be relied on.
    #[must_use]
    pub fn is_known(&self) -> bool {
        matches!(self, Self::Read | Self::Absent)
    }
}

/// A snapshot file that settings come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name in the snapshot.
    pub file: String,
    /// What it is, for people.
    pub what: &'static str,
    /// What is known about it.
    pub state: Known,
}

/// One Felix: settings, and whether it can start with them.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The settings.
    pub settings: Settings,
    /// Sources that cannot be loaded.
    pub broken: Vec<Broken>,
    /// Lines without the effect they seem to have.
    pub remarks: Vec<Remark>,
    /// Whether the environment, which wins over everything, is known.
    pub environment_known: bool,
    /// Whether `felix.cfg` is known.
    pub config_known: bool,
    /// Whether the datastore's settings are known.
    pub datastore_known: bool,
}

impl World {
    /// Whether Felix starts with what is known of it.
    #[must_use]
    pub fn starts(&self) -> bool {
        self.broken.is_empty() && self.settings.fatal.is_empty()
    }

    /// Whether the parameter's value can be relied on: every source above the one that wins is known.
    #[must_use]
    pub fn is_certain(&self, name: &str) -> bool {
        use super::Source;
        let Some(setting) = self.settings.get(name) else { return false };
        match setting.source {
            Source::Environment => self.environment_known,
            Source::ConfigFile => self.environment_known && self.config_known,
            _ => self.environment_known && self.config_known && self.datastore_known,
        }
    }
}

/// All worlds of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The files looked at, in order of precedence.
    pub files: Vec<SourceFile>,
    /// This host's name to Felix.
    pub host: Option<String>,
    /// What Felix reads at its next start.
    pub disk: World,
    /// What the running Felix has read; `None` when nothing is known about a running Felix.
    pub running: Option<World>,
    /// What the datastore alone says; `None` without an export of it.
    pub datastore: Option<World>,
    /// The export's unreadable documents and undecided resources.
    pub export: Found,
    /// Path of the environment file on the host, for commands to copy.
    pub environment_path: Option<String>,
    /// Name of Felix's unit, for commands to copy.
    pub unit_name: Option<String>,
}

const UNIT: &str = "felix/unit.txt";
const ENVIRONMENT: &str = "felix/calico.env";
const CONFIG: &str = "felix/felix.cfg";
const ENVIRON: &str = "felix/environ";

/// Reads every source of Felix's settings in `files`.
#[must_use]
pub fn read(files: &SnapshotFiles) -> Sources {
    let unit_file: Arc<str> = Arc::from(files.label(UNIT));
    let unit = files.bytes(UNIT).map(|bytes| unit::read(&unit_file, bytes));
    let disk_environment = Environment::on_disk(files, unit.as_ref());
    let environ = files.bytes(ENVIRON).map(|bytes| envfile::environ(&Arc::from(files.label(ENVIRON)), bytes).felix());
    let config = files.bytes(CONFIG).map(|bytes| ini::read(&Arc::from(files.label(CONFIG)), bytes)).unwrap_or_default();

    let host = host_name(files, &[&disk_environment.loaded, &config]);
    let export =
        datastore::read(files.below("calico/").map(|(name, bytes)| (files.label(name), bytes)), host.as_deref());
    let datastore_known = export.given && export.undecided.is_empty() && export.diagnostics.is_empty();
    let config_known = known(files, CONFIG).is_known();

    let world = |environment: Loaded, environment_known| {
        let mut all = environment;
        all.extend(config.clone());
        all.extend(export.loaded.clone());
        World {
            settings: Settings::resolve(&all.assignments),
            broken: all.broken,
            remarks: all.remarks,
            environment_known,
            config_known,
            datastore_known,
        }
    };
    let disk = world(disk_environment.loaded, disk_environment.known);
    Sources {
        files: source_files(files, &disk_environment.also),
        host,
        running: environ.map(|environment| world(environment, true)),
        datastore: export.given.then(|| World {
            settings: Settings::resolve(&export.loaded.assignments),
            broken: export.loaded.broken.clone(),
            remarks: Vec::new(),
            environment_known: true,
            config_known: true,
            datastore_known,
        }),
        disk,
        export,
        environment_path: disk_environment.path,
        unit_name: files.bytes(UNIT).and_then(unit_name),
    }
}

fn known(files: &SnapshotFiles, name: &str) -> Known {
    match files.files.get(name) {
        Some(FileState::Present(_)) => Known::Read,
        Some(FileState::Absent) => Known::Absent,
        Some(FileState::Unreadable(why)) => Known::Unreadable(why.clone()),
        None => Known::NotLooked,
    }
}

fn source_files(files: &SnapshotFiles, also: &[String]) -> Vec<SourceFile> {
    let fixed = [
        (ENVIRON, "environment of the running Felix"),
        (ENVIRONMENT, "environment file"),
        (UNIT, "systemd unit"),
        (CONFIG, "configuration file"),
    ];
    let mut all: Vec<SourceFile> = fixed
        .into_iter()
        .map(|(name, what)| SourceFile { file: name.to_owned(), what, state: known(files, name) })
        .collect();
    for name in also.iter().filter(|name| name.as_str() != ENVIRONMENT) {
        all.push(SourceFile { file: name.clone(), what: "environment file", state: known(files, name) });
    }
    let exports = files.files.keys().filter(|name| name.starts_with("calico/"));
    let before = all.len();
    all.extend(exports.map(|name| SourceFile {
        file: name.clone(),
        what: "exported resources",
        state: known(files, name),
    }));
    if all.len() == before {
        all.push(SourceFile { file: "calico/".to_owned(), what: "exported resources", state: Known::NotLooked });
    }
    all
}

/// Felix's name for this host: `FelixHostname` where a local source sets it, else the host's own, lower-cased.
fn host_name(files: &SnapshotFiles, local: &[&Loaded]) -> Option<String> {
    let assignments: Vec<_> = local.iter().flat_map(|loaded| loaded.assignments.clone()).collect();
    if let Some(name) = Settings::resolve(&assignments).text("FelixHostname").filter(|name| !name.is_empty()) {
        return Some(name.into_string());
    }
    let meta: serde_json::Value = serde_json::from_slice(files.bytes("meta.json")?).ok()?;
    let name = meta.get("host")?;
    let name = name.as_str().or_else(|| name.get("name")?.as_str())?;
    Some(name.trim().to_lowercase())
}

/// The unit's name from the path that `systemctl cat` prints first, or from `Id=`.
fn unit_name(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes.get(..4096).unwrap_or(bytes)).into_owned();
    let name = text.lines().find_map(|line| {
        let path = line.strip_prefix("# /").or_else(|| line.strip_prefix("Id="))?;
        path.rsplit('/').next().filter(|name| name.ends_with(".service"))
    })?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    name.chars().all(plain).then(|| name.to_owned())
}

/// What the copy of a host's environment file is called below `felix/`.
#[must_use]
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The same where two files have one name in different folders: `etc-calico-felix.env`.
#[must_use]
pub fn full_name(path: &str) -> String {
    path.trim_start_matches('/').replace('/', "-")
}

/// The environment Felix is started with.
struct Environment {
    loaded: Loaded,
    known: bool,
    /// Path on the host of the file that holds it.
    path: Option<String>,
    /// Snapshot files it was looked for in.
    also: Vec<String>,
}

impl Environment {
    fn on_disk(files: &SnapshotFiles, unit: Option<&Unit>) -> Self {
        let file: Arc<str> = Arc::from(files.label(ENVIRONMENT));
        if let Some(unit) = unit {
            return Self::of_unit(files, unit);
        }
        let variables = files.bytes(ENVIRONMENT).map(|bytes| envfile::systemd(&file, bytes)).unwrap_or_default();
        Self {
            loaded: variables.deduplicated().felix(),
            known: known(files, ENVIRONMENT).is_known(),
            path: None,
            also: Vec::new(),
        }
    }

    fn of_unit(files: &SnapshotFiles, unit: &Unit) -> Self {
        let mut here = Self { loaded: Loaded::default(), known: true, path: None, also: Vec::new() };
        let mut variables = Variables { variables: unit.environment.clone(), ..Variables::default() };
        variables.remarks.clone_from(&unit.remarks);
        let containers = unit.container(&variables).map_or(0, |container| container.files.len());
        let single = unit.files.len() + containers == 1;
        for reference in &unit.files {
            let Some(name) = here.find(files, &reference.path, single, reference.optional, &reference.place) else {
                continue;
            };
            let Some(bytes) = files.bytes(&name) else { continue };
            let mut read = envfile::systemd(&Arc::from(files.label(&name)), bytes);
            if reference.optional && !read.broken.is_empty() {
                let place = Place { file: Arc::from(files.label(&name)), line: 0 };
                let text =
                    "systemd cannot read this file and goes on without it (its path has a - before it)".to_owned();
                read = Variables { remarks: vec![Remark { place, text }], ..Variables::default() };
            }
            variables.overlay(read);
        }
        variables = variables.deduplicated();
        variables.variables.retain(|variable| !unit.unsets(variable));
        if let Some(container) = unit.container(&variables) {
            if files.bytes(CONFIG).is_some() {
                let place = Place { file: Arc::from(files.label(CONFIG)), line: 0 };
                let text = "Felix runs in a container: this file counts only if it is mounted there".to_owned();
                variables.remarks.push(Remark { place, text });
            }
            variables = here.in_container(files, container, variables, single);
        }
        if unit.files.is_empty() && here.also.is_empty() && files.bytes(ENVIRONMENT).is_some() {
            let place = Place { file: Arc::from(UNIT), line: 0 };
            let text = "the unit names no environment file, so calico.env does not reach Felix".to_owned();
            variables.remarks.push(Remark { place, text });
        }
        here.loaded.extend(variables.felix());
        here
    }

    /// A container sees only what its options give it.
    fn in_container(
        &mut self,
        files: &SnapshotFiles,
        container: unit::Container,
        outside: Variables,
        single: bool,
    ) -> Variables {
        let place = Place { file: Arc::from(UNIT), line: 0 };
        let mut inside = Variables { broken: outside.broken, remarks: outside.remarks, ..Variables::default() };
        for path in container.files {
            let Some(name) = self.find(files, &path, single, false, &place) else { continue };
            if let Some(bytes) = files.bytes(&name) {
                inside.overlay(envfile::docker(&Arc::from(files.label(&name)), bytes));
            }
        }
        for (name, value) in container.variables {
            let own = outside.variables.iter().rev().find(|variable| variable.name == name);
            let found = match (value, own) {
                (Some(value), own) => {
                    let place = own.map_or_else(|| place.clone(), |variable| variable.place.clone());
                    Some(Variable { name, value, place })
                }
                (None, own) => own.cloned(),
            };
            inside.variables.extend(found);
        }
        inside.deduplicated()
    }

    /// The snapshot's copy of the host's file `path`.
    fn find(
        &mut self,
        files: &SnapshotFiles,
        path: &str,
        single: bool,
        optional: bool,
        place: &Place,
    ) -> Option<String> {
        let base = base_name(path);
        let full = format!("felix/{}", full_name(path));
        let own = if files.files.contains_key(&full) { full } else { format!("felix/{base}") };
        self.path.get_or_insert_with(|| path.to_owned());
        let name = if files.files.contains_key(&own) { own } else { ENVIRONMENT.to_owned() };
        if name == ENVIRONMENT && base != "calico.env" && !single {
            // one of several files, and the snapshot does not say which
            self.known = false;
            if self.also.contains(&name) {
                return None;
            }
        }
        let state = known(files, &name);
        self.also.push(name.clone());
        match state {
            Known::Read => return Some(name),
            Known::Absent if optional => {}
            Known::Absent => {
                let reason =
                    format!("{} does not exist; the unit does not start without it", super::ports::shortened(path));
                self.loaded.broken.push(Broken { place: place.clone(), reason, outcome: Outcome::NotStarted });
            }
            Known::NotLooked | Known::Unreadable(_) => self.known = false,
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(all: &[(&str, &str)]) -> SnapshotFiles {
        let mut files = SnapshotFiles::default();
        for (name, text) in all {
            files.files.insert((*name).to_owned(), FileState::Present(text.as_bytes().to_vec()));
        }
        files
    }

    fn prefix(files: &SnapshotFiles) -> Option<String> {
        read(files).disk.settings.text("LogPrefix").map(String::from)
    }

    #[test]
    fn the_unit_decides_what_reaches_felix() {
        let env = ("felix/calico.env", "FELIX_LOGPREFIX=\"file\"\n");
        assert_eq!(prefix(&snapshot(&[env])).as_deref(), Some("file"));
        let unit = |text| ("felix/unit.txt", text);
        let with = "[Service]\nEnvironment=FELIX_LOGPREFIX=unit\nEnvironmentFile=/etc/default/x\n";
        assert_eq!(prefix(&snapshot(&[env, unit(with)])).as_deref(), Some("file"), "the file wins over the unit");
        let without = "[Service]\nEnvironment=FELIX_LOGPREFIX=unit\n";
        let files = snapshot(&[env, unit(without)]);
        assert_eq!(prefix(&files).as_deref(), Some("unit"));
        assert!(read(&files).disk.remarks.iter().any(|remark| remark.text.contains("no environment file")));
        let unset = "[Service]\nEnvironmentFile=/x\nUnsetEnvironment=FELIX_LOGPREFIX\n";
        assert_eq!(prefix(&snapshot(&[env, unit(unset)])).as_deref(), Some("calico-packet"));
    }

    #[test]
    fn docker_keeps_the_quotes_that_systemd_strips() {
        let env = ("felix/calico.env", "FELIX_FAILSAFEINBOUNDHOSTPORTS=\"tcp:22\"\n");
        let docker =
            ("felix/unit.txt", "[Service]\nExecStart=/usr/bin/docker run --env-file=/etc/calico/calico.env img\n");
        assert!(!read(&snapshot(&[env, docker])).disk.starts());
        assert!(read(&snapshot(&[env])).disk.starts());
        let expanded = (
            "felix/unit.txt",
            "[Service]\nEnvironmentFile=/etc/calico/calico.env\nExecStart=/usr/bin/docker run -e FELIX_LOGPREFIX=${P} img\n",
        );
        let files = snapshot(&[("felix/calico.env", "P=\"x\"\nFELIX_IPV6SUPPORT=false\n"), expanded]);
        let sources = read(&files);
        assert_eq!(sources.disk.settings.text("LogPrefix").as_deref(), Some("x"));
        assert_eq!(sources.disk.settings.bool("Ipv6Support"), Some(true), "only what -e names gets in");
    }

    #[test]
    fn a_needed_file_that_is_missing_stops_the_unit() {
        let mut files = snapshot(&[("felix/unit.txt", "[Service]\nEnvironmentFile=/etc/calico/calico.env\n")]);
        assert!(!read(&files).disk.environment_known, "nobody looked");
        files.files.insert("felix/calico.env".to_owned(), FileState::Absent);
        assert_eq!(read(&files).disk.broken.first().expect("not started").outcome, Outcome::NotStarted);
        let mut files = snapshot(&[("felix/unit.txt", "[Service]\nEnvironmentFile=-/etc/calico/calico.env\n")]);
        files.files.insert("felix/calico.env".to_owned(), FileState::Absent);
        assert!(read(&files).disk.starts() && read(&files).disk.environment_known);
    }

    #[test]
    fn several_files_are_told_apart_by_name_or_not_at_all() {
        let unit = ("felix/unit.txt", "[Service]\nEnvironmentFile=/etc/one.env\nEnvironmentFile=/etc/two.env\n");
        let own = [("felix/one.env", "FELIX_LOGPREFIX=1\n"), ("felix/two.env", "FELIX_LOGPREFIX=2\n"), unit];
        let sources = read(&snapshot(&own));
        assert_eq!(sources.disk.settings.text("LogPrefix").as_deref(), Some("2"), "the later file wins");
        assert!(sources.disk.environment_known);
        let sources = read(&snapshot(&[("felix/calico.env", "FELIX_LOGPREFIX=1\n"), unit]));
        assert_eq!(sources.disk.settings.text("LogPrefix").as_deref(), Some("1"));
        assert!(!sources.disk.environment_known, "the other file may override it");
    }

    #[test]
    fn the_hosts_name_chooses_its_resource() {
        let resource =
            ("calico/f.yaml", "kind: FelixConfiguration\nmetadata: {name: node.bastion}\nspec: {logPrefix: mine}\n");
        assert_eq!(prefix(&snapshot(&[resource, ("meta.json", "{\"host\":\"BASTION\"}")])).as_deref(), Some("mine"));
        assert_eq!(prefix(&snapshot(&[resource])).as_deref(), Some("calico-packet"));
        let env = ("felix/calico.env", "FELIX_FELIXHOSTNAME=bastion\n");
        assert_eq!(prefix(&snapshot(&[resource, env])).as_deref(), Some("mine"));
    }

    #[test]
    fn certainty_needs_every_source_above() {
        let name = "FailsafeInboundHostPorts";
        let mut files = snapshot(&[("felix/calico.env", "FELIX_FAILSAFEINBOUNDHOSTPORTS=22\n")]);
        assert!(read(&files).disk.is_certain(name), "the environment wins over whatever there is");
        assert!(!read(&files).disk.is_certain("FailsafeOutboundHostPorts"), "the datastore may set it");
        files.files.insert("felix/felix.cfg".to_owned(), FileState::Absent);
        files.files.insert(
            "calico/f.yaml".to_owned(),
            FileState::Present(b"kind: FelixConfigurationList\nitems: []\n".to_vec()),
        );
        assert!(read(&files).disk.is_certain("FailsafeOutboundHostPorts"));
        assert!(!read(&SnapshotFiles::default()).disk.is_certain(name));
    }

    #[test]
    fn the_running_felix_has_its_own_environment() {
        let files = snapshot(&[
            ("felix/calico.env", "FELIX_LOGPREFIX=new\n"),
            ("felix/environ", "FELIX_LOGPREFIX=old\0"),
            (
                "felix/unit.txt",
                "# /etc/systemd/system/calico.service\n[Service]\nEnvironmentFile=/etc/calico/calico.env\n",
            ),
        ]);
        let sources = read(&files);
        assert_eq!(sources.running.expect("running").settings.text("LogPrefix").as_deref(), Some("old"));
        assert_eq!(sources.disk.settings.text("LogPrefix").as_deref(), Some("new"));
        assert_eq!(sources.unit_name.as_deref(), Some("calico.service"));
        assert_eq!(sources.environment_path.as_deref(), Some("/etc/calico/calico.env"));
    }
}
