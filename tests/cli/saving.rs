//! `hepguard snapshot DIR`: where it writes and where it does not.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::lab::hepguard;

#[test]
fn the_folder_is_its_owners_only_and_the_answer_is_json_when_asked() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("snap");
    let answer = hepguard([&"snapshot".into(), &folder, &"--format".into(), &"json".into()]);
    assert!(matches!(answer.code, Some(0 | 3)), "{answer:?}");
    let document: Value = serde_json::from_str(&answer.out).expect("one JSON document");
    assert_eq!(document.get("schema").and_then(Value::as_str), Some("hepguard/snapshot/v1"));
    let listed = document.get("files").and_then(Value::as_array).expect("a list of files");
    assert!(listed.iter().any(|file| file.get("name").and_then(Value::as_str) == Some("ip-addr.json")));
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("meta.json")), 0o600);
}

#[test]
fn other_peoples_folders_are_left_alone() {
    let scratch = tempfile::tempdir().expect("a folder");
    std::fs::write(scratch.path().join("letter.txt"), "dear").expect("written");
    for extra in [&[][..], &["--force".into()][..]] {
        let mut arguments = vec!["snapshot".into(), scratch.path().to_path_buf()];
        arguments.extend_from_slice(extra);
        let answer = hepguard(&arguments);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(answer.err.contains("not empty"), "{answer:?}");
    }
    assert_eq!(std::fs::read_to_string(scratch.path().join("letter.txt")).expect("still there"), "dear");
}

#[test]
fn an_older_snapshot_is_replaced_only_with_force() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("snap");
    let call = |extra: &[&str]| {
        let mut arguments = vec!["snapshot", folder.to_str().expect("text")];
        arguments.extend_from_slice(extra);
        hepguard(arguments)
    };
    assert!(matches!(call(&[]).code, Some(0 | 3)));
    let again = call(&[]);
    assert!(again.code == Some(2) && again.err.contains("--force"), "{again:?}");
    assert!(matches!(call(&["--force"]).code, Some(0 | 3)));
}

#[test]
fn wrong_words_are_refused_with_what_was_expected() {
    let format = hepguard(["snapshot", "/nonexistent/x", "--format", "xml"]);
    assert!(format.code == Some(2) && format.err.contains("text, json"), "{format:?}");
    let saved = hepguard(["snapshot", "/nonexistent/x", "--snapshot", "y"]);
    assert!(saved.code == Some(2) && saved.err.contains("live host"), "{saved:?}");
    assert_eq!(hepguard(["snapshot"]).code, Some(2));
}
