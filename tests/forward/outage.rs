//! Collectors that die, hosts that are cut off: what arrives in the end.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use hepguard::forward::sender::Forwarder;
use hepguard::forward::transport::Target;

use crate::rig::{Rsyslog, apart, input, now, numbered, numbers, output, run};

#[test]
fn a_collector_that_dies_five_times_misses_nothing_over_relp() {
    apart("a_collector_that_dies_five_times_misses_nothing_over_relp", || {
        let dir = tempfile::tempdir().expect("a folder");
        let mut collector = Rsyslog::start(dir.path(), &input("imrelp", 2514, ""));
        let state = tempfile::tempdir().expect("a folder");
        let target = Target::Relp { address: "127.0.0.1:2514".to_owned(), tls: None };
        let (forwarder, _) = Forwarder::start(state.path(), vec![output(target)], "bastion", now).expect("started");
        let mut number = 0;
        for _ in 0..5 {
            for _ in 0..20 {
                for _ in 0..100 {
                    forwarder.submit(&numbered(number, "x"));
                    number += 1;
                }
                forwarder.flush().expect("written");
            }
            std::thread::sleep(Duration::from_millis(150));
            // orderly: what rsyslog has answered for stands in its file; a killed one may lose what its own queue holds
            collector.stop(true);
            std::thread::sleep(Duration::from_millis(200));
            collector.start_again();
        }
        let status = forwarder.stop(Duration::from_secs(30)).remove(0);
        assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
        let enough = |lines: &[String]| numbers(lines).into_iter().collect::<BTreeSet<_>>().len() as u64 >= number;
        let lines = collector.wait_for(Duration::from_secs(15), enough);
        let all = numbers(&lines);
        let distinct: BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!(distinct, (0..number).collect(), "{} lines", lines.len());
        // what came twice has the same id
        let ids: BTreeSet<&str> =
            lines.iter().filter_map(|line| line.split("id=\"").nth(1)?.split('"').next()).collect();
        assert_eq!(ids.len() as u64, number);
    });
}

/// The collector is down while events go on coming. `HEPGUARD_OUTAGE_SECONDS=60 HEPGUARD_OUTAGE_RATE=5000 cargo test --release
/// --test forward outage::a_collector_that_is_down -- --nocapture` is the long version.
#[test]
fn a_collector_that_is_down_for_a_while_misses_nothing() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (seconds, rate) = (number("HEPGUARD_OUTAGE_SECONDS", 3), number("HEPGUARD_OUTAGE_RATE", 1000));
    apart("a_collector_that_is_down_for_a_while_misses_nothing", || {
        let dir = tempfile::tempdir().expect("a folder");
        let mut collector = Rsyslog::start(dir.path(), &input("imrelp", 2514, ""));
        let state = tempfile::tempdir().expect("a folder");
        let mut to = output(Target::Relp { address: "127.0.0.1:2514".to_owned(), tls: None });
        to.max_bytes = 1 << 30;
        let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
        let mut made = 0;
        let (mut most, mut missed) = (0, 0);
        // before, while and after it is down
        for (phase, seconds) in [(0, 1), (1, seconds), (2, 1)] {
            match phase {
                1 => collector.stop(true),
                2 => collector.start_again(),
                _ => {}
            }
            let (began, first) = (Instant::now(), made);
            while began.elapsed() < Duration::from_secs(seconds) {
                let due = first + u64::try_from(began.elapsed().as_millis()).expect("short") * rate / 1000;
                for number in made..due {
                    forwarder.submit(&numbered(number, "while the collector is down"));
                }
                made = made.max(due);
                forwarder.flush().expect("written");
                most = most.max(forwarder.status()[0].lanes[0].waiting);
                std::thread::sleep(Duration::from_millis(20));
            }
            missed = if phase == 1 { made - first } else { missed };
        }
        assert!(missed > 0 && most >= missed / 2, "the queue held what the collector missed: {most}");
        let status = forwarder.stop(Duration::from_secs(120)).remove(0);
        assert_eq!((status.lanes[0].waiting, status.lost), (0, 0), "{status:?}");
        let all = |lines: &[String]| numbers(lines).into_iter().collect::<BTreeSet<_>>();
        let lines = collector.wait_for(Duration::from_secs(60), |lines| all(lines).len() as u64 >= made);
        assert_eq!(all(&lines), (0..made).collect(), "every number arrived");
        let ids: BTreeSet<&str> =
            lines.iter().filter_map(|line| line.split("id=\"").nth(1)?.split('"').next()).collect();
        assert_eq!(ids.len() as u64, made, "what came twice has the same id");
        let twice = lines.len() as u64 - made;
        let told = format!(
            "{seconds} s down at {rate}/s: {made} messages, {missed} while down, {most} waiting at most, {twice} sent twice"
        );
        // nobody reads it when standard error is closed
        let _ = writeln!(std::io::stderr(), "{told}, none lost");
    });
}

