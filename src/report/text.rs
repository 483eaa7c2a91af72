//! Shared craft of text output: width, colour, wrapping, escaping. Everything that reaches a terminal passes here.

use std::fmt::Write as _;

use crate::audit::finding::Severity;
use crate::diagnostic::printable;

/// How text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Use ANSI colours (the 16 standard ones).
    pub color: bool,
    /// Columns to fill at most.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, width: 80 }
    }
}

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good news.
    Good,
    /// Worth a look.
    Warn,
    /// Bad news.
    Bad,
    /// Headings.
    Strong,
    /// Less important.
    Dim,
    /// Ordinary.
    Plain,
}

impl Tone {
    /// Tone of a severity.
    #[must_use]
    pub fn of(severity: Severity) -> Self {
        match severity {
            Severity::Critical | Severity::High => Self::Bad,
            Severity::Medium => Self::Warn,
            Severity::Low | Severity::Info => Self::Dim,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Strong => "1",
            Self::Dim => "2",
            Self::Plain => "0",
        }
    }
}

impl Style {
    /// `text`, escaped and coloured.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let text = printable(text);
        if self.color && tone != Tone::Plain { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text }
    }

    /// `text`, escaped, in lines of at most the width, the first behind `first`, the others behind as many blanks. Words
    /// longer than a line are broken, so that nothing is lost and nothing runs over.
    #[must_use]
    pub fn wrap(self, first: &str, text: &str) -> String {
        let indent = first.chars().count();
        let room = self.width.saturating_sub(indent).max(20);
        let mut out = String::from(first);
        let mut column = 0;
        for word in printable(text).split(' ').filter(|word| !word.is_empty()) {
            let mut rest: &str = word;
            loop {
                let length = rest.chars().count();
                let blank = usize::from(column > 0);
                if column + blank + length <= room {
                    out.push_str(if blank == 1 { " " } else { "" });
                    out.push_str(rest);
                    column += blank + length;
                    break;
                }
                if column > 0 {
                    let _ = write!(out, "\n{:indent$}", "");
                    column = 0;
                    continue;
                }
                let cut = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
                let (head, tail) = rest.split_at(cut);
                out.push_str(head);
                let _ = write!(out, "\n{:indent$}", "");
                rest = tail;
            }
        }
        out.push('\n');
        out
    }

    /// A verdict's word in its tone, and behind it what there is to say, wrapped below itself.
    #[must_use]
    pub fn headline(self, tone: Tone, word: &str, text: &str) -> String {
        let mut out = self.wrap(&format!("{word}  "), text);
        // the colour comes after wrapping, which counts characters
        out.replace_range(..word.len(), &self.paint(tone, word));
        out
    }

    /// `text`, escaped and cut to `columns` characters; a cut shows as `…`.
    #[must_use]
    pub fn clip(self, text: &str, columns: usize) -> String {
        let text = printable(text);
        if text.chars().count() <= columns {
            return text;
        }
        let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
        short.push('…');
        short
    }
}

/// `1 finding`, `2 findings`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ if noun.ends_with('y') => format!("{number} {}ies", noun.trim_end_matches('y')),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_word_and_the_margin() {
        let style = Style { color: false, width: 30 };
        let text = style
            .wrap("  fix: ", "put tcp:0.0.0.0/0:22 back into the list and a_word_that_is_much_too_long_for_a_line");
        assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
        let joined: String = text.split_whitespace().collect();
        assert!(joined.contains("a_word_that_is_much_too_long_for_a_line"), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("       ")), "{text}");
    }

    #[test]
    fn a_headline_keeps_the_margin_with_its_word() {
        let style = Style { color: true, width: 40 };
        let text = style.headline(Tone::Bad, "CRITICAL", "bastion: 1 critical, 4 medium, 2 low and more");
        assert_eq!(text, "\x1b[1;31mCRITICAL\x1b[0m  bastion: 1 critical, 4 medium,\n          2 low and more\n");
    }

    #[test]
    fn nothing_raw_reaches_the_terminal() {
        let style = Style { color: true, width: 80 };
        assert_eq!(style.paint(Tone::Bad, "a\x1b]0;x\x07"), "\x1b[1;31ma\\u{1b}]0;x\\u{7}\x1b[0m");
        assert_eq!(Style::default().clip("abcdef", 4), "abc…");
        assert_eq!(count(1, "entry"), "1 entry");
        assert_eq!(count(3, "entry"), "3 entries");
    }
}
