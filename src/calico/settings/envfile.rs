//! Variables: systemd's environment files, Docker's `--env-file`, and `/proc/PID/environ`.
//!
//! The formats look alike and differ where it hurts: systemd strips quotes and joins lines, Docker keeps both.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Assignment, Broken, Loaded, Outcome, Place, Remark, Source};

/// The longest `NAME=value` that the kernel passes to a program (`MAX_ARG_STRLEN` without the final NUL).
pub const LONGEST_VARIABLE: usize = 131_071;

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, as the program sees it.
    pub value: String,
    /// Where it was set.
    pub place: Place,
}

/// Variables of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// In order; a later one of the same name replaces an earlier one, except in [`environ`].
    pub variables: Vec<Variable>,
    /// Why the source cannot be loaded.
    pub broken: Vec<Broken>,
    /// Lines that are dropped.
    pub remarks: Vec<Remark>,
}

impl Variables {
    fn remark(&mut self, place: Place, text: impl Into<String>) {
        if self.remarks.len() < 50 {
            self.remarks.push(Remark { place, text: text.into() });
        }
    }

    /// Adds `later`, whose variables replace earlier ones of the same name.
    pub fn overlay(&mut self, later: Self) {
        self.variables.extend(later.variables);
        self.broken.extend(later.broken);
        self.remarks.extend(later.remarks);
    }

    /// Keeps the last variable of each name, in the order of the last ones.
    #[must_use]
    pub fn deduplicated(mut self) -> Self {
        let last: BTreeMap<String, usize> =
            self.variables.iter().enumerate().map(|(index, variable)| (variable.name.clone(), index)).collect();
        let mut index = 0;
        self.variables.retain(|variable| {
            index += 1;
            last.get(&variable.name) == Some(&(index - 1))
        });
        self
    }

    /// What Felix takes of them: names that start with `FELIX_` in any letter case, the rest of the name lower-cased.
    #[must_use]
    pub fn felix(self) -> Loaded {
        let mut loaded = Loaded { broken: self.broken, remarks: self.remarks, ..Loaded::default() };
        for Variable { name, value, place } in self.variables {
            let length = name.len() + 1 + value.len();
            if length > LONGEST_VARIABLE && place.line > 0 {
                let reason = format!(
                    "{} is {length} bytes long; the kernel starts no program with a variable of more than {LONGEST_VARIABLE}",
                    super::ports::shortened(&name)
                );
                loaded.broken.push(Broken { place: place.clone(), reason, outcome: Outcome::NotStarted });
            }
            // only ASCII letters can lower to this prefix, but for the Kelvin sign and the like, which are none of it
            let prefix = name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("felix_"));
            if let (true, Some(rest)) = (prefix, name.get(6..)) {
                loaded.assignments.push(Assignment {
                    source: Source::Environment,
                    name: rest.into(),
                    value: value.into(),
                    place,
                });
            }
        }
        loaded
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeKey,
    Comment,
    Key,
    BeforeValue,
    Value,
    ValueEscape,
    Single,
    Double,
    DoubleEscape,
}

/// An `EnvironmentFile=` as systemd reads it (systemd.exec(5)): quotes only count around the value, a backslash at the end
/// of a line joins it with the next, there is no `export` and no comment behind a value.
#[must_use]
pub fn systemd(file: &Arc<str>, bytes: &[u8]) -> Variables {
    let mut out = Variables::default();
    let place = |line| Place { file: Arc::clone(file), line };
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let line = 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
        out.broken.push(Broken {
            place: place(u32::try_from(line).unwrap_or(u32::MAX)),
            reason: "a NUL byte; systemd refuses the whole file and does not start the unit".to_owned(),
            outcome: Outcome::NotStarted,
        });
        return out;
    }
    let text = String::from_utf8_lossy(bytes);
    let valid = matches!(text, std::borrow::Cow::Borrowed(_));
    let mut reader = SystemdReader::default();
    let mut found: Vec<(String, String, u32)> = text.chars().filter_map(|c| reader.step(c)).collect();
    found.extend(reader.finish());
    for (name, value, line) in found {
        if !valid && (name.contains('\u{fffd}') || value.contains('\u{fffd}')) {
            let reason = "not UTF-8; systemd refuses the whole file and does not start the unit".to_owned();
            out.broken.push(Broken { place: place(line), reason, outcome: Outcome::NotStarted });
            return out;
        }
        push_systemd(&mut out, name, value, place(line));
    }
    for line in reader.orphans {
        out.remark(place(line), "a line without =; systemd skips it");
    }
    for line in reader.joined_comments {
        out.remark(
            place(line),
            "a comment that ends in a backslash; systemd before 254 takes the next line as comment, too",
        );
    }
    out
}

