//! The test suite of nftables' own authors, as its files say it: `tests/py/**/*.t` (rules by table family), `*.t.json` (the
//! same rules in JSON) and `tests/shell/**/dumps/*.nft` (whole rulesets).

use std::path::{Path, PathBuf};

/// Names the folder of an nftables source tree.
pub(crate) const SOURCE: &str = "HEPGUARD_NFTABLES_SOURCE";

/// The source tree; says how to get one where none is named.
pub(crate) fn source(test: &str) -> Option<PathBuf> {
    let Some(path) = std::env::var_os(SOURCE).map(PathBuf::from) else {
        println!(
            "{test}: SKIPPED: {SOURCE} names no nftables source tree (`apt-get source nftables`, or \
             `git clone https://git.netfilter.org/nftables`)"
        );
        return None;
    };
    assert!(path.join("tests/py").is_dir(), "{SOURCE}={}: there is no tests/py in it", path.display());
    Some(path)
}

/// All files below `folder` whose name ends with `end`, in order.
pub(crate) fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the source tree") {
            let path = entry.expect("entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().ends_with(end) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// One `.t` file.
#[derive(Default)]
pub(crate) struct TestFile {
    /// Family, name, chains.
    pub(crate) tables: Vec<(String, String, Vec<String>)>,
    /// Name and what makes it a base chain.
    chains: Vec<(String, String)>,
    /// `add set`, `add element` and object lines, with `{table}` where the table goes.
    objects: Vec<String>,
    /// Rules that are to load.
    pub(crate) rules: Vec<String>,
}

impl TestFile {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a test file");
        let mut file = Self::default();
        for line in text.lines().map(str::trim) {
            let Some(kind) = line.chars().next() else { continue };
            let mut fields = line.get(kind.len_utf8()..).unwrap_or_default().split(';').map(str::trim);
            match kind {
                '#' | '-' => {}
                ':' => file
                    .chains
                    .push((fields.next().unwrap_or_default().into(), fields.next().unwrap_or_default().into())),
                '*' => {
                    let mut next = || fields.next().unwrap_or_default().to_owned();
                    let (family, name, chains) = (next(), next(), next());
                    file.tables.push((family, name, chains.split(',').map(str::to_owned).collect()));
                }
                '!' | '?' | '%' if line.ends_with(";ok") => {
                    let line = line.trim_end_matches(";ok").get(1..).unwrap_or_default();
                    file.objects.extend(object(kind, line));
                }
                '!' | '?' | '%' => {}
                _ => {
                    let mut fields = line.split(';');
                    let rule = fields.next().unwrap_or_default();
                    if fields.next().is_some_and(|state| state.trim() == "ok") {
                        file.rules.push(rule.to_owned());
                    }
                }
            }
        }
        file
    }

    /// Lines that make a table and its chains, and lines that may fail.
    pub(crate) fn setup(&self, table: &(String, String, Vec<String>)) -> (String, Vec<String>) {
        let place = format!("{} {}", table.0, table.1);
        let mut script = format!("add table {place}\n");
        for name in &table.2 {
            let hook = self.chains.iter().find(|(chain, _)| chain == name).map_or("", |(_, hook)| hook);
            script += &format!("add chain {place} {name} {{ {hook}; }}\n");
        }
        (script, self.objects.iter().map(|line| line.replace("{table}", &place)).collect())
    }
}

/// The command behind a line about a set, its elements or an object.
fn object(kind: char, line: &str) -> Option<String> {
    let (name, rest) = line.split_once(' ')?;
    if kind == '?' {
        return Some(format!("add element {{table}} {name} {{ {rest} }}"));
    }
    let rest = rest.trim().strip_prefix("type ")?;
    if kind == '%' {
        let two = ["ct helper", "ct timeout", "ct expectation"].into_iter().find(|two| rest.starts_with(two));
        let what = two.or_else(|| rest.split(' ').next())?;
        return Some(format!("add {what} {{table}} {name} {}", rest.get(what.len()..)?));
    }
    let at = |word: &str| rest.find(&format!(" {word} ")).map_or(rest.len(), |at| at);
    let (end, flags) = (at("timeout").min(at("flags")), rest.get(at("flags")..)?);
    let timeout = rest.get(at("timeout")..)?.split(" flags").next()?;
    let flags = flags.trim_start_matches(" flags ").trim().replace(' ', ",");
    let flags = if flags.is_empty() { flags } else { format!("flags {flags};") };
    Some(format!("add set {{table}} {name} {{ type {}; {timeout}; {flags} }}", rest.get(..end)?))
}

/// The rules of a `.t.json` file: the text they stand for, and their statements as JSON.
pub(crate) fn stored_rules(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).expect("a test file");
    let mut rules: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix('#'), rules.last_mut()) {
            (Some(name), _) => rules.push((name.trim().to_owned(), String::new())),
            (None, Some((_, json))) => {
                json.push_str(line);
                json.push('\n');
            }
            (None, None) => {}
        }
    }
    rules.retain(|(_, json)| !json.trim().is_empty());
    rules
}
