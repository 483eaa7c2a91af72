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

/// Whether a log gives the same in one go as line by line.
fn check_alone(query: &Query, log: &[u8], name: &str) -> u64 {
    let scan = || Scan::new(query, Clock::utc(1_787_313_600), 0, false);
    let (mut in_one, mut told_in_one) = (scan(), Told::default());
    in_one.block(log, log.len(), 0, &mut told_in_one);
    // a tally remembers what became of each text
    let (mut tallied, mut once) = (scan(), Tally::new(query));
    tallied.block(log, log.len(), 0, &mut once);
    let (mut counts, mut told, mut alone) = (Counts::default(), Told::default(), Tally::new(query));
    // and a scan knows the line before, when blocks end between the two
    let (mut in_blocks, mut each) = (scan(), Tally::new(query));
    let mut start = 0;
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        // a scan of its own for each line remembers nothing
        let mut scan_line = scan();
        scan_line.block(&log[start..], line.len(), start as u64, &mut told);
        counts.add(scan_line.counts);
        scan().block(&log[start..], line.len(), start as u64, &mut alone);
        in_blocks.block(&log[start..], line.len(), start as u64, &mut each);
        start += line.len();
    }
    assert_eq!((in_one.counts, told_in_one.0), (counts, told.0), "{name}: lines on their own");
    assert_eq!(tallied.counts, counts, "{name}: counts by text or by value");
    let events = once.events;
    let groups = |tally: Tally| (tally.events, tally.repeats, tally.range, tally.rows(usize::MAX));
    let alone = groups(alone);
    assert_eq!(groups(once), alone, "{name}: groups by text or by value");
    assert_eq!((in_blocks.counts, groups(each)), (counts, alone), "{name}: a block a line");
    events
}

/// Messages of the kinds that are read in shortcuts, and some that are not.
fn usual_message(random: &mut fastrand::Rng) -> String {
    let address = |random: &mut fastrand::Rng| match random.u8(..8) {
        0 => format!("2001:0db8:0000:0000:0000:0000:0000:{:04x}", random.u8(..9)),
        1 => format!("fd00:10:48::{:x}", random.u8(..9)),
        _ => format!("10.48.{}.{}", random.u8(..3), random.u8(..200)),
    };
    let (one, other) = (address(random), address(random));
    let (port, packets, own) =
        (*random.choice(&[22, 53, 443, 8080, 65535]).expect("a port"), random.u32(..2000), random.u16(..));
    let action = *random.choice(&["deny", "deny", "deny", "allow", "pass"]).expect("an action");
    let policy = *random.choice(&["hep-external", "knp.default.deny-all", "__NO_MATCH__", "Import"]).expect("a name");
    let tier = *random.choice(&["security", "__PROFILE__", "Tier"]).expect("a tier");
    let update = *random.choice(&["report", "expire"]).expect("a kind");
    let prefix =
        *random.choice(&["calico-packet: ", "calico-drop: ", "[UFW BLOCK] ", "calico-packet gnp:x"]).expect("one");
    let (iface, to) = (random.u8(..4), ["", "eth0", "cali1"][random.usize(..3)]);
    let mac = ["", "MAC= ", "MAC=02:42:ac "][random.usize(..3)];
    let uptime = 1000 + packets;
    let start =
        format!("kernel: [{uptime}.{own:06}] {prefix}IN=eth{iface} OUT={to} {mac}SRC={one} DST={other} LEN={packets}");
    let ip = ["TOS=0x00 PREC=0x00 TTL=63 ID=1 DF", "TOS=0x00 PREC=0x00 TTL=63 ID=1", "TC=0 HOPLIMIT=64 FLOWLBL=1"];
    let ip = ip[random.usize(..3)];
    match random.u8(..12) {
        0..=4 => format!(
            "calico-felix[1]: INFO <nil> <nil>:  action=\"{action}\" dstIP=\"{one}\" dstPort=\"{port}\" inBytes={packets} \
             inPackets=1 outBytes=0 outPackets=0 policy=\"{policy}\" proto=\"6\" rule=\"-1\" ruleDir=\"ingress\" \
             srcIP=\"{other}\" srcPort=\"{own}\" tier=\"{tier}\" trafficDir=\"inbound\" updateType={update}"
        ),
        5..=7 => format!("{start} {ip} PROTO=TCP SPT={own} DPT={port} WINDOW={packets} RES=0x00 SYN URGP=0 "),
        8 => format!("{start} {ip} PROTO=UDP SPT={own} DPT={port} LEN=47 MARK=0xa000000 "),
        9 => format!("{start} {ip} PROTO=ICMP TYPE={} CODE=0 ID=9 SEQ={packets} ", random.u8(..4)),
        10 => format!("last message repeated {} times{}", random.u8(1..9), ["", ": x"][random.usize(..2)]),
        _ => (*random
            .choice(&["sshd[7]: last message", "CRON[1:2]: x", "app: last message repeated 2 times"])
            .expect("one"))
        .to_owned(),
    }
}

