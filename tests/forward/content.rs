//! What `packaging/siem/` ships is read by the tools it is for.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use hepguard::config::Alerts;
use hepguard::forward::sender::Forwarder;
use hepguard::forward::transport::Target;
use hepguard::monitor::look::Judged;
use hepguard::monitor::{Moment, Monitor};
use hepguard::report::status::{Health, Output, metrics};
use serde_json::Value;

use crate::rig::{Rsyslog, apart, certificates, now, numbered, output, tls};

const SIEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/siem");

fn read(name: &str) -> String {
    fs::read_to_string(format!("{SIEM}/{name}")).expect(name)
}

/// Names of figures in a text.
fn figures(text: &str) -> Vec<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let mut found: Vec<String> = text.match_indices("hepguard_").map(|(at, _)| word(&text[at..])).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn rules_and_dashboard_name_figures_that_exist() {
    let moment = Moment { wall: 1_800_000_000_000, steady: 0 };
    let mut monitor = Monitor::new(Alerts::default(), moment);
    monitor.last = Some(Judged::default());
    monitor.judged_at = Some(moment.wall);
    let health =
        Health { conntrack: Some((1, 2)), took: Some(3), outputs: vec![Output::default()], ..Health::default() };
    let known = metrics(&monitor, &health);
    // of a family without a sample yet only the type line tells
    let told = |name: &str| {
        known.lines().any(|line| {
            line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")) || {
                let base = name.trim_end_matches("_total");
                base != name && line == format!("# TYPE {base} counter")
            }
        }) || known.contains(&format!("# TYPE {name} gauge"))
    };
    let mut count = 0;
    for file in ["prometheus/hepguard.rules.yml", "grafana/hepguard.json"] {
        for name in figures(&read(file)) {
            assert!(told(&name), "{file} names {name}, which hepguard does not tell\n{known}");
            count += 1;
        }
    }
    assert!(count > 12, "{count}");
    for file in ["grafana/hepguard.json", "elastic/index-template.json"] {
        let _: Value = serde_json::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    let _: toml::Table = toml::from_str(&read("vector/hepguard.toml")).expect("TOML");
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    let promtool = |arguments: &[&str]| {
        Command::new("promtool").args(arguments).current_dir(format!("{SIEM}/prometheus")).output()
    };
    if promtool(&["--version"]).is_err() {
        // it comes with a server that no other test needs, so it is not asked for
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED promtool_takes_the_rules_and_their_tests_pass: promtool is not installed"
        );
        return;
    }
    for arguments in [&["check", "rules", "hepguard.rules.yml"], &["test", "rules", "hepguard.test.yml"]] {
        let output = promtool(arguments).expect("runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_collector_of_the_shipped_rsyslog_file_writes_a_line_of_json_a_message() {
    apart("the_collector_of_the_shipped_rsyslog_file_writes_a_line_of_json_a_message", || {
        let dir = tempfile::tempdir().expect("a folder");
        certificates(dir.path());
        let at = dir.path().display().to_string();
        let shipped = read("rsyslog/50-hepguard.conf");
        assert!(shipped.contains("hepguard-ca.pem") && shipped.contains("/var/log/hepguard/"));
        let config = shipped
            .replace("/etc/rsyslog.d/hepguard-", &format!("{at}/"))
            .replace("/var/log/hepguard/", &format!("{at}/logs/"));
        let config = format!("global(workDirectory=\"{at}\")\n{config}");
        let _collector = Rsyslog::with_config(dir.path(), &config);
        let state = tempfile::tempdir().expect("a folder");
        let to = output(Target::Relp { address: "127.0.0.1:2514".to_owned(), tls: Some(tls(dir.path())) });
        let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
        forwarder.submit(&numbered(7, "a \"quoted\" \\ ] message\n\u{1b}"));
        let status = forwarder.stop(Duration::from_secs(10)).remove(0);
        assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
        let file = dir.path().join("logs/bastion.jsonl");
        let end = Instant::now() + Duration::from_secs(10);
        while !fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')) {
            assert!(Instant::now() < end, "{}", fs::read_to_string(dir.path().join("stderr")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(50));
        }
        let line: Value = serde_json::from_str(&fs::read_to_string(&file).expect("there")).expect("JSON");
        assert_eq!((&line["host"], &line["kind"]), (&"bastion".into(), &"HEALTH".into()));
        assert!(line["message"].as_str().is_some_and(|text| text.contains("a \"quoted\" \\ ] message\\n")), "{line}");
        assert!(line["fields"].as_str().is_some_and(|text| text.contains("number=\"7\"")), "{line}");
    });
}
