//! Events over time, in bars whose width grows with the time there is to show, so that memory stays bounded.

use std::collections::BTreeMap;

use super::time::Micros;

/// Widths of a bar in seconds; each divides the next, so that bars can be joined.
const WIDTHS: [i64; 9] = [1, 5, 10, 60, 300, 1_800, 3_600, 21_600, DAY];

const DAY: i64 = 86_400;

/// Bars held at most; beyond that they are joined to wider ones.
const MAX_BARS: usize = 4096;

/// Bars to show when no width is asked for.
const SHOWN: i64 = 40;

/// Counts by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Place of `width` in [`WIDTHS`].
    level: usize,
    bars: BTreeMap<i64, u64>,
    /// The bar counted last: neighbouring lines mostly share it.
    last: (i64, u64),
    /// Events without a time.
    pub undated: u64,
    /// Events in bars that found no room even with the widest bars (stamps spread over centuries).
    pub left_out: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { level: 0, bars: BTreeMap::new(), last: (i64::MIN, 0), undated: 0, left_out: 0 }
    }
}

/// A histogram as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bars {
    /// Width of a bar in seconds.
    pub width: i64,
    /// Start of a bar and its events; bars without events are left out.
    pub bars: Vec<(Micros, u64)>,
    /// Events without a time.
    pub undated: u64,
    /// Events in no bar.
    pub left_out: u64,
}

impl Histogram {
    fn width(&self) -> i64 {
        WIDTHS.get(self.level).copied().unwrap_or(DAY)
    }

    /// Counts events of one time.
    pub fn add(&mut self, time: Option<Micros>, count: u64) {
        let Some(time) = time else {
            self.undated = self.undated.saturating_add(count);
            return;
        };
        let bar = time.div_euclid(1_000_000).div_euclid(self.width());
        if bar != self.last.0 {
            self.settle();
            self.last.0 = bar;
        }
        self.last.1 = self.last.1.saturating_add(count);
    }

    /// Stores the bar counted last.
    fn settle(&mut self) {
        let (bar, count) = std::mem::replace(&mut self.last, (i64::MIN, 0));
        if count > 0 {
            self.store(bar, count);
        }
    }

    fn store(&mut self, bar: i64, count: u64) {
        if let Some(known) = self.bars.get_mut(&bar) {
            *known = known.saturating_add(count);
            return;
        }
        let mut bar = bar;
        while self.bars.len() >= MAX_BARS {
            let Some((from, to)) = self.widen() else {
                self.left_out = self.left_out.saturating_add(count);
                return;
            };
            bar = bar.saturating_mul(from).div_euclid(to);
        }
        *self.bars.entry(bar).or_insert(0) += count;
    }

    /// Joins bars to the next width; gives the old and the new one.
    fn widen(&mut self) -> Option<(i64, i64)> {
        let from = self.width();
        let to = *WIDTHS.get(self.level + 1)?;
        self.level += 1;
        self.bars = joined(&self.bars, from, to);
        Some((from, to))
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, mut other: Self) {
        self.settle();
        other.settle();
        while self.level < other.level && self.widen().is_some() {}
        while other.level < self.level && other.widen().is_some() {}
        for (bar, count) in std::mem::take(&mut other.bars) {
            // a bar that was joined while storing others lies elsewhere now
            let at = bar.saturating_mul(other.width()).div_euclid(self.width());
            self.store(at, count);
        }
        self.undated = self.undated.saturating_add(other.undated);
        self.left_out = self.left_out.saturating_add(other.left_out);
    }

    /// The bars, of `width` seconds or a multiple where the time is too long for that; without it, of the smallest width
    /// that makes about forty.
    #[must_use]
    pub fn bars(mut self, width: Option<i64>) -> Bars {
        self.settle();
        let own = self.width();
        let span = |width: i64| {
            let ends = self.bars.keys().next().zip(self.bars.keys().next_back());
            ends.map_or(0, |(first, last)| (last * own).div_euclid(width) - (first * own).div_euclid(width))
        };
        let wanted = match width {
            // a width that does not hold the bars whole cannot be made from them
            Some(width) if width >= own && width % own == 0 => width,
            Some(width) => WIDTHS.into_iter().find(|one| *one >= own && *one >= width).unwrap_or(own),
            None => WIDTHS.into_iter().find(|one| *one >= own && span(*one) < SHOWN).unwrap_or(DAY),
        };
        let bars = joined(&self.bars, own, wanted);
        let start = |bar: i64| bar.saturating_mul(wanted).saturating_mul(1_000_000);
        Bars {
            width: wanted,
            bars: bars.into_iter().map(|(bar, count)| (start(bar), count)).collect(),
            undated: self.undated,
            left_out: self.left_out,
        }
    }
}

fn joined(bars: &BTreeMap<i64, u64>, from: i64, to: i64) -> BTreeMap<i64, u64> {
    let mut wide = BTreeMap::new();
    for (bar, count) in bars {
        *wide.entry(bar.saturating_mul(from).div_euclid(to)).or_insert(0) += count;
    }
    wide
}

/// A width as people write it: `90s`, `5m`, `1h`, `1d`; `auto` is `None`.
///
/// # Errors
/// Says which forms exist.
pub fn width(text: &str) -> Result<Option<i64>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let seconds = super::moment::duration(text).filter(|seconds| (1..=366 * 86_400).contains(seconds));
    seconds.map(Some).ok_or_else(|| format!("expected a width such as 5m, 1h or 1d, or auto, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Micros> {
        Some(second * 1_000_000)
    }

    #[test]
    fn bars_are_as_wide_as_the_time_asks_for() {
        let mut few = Histogram::default();
        for second in 0..30 {
            few.add(at(1_700_000_000 + second), 2);
        }
        few.add(None, 3);
        let bars = few.clone().bars(None);
        assert_eq!((bars.width, bars.bars.len(), bars.undated), (1, 30, 3));
        let bars = few.bars(Some(60));
        assert_eq!(bars.bars.iter().map(|(_, count)| count).sum::<u64>(), 60);
        assert!(bars.bars.iter().all(|(start, _)| start % 60_000_000 == 0));
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let mut long = Histogram::default();
        for hour in 0..20_000 {
            long.add(at(hour * 3_600), 1);
            assert!(long.bars.len() <= MAX_BARS);
        }
        assert_eq!(long.clone().bars(None).bars.iter().map(|(_, count)| count).sum::<u64>(), 20_000);
        // centuries of days do not fit, and that is said
        for day in 0..6_000 {
            long.add(at(-day * 86_400 - 1), 1);
        }
        let bars = long.bars(None);
        assert_eq!(bars.bars.iter().map(|(_, count)| count).sum::<u64>() + bars.left_out, 26_000);
        assert!(bars.left_out > 0);
    }

    #[test]
    fn two_threads_count_as_one() {
        let (mut all, mut one, mut two) = (Histogram::default(), Histogram::default(), Histogram::default());
        for step in 0..9_000_i64 {
            let time = at(step * step % 7_919 * 61);
            all.add(time, 1);
            if step % 3 == 0 { one.add(time, 1) } else { two.add(time, 1) }
        }
        one.merge(two);
        assert_eq!(one.bars(Some(3_600)), all.bars(Some(3_600)));
    }

    #[test]
    fn a_width_is_read_or_refused() {
        assert_eq!(width("auto"), Ok(None));
        assert_eq!(width("5m"), Ok(Some(300)));
        for bad in ["", "0s", "soon", "-1h", "400d"] {
            assert!(width(bad).is_err_and(|error| error.contains("1h")), "{bad}");
        }
    }
}
