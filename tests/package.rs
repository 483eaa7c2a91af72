//! The package: what is in it, that it is the same each time, that nothing stands against it, and what it leaves behind.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

#[path = "common/tools.rs"]
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tools::have;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn script(name: &str, arguments: &[&str]) -> Output {
    Command::new(Path::new(ROOT).join("packaging").join(name)).args(arguments).output().expect("a script")
}

/// Builds the .deb of the program under test into `folder`.
fn deb(folder: &Path, version: &str) -> PathBuf {
    build("build-deb", folder, version)
}

fn build(name: &str, folder: &Path, version: &str) -> PathBuf {
    let output = folder.to_str().expect("text");
    let arguments = ["--binary", env!("CARGO_BIN_EXE_hepguard"), "--output", output, "--version", version, "--fast"];
    let built = script(name, &arguments);
    assert!(built.status.success(), "{}", text(&built.stderr));
    PathBuf::from(text(&built.stdout).trim())
}

#[test]
fn the_package_holds_what_it_should_is_the_same_each_time_and_has_no_flaw() {
    if !have(&["dpkg-deb", "strip", "objdump"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let first = deb(&folder.path().join("one"), "0.1.0");
    let second = deb(&folder.path().join("two"), "0.1.0");
    let read = |path: &Path| std::fs::read(path).expect("a package");
    assert!(read(&first) == read(&second), "two runs give the same bytes");
    let listed = Command::new("dpkg-deb").arg("--contents").arg(&first).output().expect("dpkg-deb");
    let listed = text(&listed.stdout);
    for path in [
        "usr/bin/hepguard",
        "usr/lib/systemd/system/hepguard.service",
        "etc/hepguard/hepguard.toml",
        "etc/apparmor.d/hepguard-watch",
        "usr/share/man/man1/hepguard-report.1.gz",
        "usr/share/man/man5/hepguard.toml.5.gz",
        "usr/share/man/man7/hepguard-findings.7.gz",
        "usr/share/bash-completion/completions/hepguard",
        "usr/share/zsh/vendor-completions/_hepguard",
        "usr/share/fish/vendor_completions.d/hepguard.fish",
        "usr/share/doc/hepguard/copyright",
        "usr/share/doc/hepguard/changelog.gz",
        "usr/share/doc/hepguard/guide.md",
        "usr/share/doc/hepguard/SECURITY.md",
        "usr/share/hepguard/siem/README.md",
    ] {
        assert!(listed.contains(&format!(" ./{path}\n")), "{path} is missing\n{listed}");
    }
    for line in listed.lines() {
        let (mode, rest) = line.split_once(' ').expect("a listing");
        assert!(rest.starts_with("root/root "), "{line}");
        // -rwxrwxrwx: neither group nor others may write
        assert!(mode.as_bytes()[5] == b'-' && mode.as_bytes()[8] == b'-', "{line}");
    }
    let control = Command::new("dpkg-deb").arg("--field").arg(&first).output().expect("dpkg-deb");
    let control = text(&control.stdout);
    assert!(control.contains("Depends: libc6 (>= 2."), "{control}");
    if have(&["lintian"]) {
        let call =
            ["--allow-root", "--fail-on", "error,warning", "--suppress-tags", "bad-distribution-in-changes-file"];
        let output = Command::new("lintian").args(call).arg(&first).output().expect("lintian");
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

/// Installs, upgrades and removes the packages that the script of this name builds, in a throw-away root.
fn lives_through(builder: &str, tools: &[&str]) {
    let root = nix::unistd::geteuid().is_root();
    if !root || !have(tools) || !have(&["strip", "objdump", "unshare", "pgrep"]) {
        if !root {
            eprintln!("SKIPPED: needs root");
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let old = build(builder, &folder.path().join("old"), "0.1.0");
    let new = build(builder, &folder.path().join("new"), "0.1.0+next");
    let output = script("test-install", &[old.to_str().expect("text"), new.to_str().expect("text")]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("HG104 critical") && said.ends_with("== all went well\n"), "{said}");
}

#[test]
fn installing_upgrading_removing_and_purging_leave_nothing_that_should_not_be() {
    lives_through("build-deb", &["dpkg", "dpkg-deb"]);
}

#[test]
fn the_rpm_installs_upgrades_and_goes() {
    lives_through("build-rpm", &["rpm", "rpmbuild"]);
}

#[test]
fn the_bill_of_materials_has_every_crate_of_the_binary_and_no_other() {
    if !have(&["python3"]) {
        return;
    }
    let output = script("sbom", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bill: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = bill["components"].as_array().expect("components");
    let names: Vec<&str> = list.iter().filter_map(|part| part["name"].as_str()).collect();
    let manifest = include_str!("../Cargo.toml");
    let section =
        |name: &str| manifest.split(&format!("\n[{name}]\n")).nth(1).and_then(|rest| rest.split("\n[").next());
    let crates = |name: &str| -> Vec<String> {
        let lines = section(name).expect("a section").lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.to_owned()).collect()
    };
    for needed in crates("dependencies") {
        assert!(names.contains(&needed.as_str()), "{needed} is missing");
    }
    for other in ["biodivine-lib-bdd", "divan", "boon", "tempfile"] {
        assert!(crates("dev-dependencies").contains(&other.to_owned()) && !names.contains(&other), "{other}");
    }
    for part in list {
        assert!(part["hashes"][0]["content"].as_str().is_some_and(|hash| hash.len() == 64), "{part}");
        assert!(part["licenses"][0]["expression"].is_string(), "{part}");
    }
    assert_eq!(output.stdout, script("sbom", &[]).stdout, "the same each time");
}

#[test]
fn the_scripts_and_the_profile_are_sound() {
    let packaging = Path::new(ROOT).join("packaging");
    for (shell, name) in [
        ("sh", "build-deb"),
        ("sh", "build-rpm"),
        ("sh", "stage"),
        ("bash", "test-install"),
        ("sh", "deb/postinst"),
        ("sh", "deb/prerm"),
        ("sh", "deb/postrm"),
    ] {
        let checked = Command::new(shell).arg("-n").arg(packaging.join(name)).status().expect("a shell");
        assert!(checked.success(), "{name}");
    }
    if have(&["apparmor_parser"]) {
        let call = ["--skip-kernel-load", "--skip-cache"];
        let output = Command::new("apparmor_parser").args(call).arg(packaging.join("apparmor/hepguard-watch")).output();
        let output = output.expect("apparmor_parser");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    // one version everywhere
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(include_str!("../Cargo.toml").contains(&version));
    let changelog = include_str!("../packaging/deb/changelog");
    assert!(changelog.starts_with(&format!("hepguard ({})", env!("CARGO_PKG_VERSION"))), "{changelog}");
}
