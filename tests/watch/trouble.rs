//! A full disk, a log that may not be read any more: told, outlived, and nothing is lost.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::time::{Duration, Instant};

use crate::rig::{Rig, append, deny, in_namespace, open, sh};

/// Cpu time of a process so far, in ticks of a hundredth of a second.
fn ticks(rig: &Rig) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", rig.pid())).expect("runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_full_disk_is_told_and_outlived() {
    in_namespace("full", &["ip", "mount", "umount"], || {
        // a file system of one MiB for the state, in a mount namespace of this thread
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("root may make a mount namespace");
        sh("mount --make-rprivate /; ip link set lo up");
        let mut rig = Rig::new("");
        let (state, log) = (rig.path("state"), rig.path("syslog"));
        fs::create_dir(&state).expect("made");
        sh(&format!("mount -t tmpfs -o size=1m tmpfs {}", state.display()));
        append(&log, &deny(443, 1).repeat(10));
        rig.start().judged();
        rig.until("the lines", |status| status["totals"]["denies"] == 10);
        std::thread::sleep(Duration::from_secs(2));

        let mut fill = File::create(state.join("fill")).expect("made");
        while fill.write_all(&[0; 4096]).is_ok() {}
        append(&log, &deny(443, 2).repeat(10));
        let status = rig.until("the trouble", |status| {
            open(status, "HG524").iter().any(|alert| alert.to_string().contains("state cannot be written"))
        });
        assert_eq!(status["totals"]["denies"], 20, "counting goes on: {status:#}");
        // lines go on coming, and each is counted; it does not spin
        let (before, began) = (ticks(&rig), Instant::now());
        for number in 0..20 {
            append(&log, &deny(443, number));
            std::thread::sleep(Duration::from_millis(200));
        }
        rig.until("the lines", |status| status["totals"]["denies"] == 40);
        let used = ticks(&rig) - before;
        println!("full disk: {used} ticks of cpu in {:?}", began.elapsed());
        assert!(used < 200, "{used} ticks in {:?}", began.elapsed());

        // killed with a full disk: what was counted since the last state that fitted is counted again from the log, once
        rig.kill();
        rig.start();
        rig.until("the lines", |status| status["totals"]["denies"] == 40);
        drop(fill);
        fs::remove_file(state.join("fill")).expect("removed");
        append(&log, &deny(443, 9));
        let mended = |rig: &mut Rig| {
            rig.until_within(Duration::from_secs(120), "room again", |status| {
                status["totals"]["denies"] == 41 && open(status, "HG524").is_empty()
            })
        };
        mended(&mut rig);
        assert_eq!(rig.stop(), Some(0));
        let saved = fs::read_to_string(state.join("state.json")).expect("written");
        assert!(saved.contains("hepguard/state/v1"));
        sh(&format!("umount {}", state.display()));
    });
}

#[test]
fn a_log_that_may_not_be_read_any_more_is_told_and_read_later() {
    in_namespace("permission", &["ip", "setpriv"], || {
        const NOBODY: u32 = 65534;
        let mut rig = Rig::new("");
        rig.user = Some(NOBODY);
        let log = rig.path("syslog");
        chown(rig.folder.path(), Some(NOBODY), Some(NOBODY)).expect("given away");
        append(&log, &deny(443, 1).repeat(3));
        rig.start();
        rig.until("the lines", |status| status["totals"]["denies"] == 3);
        // rotation as a logrotate with `create 600 root root` does it
        fs::rename(&log, rig.path("syslog.1")).expect("renamed");
        let new = File::options().create_new(true).append(true).open(&log).expect("made");
        new.set_permissions(fs::Permissions::from_mode(0o600)).expect("set");
        append(&log, &deny(443, 2).repeat(4));
        let status = rig.until("the trouble", |status| !open(status, "HG514").is_empty());
        let told = open(&status, "HG514")[0].to_string();
        assert!(told.contains("ermission denied"), "{told}");
        assert_eq!(status["totals"]["denies"], 3);
        new.set_permissions(fs::Permissions::from_mode(0o644)).expect("set");
        rig.until_within(Duration::from_secs(120), "the new file", |status| {
            status["totals"]["denies"] == 7 && open(status, "HG514").is_empty()
        });
        assert_eq!(rig.stop(), Some(0));
    });
}
