//! Felix's systemd unit, as `systemctl cat` or `systemctl show` print it: which environment Felix is started with.

use std::sync::Arc;

use super::envfile::{Variable, Variables, is_variable_name};
use super::{Place, Remark};

/// What a unit says about the environment of its program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `Environment=` assignments, in order.
    pub environment: Vec<Variable>,
    /// `EnvironmentFile=` lines, in order.
    pub files: Vec<FileReference>,
    /// `UnsetEnvironment=` names and `NAME=value` pairs.
    pub unset: Vec<String>,
    /// Words of each `ExecStart=` line.
    pub commands: Vec<Vec<String>>,
    /// Words that have not the effect they seem to have.
    pub remarks: Vec<Remark>,
}

/// A file of variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReference {
    /// Its path.
    pub path: String,
    /// `-` before the path: the unit starts without it, too.
    pub optional: bool,
    /// The line that names it.
    pub place: Place,
}

/// What a container gets: `docker run`'s or `podman run`'s options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// `--env-file` paths.
    pub files: Vec<String>,
    /// `-e NAME=value`, or `-e NAME` for the caller's value.
    pub variables: Vec<(String, Option<String>)>,
}

/// Reads a unit with its drop-ins.
#[must_use]
pub fn read(file: &Arc<str>, bytes: &[u8]) -> Unit {
    let text = String::from_utf8_lossy(bytes);
    let mut unit = Unit::default();
    let mut in_service = true;
    for (line, text) in logical_lines(&text) {
        if let Some(section) = text.strip_prefix('[') {
            in_service = section.trim_end().trim_end_matches(']').eq_ignore_ascii_case("service");
            continue;
        }
        let Some((key, value)) = text.split_once('=') else { continue };
        if in_service {
            unit.setting(key.trim(), value.trim(), &Place { file: Arc::clone(file), line });
        }
    }
    unit
}

/// Lines without comments, joined where they end in a backslash; each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut lines: Vec<(u32, String)> = Vec::new();
    let mut open = false;
    for (line, text) in (1u32..).zip(text.lines()) {
        let trimmed = text.trim();
        if trimmed.starts_with(['#', ';']) || (trimmed.is_empty() && !open) {
            continue;
        }
        let (body, continues) = match trimmed.strip_suffix('\\') {
            Some(body) => (body, true),
            None => (trimmed, false),
        };
        match lines.last_mut() {
            Some((_, last)) if open => {
                last.push(' ');
                last.push_str(body);
            }
            _ => lines.push((line, body.to_owned())),
        }
        open = continues;
    }
    lines
}

impl Unit {
    fn setting(&mut self, key: &str, value: &str, place: &Place) {
        match key {
            "Environment" if value.is_empty() => self.environment.clear(),
            "Environment" => self.environment_line(value, place),
            "EnvironmentFile" if value.is_empty() => self.files.clear(),
            "EnvironmentFile" => {
                let (optional, path) = value.strip_prefix('-').map_or((false, value), |path| (true, path));
                self.files.push(FileReference { path: path.to_owned(), optional, place: place.clone() });
            }
            // as `systemctl show` has it
            "EnvironmentFiles" => {
                if let Some((path, rest)) = value.split_once(" (ignore_errors=") {
                    let optional = rest.starts_with("yes");
                    self.files.push(FileReference { path: path.to_owned(), optional, place: place.clone() });
                }
            }
            "UnsetEnvironment" if value.is_empty() => self.unset.clear(),
            "UnsetEnvironment" => self.unset.extend(words(value)),
            "ExecStart" if value.is_empty() => self.commands.clear(),
            "ExecStart" => {
                let shown = value.split_once("argv[]=").map(|(_, rest)| rest.split(" ; ").next().unwrap_or(rest));
                self.commands.push(words(shown.unwrap_or(value)));
            }
            _ => {}
        }
    }