/// Lines that follow each other within seconds say much the same; what is remembered of one must fit the next exactly.
#[test]
fn lines_that_are_nearly_alike_are_told_apart() {
    use hepguard::logs::query::Field;
    let by = |fields: &[Field], filter: Filter| Query { group_by: fields.to_vec(), filter, ..Query::new() };
    let some = Filter { dst_port: vec![PortRange { low: 20, high: 6000 }], ..Filter::default() };
    let kinds = [Field::SrcIp, Field::DstPort, Field::IcmpType, Field::IcmpCode, Field::Proto, Field::Direction];
    let queries = [
        Query::new(),
        everything(),
        Query { filter: some, ..Query::new() },
        by(&kinds, Filter::default()),
        by(&[Field::InIface, Field::OutIface, Field::LogPrefix], Filter::default()),
        by(&[Field::Host, Field::SrcPort, Field::Tier], Filter::default()),
    ];
    let mut events = 0;
    for seed in 0..12u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let messages: Vec<String> = (0..40).map(|_| usual_message(&mut random)).collect();
        let others: Vec<Vec<u8>> = messages.iter().map(|message| message.clone().into_bytes()).collect();
        let (mut log, mut second) = (Vec::new(), 0u32);
        for _ in 0..600 {
            second += random.u32(..30) / 20;
            let (minute, of_minute) = (second / 60 % 60, second % 60);
            let head = match seed % 4 {
                0 => format!("Aug  4 16:{minute:02}:{of_minute:02} bastion "),
                1 => format!("2026-08-04T16:{minute:02}:{of_minute:02}.{:06}+02:00 bastion ", random.u32(..1_000_000)),
                // the first second of these is a day after the log was written, the others are of the year before
                2 => format!("Aug 22 12:00:0{} bastion ", random.u8(..4)),
                _ => format!("Dec 31 23:{minute:02}:{of_minute:02} bastion "),
            };
            let mut line = head.into_bytes();
            // some flows are met again and again
            let fresh = random.u8(..4) == 0;
            let message =
                if fresh { usual_message(&mut random) } else { random.choice(&messages).expect("one").clone() };
            line.extend_from_slice(message.as_bytes());
            match random.u8(..20) {
                0..=2 => mutate(&mut random, &mut line, &others),
                // a line that goes on in the next one as if it did not
                3 => {
                    let at = random.usize(..line.len());
                    line[at] = b'\n';
                }
                _ => {}
            }
            log.extend_from_slice(&line);
            // a torn write, or what a program left out
            if random.u8(..60) > 0 {
                log.push(b'\n');
            }
        }
        // far from the end of the text, so that shortcuts are taken up to the last line
        log.extend_from_slice(&[b'.'; 500]);
        for (number, query) in queries.iter().enumerate() {
            events += check_alone(query, &log, &format!("seed {seed}, question {number}"));
        }
    }
    assert!(events > 10_000, "only {events} events");
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
        for query in &queries {
            check_alone(query, &log, &format!("seed {seed}"));
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
