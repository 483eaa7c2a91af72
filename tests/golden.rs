//! Findings, case by case. Each file in `tests/golden` is one host and one code: the finding fires there, or stays silent.
//!
//! ```text
//! # what this shows
//! code: HG301
//! expect: fires                 (or silent)
//! severity: high                (optional; of the first finding with the code)
//! bites: now                    (optional)
//! says: words of its title      (optional)
//! base: before                  (optional: the lab bastion, `before` or `after`; else an empty snapshot)
//! edit FILE: OLD => NEW         (OLD must be there; its first occurrence is replaced)
//! drop FILE                     (nobody looked for it)
//! absent FILE                   (known not to exist)
//! unreadable FILE: WHY
//! file FILE:                    (its lines follow, each behind `| `)
//! | line
//! config FILE:                  (the configuration, likewise)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hepguard::audit::audit;
use hepguard::audit::finding::Finding;
use hepguard::audit::registry::CHECKS;
use hepguard::collect;
use hepguard::config::{self, Protect};
use hepguard::files::{FileState, SnapshotFiles};
use hepguard::snapshot::{self, Snapshot, meta::Meta};

#[derive(Default)]
struct Case {
    code: String,
    fires: bool,
    wants: BTreeMap<&'static str, String>,
    files: SnapshotFiles,
    protect: Vec<Protect>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn lab(name: &str) -> SnapshotFiles {
    collect::saved(&root().join("src/demo").join(name)).expect("the lab bastion is readable")
}

fn parse(path: &Path) -> Case {
    let text = fs::read_to_string(path).expect("a case is readable text");
    let mut case = Case::default();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let here = || format!("{}:{}: {line:?}", path.display(), number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let files = &mut case.files.files;
        match word {
            "code:" => case.code = rest.to_owned(),
            "expect:" => case.fires = rest == "fires" || (rest != "silent" && panic!("{}", here())),
            "severity:" => drop(case.wants.insert("severity", rest.to_owned())),
            "bites:" => drop(case.wants.insert("bites", rest.to_owned())),
            "says:" => drop(case.wants.insert("says", rest.to_owned())),
            "base:" => case.files = lab(rest),
            "drop" => assert!(files.remove(rest).is_some(), "{}: no such file", here()),
            "absent" => drop(files.insert(rest.to_owned(), FileState::Absent)),
            "unreadable" => {
                let (name, why) = rest.split_once(": ").unwrap_or_else(|| panic!("{}", here()));
                files.insert(name.to_owned(), FileState::Unreadable(why.to_owned()));
            }
            "edit" => {
                let (name, change) = rest.split_once(": ").unwrap_or_else(|| panic!("{}", here()));
                let (old, new) = change.split_once(" => ").unwrap_or_else(|| panic!("{}", here()));
                let Some(FileState::Present(bytes)) = files.get(name) else { panic!("{}: no such file", here()) };
                let content = String::from_utf8(bytes.clone()).expect("lab files are text");
                let (old, new) = (old.replace("\\n", "\n"), new.replace("\\n", "\n"));
                assert!(content.contains(&old), "{}: the file does not hold this", here());
                files.insert(name.to_owned(), FileState::Present(content.replacen(&old, &new, 1).into_bytes()));
            }
            "file" | "config" => {
                let name = rest.strip_suffix(':').unwrap_or_else(|| panic!("{}", here()));
                let mut content = String::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with('|')) {
                    content.push_str(line.strip_prefix("| ").unwrap_or_default());
                    content.push('\n');
                }
                if word == "config" {
                    let read = config::read(&Arc::from(name), content.as_bytes());
                    case.protect = read.unwrap_or_else(|error| panic!("{}: {error}", here())).protect;
                } else {
                    files.insert(name.to_owned(), FileState::Present(content.into_bytes()));
                }
            }
            _ => panic!("{}: unknown word", here()),
        }
    }
    // as where a folder is read
    if let Ok(Some(meta)) = Meta::of(&case.files) {
        meta.restore(&mut case.files);
    }
    case
}

fn cases() -> Vec<(PathBuf, Case)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("tests/golden"))
        .expect("the folder of cases")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), parse(&path))).collect()
}

fn check(path: &Path, case: &Case) -> Result<(), String> {
    let audit = audit(&Snapshot { protect: case.protect.clone(), ..snapshot::read(case.files.clone()) });
    let found: Vec<&Finding> = audit.findings.iter().filter(|finding| finding.code == case.code).collect();
    let all: Vec<String> =
        audit.findings.iter().map(|f| format!("  {} {}: {}", f.code, f.severity.name(), f.title)).collect();
    let fail = |what: &str| Err(format!("{}: {what}; all findings:\n{}", path.display(), all.join("\n")));
    match (case.fires, found.as_slice()) {
        (true, []) => fail(&format!("{} stays silent", case.code)),
        (false, [first, ..]) => fail(&format!("{} fires: {}", case.code, first.title)),
        (false, []) => Ok(()),
        (true, found) => {
            let fits = |finding: &&&Finding| {
                let want = |key: &str| case.wants.get(key);
                want("severity").is_none_or(|severity| finding.severity.name() == severity)
                    && want("bites").is_none_or(|bites| finding.bites.name() == bites)
                    && want("says").is_none_or(|words| finding.title.contains(words.as_str()))
            };
            if found.iter().any(|finding| fits(&finding)) {
                Ok(())
            } else {
                fail(&format!("no {} is as wanted: {:?}", case.code, case.wants))
            }
        }
    }
}

#[test]
fn every_case_finds_what_it_should() {
    let cases = cases();
    assert!(!cases.is_empty(), "there must be cases");
    // an audit a case: all cores share them
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let judge = |worker: usize| -> Vec<String> {
        cases.iter().skip(worker).step_by(workers).filter_map(|(path, case)| check(path, case).err()).collect()
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers)
            .map(|worker| {
                let judge = &judge;
                scope.spawn(move || judge(worker))
            })
            .collect();
        running.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}

#[test]
fn every_check_has_a_firing_case_and_a_silent_twin() {
    let mut seen: BTreeSet<(String, bool)> = BTreeSet::new();
    for (path, case) in cases() {
        assert!(CHECKS.iter().any(|check| check.code == case.code), "{}: no such code", path.display());
        seen.insert((case.code, case.fires));
    }
    for check in CHECKS {
        for fires in [true, false] {
            let kind = if fires { "firing" } else { "silent" };
            assert!(seen.contains(&(check.code.to_owned(), fires)), "{} has no {kind} case", check.code);
        }
    }
}

#[test]
fn the_embedded_lab_is_the_folder() {
    for world in hepguard::demo::World::ALL {
        let folder = lab(world.name());
        let embedded = world.files();
        let names = |files: &SnapshotFiles| files.files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&folder), names(&embedded), "add new files of the lab to src/demo/mod.rs");
        assert_eq!(folder.files, embedded.files);
    }
}
