//! Felix's settings from every source, with Felix's own precedence and grammar.
//!
//! Sources give [`Assignment`]s ([`envfile`], [`mod@unit`], [`ini`], [`datastore`]); [`Settings::resolve`] puts them together the
//! way Felix does: per parameter the highest source with a non-empty value wins, **every** source is parsed, and a bad value
//! of a parameter that is "die on fail" stops Felix even where a higher source overrides it.

pub mod datastore;
pub mod envfile;
pub mod ini;
pub mod params;
pub mod ports;
pub mod process;
pub mod sources;
pub mod unit;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use params::{Param, nearest, param};
pub use ports::Entry;
pub use value::{Kind, Value};
use value::{ValueError, parse, zero};

/// Where a value comes from; later ones win.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Compiled into Felix.
    Default,
    /// FelixConfiguration `default`.
    DatastoreGlobal,
    /// FelixConfiguration with a node selector (Felix 3.32 and newer).
    DatastorePerSelector,
    /// FelixConfiguration `node.<host>`.
    DatastorePerHost,
    /// `felix.cfg`.
    ConfigFile,
    /// `FELIX_…` variables.
    Environment,
}

impl Source {
    /// Name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "Felix's default",
            Self::DatastoreGlobal => "FelixConfiguration default",
            Self::DatastorePerSelector => "FelixConfiguration with nodeSelector",
            Self::DatastorePerHost => "FelixConfiguration of this node",
            Self::ConfigFile => "felix.cfg",
            Self::Environment => "environment",
        }
    }

    /// Whether it is on this host.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Default | Self::ConfigFile | Self::Environment)
    }
}

/// A line of a file.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Place {
    /// Snapshot file name.
    pub file: Arc<str>,
    /// Line, 1-based; 0 when the file has no lines (`/proc/PID/environ`).
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One source says that a parameter has a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// Which kind of source.
    pub source: Source,
    /// The parameter's name as the source spells it (without `FELIX_`).
    pub name: Box<str>,
    /// The raw value, quotes and all that Felix would see.
    pub value: Box<str>,
    /// Where it stands.
    pub place: Place,
}

/// What a source gives: its assignments, and whether it can be loaded at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// In the order of the source.
    pub assignments: Vec<Assignment>,
    /// Why Felix, or the one who starts it, cannot load the source: Felix then does not run.
    pub broken: Vec<Broken>,
    /// Lines that are dropped with a shrug by their reader, but that a person meant.
    pub remarks: Vec<Remark>,
}

impl Loaded {
    /// Takes in what another source gives.
    pub fn extend(&mut self, other: Self) {
        self.assignments.extend(other.assignments);
        self.broken.extend(other.broken);
        self.remarks.extend(other.remarks);
    }
}

/// A source that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where it breaks.
    pub place: Place,
    /// What is wrong, and who stumbles.
    pub reason: String,
    /// What then happens to Felix.
    pub outcome: Outcome,
}

/// A line that has no effect, or another one than it seems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where.
    pub place: Place,
    /// What happens to it.
    pub text: String,
}

/// What becomes of Felix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Logs the error, waits a second and reads again, for ever: alive, never ready, programs nothing.
    StartLoop,
    /// Crashes and is started again by its supervisor, for ever: programs nothing.
    PanicLoop,
    /// The service manager does not start it.
    NotStarted,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::StartLoop => "Felix logs the error and tries again every second, for ever",
            Self::PanicLoop => "Felix crashes at every start",
            Self::NotStarted => "Felix is not started",
        }
    }
}

/// A bad value that stops Felix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// Canonical name of the parameter.
    pub param: &'static str,
    /// The assignment.
    pub assignment: Assignment,
    /// What is wrong.
    pub reason: String,
    /// What becomes of Felix.
    pub outcome: Outcome,
}

/// An assignment without the effect its author may expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The assignment.
    pub assignment: Assignment,
    /// Why it has none.
    pub why: Why,
}

