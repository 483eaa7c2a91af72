//! # HG712 ufw-without-ssh
//!
//! ## What it checks
//! ufw's own rule files: with `ENABLED=yes`, a default of DROP or REJECT for input and no rule of `user.rules` that
//! accepts a port of sshd.
//!
//! ## Why it matters
//! `ufw --dry-run enable` prints two lines and says nothing of it. The rules come into force at the next boot or `ufw
//! reload`: established sessions go on, the next login times out (cause F03).
//!
//! ## How to fix
//! `ufw allow proto tcp to any port 22` (your port), then look at `ufw show added`.
//!
//! ## Limits
//! Rules are read from `user.rules` and `user6.rules` as ufw writes them; rules in `before.rules` count when they name
//! the port. Felix's failsafe chain, ahead of ufw's, may admit SSH once Felix is in sync.

use serde_json::json;

use crate::analysis::flows::sshd_ports;
use crate::analysis::reboot::starts_at_boot;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG712",
    name: "ufw-without-ssh",
    severity: Severity::Critical,
    summary: "ufw is enabled, or about to be, with no rule that admits SSH",
    source: include_str!("ufw_ssh.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let files = &context.snapshot.files;
    let text = |name: &str| files.bytes(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let says = |name: &str, words: &[&str]| {
        let content = text(name).unwrap_or_default().to_ascii_lowercase();
        content.lines().any(|line| words.contains(&line.trim().replace('"', "").as_str()))
    };
    let enabled = says("persisted/ufw/ufw.conf", &["enabled=yes"]);
    let drops = says("persisted/ufw/default", &["default_input_policy=drop", "default_input_policy=reject"]);
    let Some(rules) = text("persisted/ufw/user.rules").filter(|_| enabled && drops) else { return Vec::new() };
    if starts_at_boot(files, "ufw.service") == Some(false) {
        return Vec::new();
    }
    let mut ports = sshd_ports(&context.snapshot.host);
    if ports.is_empty() {
        ports.insert(22);
    }
    let all = rules + &text("persisted/ufw/before.rules").unwrap_or_default();
    let admits = |port: u16| {
        let accepting = all.lines().filter(|line| {
            line.starts_with("-A ") && ["ACCEPT", "limit", "RETURN"].iter().any(|word| line.contains(word))
        });
        let names = |line: &str| {
            let mut words = line.split([' ', ',']);
            let any = !line.contains("port") && line.starts_with("-A ufw-user-input");
            any || words.any(|word| {
                let (low, high) = word.split_once(':').unwrap_or((word, word));
                let number = |text: &str| text.parse::<u16>().ok();
                number(low).zip(number(high)).is_some_and(|(low, high)| (low..=high).contains(&port))
            })
        };
        accepting.into_iter().any(names)
    };
    let shut: Vec<u16> = ports.into_iter().filter(|port| !admits(*port)).collect();
    if shut.is_empty() {
        return Vec::new();
    }
    let list: Vec<String> = shut.iter().map(ToString::to_string).collect();
    let title = format!("ufw is enabled, drops what no rule admits, and has no rule for SSH (tcp/{})", list.join(", "));
    let finding = Finding::new(check, json!({ "ports": shut }), title).bites(Bites::Reboot);
    vec![
        finding
            .evidence("persisted/ufw/ufw.conf", "ENABLED=yes")
            .evidence("persisted/ufw/default", "the default for input drops")
            .evidence("persisted/ufw/user.rules", "no rule accepts the port")
            .fix(format!(
                "`ufw allow proto tcp to any port {}` before the next boot or reload; safe over SSH",
                list.join(",")
            )),
    ]
}
