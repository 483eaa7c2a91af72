//! Felix: its process, its unit, its files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{LIMIT, Live, unreadable};
use crate::calico::settings::process::{CONFIG_FILE, ENVIRONMENT_FILES, UNITS, is_felix_cmdline};
use crate::calico::settings::sources::{base_name, full_name};
use crate::calico::settings::unit;
use crate::files::FileState;
use crate::snapshot::secrets;

/// Where units and their drop-ins are, what holds first first.
const UNIT_FOLDERS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system"];

impl Live<'_> {
    pub(super) fn felix(&mut self) {
        let process = self.felix_process();
        let environ = match &process {
            Some(process) => self.file(process.join("environ"), secrets::environ),
            None if self.system.list(Path::new("/proc/1")).is_err() => {
                FileState::Unreadable("/proc shows no processes of others; run as root".to_owned())
            }
            None => FileState::Absent,
        };
        self.put("felix/environ", environ);
        let unit = self.felix_unit(process.as_deref());
        let variables = self.environment_file(unit.as_deref().unwrap_or_default());
        self.put("felix/calico.env", variables);
        self.put("felix/unit.txt", unit.map_or(FileState::Absent, |text| FileState::Present(secrets::unit(&text))));
        let settings = self.settings_file(process.as_deref());
        self.put("felix/felix.cfg", settings);
    }

    /// `/proc` folder of the Felix that programs this network namespace; on hosts with nested nodes there are others.
    fn felix_process(&self) -> Option<PathBuf> {
        let here = self.system.link(Path::new("/proc/self/ns/net")).ok();
        let all = self.processes().into_iter().map(|(_, path)| path);
        all.filter(|path| self.system.read(&path.join("cmdline")).is_ok_and(|line| is_felix_cmdline(&line))).find(
            |path| {
                let there = self.system.link(&path.join("ns/net")).ok();
                here.is_none() || there.is_none() || here == there
            },
        )
    }

    /// Felix's unit with its drop-ins: the one its process runs in, else one of the usual names.
    fn felix_unit(&self, process: Option<&Path>) -> Option<Vec<u8>> {
        let groups = process.and_then(|path| self.system.read(&path.join("cgroup")).ok()).unwrap_or_default();
        let groups = String::from_utf8_lossy(&groups).into_owned();
        let running = groups.split(['/', '\n']).rfind(|part| part.ends_with(".service") && !part.starts_with("user@"));
        // a container's cgroup is the runtime's unit, which says nothing about Felix
        let running = running.filter(|name| !["docker.service", "containerd.service", "crio.service"].contains(name));
        running.into_iter().chain(UNITS).find_map(|name| self.unit_text(name))
    }

    fn unit_text(&self, name: &str) -> Option<Vec<u8>> {
        let found = |output: &crate::system::Output| output.status == Some(0) && !output.stdout.is_empty();
        let asked = self.system.run("systemctl", &["cat", "--no-pager", name], LIMIT).ok().filter(found);
        if let Some(output) = asked {
            return Some(output.stdout);
        }
        let mut text = Vec::new();
        let mut add = |path: &Path| {
            let Ok(bytes) = self.system.read(path) else { return false };
            text.extend_from_slice(format!("# {}\n", path.display()).as_bytes());
            text.extend_from_slice(&bytes);
            text.push(b'\n');
            true
        };
        UNIT_FOLDERS.iter().any(|folder| add(&Path::new(folder).join(name)));
        for folder in UNIT_FOLDERS {
            for drop_in in self.system.list(&Path::new(folder).join(format!("{name}.d"))).unwrap_or_default() {
                if drop_in.extension().is_some_and(|extension| extension == "conf") {
                    add(&drop_in);
                }
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// Of the files the unit names (without any: of the usual ones) the first that sets a variable of Felix, else the first.
    fn environment_file(&mut self, unit: &[u8]) -> FileState {
        let unit = unit::read(&Arc::from("felix/unit.txt"), unit);
        let mut paths: Vec<String> = unit.files.iter().map(|file| file.path.clone()).collect();
        for words in &unit.commands {
            let after = words.windows(2).filter(|pair| pair.first().is_some_and(|word| word == "--env-file"));
            paths.extend(after.filter_map(|pair| pair.get(1).cloned()));
            paths.extend(words.iter().filter_map(|word| word.strip_prefix("--env-file=").map(str::to_owned)));
        }
        paths.retain(|path| path.starts_with('/'));
        let named = !paths.is_empty();
        if !named {
            paths.extend(ENVIRONMENT_FILES.iter().map(|path| (*path).to_owned()));
        }
        let mut states: Vec<FileState> = paths.iter().map(|path| self.environment_of(path)).collect();
        let mut own = None;
        if named && paths.len() > 1 {
            // each under its own name, too: a later one overrides an earlier one
            for (at, (path, state)) in paths.iter().zip(&states).enumerate() {
                let base = base_name(path);
                let taken = |other: &String| other != path && base_name(other) == base;
                let reserved = ["", ".", "..", "environ", "unit.txt", "felix.cfg"].contains(&base);
                if reserved || paths.iter().any(taken) {
                    self.put(format!("felix/{}", full_name(path)), state.clone());
                } else if base == "calico.env" {
                    own = Some(at);
                } else {
                    self.put(format!("felix/{base}"), state.clone());
                }
            }
        }
        if let Some(at) = own {
            return states.swap_remove(at);
        }
        states.retain(|state| *state != FileState::Absent);
        let sets_felix = |state: &FileState| matches!(state, FileState::Present(bytes) if names_felix(bytes));
        let best = states.iter().position(sets_felix).unwrap_or(0);
        if best < states.len() { states.swap_remove(best) } else { FileState::Absent }
    }

    /// An environment file; of a pattern, as systemd takes them, all files it fits, one after the other.
    fn environment_of(&self, path: &str) -> FileState {
        let (folder, pattern) = path.rsplit_once('/').unwrap_or_default();
        if !pattern.contains(['*', '?', '[']) || folder.contains(['*', '?', '[']) {
            return self.file(path, secrets::env_file);
        }
        let found = self.system.list(Path::new(folder)).unwrap_or_default();
        let fits = |path: &&PathBuf| path.file_name().is_some_and(|name| glob(pattern, &name.to_string_lossy()));
        let mut text = Vec::new();
        let mut some = false;
        for file in found.iter().filter(fits) {
            match self.file(file, secrets::env_file) {
                FileState::Present(bytes) => {
                    some = true;
                    text.extend(bytes);
                    text.push(b'\n');
                }
                FileState::Absent => {}
                state @ FileState::Unreadable(_) => return state,
            }
        }
        if some { FileState::Present(text) } else { FileState::Absent }
    }

    /// The file the running Felix reads, as it sees it (its container's), else the host's.
    fn settings_file(&self, process: Option<&Path>) -> FileState {
        let Some(process) = process else { return self.file(CONFIG_FILE, secrets::settings) };
        let line = self.system.read(&process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split('\0').collect();
        let told = words.windows(2).find_map(|pair| match pair {
            ["-c" | "--config-file", path] => Some(*path),
            _ => None,
        });
        let told = told.or_else(|| words.iter().find_map(|word| word.strip_prefix("--config-file=")));
        let path = told.filter(|path| path.starts_with('/')).unwrap_or(CONFIG_FILE);
        let inside = process.join("root").join(path.trim_start_matches('/'));
        match self.system.read(&inside) {
            Ok(bytes) => FileState::Present(secrets::settings(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => FileState::Absent,
            Err(error) => match self.file(path, secrets::settings) {
                // not there on the host, but perhaps in the container
                FileState::Absent => FileState::Unreadable(unreadable(&inside, &error)),
                state => state,
            },
        }
    }
}

/// Whether a shell pattern of `*` and `?` fits the name. Files that begin with a dot are asked for by name; what stands in
/// brackets is not read, so such a pattern fits nothing.
fn glob(pattern: &str, name: &str) -> bool {
    if pattern.contains('[') || (name.starts_with('.') && !pattern.starts_with('.')) {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // where the last star was, and how much it stands for
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

fn names_felix(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).lines().any(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line);
        line.to_ascii_uppercase().starts_with("FELIX_")
    })
}
