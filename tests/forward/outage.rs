//! Collectors that die, hosts that are cut off: what arrives in the end.

use std::collections::BTreeSet;
use std::time::Duration;

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