    fn environment_line(&mut self, value: &str, place: &Place) {
        for word in words(value) {
            let mut remark = |text: String| self.remarks.push(Remark { place: place.clone(), text });
            let shown = super::ports::shortened(&word);
            let Some((name, value)) = word.split_once('=') else {
                remark(format!("{shown:?} in Environment= has no =; systemd drops it (are quotes missing?)"));
                continue;
            };
            if !is_variable_name(name) {
                remark(format!("{shown:?} in Environment= has no valid name; systemd drops it"));
                continue;
            }
            let expanded = value.replace("%%", "\0");
            if expanded.contains('%') {
                remark(format!("{name} holds a systemd specifier (%), which is not expanded here"));
            }
            let value = expanded.replace('\0', "%");
            self.environment.push(Variable { name: name.to_owned(), value, place: place.clone() });
        }
    }

    /// Whether `variable` is taken away again by `UnsetEnvironment=`.
    #[must_use]
    pub fn unsets(&self, variable: &Variable) -> bool {
        let Variable { name, value, .. } = variable;
        self.unset.iter().any(|unset| unset == name || unset.split_once('=') == Some((name.as_str(), value.as_str())))
    }

    /// The container that the unit starts, when it starts one; `${NAME}` and `$NAME` are replaced from `variables`.
    #[must_use]
    pub fn container(&self, variables: &Variables) -> Option<Container> {
        self.commands.iter().find_map(|command| {
            let words = expand(command, variables);
            let engine = words.iter().position(|word| {
                matches!(
                    word.trim_start_matches(['-', '@', '+', '!', ':']).rsplit('/').next(),
                    Some("docker" | "podman")
                )
            })?;
            let run = words.iter().skip(engine + 1).position(|word| matches!(word.as_str(), "run" | "create"))?;
            let mut container = Container::default();
            let mut rest = words.iter().skip(engine + run + 2);
            while let Some(word) = rest.next() {
                let (option, attached) = match word.split_once('=') {
                    Some((option, value)) if option.starts_with("--") => (option, Some(value.to_owned())),
                    _ => (word.as_str(), None),
                };
                let mut argument = || attached.clone().or_else(|| rest.next().cloned()).unwrap_or_default();
                match option {
                    "--env-file" => container.files.push(argument()),
                    "-e" | "--env" => container.variable(&argument()),
                    _ => {
                        if let Some(variable) = option.strip_prefix("-e").filter(|_| !option.starts_with("--")) {
                            container.variable(variable.strip_prefix('=').unwrap_or(variable));
                        }
                    }
                }
            }
            Some(container)
        })
    }
}

impl Container {
    fn variable(&mut self, text: &str) {
        self.variables.push(match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        });
    }
}

/// systemd's replacement of variables in a command line: `${NAME}` inside words, `$NAME` as a word of its own, split at
/// blanks; `$$` is a dollar sign.
fn expand(command: &[String], variables: &Variables) -> Vec<String> {
    let value = |name: &str| {
        let found = variables.variables.iter().rev().find(|variable| variable.name == name);
        found.map(|variable| variable.value.clone()).unwrap_or_default()
    };
    let mut out = Vec::new();
    for word in command {
        if let Some(name) = word.strip_prefix('$').filter(|name| is_variable_name(name)) {
            out.extend(value(name).split_whitespace().map(str::to_owned));
            continue;
        }
        let mut text = String::new();
        let mut rest = word.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = match (after.strip_prefix('$'), after.strip_prefix('{').and_then(|after| after.split_once('}'))) {
                (Some(after), _) => {
                    text.push('$');
                    after
                }
                (None, Some((name, after))) => {
                    text.push_str(&value(name));
                    after
                }
                (None, None) => {
                    text.push('$');
                    after
                }
            };
        }
        text.push_str(rest);
        out.push(text);
    }
    out
}