/// The case that lost events in the peers: the firewall cuts the way off, then the process restarts.
#[test]
fn findings_made_while_the_way_is_cut_arrive_after_a_restart() {
    apart("findings_made_while_the_way_is_cut_arrive_after_a_restart", || {
        let dir = tempfile::tempdir().expect("a folder");
        let collector = Rsyslog::start(dir.path(), &input("imtcp", 6010, ""));
        let state = tempfile::tempdir().expect("a folder");
        let target = Target::Tcp {
            address: "127.0.0.1:6010".to_owned(),
            framing: hepguard::forward::frame::Framing::OctetCounting,
        };
        let start = || Forwarder::start(state.path(), vec![output(target.clone())], "bastion", now).expect("started").0;
        let forwarder = start();
        forwarder.submit(&numbered(0, "before"));
        forwarder.flush().expect("written");
        let before = collector.wait_for(Duration::from_secs(10), |lines| !lines.is_empty());
        assert_eq!(numbers(&before), [0]);
        std::thread::sleep(Duration::from_secs(3));
        run("iptables-legacy", &["-I", "OUTPUT", "-p", "tcp", "--dport", "6010", "-j", "DROP"]);
        for number in 1..=200 {
            forwarder.submit(&numbered(number, "cut off"));
        }
        forwarder.flush().expect("written");
        std::thread::sleep(Duration::from_secs(1));
        let status = forwarder.stop(Duration::from_millis(200)).remove(0);
        assert_eq!(status.lanes[0].waiting, 200, "nothing counts as delivered without an answer: {status:?}");
        let forwarder = start();
        for number in 201..=250 {
            forwarder.submit(&numbered(number, "after the restart"));
        }
        forwarder.flush().expect("written");
        run("iptables-legacy", &["-F", "OUTPUT"]);
        let status = forwarder.stop(Duration::from_secs(30)).remove(0);
        assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
        let lines = collector.wait_for(Duration::from_secs(10), |lines| lines.len() >= 251);
        let distinct: BTreeSet<u64> = numbers(&lines).into_iter().collect();
        assert_eq!(distinct, (0..=250).collect());
    });
}

/// No collector for long, too little room: the newest are kept, and the gap says exactly what is missing.
#[test]
fn what_had_no_room_is_told_by_number() {
    apart("what_had_no_room_is_told_by_number", || {
        let dir = tempfile::tempdir().expect("a folder");
        let state = tempfile::tempdir().expect("a folder");
        let mut small = output(Target::Relp { address: "127.0.0.1:2514".to_owned(), tls: None });
        small.max_bytes = 1 << 20;
        let (forwarder, _) = Forwarder::start(state.path(), vec![small], "bastion", now).expect("started");
        for number in 0..5000 {
            forwarder.submit(&numbered(number, "waiting"));
            if number % 100 == 99 {
                forwarder.flush().expect("written");
            }
        }
        let collector = Rsyslog::start(dir.path(), &input("imrelp", 2514, ""));
        let status = forwarder.stop(Duration::from_secs(30)).remove(0);
        assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
        let lines = collector.wait_for(Duration::from_secs(10), |lines| numbers(lines).last() == Some(&4999));
        let arrived = numbers(&lines);
        let lost: u64 =
            lines.iter().filter_map(|line| line.split("lost=\"").nth(1)?.split('"').next()?.parse::<u64>().ok()).sum();
        assert!(lost > 0 && arrived.len() as u64 + lost == 5000, "{} arrived, {lost} told lost", arrived.len());
        assert_eq!(arrived, (lost..5000).collect::<Vec<_>>(), "the newest are kept");
    });
}
