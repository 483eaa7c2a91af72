//! The process dies at any moment, the disk is full: nothing below the bound is lost, and what is lost is told.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hepguard::forward::sender::{Forwarder, Output};
use hepguard::forward::transport::Target;

use crate::rig::{Rsyslog, apart, input, now, numbered, numbers, output, run};

/// Names the folder of the child that [`a_process_killed_200_times_loses_nothing`] starts and kills.
const CHILD: &str = "HEPGUARD_TEST_FORWARD_CHILD";

const KILLS: usize = 200;

fn target() -> Target {
    Target::Relp { address: "127.0.0.1:2514".to_owned(), tls: None }
}

/// Submits numbers from where the checkpoint stands, and moves it only after the queue is safe, as the daemon does.
fn child(folder: &Path, until: u64) -> Forwarder {
    // room for all that is made before it is delivered: what a bound costs is another test
    let to = Output { max_bytes: 512 << 20, ..output(target()) };
    let (forwarder, _) = Forwarder::start(&folder.join("spool"), vec![to], "bastion", now).expect("started");
    let checkpoint = folder.join("checkpoint");
    let mut number: u64 = fs::read_to_string(&checkpoint).map_or(0, |text| text.trim().parse().expect("a number"));
    while number < until {
        for _ in 0..20 {
            forwarder.submit(&numbered(number, "to be kept"));
            number += 1;
        }
        forwarder.flush().expect("written");
        let fresh = folder.join("checkpoint.new");
        fs::write(&fresh, number.to_string()).expect("written");
        fs::rename(&fresh, &checkpoint).expect("renamed");
        std::thread::sleep(Duration::from_millis(2));
    }
    forwarder
}

/// Not a test of its own: what the other one runs in a process that it kills.
#[test]
fn child_that_is_killed() {
    if let Some(folder) = std::env::var_os(CHILD) {
        let _ = child(Path::new(&folder), u64::MAX);
    }
}

#[test]
fn a_process_killed_200_times_loses_nothing() {
    apart("a_process_killed_200_times_loses_nothing", || {
        let dir = tempfile::tempdir().expect("a folder");
        let collector = Rsyslog::start(dir.path(), &input("imrelp", 2514, ""));
        let mut chance = fastrand::Rng::with_seed(8);
        for _ in 0..KILLS {
            let mut process = Command::new(std::env::current_exe().expect("this program"))
                .args(["crash::child_that_is_killed", "--exact", "--nocapture"])
                .env(CHILD, dir.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("starts");
            std::thread::sleep(Duration::from_millis(chance.u64(5..120)));
            process.kill().expect("killed");
            process.wait().expect("ended");
        }
        let reached: u64 = fs::read_to_string(dir.path().join("checkpoint")).expect("there").parse().expect("a number");
        let until = reached + 100;
        let status = child(dir.path(), until).stop(Duration::from_secs(30)).remove(0);
        assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
        let all = |lines: &[String]| numbers(lines).into_iter().collect::<BTreeSet<_>>();
        let lines = collector.wait_for(Duration::from_secs(15), |lines| all(lines).len() as u64 >= until);
        assert!(until > 500, "the children got somewhere: {until}");
        assert_eq!(all(&lines), (0..until).collect(), "every number arrived");
        assert!(!lines.iter().any(|line| line.contains("lost=\"")), "no gap is told where there is none");
        let ids: BTreeSet<&str> =
            lines.iter().filter_map(|line| line.split("id=\"").nth(1)?.split('"').next()).collect();
        assert_eq!(ids.len() as u64, until, "what came twice has the same id");
        let twice = lines.len() as u64 - until;
        // nobody reads it when standard error is closed
        let _ = writeln!(std::io::stderr(), "{KILLS} kills: {until} messages, {twice} sent twice, none lost");
    });
}

#[test]
fn a_full_disk_costs_the_oldest_and_the_collector_is_told_how_many() {
    apart("a_full_disk_costs_the_oldest_and_the_collector_is_told_how_many", || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        run("mount", &["--make-rprivate", "/"]);
        let dir = tempfile::tempdir().expect("a folder");
        let small = dir.path().join("small");
        fs::create_dir(&small).expect("made");
        run("mount", &["-t", "tmpfs", "-o", "size=1536k", "tmpfs", small.to_str().expect("text")]);
        let mut to = output(target());
        to.max_bytes = 64 << 20;
        let (forwarder, _) = Forwarder::start(&small, vec![to], "bastion", now).expect("started");
        for number in 0..12_000_u64 {
            forwarder.submit(&numbered(number, "waiting for room"));
            if number % 100 == 99 {
                // a full disk is told, and the queue goes on
                let _ = forwarder.flush();
            }
        }
        let collector = Rsyslog::start(dir.path(), &input("imrelp", 2514, ""));
        let status = forwarder.stop(Duration::from_secs(30)).remove(0);
        assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
        let lines = collector.wait_for(Duration::from_secs(10), |lines| numbers(lines).last() == Some(&11_999));
        let arrived = numbers(&lines);
        let lost: u64 =
            lines.iter().filter_map(|line| line.split("lost=\"").nth(1)?.split('"').next()?.parse::<u64>().ok()).sum();
        assert!(lost > 0 && !arrived.is_empty());
        assert_eq!(arrived.len() as u64 + lost, 12_000, "each is there or told lost");
        run("umount", &["-l", small.to_str().expect("text")]);
    });
}
