//! Micro benches of the log reader: one line of each kind, and a block of mixed lines through search, parse and count.

use divan::Bencher;
use divan::counter::BytesCount;
use hepguard::logs::line::{Scratch, read};
use hepguard::logs::scan::Scan;
use hepguard::logs::tally::{Query, Tally};
use hepguard::logs::time::{Clock, Stamper};

const LAB: &str = include_str!("../fixtures/logs/lab-syslog.log");
const KERNEL: &str = "Aug 21 07:20:20 bastion kernel: [  137.0] [UFW BLOCK] IN=eth0 OUT= MAC=08:00:27:d5:4e:57:0a:00:27:00:00:00:08:00 SRC=203.0.113.77 DST=10.9.0.5 LEN=40 TOS=0x00 PREC=0x00 TTL=240 ID=54321 PROTO=TCP SPT=52000 DPT=3389 WINDOW=1024 RES=0x00 SYN URGP=0 \n";
const OTHER: &str =
    "Aug 21 07:20:20 bastion sshd[4242]: Failed password for invalid user admin from 192.0.2.7 port 40112 ssh2\n";

fn main() {
    divan::main();
}

fn one(bencher: Bencher<'_, '_>, line: &'static str) {
    let mut scratch = Scratch::default();
    let mut stamper = Stamper::new(Clock::utc(1_787_313_600));
    bencher.counter(BytesCount::new(line.len())).bench_local(|| {
        divan::black_box(read(divan::black_box(line.as_bytes()), &mut scratch, &mut stamper));
    });
}

#[divan::bench]
fn report_line(bencher: Bencher<'_, '_>) {
    one(bencher, LAB.lines().next().unwrap_or_default());
}

#[divan::bench]
fn packet_line(bencher: Bencher<'_, '_>) {
    one(bencher, KERNEL);
}

/// A block of 1 MiB of which this share of a hundred lines are denies.
#[divan::bench(args = [0, 10, 90])]
fn block(bencher: Bencher<'_, '_>, share: usize) {
    let mut text = Vec::new();
    let denies: Vec<&str> = LAB.split_inclusive('\n').collect();
    for (number, deny) in denies.iter().cycle().enumerate() {
        if text.len() > 1 << 20 {
            break;
        }
        let line = if number % 100 < share { deny } else { OTHER };
        text.extend_from_slice(line.as_bytes());
    }
    let query = Query::new();
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        let mut scan = Scan::new(&query, Clock::utc(1_787_313_600), 0, false);
        let mut tally = Tally::new(&query);
        scan.block(&text, text.len(), 0, &mut tally);
        tally.events
    });
}
