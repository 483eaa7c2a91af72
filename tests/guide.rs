//! The guide keeps its word: every block is run as it stands, in its order, in one folder, and prints what the guide shows.

use std::path::Path;
use std::process::{Command, Output};

const GUIDE: &str = include_str!("../packaging/doc/guide.md");

/// Blocks of code in their order: the word behind the fence, and what is inside.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, start)) = rest.split_once("\n```") {
        let (kind, inside) = start.split_once('\n').expect("a line behind a fence");
        let (inside, after) = inside.split_once("```\n").expect("a fence that ends");
        blocks.push((kind, inside));
        rest = after;
    }
    blocks
}

fn run(folder: &Path, script: &str) -> Output {
    let bin = Path::new(env!("CARGO_BIN_EXE_hepguard")).parent().expect("a folder").to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path))).expect("a path");
    Command::new("sh").args(["-euc", script]).current_dir(folder).env("PATH", path).output().expect("a shell")
}

/// The lines shown come in this order; only at `…` may others stand between, and a line's own `…` stands for its rest.
fn shown(call: &str, printed: &str, shown: &str) {
    let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
    let mut next = 0;
    let mut gap = false;
    for line in shown.lines().map(str::trim_end) {
        if line == "…" {
            gap = true;
            continue;
        }
        let whole = line.strip_suffix('…').unwrap_or(line);
        let fits = |found: &&str| if whole == line { *found == line } else { found.starts_with(whole) };
        let found = printed[next..].iter().position(fits);
        match found {
            Some(at) if gap || at == 0 => next += at + 1,
            _ => panic!("$ {call}\ndoes not print here: {line}\nbut:\n{}", printed[next..].join("\n")),
        }
        gap = false;
    }
    assert!(gap || next == printed.len(), "$ {call}\nprints more: {}", printed[next..].join("\n"));
}

#[test]
fn every_block_of_the_guide_runs_and_prints_what_it_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut calls = 0;
    for (kind, inside) in blocks(GUIDE) {
        match kind {
            "sh" => {
                let output = run(folder.path(), inside);
                assert!(output.status.success(), "{inside}\n{}", String::from_utf8_lossy(&output.stderr));
            }
            "console" => {
                for call in inside.strip_prefix("$ ").expect("a command first").split("\n$ ") {
                    let (call, expected) = call.split_once('\n').unwrap_or((call, ""));
                    let output = run(folder.path(), call);
                    let said = String::from_utf8_lossy(&output.stderr);
                    // findings make it 1, what cannot be decided 3; 2 is a call that does not work
                    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "$ {call}\n{said}");
                    shown(call, &String::from_utf8_lossy(&output.stdout), expected);
                    calls += 1;
                }
            }
            other => panic!("blocks of the guide are sh or console, not {other:?}"),
        }
    }
    assert!(calls > 15, "{calls} calls");
    let report = std::fs::read_to_string(folder.path().join("report.html")).expect("the page of the second lab");
    assert!(report.contains("edge denied"), "a denied flow is red there");
}

/// The guide walks all five labs, and each has at least one command.
#[test]
fn each_lab_has_its_commands() {
    for lab in 1..=5 {
        let section = GUIDE.split(&format!("\n## {lab}. ")).nth(1).unwrap_or_else(|| panic!("lab {lab}"));
        let section = section.split("\n## ").next().unwrap_or(section);
        assert!(section.contains("```console\n$ hepguard "), "lab {lab}");
    }
}

/// Commands that the pages beside the guide name exist, and so do the files.
#[test]
fn the_other_pages_name_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["packaging/doc/admin.md", "packaging/doc/develop.md", "packaging/README.md", "SECURITY.md"] {
        let text = std::fs::read_to_string(root.join(page)).expect(page);
        let code = || text.split('`').skip(1).step_by(2);
        for call in code().filter_map(|code| code.strip_prefix("hepguard ")) {
            let command = call.split([' ', '\n']).next().unwrap_or_default();
            let output =
                Command::new(env!("CARGO_BIN_EXE_hepguard")).args([command, "--help"]).output().expect("starts");
            assert!(output.status.success(), "{page}: hepguard {command}");
        }
        for path in code().filter(|code| code.starts_with("src/") || code.starts_with("tests/")) {
            let path = path.split('<').next().unwrap_or(path);
            assert!(path.contains("hgNNN") || root.join(path.trim_end_matches('/')).exists(), "{page}: {path}");
        }
    }
}
