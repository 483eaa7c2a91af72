//! Nothing a log may hold ends a scan, and cutting a log into blocks changes no count.

use hepguard::logs::event::Event;
use hepguard::logs::query::Filter;
use hepguard::logs::scan::{Counts, LINE_LIMIT, Scan};
use hepguard::logs::tally::{Origin, Query, Sink, Tally};
use hepguard::logs::time::Clock;
use hepguard::packet::PortRange;
use hepguard::report::denies_event::event_line;

const SAMPLES: [&str; 3] = [
    include_str!("fixtures/logs/felix-samples.jsonl"),
    include_str!("fixtures/logs/kernel-samples.jsonl"),
    include_str!("fixtures/logs/flowlog-samples.jsonl"),
];

fn lines() -> Vec<Vec<u8>> {
    let all = SAMPLES.iter().flat_map(|samples| samples.lines());
    all.map(|sample| {
        let sample: serde_json::Value = serde_json::from_str(sample).expect("a sample is JSON");
        sample["line"].as_str().expect("a line").as_bytes().to_vec()
    })
    .collect()
}

fn everything() -> Query {
    Query { filter: Filter { action: Vec::new(), ..Filter::default() }, ..Query::new() }
}

/// Shows every event, so that showing is tested too.
struct Shown(u64);

impl Sink for Shown {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        assert!(origin.line.len() <= LINE_LIMIT);
        let line = event_line(event, origin.line);
        assert!(!line.bytes().any(|byte| byte < 0x20), "{line:?}");
        self.0 += event.count;
    }
}

/// One change: a byte, a cut, a doubled or a foreign piece.
fn mutate(random: &mut fastrand::Rng, line: &mut Vec<u8>, others: &[Vec<u8>]) {
    if line.is_empty() {
        return;
    }
    let at = random.usize(..line.len());
    match random.u8(..6) {
        0 => line[at] = random.u8(..),
        1 => line.truncate(at),
        2 => drop(line.drain(..at)),
        3 => {
            let piece = line[at..].to_vec();
            line.extend_from_slice(&piece);
        }
        4 => line.insert(at, *random.choice(b"\"\\=[]{}<>\0\x1b\n :,-0").expect("a byte")),
        _ => {
            let other = random.choice(others).expect("a line");
            let from = random.usize(..other.len());
            line.splice(at..at, other[from..].iter().copied());
        }
    }
}

#[test]
fn mutated_lines_end_no_scan() {
    let originals = lines();
    let query = everything();
    let mut shown = Shown(0);
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut log = Vec::new();
        for original in &originals {
            let mut line = original.clone();
            for _ in 0..random.u8(..4) {
                mutate(&mut random, &mut line, &originals);
            }
            log.extend_from_slice(&line);
            log.push(b'\n');
        }
        let mut scan = Scan::new(&query, Clock::utc(1_787_313_600), 0, false);
        scan.block(&log, log.len(), 0, &mut shown);
        let newlines = log.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(usize::try_from(scan.counts.lines), Ok(newlines));
    }
    assert!(shown.0 > 10_000, "too few events left: {}", shown.0);
}

#[test]
fn a_log_cut_into_blocks_gives_the_same_counts() {
    let mut random = fastrand::Rng::with_seed(11);
    let originals = lines();
    let mut log = Vec::new();
    for _ in 0..400 {
        log.extend_from_slice(random.choice(&originals).expect("a line"));
        log.push(b'\n');
    }
    let query = everything();
    let whole = {
        let (mut scan, mut tally) = (Scan::new(&query, Clock::utc(1_787_313_600), 0, false), Tally::new(&query));
        scan.block(&log, log.len(), 0, &mut tally);
        (scan.counts, tally.events, tally.repeats, tally.rows(usize::MAX))
    };
    assert!(whole.1 > 200 && whole.2 > 0);
    let starts: Vec<usize> = std::iter::once(0)
        .chain(log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1))
        .collect();
    for step in [1, 2, 7, 50] {
        let (mut scan, mut tally) = (Scan::new(&query, Clock::utc(1_787_313_600), 0, false), Tally::new(&query));
        let mut cuts: Vec<usize> = starts.iter().copied().step_by(step).collect();
        cuts.push(log.len());
        for pair in cuts.windows(2) {
            let base = u64::try_from(pair[0]).expect("fits");
            scan.block(&log[pair[0]..], pair[1] - pair[0], base, &mut tally);
        }
        let parts = (scan.counts, tally.events, tally.repeats, tally.rows(usize::MAX));
        assert_eq!(parts, whole, "blocks of {step} lines");
    }
}

/// What every event tells, for comparison.
#[derive(Default)]
struct Told<'q>(Vec<String>, Option<&'q Filter>);

