//! Felix's settings, from every place they come from, and hepguard's own.

use hepguard::calico::settings::{Settings, datastore, envfile, ini, params, ports, process, sources, unit, value};
use hepguard::config as own;
use hepguard::snapshot::secrets as redaction;

use super::firewall::source;
use super::folder::files;

pub(super) fn felix_env(input: &[u8]) {
    for read in [envfile::systemd, envfile::docker, envfile::environ] {
        let variables = read(&source(), input);
        let loaded = variables.clone().felix();
        let settings = Settings::resolve(&loaded.assignments);
        let _ = settings.entries("FailsafeInboundHostPorts");
        let mut twice = variables.clone();
        twice.overlay(variables);
        let once = twice.deduplicated();
        assert_eq!(once.clone().deduplicated(), once);
    }
    let _ = process::is_felix_cmdline(input);
}

pub(super) fn felix_cfg(input: &[u8]) {
    let loaded = ini::read(&source(), input);
    let settings = Settings::resolve(&loaded.assignments);
    for setting in settings.all_set() {
        let _ = params::nearest(setting.param.name);
    }
}

/// A unit beside the files it may name.
pub(super) fn felix_unit(input: &[u8]) {
    let _ = unit::read(&source(), input);
    let _ = sources::read(&files(input));
}

pub(super) fn felix_datastore(input: &[u8]) {
    for host in [None, Some("node1")] {
        let found = datastore::read(std::iter::once(("fuzzed.yaml", input)), host);
        let _ = Settings::resolve(&found.loaded.assignments);
    }
}

/// A text as the value of every parameter.
pub(super) fn felix_values(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for param in params::PARAMS {
        let _ = value::parse(param.kind, &text);
    }
    let _ = ports::parse_list(&text);
    let _ = value::atoi(&text);
    let _ = params::nearest(&text);
}

/// What is blanked once stays as it is, and keeps its lines.
pub(super) fn secrets(input: &[u8]) {
    for (blank, lines) in [
        (redaction::environ as fn(&[u8]) -> Vec<u8>, false),
        (redaction::env_file, true),
        (redaction::settings, true),
        (redaction::unit, true),
    ] {
        let once = blank(input);
        let count = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
        assert!(!lines || count(&once) == count(input), "lines moved");
        let _ = blank(&once);
    }
}

/// hepguard's configuration: protected flows that are written read back, a mistake names its line.
pub(super) fn config(input: &[u8]) {
    let lines = input.iter().filter(|byte| **byte == b'\n').count() + 1;
    match own::read(&source(), input) {
        Ok(read) => {
            let written = own::write(&read.protect);
            let mut again =
                own::read(&source(), written.as_bytes()).unwrap_or_else(|error| panic!("{written:?}: {error}"));
            for (again, first) in again.protect.iter_mut().zip(&read.protect) {
                again.place.clone_from(&first.place);
            }
            assert_eq!(again.protect, read.protect, "{written:?}");
        }
        Err(error) => {
            assert!(error.line <= lines && !error.message.is_empty(), "{error}");
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
        }
    }
}