/// systemd's quoting (systemd.syntax(7)): words at blanks, `"…"` and `'…'` around whole words or parts of them, C escapes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            (q, Some(open)) if q == open => quote = None,
            ('\\', _) => {
                let target = word.get_or_insert_default();
                match characters.next() {
                    None => target.push('\\'),
                    Some(escape) => unescape(escape, &mut characters, target),
                }
            }
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn unescape(escape: char, rest: &mut std::str::Chars<'_>, out: &mut String) {
    let simple = match escape {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        '\\' | '"' | '\'' => escape,
        'x' => {
            let digits: String = rest.clone().take(2).collect();
            match u8::from_str_radix(&digits, 16) {
                Ok(code) if digits.len() == 2 => {
                    let _ = rest.by_ref().nth(1);
                    out.push(char::from(code));
                }
                _ => out.push_str("\\x"),
            }
            return;
        }
        other => {
            out.extend(['\\', other]);
            return;
        }
    };
    out.push(simple);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Unit {
        read(&Arc::from("felix/unit.txt"), text.as_bytes())
    }

    fn environment(text: &str) -> Vec<String> {
        unit(text).environment.iter().map(|v| format!("{}={}@{}", v.name, v.value, v.place.line)).collect()
    }

    #[test]
    fn environment_lines_are_split_and_unquoted() {
        let text = "[Service]\nEnvironment=A=1 \"B=x y\" 'C=2' D=\"e f\"\nEnvironment=A=2\n";
        assert_eq!(environment(text), ["A=1@2", "B=x y@2", "C=2@2", "D=e f@2", "A=2@3"]);
        assert_eq!(environment("[Service]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2"), ["B=2@4"]);
        assert_eq!(environment("[Service]\nEnvironment=A=1 \\\n  # between\n  B=2\n"), ["A=1@2", "B=2@2"]);
        assert_eq!(environment("[Unit]\nEnvironment=A=1\n"), [""; 0]);
        assert_eq!(environment("Environment=A=100%% B=\\x41"), ["A=100%@1", "B=A@1"]);
    }

    #[test]
    fn lost_words_are_told() {
        let unit = unit("[Service]\nEnvironment=A=tcp:22, udp:53\nEnvironment=B=%H\n");
        assert_eq!(unit.remarks.len(), 2, "{unit:?}");
    }

    #[test]
    fn files_of_cat_and_show() {
        let cat = unit("# /etc/systemd/system/calico.service\n[Service]\nEnvironmentFile=-/a\nEnvironmentFile=/b\n");
        let show = unit("EnvironmentFiles=/a (ignore_errors=yes)\nEnvironmentFiles=/b (ignore_errors=no)\n");
        for unit in [cat, show] {
            let files: Vec<(&str, bool)> = unit.files.iter().map(|f| (f.path.as_str(), f.optional)).collect();
            assert_eq!(files, [("/a", true), ("/b", false)]);
        }
    }

    #[test]
    fn containers_get_what_their_options_say() {
        let unit = unit(concat!(
            "[Service]\nEnvironmentFile=/etc/calico/calico.env\n",
            "ExecStart=/usr/bin/docker run --net=host -e FELIX_A=${X} -e KEEP --env=FELIX_B=2 -eFELIX_C=3 \\\n",
            "  --env-file /etc/f.env --env-file=/etc/g.env calico/node\n",
        ));
        let variables = Variables {
            variables: vec![Variable {
                name: "X".into(),
                value: "22".into(),
                place: Place { file: Arc::from("f"), line: 1 },
            }],
            ..Variables::default()
        };
        let container = unit.container(&variables).expect("a container");
        assert_eq!(container.files, ["/etc/f.env", "/etc/g.env"]);
        let pairs: Vec<String> =
            container.variables.iter().map(|(n, v)| format!("{n}={}", v.as_deref().unwrap_or("?"))).collect();
        assert_eq!(pairs, ["FELIX_A=22", "KEEP=?", "FELIX_B=2", "FELIX_C=3"]);
        assert_eq!(
            super::read(&Arc::from("u"), b"ExecStart=/usr/local/bin/cnx-node -felix").container(&variables),
            None
        );
    }

    #[test]
    fn unset_by_name_or_by_pair() {
        let unit = unit("[Service]\nEnvironment=A=1 B=2 C=3\nUnsetEnvironment=A B=9 C=3\n");
        let left: Vec<&str> = unit.environment.iter().filter(|v| !unit.unsets(v)).map(|v| v.name.as_str()).collect();
        assert_eq!(left, ["B"]);
    }

    #[test]
    fn garbage_is_no_panic() {
        let bytes: Vec<u8> = (0..=255u8).cycle().take(50_000).collect();
        let _ = read(&Arc::from("u"), &bytes);
        let _ = unit("Environment=\"\\x\\x4 '\\");
    }
}