/// Checks a variable as systemd does before it passes it on.
fn push_systemd(out: &mut Variables, name: String, value: String, place: Place) {
    let shown = super::ports::shortened(&name);
    if let Some(rest) = name.strip_prefix("export ").or_else(|| name.strip_prefix("set ")) {
        let rest = super::ports::shortened(rest.trim());
        return out
            .remark(place, format!("{shown:?} is no variable name to systemd, which drops the line; write {rest}=…"));
    }
    if !is_variable_name(&name) {
        return out.remark(place, format!("{shown:?} is no variable name; systemd drops the line"));
    }
    if value.chars().any(|c| c.is_ascii_control() && c != '\t' && c != '\n') {
        return out.remark(place, format!("control characters in the value of {shown}; systemd drops the line"));
    }
    out.variables.push(Variable { name, value, place });
}

/// Whether systemd takes `name` for a variable.
pub(crate) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

struct SystemdReader {
    state: State,
    key: String,
    value: String,
    /// Length of the value without trailing blanks, as long as it is unquoted.
    solid: usize,
    line: u32,
    start: u32,
    last: char,
    orphans: Vec<u32>,
    joined_comments: Vec<u32>,
}

impl Default for SystemdReader {
    fn default() -> Self {
        Self {
            state: State::BeforeKey,
            key: String::new(),
            value: String::new(),
            solid: 0,
            line: 1,
            start: 1,
            last: '\n',
            orphans: Vec::new(),
            joined_comments: Vec::new(),
        }
    }
}

impl SystemdReader {
    fn step(&mut self, c: char) -> Option<(String, String, u32)> {
        let newline = matches!(c, '\n' | '\r');
        let done = self.advance(c, newline);
        if c == '\n' {
            self.line = self.line.saturating_add(1);
        }
        self.last = c;
        done
    }

    fn advance(&mut self, c: char, newline: bool) -> Option<(String, String, u32)> {
        let blank = matches!(c, ' ' | '\t' | '\n' | '\r');
        match self.state {
            State::BeforeKey if matches!(c, '#' | ';') => self.state = State::Comment,
            State::BeforeKey if blank => {}
            State::BeforeKey => {
                self.start = self.line;
                self.state = State::Key;
                self.key.push(c);
            }
            State::Comment if newline => {
                if self.last == '\\' && self.joined_comments.len() < 50 {
                    self.joined_comments.push(self.line);
                }
                self.state = State::BeforeKey;
            }
            State::Comment => {}
            State::Key if newline => {
                if self.orphans.len() < 50 {
                    self.orphans.push(self.start);
                }
                self.key.clear();
                self.state = State::BeforeKey;
            }
            State::Key if c == '=' => self.state = State::BeforeValue,
            State::Key => self.key.push(c),
            State::BeforeValue | State::Value if newline => return self.take(),
            State::BeforeValue if c == '\'' => self.state = State::Single,
            State::BeforeValue if c == '"' => self.state = State::Double,
            State::BeforeValue | State::Value if c == '\\' => {
                // blanks before the backslash stay
                self.solid = self.value.len();
                self.state = State::ValueEscape;
            }
            State::BeforeValue if blank => {}
            State::BeforeValue | State::Value => {
                self.state = State::Value;
                self.value.push(c);
                if !blank {
                    self.solid = self.value.len();
                }
            }
            State::ValueEscape => {
                self.state = State::Value;
                if !newline {
                    self.value.push(c);
                    self.solid = self.value.len();
                }
            }
            State::Single if c == '\'' => self.end_quote(),
            State::Double if c == '"' => self.end_quote(),
            State::Double if c == '\\' => self.state = State::DoubleEscape,
            State::Single | State::Double => self.value.push(c),
            State::DoubleEscape => {
                self.state = State::Double;
                match c {
                    '"' | '\\' | '`' | '$' => self.value.push(c),
                    _ if newline => {}
                    _ => self.value.extend(['\\', c]),
                }
            }
        }
        None
    }

