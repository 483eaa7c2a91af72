//! README keeps its word: every command it names exists, and its two opening commands are there.

use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// Subcommands of every `hepguard …` call in the text.
fn named() -> Vec<&'static str> {
    let words = |line: &'static str| {
        line.split("hepguard ").skip(1).filter_map(|rest| rest.split([' ', '`', '\n', ')']).next())
    };
    let code = README.split('`').skip(1).step_by(2).filter(|text| !text.starts_with("``"));
    let mut found: Vec<&str> = code.flat_map(words).collect();
    found.retain(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn every_command_the_readme_names_exists() {
    let named = named();
    for expected in ["audit", "denies", "explain", "failsafe", "snapshot", "trace"] {
        assert!(named.contains(&expected), "README should name {expected}: {named:?}");
    }
    for command in named {
        let output = Command::new(env!("CARGO_BIN_EXE_hepguard")).args([command, "--help"]).output().expect("starts");
        assert!(output.status.success(), "hepguard {command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_command_of_the_program_is_in_the_readme() {
    let output = Command::new(env!("CARGO_BIN_EXE_hepguard")).arg("--help").output().expect("starts");
    let help = String::from_utf8(output.stdout).expect("text");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // continued descriptions are indented further
    let commands = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|command| *command != "help") {
        assert!(named().contains(&command), "README should name hepguard {command}");
    }
}

#[test]
fn the_opening_commands_are_there_and_the_script_is_sound() {
    let opening: String = README.lines().take(16).collect::<Vec<_>>().join("\n");
    assert!(opening.contains("\ncargo run --release -- demo ") && opening.contains("\ntests/run "), "{opening}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (shell, script) in [("sh", "tests/run"), ("bash", ".ci/run")] {
        let checked = Command::new(shell).arg("-n").arg(root.join(script)).status().expect("a shell");
        assert!(checked.success(), "{script} has no syntax errors");
    }
}

/// What the README shows of a command's output is what the command prints about the lab; `…` stands for what is left out.
#[test]
fn the_outputs_shown_are_real() {
    let lab = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo");
    let before = format!("{lab}/before");
    let syslog = format!("{lab}/syslog");
    let ssh_in = ["trace", "--conversation", "in", "tcp", "203.0.113.7:51522", "10.0.1.10:22", "-i", "ens5"];
    let at_output = ["--hook", "output", "-o", "ens5", "--family", "ipv4"];
    let after = format!("{lab}/after");
    let calls: [(&str, Vec<&str>); 11] = [
        ("plan", vec!["plan", "--felix", "restart", "--snapshot", &before]),
        ("audit", vec!["audit", "--snapshot", &before]),
        ("failsafe", vec!["failsafe", "--snapshot", &before]),
        ("flows", vec!["flows", "--snapshot", &before]),
        ("trace", vec!["trace", "out", "tcp", "10.0.1.10:51522", "10.0.1.30:22", "-o", "ens5", "--snapshot", &before]),
        ("trace --conversation", [&ssh_in[..], &["--snapshot", &before]].concat()),
        ("reach", vec!["reach", "out", "tcp/22", "--snapshot", &before]),
        ("matrix", [&["matrix", "tcp/443", "--snapshot", &before], &at_output[..]].concat()),
        ("lint", vec!["lint", "tests/lint/platform.yaml"]),
        ("diff", vec!["diff", &before, &after]),
        ("denies", vec!["denies", &syslog, "--src-ip", "10.0.1.10", "--dst-port", "443"]),
    ];
    for (command, arguments) in calls {
        let heading = format!("### `hepguard {command}`");
        let section = README.split(&heading).nth(1).unwrap_or_else(|| panic!("README has {heading}"));
        let block =
            section.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of text");
        let output = Command::new(env!("CARGO_BIN_EXE_hepguard")).args(arguments).output().expect("starts");
        let real = String::from_utf8(output.stdout).expect("text");
        let real: Vec<&str> = real.lines().map(str::trim_end).collect();
        // the year of a syslog line is the one its file was written in
        let told = |line: &&str| !line.starts_with("$ ") && line.trim() != "…" && !line.contains("T16:14:");
        for line in block.lines().map(str::trim_end).filter(told) {
            let known = line.strip_suffix('…').unwrap_or(line);
            assert!(real.iter().any(|real| real.starts_with(known)), "{command} does not print {line:?}");
        }
    }
}
