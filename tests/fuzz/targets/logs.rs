//! Log lines, and what people ask about them.

use hepguard::logs::event::Event;
use hepguard::logs::line::{Scratch, What, read};
use hepguard::logs::query::{Field, Filter};
use hepguard::logs::scan::{LINE_LIMIT, Scan};
use hepguard::logs::tally::{Origin, Query, Sink, Tally};
use hepguard::logs::time::{Clock, Stamper};
use hepguard::logs::{felix, header, kernel, moment, tally};
use hepguard::report::denies_event::event_line;

const NOW: i64 = 1_787_313_600;

fn everything() -> Query {
    Query { filter: Filter { action: Vec::new(), ..Filter::default() }, ..Query::new() }
}

/// One line through every reader of lines.
pub(super) fn log_line(input: &[u8]) {
    let mut stamper = Stamper::new(Clock::utc(NOW));
    if let What::FlowLog(record) = read(input, &mut Scratch::default(), &mut stamper).what {
        let _ = record.event();
    }
    let _ = header::open(input, &mut stamper);
    let _ = header::open_unusual(input, &mut stamper);
    let _ = felix::caller(input);
    if let Some(flow) = felix::read(input) {
        let _ = Event::of_flow(&flow);
    }
    if let Some(packet) = kernel::read(input) {
        let _ = Event::of_packet(&packet);
        let _ = packet.quoted_packet();
    }
    let _ = felix::address(input);
}

/// Shows every event as it would be printed.
#[derive(Default)]
struct Shown(Vec<String>);

impl Sink for Shown {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        assert!(origin.line.len() <= LINE_LIMIT);
        let line = event_line(event, origin.line);
        assert!(!line.bytes().any(|byte| byte < 0x20), "{line:?}");
        self.0.push(line);
    }
}

/// A log read as a whole and line by line tells the same events and counts.
pub(super) fn log_blocks(input: &[u8]) {
    let (query, clock) = (everything(), Clock::utc(NOW));
    let (mut scan, mut whole) = (Scan::new(&query, clock, 0, false), Shown::default());
    scan.block(input, input.len(), 0, &mut whole);
    let (mut again, mut parts) = (Scan::new(&query, clock, 0, false), Shown::default());
    let mut start = 0;
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        again.block(&input[start..], line.len(), start as u64, &mut parts);
        start += line.len();
    }
    assert_eq!((scan.counts, &whole.0), (again.counts, &parts.0));
    // a tally that goes by the text of lines counts as one that is shown each line by a scan that remembers nothing
    let (query, mut tally, mut alone) = (Query::new(), Tally::new(&Query::new()), Tally::new(&Query::new()));
    Scan::new(&query, clock, 0, false).block(input, input.len(), 0, &mut tally);
    let joins = |text: &[u8]| text == b"\"log\":" || text == b" stdou" || text == b" stder";
    let plain = !input.windows(6).any(joins) && !input.contains(&0x1e);
    if plain {
        let mut start = 0;
        for line in input.split_inclusive(|byte| *byte == b'\n') {
            Scan::new(&query, clock, 0, false).block(&input[start..], line.len(), start as u64, &mut alone);
            start += line.len();
        }
        assert_eq!((tally.events, tally.repeats, tally.len()), (alone.events, alone.repeats, alone.len()));
        assert_eq!(tally.range, alone.range);
    }
    for (key, _) in tally.rows(usize::MAX) {
        for value in &key {
            let _ = tally::text_of(value);
        }
    }
}

/// Words of the command line that say which events are wanted.
pub(super) fn log_filters(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = moment::parse(&text, NOW, Clock::utc(NOW));
    let _ = Field::parse(&text);
    let _ = (tally::source(&text), tally::action(&text), tally::direction(&text));
    let _ = text.parse::<hepguard::packet::Prefix>();
    let _ = hepguard::logs::query::Pattern::new(&text).matches(input);
}
