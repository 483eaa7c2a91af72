//! Several files in one input: each begins behind a line `==== NAME`; what stands before the first such line is no file.

use hepguard::files::{FileState, SnapshotFiles};

const MARK: &[u8] = b"==== ";

/// Names and contents.
pub(super) fn parts(input: &[u8]) -> Vec<(String, &[u8])> {
    let mut found: Vec<(String, &[u8])> = Vec::new();
    let mut start = 0;
    let mut from = 0;
    let mut name: Option<String> = None;
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        if let Some(title) = line.strip_prefix(MARK) {
            if let Some(name) = name.take() {
                found.push((name, &input[start..from]));
            }
            name = Some(String::from_utf8_lossy(title).trim_end().to_owned());
            start = from + line.len();
        }
        from += line.len();
    }
    if let Some(name) = name {
        found.push((name, &input[start..]));
    }
    found
}

/// The same as a snapshot folder. A name that ends in `?` could not be read, one in `-` does not exist on the host.
pub(super) fn files(input: &[u8]) -> SnapshotFiles {
    let mut files = SnapshotFiles::default();
    for (name, content) in parts(input) {
        if let Some(name) = name.strip_suffix('?') {
            let why = String::from_utf8_lossy(content).into_owned();
            files.files.insert(name.to_owned(), FileState::Unreadable(why));
        } else if let Some(name) = name.strip_suffix('-') {
            files.files.insert(name.to_owned(), FileState::Absent);
        } else {
            files.files.insert(name, FileState::Present(content.to_vec()));
        }
    }
    files
}
