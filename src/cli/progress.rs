//! How far long reading has come, on a terminal only: one line of standard error that is erased at the end.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shorter work shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(200);

/// Runs `work`, which counts the bytes it has read, of `total` (0 when nobody knows).
pub(super) fn shown<T>(quiet: bool, total: u64, work: impl FnOnce(&AtomicU64) -> T) -> T {
    let done = AtomicU64::new(0);
    if quiet || !io::stderr().is_terminal() {
        return work(&done);
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&done, &ended, total));
        // also when the work panics, or the watcher would be waited for in vain
        let end = End(&ended, watcher.thread().clone());
        let result = work(&done);
        drop(end);
        result
    })
}

struct End<'e>(&'e AtomicBool, std::thread::Thread);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}

fn watch(done: &AtomicU64, ended: &AtomicBool, total: u64) {
    let start = Instant::now();
    let mut told = false;
    while !ended.load(Ordering::Acquire) {
        std::thread::park_timeout(STEP);
        let passed = start.elapsed();
        if passed >= PATIENCE && !ended.load(Ordering::Acquire) {
            let line = line(done.load(Ordering::Relaxed), total, passed);
            told |= write!(io::stderr(), "\r\x1b[K{line}").is_ok();
        }
    }
    if told {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

/// `read 43 % of 1.2 GB, 3 s left`.
fn line(done: u64, total: u64, passed: Duration) -> String {
    if total == 0 || done > total {
        return format!("read {}", size(done));
    }
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
    let left = u128::from(total - done) * passed.as_millis() / u128::from(done.max(1)) / 1000;
    format!("read {percent} % of {}, {} s left", size(total), left + 1)
}

fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut tenths = bytes / 100;
    for unit in units {
        if tenths < 10_000 || unit == "TB" {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        tenths /= 1000;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_how_far_and_how_long() {
        let told = line(500_000_000, 2_000_000_000, Duration::from_secs(2));
        assert_eq!(told, "read 25 % of 2.0 GB, 7 s left");
        assert_eq!(line(1_234_000, 0, Duration::from_secs(2)), "read 1.2 MB");
        assert_eq!(line(9, 3, Duration::ZERO), "read 0.0 kB");
        assert_eq!(line(0, u64::MAX, Duration::from_secs(1)).split(' ').next(), Some("read"));
    }
}
