//! Lines and words of ipset's own format: blanks separate words, only comments are quoted.

use super::seconds;
use crate::ruleset::ElementExtra;
use crate::ruleset::readers::iptables_save::values::Expected;

/// Walks over lines; a newline inside a quoted comment does not end one.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    number: u32,
    open_quote: Option<u32>,
}

impl<'a> Lines<'a> {
    /// At the start of `text`.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { rest: text, number: 1, open_quote: None }
    }

    /// The next line and its number.
    pub(super) fn next(&mut self) -> Option<(&'a [u8], u32)> {
        if self.rest.is_empty() {
            return None;
        }
        let number = self.number;
        let mut end = memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len());
        let mut seen = 0;
        loop {
            let part = self.rest.get(seen..end).unwrap_or_default();
            let even = memchr::memchr_iter(b'"', part).count().is_multiple_of(2);
            if even && seen == 0 || !even && seen > 0 {
                break;
            }
            seen = end;
            let after = self.rest.get(end..).unwrap_or_default();
            let Some(quote) = memchr::memchr(b'"', after) else {
                self.open_quote = Some(number);
                self.rest = &[];
                return None;
            };
            let behind = after.get(quote..).unwrap_or_default();
            end += quote + memchr::memchr(b'\n', behind).unwrap_or(behind.len());
        }
        let line = self.rest.get(..end).unwrap_or_default();
        let newlines = if seen == 0 { 0 } else { memchr::memchr_iter(b'\n', line).count() };
        self.number = number.saturating_add(u32::try_from(newlines + 1).unwrap_or(u32::MAX));
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some((line.trim_ascii(), number))
    }

    /// Line of a quote that never closes; known at the end.
    pub(super) fn open_quote(&self) -> Option<u32> {
        self.open_quote
    }
}

/// The first word and what is behind it.
pub(super) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    match memchr::memchr2(b' ', b'\t', text) {
        Some(end) => (text.get(..end).unwrap_or_default(), text.get(end..).unwrap_or_default()),
        None => (text, &[]),
    }
}

/// What stands behind an element.
#[derive(Default)]
pub(super) struct ElementOptions {
    /// What the model keeps of it.
    pub(super) extra: ElementExtra,
    /// The interface is a prefix of names.
    pub(super) wildcard: bool,
}

/// Reads everything behind an element.
pub(super) fn element_options(mut rest: &[u8]) -> Result<ElementOptions, Expected> {
    let mut options = ElementOptions::default();
    loop {
        let (name, after) = word(rest);
        let (value, behind) = word(after);
        rest = match name {
            b"" => return Ok(options),
            b"nomatch" => {
                options.extra.nomatch = true;
                after
            }
            b"wildcard" => {
                options.wildcard = true;
                after
            }
            b"timeout" => {
                options.extra.expires = seconds(value).ok_or("a number of seconds after timeout")?;
                behind
            }
            b"packets" | b"bytes" => behind,
            b"comment" => {
                let (comment, behind) = quoted(after)?;
                options.extra.comment = Some(String::from_utf8_lossy(comment).into());
                behind
            }
            b"skbmark" | b"skbprio" | b"skbqueue" => {
                let mut other = options.extra.other.take().map_or_else(String::new, |known| format!("{known} "));
                other.push_str(&String::from_utf8_lossy(name));
                other.push(' ');
                other.push_str(&String::from_utf8_lossy(value));
                options.extra.other = Some(other.into());
                behind
            }
            b"-exist" | b"-!" => after,
            _ => return Err("an option of elements such as timeout, comment or nomatch"),
        };
    }
}

fn quoted(text: &[u8]) -> Result<(&[u8], &[u8]), Expected> {
    const EXPECTED: Expected = "a comment in quotes";
    let text = text.trim_ascii_start();
    let Some(inside) = text.strip_prefix(b"\"") else {
        let (comment, behind) = word(text);
        return if comment.is_empty() { Err(EXPECTED) } else { Ok((comment, behind)) };
    };
    let end = memchr::memchr(b'"', inside).ok_or(EXPECTED)?;
    Ok((inside.get(..end).unwrap_or_default(), inside.get(end + 1..).unwrap_or_default()))
}
