//! `COVERAGE.md`: what of a ruleset is decided. Each dialect's tests work out a section; `HEPGUARD_UPDATE=1` writes it.

use std::path::Path;
use std::sync::Mutex;

/// Holds `section` of the file to `text`, or writes it. A section stands between two comments with its name.
pub(crate) fn hold(section: &str, text: &str) {
    // both dialects' tests write the one file
    static FILE: Mutex<()> = Mutex::new(());
    let _only = FILE.lock();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ruleset/COVERAGE.md");
    let (begin, end) = (format!("<!-- begin {section} -->\n"), format!("<!-- end {section} -->\n"));
    let stored = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let start = stored.find(&begin).map(|at| at + begin.len());
    let start = start.unwrap_or_else(|| panic!("{}: no line {begin}", path.display()));
    let stop = stored[start..].find(&end).map(|at| start + at);
    let stop = stop.unwrap_or_else(|| panic!("{}: no line {end}", path.display()));
    let fresh = format!("{}{text}{}", &stored[..start], &stored[stop..]);
    if fresh == stored {
        return;
    }
    assert!(
        std::env::var_os("HEPGUARD_UPDATE").is_some(),
        "{}: section {section} is not what the code does: run `HEPGUARD_UPDATE=1 cargo test --lib coverage`",
        path.display()
    );
    std::fs::write(&path, fresh).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