    fn end_quote(&mut self) {
        self.state = State::BeforeValue;
        self.solid = self.value.len();
    }

    fn take(&mut self) -> Option<(String, String, u32)> {
        if self.state == State::Value {
            self.value.truncate(self.solid);
        }
        self.state = State::BeforeKey;
        self.solid = 0;
        let mut key = std::mem::take(&mut self.key);
        key.truncate(key.trim_end_matches([' ', '\t', '\n', '\r']).len());
        Some((key, std::mem::take(&mut self.value), self.start))
    }

    /// The value that the end of the file ends; an open quote is closed by it.
    fn finish(&mut self) -> Option<(String, String, u32)> {
        match self.state {
            State::BeforeKey | State::Comment => None,
            State::Key => {
                self.orphans.push(self.start);
                None
            }
            _ => self.take(),
        }
    }
}

/// A file for Docker's or Podman's `--env-file`: one `NAME=value` a line, nothing is stripped or unquoted.
#[must_use]
pub fn docker(file: &Arc<str>, bytes: &[u8]) -> Variables {
    let mut out = Variables::default();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let place = Place { file: Arc::clone(file), line: u32::try_from(index + 1).unwrap_or(u32::MAX) };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        let refused = |reason: &str| Broken {
            place: place.clone(),
            reason: format!("{reason}; the container is not created"),
            outcome: Outcome::NotStarted,
        };
        if matches!(text, std::borrow::Cow::Owned(_)) {
            out.broken.push(refused("not UTF-8"));
            return out;
        }
        let text = text.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let Some((name, value)) = text.split_once('=') else {
            out.remark(place, "a line without =; the value is taken from the caller's environment");
            continue;
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            out.broken.push(refused("a variable name that is empty or holds blanks"));
            return out;
        }
        out.variables.push(Variable { name: name.to_owned(), value: value.to_owned(), place });
    }
    out
}

