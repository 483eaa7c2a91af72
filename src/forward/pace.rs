//! How fast an output sends at most: after an outage a queue of hours does not fall on the collector at once.

use std::time::{Duration, Instant};

/// So much may be sent at once after a rest: what is due in this time.
const BURST: Duration = Duration::from_millis(100);

/// Messages a second, counted in messages that are due.
#[derive(Clone)]
pub(super) struct Pace {
    rate: f64,
    due: f64,
    since: Instant,
}

impl Pace {
    /// So many messages a second, at least one.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { rate: f64::from(rate.max(1)), due: 0.0, since: now }
    }

    /// How many of `wanted` may be sent now; those are taken as sent.
    pub(super) fn take(&mut self, wanted: usize, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        let most = (self.rate * BURST.as_secs_f64()).max(1.0);
        self.due = (self.due + passed * self.rate).min(most);
        let mut taken = 0;
        while taken < wanted && self.due >= 1.0 {
            self.due -= 1.0;
            taken += 1;
        }
        taken
    }

    /// Gives back what was taken and not sent.
    pub(super) fn give_back(&mut self, count: usize) {
        self.due += u32::try_from(count).map_or(0.0, f64::from);
    }

    /// How long until something is due.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs_f64(((1.0 - self.due) / self.rate).clamp(0.0, 1.0)).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_and_a_burst_is_taken_in_any_time() {
        let begin = Instant::now();
        for rate in [1, 7, 1000, 1_000_000] {
            let mut pace = Pace::new(rate, begin);
            let mut sent = 0;
            for step in 1..=5000_u64 {
                let now = begin + Duration::from_millis(step * 3);
                let taken = pace.take(usize::MAX, now);
                sent += taken as u64;
                let most = u64::from(rate) * step * 3 / 1000 + u64::from(rate).div_ceil(10).max(1);
                assert!(sent <= most, "{rate} a second: {sent} after {} ms", step * 3);
                let soon = now + pace.wait() + Duration::from_micros(1);
                assert_eq!(pace.clone().take(1, soon), 1, "it is due when it is said to be");
            }
            let least = u64::from(rate) * 14;
            assert!(sent >= least, "{rate} a second: {sent} in 15 s");
        }
    }

    #[test]
    fn what_was_not_sent_is_still_due_and_a_rest_saves_no_more_than_a_burst() {
        let begin = Instant::now();
        let mut pace = Pace::new(1000, begin);
        let later = begin + Duration::from_secs(3600);
        assert_eq!(pace.take(usize::MAX, later), 100);
        pace.give_back(40);
        assert_eq!((pace.take(30, later), pace.take(usize::MAX, later)), (30, 10));
        assert_eq!(pace.take(1, begin), 0, "a clock that goes back gives nothing");
    }
}
