//! Damaged, missing and closed input: a clear error or finding, the rest still judged, the contract's exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lab::{Answer, HEPGUARD, hepguard, unable};

/// Commands that judge a snapshot.
const JUDGES: [&str; 2] = ["failsafe", "audit"];

/// The lab bastion as a folder that may be damaged.
fn bastion() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/before")), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("readable").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(&target, fs::read(entry.path()).expect("read")).expect("written");
        }
    }
}

fn judge(command: &str, snapshot: &Path) -> Answer {
    let started = Instant::now();
    let answer = hepguard([command.as_ref(), "--snapshot".as_ref(), snapshot.as_os_str()]);
    assert!(started.elapsed() < Duration::from_secs(60), "{command} takes too long");
    answer
}

/// The answer holds the kernel's failsafe for SSH and says that it is not the whole story: findings (1) or incomplete (3).
fn still_judged(snapshot: &Path) {
    for command in JUDGES {
        let answer = judge(command, snapshot);
        assert!(matches!(answer.code, Some(1 | 3)), "{command}: {answer:?}");
        assert!(answer.out.contains("22"), "{command}: the rest is still judged: {answer:?}");
    }
}

/// The audit says in a finding of its own that `name` was read only in part.
fn audit_names(snapshot: &Path, name: &str) {
    let answer = judge("audit", snapshot);
    assert!(answer.out.contains("HG901") && answer.out.contains(name), "{name} should be in a finding: {answer:?}");
}

fn nothing_to_judge(snapshot: &Path, says: &[&str]) {
    for command in JUDGES {
        let answer = judge(command, snapshot);
        assert_eq!(answer.code, Some(2), "{command}: {answer:?}");
        assert!(answer.out.is_empty(), "{command}: {answer:?}");
        assert_eq!(answer.err.lines().count(), 1, "one line says it all: {answer:?}");
        for words in says {
            assert!(answer.err.contains(words), "{command} should say {words:?}: {answer:?}");
        }
    }
}

fn damaged(name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> TempDir {
    let folder = bastion();
    let path: PathBuf = folder.path().join(name);
    let before = fs::read(&path).unwrap_or_default();
    fs::write(&path, change(before)).expect("written");
    folder
}

#[test]
fn the_undamaged_bastion_is_judged() {
    still_judged(bastion().path());
}

#[test]
fn what_is_not_there_is_an_error_that_says_what_to_name() {
    nothing_to_judge(
        Path::new("/nonexistent/snapshot"),
        &["/nonexistent/snapshot", "no such file", "hepguard snapshot DIR"],
    );
    let empty = tempfile::tempdir().expect("a folder");
    nothing_to_judge(empty.path(), &["is empty"]);
}

#[test]
fn garbage_alone_is_an_error_that_says_what_was_expected() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = scratch.path().join("garbage");
    let mut random = fastrand::Rng::with_seed(7);
    fs::write(&path, (0..100_000).map(|_| random.u8(..)).collect::<Vec<_>>()).expect("written");
    nothing_to_judge(&path, &["its content is none of", "iptables-save"]);
    fs::write(&path, "").expect("written");
    nothing_to_judge(&path, &["it is empty"]);
    fs::write(&path, "Chain INPUT (policy ACCEPT)\ntarget prot opt source destination\n").expect("written");
    nothing_to_judge(&path, &["iptables-save -c"]);
}

#[test]
fn a_listing_cut_off_is_judged_up_to_the_cut() {
    for part in [2, 3, 10] {
        let folder = damaged("iptables-legacy-save.txt", |mut text| {
            text.truncate(text.len() - text.len() / part);
            text
        });
        still_judged(folder.path());
        audit_names(folder.path(), "iptables-legacy-save.txt");
    }
}

#[test]
fn a_cut_listing_alone_never_looks_whole() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = scratch.path().join("cut");
    let whole =
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/before/iptables-legacy-save.txt")).expect("read");
    for length in (100..whole.len()).step_by(whole.len() / 7) {
        fs::write(&path, whole.get(..length).expect("shorter")).expect("written");
        for command in JUDGES {
            let answer = judge(command, &path);
            assert!(matches!(answer.code, Some(1 | 3)), "{command} at {length}: {answer:?}");
        }
    }
}

