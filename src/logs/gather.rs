//! What a scan collects for one answer: groups, and bars over time when asked for.

use super::event::Event;
use super::histogram::Histogram;
use super::memo::{Memo, Outcome};
use super::tally::{Again, Origin, Query, Sink, Tally};

/// Counts by key and by time.
pub struct Gather {
    /// By key.
    pub tally: Tally,
    /// By time, when asked for.
    pub histogram: Option<Histogram>,
}

impl Gather {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(query: &Query, histogram: bool) -> Self {
        Self { tally: Tally::new(query), histogram: histogram.then(Histogram::default) }
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        if let (Some(own), Some(theirs)) = (&mut self.histogram, other.histogram) {
            own.merge(theirs);
        }
    }
}

impl Sink for Gather {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        self.tally.event(event, origin);
        if let Some(histogram) = &mut self.histogram {
            histogram.add(event.time, event.count);
        }
    }

    fn memo(&mut self) -> Option<&mut Memo> {
        self.tally.memo()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.tally.outcome()
    }

    fn end(&mut self) {
        self.tally.end();
    }

    fn call(&self, outcomes: impl Iterator<Item = Outcome>) {
        self.tally.call(outcomes);
    }

    fn again(&mut self, group: u32, again: &Again<'_>) {
        self.tally.again(group, again);
        if let Some(histogram) = &mut self.histogram {
            histogram.add(again.time, again.count);
        }
    }
}