/// `/proc/PID/environ`: NUL-separated, or one a line when saved by hand. Go takes the first of several variables of the
/// same name.
#[must_use]
pub fn environ(file: &Arc<str>, bytes: &[u8]) -> Variables {
    let mut out = Variables::default();
    let by_line = !bytes.contains(&0);
    let mut line = 0;
    let mut names = std::collections::BTreeSet::new();
    for part in bytes.split(|byte| if by_line { *byte == b'\n' } else { *byte == 0 }) {
        line = if by_line { u32::saturating_add(line, 1) } else { 0 };
        let place = Place { file: Arc::clone(file), line };
        let text = String::from_utf8_lossy(part);
        if text.is_empty() {
            continue;
        }
        match text.split_once('=') {
            Some((name, value)) if names.insert(name.to_owned()) => {
                out.variables.push(Variable { name: name.to_owned(), value: value.to_owned(), place });
            }
            Some(_) => {}
            None if by_line => out.remark(place, "a line without =: a value with a line break, or not an environment"),
            None => out.remark(place, "no = in a variable; Felix ignores it"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(variables: &Variables) -> String {
        let one = |v: &Variable| format!("{}={}@{}", v.name, v.value, v.place.line);
        variables.variables.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    fn from_systemd(text: &str) -> String {
        list(&systemd(&Arc::from("felix/calico.env"), text.as_bytes()))
    }

    #[test]
    fn systemd_strips_quotes_around_values_only() {
        for (text, expected) in [
            ("A=\"tcp:22,udp:53\"\n", "A=tcp:22,udp:53@1"),
            ("A='x y'", "A=x y@1"),
            ("A=x\"y\"\n", "A=x\"y\"@1"),
            ("A=\"x\"\"y\" z\n", "A=xyz@1"),
            ("A=  x  \nB=2", "A=x@1 | B=2@2"),
            ("  A = x", "A=x@1"),
            ("A=x # no comment\n", "A=x # no comment@1"),
            ("# c\n;d\nA=\n", "A=@3"),
            ("A=\"open\nB=2\n", "A=open\nB=2\n@1"),
            ("A=a=b", "A=a=b@1"),
        ] {
            assert_eq!(from_systemd(text), expected, "{text:?}");
        }
    }

    #[test]
    fn systemd_joins_lines_and_unescapes() {
        for (text, expected) in [
            ("A=tcp:22,\\\nudp:53\nB=1", "A=tcp:22,udp:53@1 | B=1@3"),
            ("A=\"a\\\nb\"", "A=ab@1"),
            ("A='a\\b'", "A=a\\b@1"),
            ("A=\"a\\b\\\"\\$\"", "A=a\\b\"$@1"),
            ("A=a\\ b", "A=a b@1"),
        ] {
            assert_eq!(from_systemd(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_systemd_drops_is_told() {
        for text in ["export FELIX_A=1\n", "FELIX-A=1\n", "1A=1", "just words\n", "A=\"a\u{1}\"\n", "no newline"] {
            let read = systemd(&Arc::from("f"), text.as_bytes());
            assert!(read.variables.is_empty() && read.remarks.len() == 1, "{text:?}: {read:?}");
        }
    }

    #[test]
    fn what_systemd_refuses_stops_the_unit() {
        for (bytes, line) in [(b"A=1\nB=\0\n".as_slice(), 2), (b"A=1\nB=\xff\n", 2)] {
            let read = systemd(&Arc::from("f"), bytes);
            let broken = read.broken.first().expect("refused");
            assert_eq!((broken.outcome, broken.place.line), (Outcome::NotStarted, line));
        }
        assert!(systemd(&Arc::from("f"), b"# \xff\nA=1\n").broken.is_empty(), "comments may hold anything");
        let long = format!("FELIX_LOGPREFIX={}\n", "x".repeat(10_000_000));
        let loaded = systemd(&Arc::from("f"), long.as_bytes()).felix();
        assert_eq!(loaded.broken.first().expect("too long for the kernel").outcome, Outcome::NotStarted);
    }

    #[test]
    fn docker_keeps_quotes_and_blanks() {
        let read = docker(&Arc::from("f"), b"\xef\xbb\xbfA=\"22\"\r\n# c\n  B= x \nC\n\nD=");
        assert_eq!(list(&read), "A=\"22\"@1 | B= x @3 | D=@6");
        assert_eq!(read.remarks.len(), 1);
        for bad in [b"A B=1".as_slice(), b"=1", b"A=\xff"] {
            assert_eq!(docker(&Arc::from("f"), bad).broken.len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn environ_by_nul_or_by_line_keeps_the_first() {
        assert_eq!(list(&environ(&Arc::from("f"), b"A=1\0B=2\n3\0A=4\0")), "A=1@0 | B=2\n3@0");
        assert_eq!(list(&environ(&Arc::from("f"), b"A=1\nB=\"2\"\n")), "A=1@1 | B=\"2\"@2");
        let garbage: Vec<u8> = (0..=255u8).cycle().take(10_000).collect();
        let _ = environ(&Arc::from("f"), &garbage);
    }

    #[test]
    fn felix_names_in_any_case_and_nothing_else() {
        let read = environ(&Arc::from("f"), b"FELIX_A=1\0felix_bC=2\0FELIXA=3\0XFELIX_A=4\0Felix_D_E=\0");
        let names: Vec<String> = read.felix().assignments.iter().map(|a| a.name.to_string()).collect();
        assert_eq!(names, ["A", "bC", "D_E"]);
    }

    #[test]
    fn the_last_of_a_name_stays() {
        let mut read = systemd(&Arc::from("f"), b"A=1\nB=2\n");
        read.overlay(systemd(&Arc::from("g"), b"A=3\n"));
        assert_eq!(list(&read.deduplicated()), "B=2@2 | A=3@1");
    }
}
