//! The wall clock jumps, by hours, both ways: no line is lost, none counts or arrives twice, nothing spins.
//!
//! The clock is that of the daemon alone: libfaketime reads how far it is off from a file. The steady clock goes on as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::rig::{Rig, append, deny, open};

/// Where the library is.
fn library() -> Option<PathBuf> {
    let own = std::env::var_os("HEPGUARD_FAKETIME").map(PathBuf::from);
    let known = ["x86_64", "aarch64"]
        .map(|machine| PathBuf::from(format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1")));
    own.into_iter().chain(known).find(|path| path.exists())
}

/// Cpu time of a process so far, in hundredths of a second.
fn ticks(rig: &Rig) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", rig.pid())).expect("runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum()
}

/// Most of the time the process does nothing, since it had used so much.
fn rests(rig: &Rig, (before, began): (u64, Instant)) {
    let used = Duration::from_millis((ticks(rig) - before) * 10);
    println!("{used:?} of cpu in {:?}", began.elapsed());
    assert!(used < began.elapsed() / 2, "{used:?} of cpu in {:?}", began.elapsed());
}

/// How many denies the collector's file tells, by the ids of their messages.
fn told(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut by_id = BTreeMap::new();
    for line in whole.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        if event["schema"] == "hepguard/event/v1" {
            by_id.insert(event["id"].as_str().expect("an id").to_owned(), event["count"].as_u64().expect("a count"));
        }
    }
    by_id.values().sum()
}

#[test]
fn a_clock_that_jumps_loses_nothing_and_nothing_spins() {
    let Some(library) = library() else {
        assert!(std::env::var_os("CI").is_none(), "needs libfaketime");
        return println!("SKIPPED: needs libfaketime");
    };
    let mut rig = Rig::new("");
    let (siem, log, clock) = (rig.path("siem.jsonl"), rig.path("syslog"), rig.path("clock"));
    rig.configure(&format!(
        "[[forward]]\nname = \"siem\"\ntransport = \"file\"\nformat = \"json\"\npath = \"{}\"\nsum-over = \"1s\"\n",
        siem.display()
    ));
    let fresh = rig.path("clock.new");
    let set = |offset: &str| {
        fs::write(&fresh, offset).expect("written");
        fs::rename(&fresh, &clock).expect("set");
    };
    set("+0");
    let start = |rig: &mut Rig| {
        let errors = fs::File::options().create(true).append(true).open(rig.path("errors")).expect("opened");
        let mut command = rig.command();
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", rig.path("clock"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        let child = command.arg("watch").stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn();
        rig.child = Some(child.expect("starts"));
    };
    start(&mut rig);
    rig.judged();
    let mut since = (ticks(&rig), Instant::now());
    let mut number = 0;
    for (round, offset) in ["+7200", "-7200", "+90000", "-86400000", "+0"].into_iter().enumerate() {
        set(offset);
        for _ in 0..10 {
            append(&log, &deny(443, number));
            number += 1;
        }
        let wanted = u64::try_from(number).expect("few");
        let status = rig.until("the denies", |status| status["totals"]["denies"].as_u64() >= Some(wanted));
        assert_eq!(status["totals"]["denies"], wanted, "{offset}: each counts once");
        assert!(!open(&status, "HG523").is_empty() || round > 0, "{status:#}");
        rig.until("the messages", |_| told(&siem) >= wanted);
        assert_eq!(told(&siem), wanted, "{offset}");
        if round == 2 {
            // also across a restart in another time
            rests(&rig, since);
            rig.kill();
            set("-3600");
            append(&log, &deny(443, number));
            number += 1;
            start(&mut rig);
            // another process, whose cpu time begins anew
            since = (0, Instant::now());
            rig.until("an answer", |_| true);
        }
    }
    rests(&rig, since);
    assert_eq!(rig.stop(), Some(0));
}