impl Sink for Told<'_> {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        if self.1.is_none_or(|filter| filter.matches(event)) {
            self.0.push(event_line(event, origin.line));
        }
    }
}

/// What a scan remembers from line to line, and the lines it passes over unread, must not show in any answer.
#[test]
fn shortcuts_change_no_answer() {
    let originals = lines();
    let filtered = Filter {
        src_ip: vec!["10.0.0.0/8".parse().expect("a prefix"), "45.0.0.0/8".parse().expect("a prefix")],
        dst_port: vec![PortRange { low: 20, high: 6000 }],
        ..Filter::default()
    };
    let early = Filter { since: Some(i64::MIN), ..Filter::default() };
    let queries = [everything().filter, Filter::default(), filtered.clone(), early];
    let queries = queries.map(|filter| Query { filter, ..Query::new() });
    let (mut silent, mut passed) = (0, 0);
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut log = Vec::new();
        for original in &originals {
            // the next line often begins as the one before
            for changes in [0, random.u8(..4)] {
                let mut line = original.clone();
                (0..changes).for_each(|_| mutate(&mut random, &mut line, &originals));
                log.extend_from_slice(&line);
                log.push(b'\n');
            }
        }
        let scan = |query, filter| {
            let (mut scan, mut told) =
                (Scan::new(query, Clock::utc(1_787_313_600), 0, false), Told(Vec::new(), filter));
            scan.block(&log, log.len(), 0, &mut told);
            (scan.counts, told.0)
        };
        let answers = queries.each_ref().map(|query| scan(query, None));
        for (query, answer) in queries.iter().zip(&answers) {
            let (mut counts, mut told) = (Counts::default(), Told::default());
            let mut start = 0;
            for line in log.split_inclusive(|byte| *byte == b'\n') {
                // a scan of its own for each line remembers nothing
                let mut scan = Scan::new(query, Clock::utc(1_787_313_600), 0, false);
                scan.block(&log[start..], line.len(), 0, &mut told);
                counts.add(scan.counts);
                start += line.len();
            }
            assert_eq!((&counts, &told.0), (&answer.0, &answer.1), "seed {seed}: lines on their own");
            // a tally remembers what became of each text
            let (mut once, mut alone) = (Tally::new(query), Tally::new(query));
            Scan::new(query, Clock::utc(1_787_313_600), 0, false).block(&log, log.len(), 0, &mut once);
            let mut start = 0;
            for line in log.split_inclusive(|byte| *byte == b'\n') {
                let mut scan = Scan::new(query, Clock::utc(1_787_313_600), 0, false);
                scan.block(&log[start..], line.len(), start as u64, &mut alone);
                start += line.len();
            }
            let groups = |tally: Tally| (tally.events, tally.repeats, tally.range, tally.rows(usize::MAX));
            assert_eq!(groups(once), groups(alone), "seed {seed}: groups by text or by value");
        }
        let [_, (plain, _), (_, some), (closely, _)] = answers;
        assert_eq!(scan(&queries[1], Some(&filtered)).1, some, "seed {seed}: filtered before or after reading");
        assert_eq!(plain.no_verdict, closely.no_verdict, "seed {seed}: silent lines only counted, or read");
        silent += plain.no_verdict;
        passed += some.len();
    }
    assert!(silent > 200 && passed > 200, "{silent} silent lines, {passed} that pass the filter");
}

#[test]
fn too_many_groups_stay_within_bounds_and_are_owned_up_to() {
    let query = Query { max_groups: 100, ..Query::new() };
    let mut log = String::new();
    let line = |address: &str| {
        format!(
            "Aug  4 16:14:12 h calico-felix[1]: INFO <nil> <nil>:  action=\"deny\" dstIP=\"{address}\" dstPort=\"1\" \
             policy=\"p\" proto=\"6\" rule=\"-1\" srcIP=\"10.0.0.1\" tier=\"t\"\n"
        )
    };
    for number in 0..1000 {
        log.push_str(&line(&format!("10.1.{}.{}", number / 250, number % 250)));
        log.push_str(&line("10.9.9.9"));
    }
    let (mut scan, mut tally) = (Scan::new(&query, Clock::utc(1_787_313_600), 0, false), Tally::new(&query));
    scan.block(log.as_bytes(), log.len(), 0, &mut tally);
    assert_eq!(tally.events, 2000);
    let given_up = tally.given_up;
    let rows = tally.rows(usize::MAX);
    assert!(rows.len() <= 100);
    assert_eq!(rows[0].1.count, 1000, "the largest group is exact");
    assert_eq!(rows.iter().map(|(_, group)| group.count).sum::<u64>() + given_up, 2000);
}
