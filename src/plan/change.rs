//! The forms of a change, and those that are made on the files of a snapshot alone: Felix's settings.

use std::sync::Arc;

use crate::calico::settings::params::{nearest, param};
use crate::calico::settings::sources::{self, Known};
use crate::calico::settings::{Source, ini};
use crate::files::{FileState, SnapshotFiles};

/// A change to Felix's settings. Each is followed by a restart of Felix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A new environment file.
    Environment {
        /// What to call it: the path it was read from.
        label: String,
        /// Its text.
        text: Vec<u8>,
    },
    /// A new `felix.cfg`.
    Config {
        /// What to call it.
        label: String,
        /// Its text.
        text: Vec<u8>,
    },
    /// One parameter, set in the environment, which wins over every other source.
    Parameter {
        /// Its name in any letter case, with or without `FELIX_`.
        name: String,
        /// Its value, without quotes.
        value: String,
    },
}

const ENVIRONMENT: &str = "felix/calico.env";
const CONFIG: &str = "felix/felix.cfg";

impl Setting {
    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Environment { label, .. } => format!("Felix's environment file becomes {label}, and Felix restarts"),
            Self::Config { label, .. } => format!("felix.cfg becomes {label}, and Felix restarts"),
            Self::Parameter { name, value } => format!("FELIX_{}={value}, and Felix restarts", plain(name)),
        }
    }

    /// Makes the change in the files of a snapshot.
    ///
    /// # Errors
    /// Says why the setting would not reach Felix, and what to do instead.
    pub fn apply(&self, files: &mut SnapshotFiles) -> Result<(), String> {
        match self {
            Self::Environment { label, text } => {
                let name = environment_file(files, Some(label));
                put(files, &name, label, text.clone());
                reaches_felix(files, &name, label)
            }
            Self::Config { label, text } => {
                let loaded = ini::read(&Arc::from(label.as_str()), text);
                if loaded.assignments.is_empty() && loaded.broken.is_empty() {
                    return Err(format!(
                        "{label}: no setting of Felix is in it; expected lines such as 'LogSeverityScreen = info'"
                    ));
                }
                put(files, CONFIG, label, text.clone());
                Ok(())
            }
            Self::Parameter { name, value } => set(files, plain(name), value),
        }
    }
}

/// A parameter's name without the prefix of its variable.
fn plain(name: &str) -> &str {
    match name.get(..6) {
        Some(prefix) if prefix.eq_ignore_ascii_case("felix_") => name.get(6..).unwrap_or_default(),
        _ => name,
    }
}

fn put(files: &mut SnapshotFiles, name: &str, label: &str, text: Vec<u8>) {
    files.files.insert(name.to_owned(), FileState::Present(text));
    files.labels.insert(name.to_owned(), label.to_owned());
}

/// The snapshot's name of the environment file that `label` replaces: of several the one with the same file name, else the
/// last, which wins over the others.
fn environment_file(files: &SnapshotFiles, label: Option<&str>) -> String {
    let read = sources::read(files).files.into_iter();
    let mut all: Vec<String> = read
        .filter(|source| source.what == "environment file" && source.state == Known::Read)
        .map(|s| s.file)
        .collect();
    let same = |name: &&String| label.is_some_and(|label| sources::base_name(name) == sources::base_name(label));
    let named = all.iter().find(same).cloned();
    named.or_else(|| all.pop()).unwrap_or_else(|| ENVIRONMENT.to_owned())
}

/// An environment file that nothing reads would be a change without effect.
fn reaches_felix(files: &SnapshotFiles, name: &str, label: &str) -> Result<(), String> {
    let Some(bytes) = files.bytes(name) else { return Ok(()) };
    let sets_felix = String::from_utf8_lossy(bytes).lines().any(|line| {
        let line = line.trim_start();
        line.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("felix_"))
    });
    if sets_felix {
        return Ok(());
    }
    Err(format!(
        "{label}: no line sets a variable of Felix; expected lines such as FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:22"
    ))
}

fn set(files: &mut SnapshotFiles, name: &str, value: &str) -> Result<(), String> {
    let Some(known) = param(name) else {
        let near = nearest(name).map(|near| format!("; did you mean {}?", near.name)).unwrap_or_default();
        return Err(format!("{name:?} is no parameter of Felix{near}"));
    };
    let quoted = value.chars().any(|c| c.is_control() || "\"'\\`$".contains(c)) || value.trim() != value;
    if quoted {
        return Err(format!(
            "the value of {name} holds quotes, backslashes, control characters or outer blanks; write it into a file and give \
             that with --felix-env"
        ));
    }
    let file = environment_file(files, None);
    let mut text = files.bytes(&file).map(<[u8]>::to_vec).unwrap_or_default();
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(format!("FELIX_{}={value}\n", known.name.to_ascii_uppercase()).as_bytes());
    files.files.insert(file.clone(), FileState::Present(text));
    let disk = sources::read(files).disk;
    let wins = |setting: &crate::calico::settings::Setting| {
        setting.source == Source::Environment && setting.raw.as_deref() == Some(value)
    };
    let fatal = disk.settings.fatal.iter().any(|fatal| fatal.param == known.name);
    if value.is_empty() || fatal || disk.settings.get(known.name).as_ref().is_some_and(wins) {
        return Ok(());
    }
    Err(format!("{name} set in {file} does not reach Felix: its unit or container sets it otherwise; change it there"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;

    fn set(name: &str, value: &str) -> Result<SnapshotFiles, String> {
        let mut files = demo::World::Before.files();
        Setting::Parameter { name: name.to_owned(), value: value.to_owned() }.apply(&mut files)?;
        Ok(files)
    }

    #[test]
    fn a_parameter_wins_over_the_file_it_is_put_into() {
        for name in ["FailsafeOutboundHostPorts", "FELIX_FAILSAFEOUTBOUNDHOSTPORTS", "failsafeoutboundhostports"] {
            let files = set(name, "tcp:22").expect("it is set");
            let list = sources::read(&files).disk.settings.entries("FailsafeOutboundHostPorts").expect("a list");
            assert_eq!(list.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tcp:22"], "{name}");
        }
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        let error = |name, value| set(name, value).expect_err("refused");
        assert!(error("FailsafeInbondHostPorts", "tcp:22").contains("did you mean FailsafeInboundHostPorts?"));
        assert!(error("LogPrefix", "\"x\"").contains("--felix-env"));
        let mut files = demo::World::Before.files();
        let empty = Setting::Environment { label: "new.env".to_owned(), text: b"# nothing\n".to_vec() };
        assert!(empty.apply(&mut files).expect_err("refused").contains("no line sets a variable of Felix"));
    }
}
