//! Values of the configuration that are more than TOML has: spans of time, places of files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time as people write it: `50ms`, `5s`, `1m`, `2h`, `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub Duration);

/// Units in milliseconds, the largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Ten years: more is a slip of the pen.
const LONGEST: u64 = 3_660 * 86_400_000;

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// Reads `5s` and the like.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected a span of time such as \"50ms\", \"5s\", \"1m\", \"2h\" or \"7d\", found {text:?}");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let whole = number.checked_mul(unit).filter(|whole| *whole <= LONGEST);
        whole.map(Self::milliseconds).ok_or_else(|| format!("expected at most 3660d, found {text:?}"))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |unit: &&(&str, u64)| whole >= unit.1 && whole % unit.1 == 0;
        let (name, unit) = UNITS.iter().find(fits).unwrap_or(&("ms", 1));
        write!(f, "{}{name}", whole / unit)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// Longest path the kernel takes.
const MAX_PATH: usize = 4095;

fn absolute(text: &str) -> Result<PathBuf, String> {
    let sound = text.starts_with('/') && text.len() <= MAX_PATH && !text.contains(char::is_control);
    if sound {
        Ok(PathBuf::from(text))
    } else {
        Err(format!("expected an absolute path such as \"/var/log/syslog\", found {text:?}"))
    }
}

/// An absolute path.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    absolute(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Some absolute paths.
pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > MAX_FILES {
        return Err(D::Error::custom(format!("expected at most {MAX_FILES} files, found {}", texts.len())));
    }
    texts.iter().map(|text| absolute(text)).collect::<Result<_, _>>().map_err(D::Error::custom)
}

/// Files that are followed at most.
const MAX_FILES: usize = 32;

/// An absolute path, or `off`.
pub(super) fn path_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    absolute(&text).map(Some).map_err(|why| D::Error::custom(format!("{why}; or \"off\"")))
}

/// The reverse of [`path_or_off`].
pub(super) fn show_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.as_deref().unwrap_or(Path::new("off")).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them_and_print_back() {
        for text in ["50ms", "5s", "90s", "1m", "2h", "7d", "0ms"] {
            assert_eq!(Span::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Span::parse("120s").expect("sound").to_string(), "2m");
        for text in ["", "5", "s", "-5s", "5 s", "5w", "1.5h", "99999999999999999999s", "4000d", "５s"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }
}