/// Why an assignment has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Felix ignores empty values: whatever stands below, or the default, holds.
    Empty {
        /// Canonical name, when Felix knows the parameter.
        param: Option<&'static str>,
    },
    /// Not a parameter of open-source Felix; the nearest name it knows.
    Unknown(Option<&'static str>),
    /// Local parameters cannot be set from the datastore.
    LocalOnly(&'static str),
    /// Does not parse; Felix takes the default, hiding lower sources, too.
    Replaced(&'static str, String),
    /// The same source sets the parameter again in another letter case; Felix takes one of them by chance.
    SameName(&'static str, Place),
}

/// A parameter's value and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The parameter.
    pub param: &'static Param,
    /// Its value.
    pub value: Value,
    /// The source that wins.
    pub source: Source,
    /// Where it stands; `None` for the default.
    pub place: Option<Place>,
    /// The raw text; `None` for the default.
    pub raw: Option<Box<str>>,
}

/// Assignments without effect that are kept; a source with more of them is garbage.
const MAX_IGNORED: usize = 200;

/// All settings of one Felix.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    set: BTreeMap<&'static str, Setting>,
    /// Values that stop Felix, in source order.
    pub fatal: Vec<Fatal>,
    /// Assignments without effect.
    pub ignored: Vec<Ignored>,
    /// Parameters whose bad values would stop Felix, but whose values hepguard does not check.
    pub unchecked: Vec<Assignment>,
}

impl Settings {
    /// What Felix makes of `assignments`, in any order of sources; within a source the later one wins.
    #[must_use]
    pub fn resolve(assignments: &[Assignment]) -> Self {
        let mut settings = Self::default();
        let mut seen: BTreeMap<(Source, &'static str), &Assignment> = BTreeMap::new();
        for assignment in assignments {
            settings.take(assignment, &mut seen);
        }
        settings
    }

    fn take<'a>(&mut self, assignment: &'a Assignment, seen: &mut BTreeMap<(Source, &'static str), &'a Assignment>) {
        let source = assignment.source;
        let known = param(&assignment.name);
        if assignment.value.is_empty() {
            return self.ignore(assignment, Why::Empty { param: known.map(|param| param.name) });
        }
        let Some(known) = known else {
            if self.ignored.len() < MAX_IGNORED {
                let near = nearest(&assignment.name).map(|param| param.name);
                self.ignore(assignment, Why::Unknown(near));
            }
            return;
        };
        if known.is_local() && !source.is_local() {
            return self.ignore(assignment, Why::LocalOnly(known.name));
        }
        if let Some(before) = seen.insert((source, known.name), assignment)
            && before.name != assignment.name
        {
            self.ignore(before, Why::SameName(known.name, assignment.place.clone()));
        }
        let Some(value) = self.value_of(known, assignment) else { return };
        let wins = self.set.get(known.name).is_none_or(|current| current.source <= source);
        if wins {
            let (place, raw) = (Some(assignment.place.clone()), Some(assignment.value.clone()));
            self.set.insert(known.name, Setting { param: known, value, source, place, raw });
        }
    }

    fn ignore(&mut self, assignment: &Assignment, why: Why) {
        if self.ignored.len() < MAX_IGNORED {
            self.ignored.push(Ignored { assignment: assignment.clone(), why });
        }
    }

    /// The assignment's value; a bad one is recorded, and replaced where Felix replaces it.
    fn value_of(&mut self, known: &'static Param, assignment: &Assignment) -> Option<Value> {
        let fatal =
            |reason: String, outcome| Fatal { param: known.name, assignment: assignment.clone(), reason, outcome };
        if assignment.value.to_lowercase() == "none" {
            if known.refuses_none() {
                let reason = "this parameter cannot be none".to_owned();
                self.fatal.push(fatal(reason, Outcome::StartLoop));
                return None;
            }
            return Some(zero(known.kind));
        }
        if known.dies_on_bad_value() && known.kind == Kind::Unchecked {
            self.unchecked.push(assignment.clone());
        }
        match parse(known.kind, &assignment.value) {
            Ok(value) => Some(value),
            Err(ValueError::Panics(reason)) => {
                self.fatal.push(fatal(reason, Outcome::PanicLoop));
                None
            }
            Err(ValueError::Refused(reason)) if known.dies_on_bad_value() => {
                self.fatal.push(fatal(reason, Outcome::StartLoop));
                None
            }
            Err(ValueError::Refused(reason)) => {
                self.ignore(assignment, Why::Replaced(known.name, reason));
                Some(default_of(known))
            }
        }
    }

    /// The setting called `name` (any letter case), the default included; `None` when Felix has no such parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Setting> {
        let known = param(name)?;
        Some(self.set.get(known.name).cloned().unwrap_or_else(|| Setting {
            param: known,
            value: default_of(known),
            source: Source::Default,
            place: None,
            raw: None,
        }))
    }

    /// A truth value; `None` when the parameter is not one.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)?.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A text or word; `None` when the parameter is not one.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Box<str>> {
        match self.get(name)?.value {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }

    /// Mark bits; `None` when the parameter has none.
    #[must_use]
    pub fn mask(&self, name: &str) -> Option<u32> {
        match self.get(name)?.value {
            Value::Mask(value) => Some(value),
            _ => None,
        }
    }

    /// A failsafe list; `None` when the parameter is not one.
    #[must_use]
    pub fn entries(&self, name: &str) -> Option<Vec<Entry>> {
        match self.get(name)?.value {
            Value::Entries(value) => Some(value),
            _ => None,
        }
    }

    /// Every parameter that is not at its default because of a source.
    pub fn all_set(&self) -> impl Iterator<Item = &Setting> {
        self.set.values()
    }
}

fn default_of(known: &Param) -> Value {
    if known.default.is_empty() {
        return Value::Unset;
    }
    parse(known.kind, known.default).unwrap_or(Value::Unset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(source: Source, name: &str, value: &str) -> Assignment {
        let place = Place { file: Arc::from("test"), line: 1 };
        Assignment { source, name: name.into(), value: value.into(), place }
    }

    const IN: &str = "FailsafeInboundHostPorts";

    fn inbound(all: &[(Source, &str)]) -> String {
        let all: Vec<Assignment> = all.iter().map(|(source, value)| assignment(*source, IN, value)).collect();
        let settings = Settings::resolve(&all);
        let list = settings.entries(IN).expect("a list");
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        format!("{} from {:?}", list.join(","), settings.get(IN).expect("known").source)
    }

    #[test]
    fn the_highest_source_wins_whatever_the_order() {
        use Source::*;
        let all = [
            (Environment, "6"),
            (DatastoreGlobal, "2"),
            (ConfigFile, "5"),
            (DatastorePerHost, "4"),
            (DatastorePerSelector, "3"),
        ];
        assert_eq!(inbound(&all), "tcp:6 from Environment");
        assert_eq!(inbound(&all[1..]), "tcp:5 from ConfigFile");
        assert_eq!(inbound(&[all[1], all[3], all[4]]), "tcp:4 from DatastorePerHost");
        assert_eq!(inbound(&[all[1], all[4]]), "tcp:3 from DatastorePerSelector");
        assert_eq!(inbound(&[all[1]]), "tcp:2 from DatastoreGlobal");
        assert!(inbound(&[]).ends_with("tcp:6667 from Default"));
    }

    #[test]
    fn empty_is_ignored_and_none_is_empty() {
        use Source::*;
        assert_eq!(inbound(&[(Environment, ""), (ConfigFile, "5")]), "tcp:5 from ConfigFile");
        assert!(inbound(&[(Environment, "")]).starts_with("tcp:22,udp:68,"));
        for off in ["none", "NONE", "None", " ", ",", " , ,"] {
            assert_eq!(inbound(&[(Environment, off), (ConfigFile, "5")]), " from Environment", "{off:?}");
        }
    }

    #[test]
    fn a_bad_value_stops_felix_even_when_overridden() {
        let bad = assignment(Source::DatastoreGlobal, IN, "sctp:22");
        let good = assignment(Source::Environment, IN, "tcp:22");
        let settings = Settings::resolve(&[bad.clone(), good]);
        let fatal = settings.fatal.first().expect("it is fatal");
        assert_eq!((fatal.param, &fatal.assignment, fatal.outcome), (IN, &bad, Outcome::StartLoop));
        assert_eq!(settings.entries(IN).expect("a list"), [Entry::any(crate::packet::Protocol::TCP, 22)]);
        let crash = Settings::resolve(&[assignment(Source::ConfigFile, IN, "tcp:[fd00::/8]")]);
        assert_eq!(crash.fatal.first().expect("fatal").outcome, Outcome::PanicLoop);
    }

    #[test]
    fn other_bad_values_become_the_default_and_hide_lower_sources() {
        let settings = Settings::resolve(&[
            assignment(Source::Environment, "Ipv6Support", "maybe"),
            assignment(Source::ConfigFile, "ipv6support", "false"),
        ]);
        assert_eq!(settings.bool("Ipv6Support"), Some(true));
        assert!(settings.fatal.is_empty());
        assert!(matches!(settings.ignored.first().expect("a remark").why, Why::Replaced("Ipv6Support", _)));
    }

    #[test]
    fn none_is_refused_where_zero_makes_no_sense() {
        let settings = Settings::resolve(&[assignment(Source::Environment, "ChainInsertMode", "none")]);
        assert_eq!(settings.fatal.first().expect("fatal").outcome, Outcome::StartLoop);
        let settings = Settings::resolve(&[assignment(Source::Environment, "LogPrefix", "none")]);
        assert_eq!(settings.text("LogPrefix").as_deref(), Some(""));
    }

    #[test]
    fn unknown_local_and_twice_named_ones_are_told() {
        let settings = Settings::resolve(&[
            assignment(Source::Environment, "failsafe_inbound_host_ports", "22"),
            assignment(Source::DatastoreGlobal, "FelixHostname", "other"),
            assignment(Source::ConfigFile, "FailsafeInboundHostPorts", "22"),
            assignment(Source::ConfigFile, "failsafeinboundhostports", "23"),
        ]);
        let whys: Vec<&Why> = settings.ignored.iter().map(|ignored| &ignored.why).collect();
        let place = Place { file: Arc::from("test"), line: 1 };
        assert_eq!(whys, [&Why::Unknown(Some(IN)), &Why::LocalOnly("FelixHostname"), &Why::SameName(IN, place)]);
        assert_eq!(settings.text("FelixHostname"), None);
    }
}
