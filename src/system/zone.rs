//! The machine's time zone.

use chrono::{DateTime, Local, TimeDelta, TimeZone as _};

/// Wall-clock seconds of this machine's zone as UTC. In the hour that occurs twice the first is meant; a time that does
/// not occur is read as if the clock had not been put forward.
#[must_use]
pub fn local_to_utc(local: i64) -> i64 {
    let Some(naive) = DateTime::from_timestamp(local, 0).map(|time| time.naive_utc()) else { return local };
    let earliest = Local.from_local_datetime(&naive).earliest();
    let shifted = || {
        let before = Local.from_local_datetime(&naive.checked_sub_signed(TimeDelta::hours(1))?).earliest()?;
        Some(before.timestamp() + 3600)
    };
    earliest.map(|time| time.timestamp()).or_else(shifted).unwrap_or(local)
}
