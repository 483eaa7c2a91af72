//! Every line of a log counts once, whatever happens to the file and to the daemon.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::rig::{Rig, SOON, append, deny, open};

/// Writes denies at a rate, rotates by rename twice a second, and gives how many it wrote.
fn write(rig_path: &std::path::Path, rate: usize, time: Duration, stop: &AtomicBool) -> usize {
    let path = rig_path.join("syslog");
    let began = Instant::now();
    let (mut written, mut rotations) = (0, 0);
    let mut file = File::options().append(true).open(&path).expect("opened");
    while began.elapsed() < time && !stop.load(Ordering::Relaxed) {
        let due = usize::try_from(began.elapsed().as_millis()).expect("short") * rate / 1000;
        let text: String = (written..due.max(written)).map(|number| deny(443, number)).collect();
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        written = due.max(written);
        if began.elapsed().as_millis() / 500 > rotations {
            rotations += 1;
            // as logrotate does: the old ones are kept, the writer is told a little later
            fs::rename(&path, rig_path.join(format!("syslog-{:010}", 1_000_000_000 + rotations))).expect("renamed");
            File::create(&path).expect("created");
            let late = deny(443, written);
            std::io::Write::write_all(&mut file, late.as_bytes()).expect("written");
            written += 1;
            file = File::options().append(true).open(&path).expect("opened");
            let old = rotations.saturating_sub(60);
            let _ = fs::remove_file(rig_path.join(format!("syslog-{:010}", 1_000_000_000 + old)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    written
}

/// `HEPGUARD_KILLS=200 HEPGUARD_RATE=5000 cargo test --release --test watch kills` is the long version.
#[test]
fn totals_are_exact_through_kills_and_rotation() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (kills, rate) = (number("HEPGUARD_KILLS", 6), number("HEPGUARD_RATE", 1000));
    let mut rig = Rig::new("");
    let folder = rig.folder.path().to_owned();
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&folder, rate, Duration::from_secs(600), &stop));
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..kills {
            rig.start();
            if round % 4 == 3 {
                // rotated files do not stay for ever: on a busy machine some round has to get as far as reading
                let before = rig.status().map_or(0, |status| status["totals"]["lines"].as_u64().unwrap_or(0));
                rig.until("more lines", |status| status["totals"]["lines"].as_u64() > Some(before));
            }
            std::thread::sleep(Duration::from_millis(random.u64(50..700)));
            rig.kill();
        }
        rig.start();
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends")
    });
    let wanted = u64::try_from(written).expect("few");
    let most = SOON + Duration::from_secs(u64::try_from(kills).expect("few"));
    let status = rig.until_within(most, "every line", |status| status["totals"]["denies"].as_u64() >= Some(wanted));
    std::thread::sleep(Duration::from_millis(300));
    let again = rig.status().expect("answers");
    assert_eq!((&again["totals"]["denies"], &again["totals"]["lines"]), (&wanted.into(), &wanted.into()), "{status:#}");
    assert!(open(&again, "HG515").is_empty(), "nothing was lost");
    println!("{kills} kills, {rate} lines/s: {written} lines written, {written} counted");
}

#[test]
fn copytruncate_and_a_stopped_daemon_lose_nothing_that_a_copy_holds() {
    let mut rig = Rig::new("");
    rig.start();
    let log = rig.path("syslog");
    let count = |rig: &mut Rig, wanted: u64| rig.until("the lines", |status| status["totals"]["denies"] == wanted);
    append(&log, &deny(443, 1).repeat(10));
    count(&mut rig, 10);
    assert_eq!(rig.stop(), Some(0));
    append(&log, &deny(443, 2).repeat(5));
    fs::copy(&log, rig.path("syslog.1")).expect("copied");
    File::options().write(true).truncate(true).open(&log).expect("truncated");
    append(&log, &deny(443, 3));
    rig.start();
    count(&mut rig, 16);
}

#[test]
fn a_log_that_goes_away_and_comes_back_is_told_and_read() {
    let mut rig = Rig::new("");
    let inner = rig.path("log");
    fs::create_dir(&inner).expect("made");
    let text = fs::read_to_string(rig.path("hepguard.toml")).expect("read");
    let here = format!("{}/syslog", rig.folder.path().display());
    fs::write(rig.path("hepguard.toml"), text.replace(&here, &format!("{}/syslog", inner.display()))).expect("written");
    append(&inner.join("syslog"), &deny(443, 1));
    rig.start();
    rig.until("the first line", |status| status["totals"]["denies"] == 1);
    fs::rename(&inner, rig.path("away")).expect("renamed");
    rig.until("the trouble", |status| !open(status, "HG514").is_empty());
    fs::create_dir(&inner).expect("made");
    append(&inner.join("syslog"), &deny(443, 2).repeat(3));
    // folders that are gone send no notice; they are looked for once a minute
    rig.until("the new file", |status| status["totals"]["denies"] == 4 && open(status, "HG514").is_empty());
}
