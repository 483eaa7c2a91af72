//! Manuals, completions and help are whole: every command has its page and its examples, and the tools that show them have no
//! complaint.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

#[path = "common/tools.rs"]
mod tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tools::have;

fn hepguard(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hepguard"));
    command.env("SOURCE_DATE_EPOCH", "1796000000").args(arguments).output().expect("hepguard starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Commands that `hepguard WORDS --help` lists.
fn commands(words: &[&str]) -> Vec<String> {
    let output = hepguard(&[words, &["--help"]].concat());
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    let help = text(&output.stdout);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Every command with its words: `audit`, `forward test`.
fn all() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for name in commands(&[]) {
        let parts = commands(&[&name]);
        found.push(vec![name.clone()]);
        found.extend(parts.into_iter().map(|part| vec![name.clone(), part]));
    }
    found
}

#[test]
fn every_help_has_examples_that_fit_a_terminal() {
    let mut all = all();
    assert!(all.len() > 18, "{all:?}");
    all.extend([vec![], vec!["generate".to_owned(), "man".to_owned()]]);
    for words in all {
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = text(&hepguard(&words).stdout);
        let examples =
            help.split("\nExamples:\n").nth(1).unwrap_or_else(|| panic!("{words:?} has no examples:\n{help}"));
        let shown: Vec<&str> = examples.lines().take_while(|line| !line.is_empty()).collect();
        assert!(shown.iter().any(|line| line.contains("hepguard")), "{words:?}");
        for line in help.lines() {
            assert!(line.chars().count() <= 130, "{words:?}: {line}");
        }
    }
}

/// Options named in an example exist: what is shown can be typed.
#[test]
fn examples_name_only_options_that_exist() {
    for words in all() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let help = text(&hepguard(&[&words[..], &["--help"]].concat()).stdout);
        let Some((options, examples)) = help.split_once("\nExamples:\n") else { panic!("{words:?} has no examples") };
        for line in examples.lines().take_while(|line| !line.is_empty()) {
            let line = line.split('#').next().unwrap_or_default();
            // of several commands in a line only hepguard's first
            let Some(call) = line.split_once("hepguard ").map(|(_, call)| call) else { continue };
            let call = call.split([';', '|', '>', '&']).next().unwrap_or_default();
            let call = call.split(" -- ").next().unwrap_or_default();
            for option in call.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
                let option = option.split('=').next().unwrap_or_default();
                // of a group of commands, the option may be one of its parts'
                let parts =
                    commands(&words).into_iter().map(|part| text(&hepguard(&[words[0], &part, "--help"]).stdout));
                let known = options.contains(option) || parts.into_iter().any(|help| help.contains(option));
                assert!(known, "{words:?} has no {option}: {line}");
            }
        }
    }
}

#[test]
fn every_command_has_a_man_page_and_they_are_the_same_each_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str| {
        let dir = folder.path().join(name);
        let output = hepguard(&["generate", "man", dir.to_str().expect("text")]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        dir
    };
    let (first, second) = (write("one"), write("two"));
    let names = |dir: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        entries.map(|name| name.to_string_lossy().into_owned()).collect()
    };
    let pages = names(&first);
    for words in all() {
        assert!(pages.contains(&format!("hepguard-{}.1", words.join("-"))), "{words:?}: {pages:?}");
    }
    for page in ["hepguard.1", "hepguard.toml.5", "hepguard-findings.7"] {
        assert!(pages.contains(page), "{page}: {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("generate") || page.contains("help")), "hidden: {pages:?}");
    assert_eq!(pages, names(&second));
    for page in &pages {
        let read = |dir: &Path| fs::read_to_string(dir.join(page)).expect("a page");
        assert_eq!(read(&first), read(&second), "{page}");
        assert!(read(&first).contains(" 2026-11-30 "), "{page} is dated");
        shown_without_complaint(&first.join(page));
    }
}

/// mandoc and groff have nothing to say against a page, and show its end.
fn shown_without_complaint(page: &Path) {
    if have(&["mandoc"]) {
        let output = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page).output().expect("mandoc");
        let said = text(&output.stdout);
        // the layout is the library's: its space before a list may be one too many
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("skipping paragraph macro")).collect();
        assert!(said.is_empty(), "{said:?}");
    }
    if have(&["groff"]) {
        let call = ["-Kutf8", "-man", "-Tutf8", "-P-cbou", "-ww", "-rLL=80n"];
        let output = Command::new("groff").args(call).arg(page).output().expect("groff");
        let said = text(&output.stderr);
        // a word too long for the line is no mistake of a page
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("can't break line")).collect();
        assert!(output.status.success() && said.is_empty(), "{}: {said:?}", page.display());
        assert!(text(&output.stdout).contains("SEE ALSO"), "{}", page.display());
    }
}

#[test]
fn completions_load_and_know_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let output = hepguard(&["generate", "completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = text(&output.stdout);
        for words in all() {
            assert!(script.contains(&words[words.len() - 1]), "{shell}: {words:?}");
        }
        let file = folder.path().join(shell);
        fs::write(&file, &script).expect("written");
        if have(&[shell]) {
            let checked = Command::new(shell).arg(check).arg(&file).output().expect("a shell");
            assert!(checked.status.success() && checked.stderr.is_empty(), "{shell}: {}", text(&checked.stderr));
        }
    }
    // bash for real: what would be offered behind a word
    let offers = |line: &str| {
        let words = line.split(' ').map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let last = line.split(' ').count() - 1;
        let script = format!(
            "source '{}/bash'; COMP_WORDS=({words}); COMP_CWORD={last}; _hepguard hepguard \"${{COMP_WORDS[{last}]}}\" \
             \"${{COMP_WORDS[{}]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            folder.path().display(),
            last - 1
        );
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash");
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offers("hepguard aud"), ["audit"]);
    assert_eq!(offers("hepguard forward dri"), ["drill"]);
    assert!(offers("hepguard denies --src").contains(&"--src-ip".to_owned()));
    assert_eq!(offers("hepguard audit --color "), ["auto", "always", "never"]);
}