#[test]
fn garbage_beside_good_files_costs_only_itself() {
    let mut random = fastrand::Rng::with_seed(8);
    let garbage: Vec<u8> = (0..50_000).map(|_| random.u8(..)).collect();
    for name in ["nft-ruleset.json", "ipset-save.txt", "ip-addr.json", "sockets.txt", "conntrack.txt", "meta.json"] {
        still_judged(damaged(name, |_| garbage.clone()).path());
    }
}

#[test]
fn a_line_of_ten_megabytes_costs_only_itself() {
    for name in ["iptables-legacy-save.txt", "ipset-save.txt", "sockets.txt", "felix/felix.cfg"] {
        let folder = damaged(name, |mut text| {
            text.extend_from_slice(&vec![b'a'; 10_000_000]);
            text.push(b'\n');
            text
        });
        still_judged(folder.path());
    }
}

#[test]
fn bytes_that_are_no_text_are_read_around() {
    let folder = damaged("iptables-legacy-save.txt", |mut text| {
        let line =
            b"*security\n:INPUT ACCEPT [0:0]\n-A INPUT -m comment --comment \"caf\xe9 \xff\xfe\" -j ACCEPT\nCOMMIT\n";
        text.extend_from_slice(line);
        text
    });
    still_judged(folder.path());
}

#[test]
fn json_cut_in_half_costs_only_itself() {
    for name in ["ip-addr.json", "ip-route.json", "ip-rule.json", "ip-link.json", "meta.json"] {
        let folder = damaged(name, |mut text| {
            text.truncate(text.len() / 2);
            text
        });
        still_judged(folder.path());
    }
    still_judged(
        damaged("nft-ruleset.json", |_| b"{\"nftables\": [{\"metainfo\": {\"version\": \"1.0".to_vec()).path(),
    );
}

#[test]
fn nesting_without_end_does_no_harm() {
    for name in ["ip-addr.json", "nft-ruleset.json", "meta.json", "calico/deep.yaml"] {
        still_judged(damaged(name, |_| vec![b'['; 1_000_000]).path());
    }
}

#[test]
fn a_file_beyond_all_measure_is_not_read() {
    let folder = bastion();
    let file = fs::File::create(folder.path().join("conntrack.txt")).expect("made");
    file.set_len(700 * 1024 * 1024).expect("a hole");
    still_judged(folder.path());
    nothing_to_judge(&folder.path().join("conntrack.txt"), &["larger than the 512 MiB"]);
}

#[test]
fn a_pipe_in_the_folder_is_not_waited_for() {
    let folder = bastion();
    let path = folder.path().join("tc.txt");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    still_judged(folder.path());
}

#[test]
fn closed_doors_are_named() {
    if unable("closed_doors_are_named") {
        return;
    }
    let folder = bastion();
    let open = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    let program = folder.path().join("calico/hepguard");
    fs::copy(HEPGUARD, &program).expect("copied");
    open(folder.path(), 0o755);
    open(&folder.path().join("calico"), 0o755);
    open(&program, 0o755);
    let as_nobody = |command: &str, snapshot: &Path| -> Answer {
        let mut call = std::process::Command::new("setpriv");
        call.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        call.args([command, "--snapshot"]).arg(snapshot).output().expect("setpriv starts").into()
    };
    // one file is closed: the rest is judged, and the file named
    open(&folder.path().join("felix/environ"), 0o000);
    for command in JUDGES {
        let answer = as_nobody(command, folder.path());
        assert!(matches!(answer.code, Some(1 | 3)), "{command}: {answer:?}");
        assert!(answer.out.contains("permission denied"), "{command}: {answer:?}");
    }
    // the folder is closed: nothing to judge
    let closed = bastion();
    open(closed.path(), 0o700);
    for command in JUDGES {
        let answer = as_nobody(command, closed.path());
        assert_eq!(answer.code, Some(2), "{command}: {answer:?}");
        assert!(answer.err.contains("permission denied"), "{command}: {answer:?}");
    }
}
