//! The house keeps its shape: a room imports only rooms above it, and no file outgrows its reader.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file in lines: six hundred, and a little room to finish a thought. A longer one needs a line
/// `// long: why` near its top.
const MAX_LINES: usize = 650;

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("inside the package").display().to_string()
}

/// Rooms in the order of `lib.rs`, which is the order of the house.
fn rooms() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).expect("lib.rs");
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.enumerate().map(|(order, name)| (name.to_owned(), order)).collect()
}

/// Code without comments; texts in quotes stay, they do not name rooms.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.find("//").map_or(line, |at| &line[..at]));
    lines.collect::<Vec<_>>().join("\n")
}

/// Rooms named behind `crate::`, also in braces: `use crate::{packet::Prefix, host};`.
fn imports(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for after in code.split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            found.push(word(after));
            continue;
        };
        let mut depth = 0_i32;
        let mut start = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    found.push(word(&list[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn a_room_imports_only_rooms_above_it() {
    let rooms = rooms();
    assert!(rooms.len() > 10, "lib.rs lists the rooms: {rooms:?}");
    let mut wrong = Vec::new();
    let mut links = 0;
    for path in sources("src") {
        let name = shown(&path);
        let room = name.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some(order) = rooms.get(&room) else { continue }; // lib.rs and main.rs compose
        for import in imports(&code(&fs::read_to_string(&path).expect("text"))) {
            match rooms.get(&import) {
                Some(other) if other > order => {
                    wrong.push(format!("{name}: {room} imports {import}, which is below it"));
                }
                Some(_) => links += 1,
                None => wrong.push(format!("{name}: crate::{import} is no room of lib.rs")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(links > 20, "the test reads imports at all");
}

#[test]
fn every_room_of_the_source_folder_is_in_the_list() {
    let rooms = rooms();
    for path in sources("src") {
        let name = shown(&path);
        let room = name.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
        assert!(rooms.contains_key(room) || ["lib", "main"].contains(&room), "{name} is in no room of lib.rs");
    }
}

#[test]
fn no_file_outgrows_its_reader() {
    let mut long = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")) {
        let text = fs::read_to_string(&path).expect("text");
        let lines = text.lines().count();
        let excused = text.lines().take(30).any(|line| line.starts_with("// long: "));
        if lines > MAX_LINES && !excused {
            long.push(format!("{}: {lines} lines; split it, or say '// long: why' near the top", shown(&path)));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn imports_are_read_in_every_form() {
    let text =
        "use crate::host;\nuse crate::{packet::{Prefix, Hook}, ruleset};\nlet x = crate::cli::run(); // crate::audit\n";
    assert_eq!(imports(&code(text)), ["host", "packet", "ruleset", "cli"]);
}
