//! What the daemon costs when nothing happens: for 15 seconds, or for `HEPGUARD_IDLE_SECONDS`.

use std::fs;
use std::time::{Duration, Instant};

use crate::rig::{Rig, in_namespace};

struct Cost {
    switches: u64,
    /// Of cpu time, its ended children's too: a hundredth of a second each.
    ticks: u64,
    resident_kb: u64,
    /// Of that, what is its own: pages of the program's file are shared, and a debug build has many.
    own_kb: u64,
}

fn cost(pid: i32) -> Cost {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("runs");
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.split_whitespace().find_map(|word| word.parse().ok()).expect("a number")
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let tick = |at: usize| fields[at].parse::<u64>().expect("a number");
    Cost {
        switches: field("voluntary_ctxt_switches:"),
        ticks: (11..15).map(tick).sum(),
        resident_kb: field("VmRSS:"),
        own_kb: field("RssAnon:"),
    }
}

/// Processes started by this one.
fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn idle_it_sleeps_and_is_small() {
    in_namespace("idle", &["ip", "ipset", "iptables-legacy-restore"], || {
        crate::rig::sh("ip link set lo up; ipset create big hash:ip maxelem 200000");
        // 5,000 rules and 100,000 members are known
        let members: String =
            (0..100_000).map(|n| format!("add big 10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255)).collect();
        let rules: String = (0..5000).map(|n| format!("-A INPUT -s 10.9.{}.{} -j ACCEPT\n", n >> 8, n & 255)).collect();
        let mut rig = Rig::new("");
        fs::write(rig.path("members"), members).expect("written");
        fs::write(rig.path("rules"), format!("*filter\n{rules}COMMIT\n")).expect("written");
        let (members, rules) = (rig.path("members"), rig.path("rules"));
        crate::rig::sh(&format!("ipset restore <{}; iptables-legacy-restore <{}", members.display(), rules.display()));
        rig.start().judged();
        let pid = rig.pid().as_raw();
        // its first look, and the comparison after that, are over
        let quiet = Instant::now();
        while quiet.elapsed() < Duration::from_secs(20) && children(pid).len() > 1
            || quiet.elapsed() < Duration::from_secs(14)
        {
            std::thread::sleep(Duration::from_millis(200));
        }
        let reader = *children(pid).first().expect("a reader");
        let window: u64 =
            std::env::var("HEPGUARD_IDLE_SECONDS").map_or(15, |text| text.parse().expect("a number of seconds"));
        // tools that others run on this machine are hints, too: some window is without them
        let mut windows = Vec::new();
        for _ in 0..6 {
            let before = [cost(pid), cost(reader)];
            std::thread::sleep(Duration::from_secs(window));
            let after = [cost(pid), cost(reader)];
            let most = (0..2).map(|at| after[at].switches - before[at].switches).max().unwrap_or(0);
            windows.push((most, before, after));
            if most <= 6 || window > 15 {
                break;
            }
        }
        let (_, before, after) = windows.into_iter().min_by_key(|(most, ..)| *most).expect("a window");
        for (name, before, after) in [("daemon", &before[0], &after[0]), ("reader", &before[1], &after[1])] {
            let switches = after.switches - before.switches;
            println!(
                "{name}: {switches} context switches, {} hundredths of a second of cpu in {window} s, {} kB resident, {} kB of them \
                 its own",
                after.ticks - before.ticks,
                after.resident_kb,
                after.own_kb
            );
            // six in 15 s; what comes once a minute is allowed for beyond that
            assert!(switches <= 6 * window.div_ceil(15), "{name}: {switches} switches in {window} s");
            let kb = if cfg!(debug_assertions) { after.own_kb } else { after.resident_kb };
            assert!(kb < 25_000, "{name}: {kb} kB");
        }
    });
}
