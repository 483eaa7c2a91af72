//! Bytes into words. iptables quotes strings that hold anything unusual and escapes `"`, `\` and `'` inside the quotes, but
//! writes newlines raw: a line is only over when its quotes are, so the stream is never cut at newlines first.

use std::borrow::Cow;

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// Its bytes as they stand, quotes and escapes included.
    pub(crate) raw: &'a [u8],
    /// Its meaning.
    pub(crate) text: Cow<'a, [u8]>,
    /// Offset in the input.
    pub(crate) start: usize,
    /// Line and column, 1-based.
    pub(crate) place: (u32, u32),
}

/// Why a line ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    /// A quote that never closes, and where it opens.
    OpenQuote((u32, u32)),
    /// More words than any rule has.
    TooManyWords,
}

/// Words of one line beyond which nothing sensible can follow (the kernel's rules are far smaller).
pub(crate) const MAX_WORDS: usize = 4096;

/// Walks over the input.
pub(crate) struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `input`.
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, line: 1, line_start: 0 }
    }

    /// Line and column, 1-based.
    pub(crate) fn place(&self) -> (u32, u32) {
        (self.line, u32::try_from(self.at - self.line_start).unwrap_or(u32::MAX - 1) + 1)
    }

    /// The next byte.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn bump(&mut self) {
        if self.peek() == Some(b'\n') {
            self.line = self.line.saturating_add(1);
            self.line_start = self.at + 1;
        }
        self.at += 1;
    }

    /// Skips blank space up to the next thing; newlines too with `lines`.
    pub(crate) fn skip_blank(&mut self, lines: bool) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' if lines => self.bump(),
                _ => return,
            }
        }
    }

    /// Bytes from `start` to here.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        self.input.get(start..self.at).unwrap_or_default()
    }

    /// The rest of a line that knows no quotes (comments, declarations); the newline is consumed.
    pub(crate) fn raw_line(&mut self) -> &'a [u8] {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let text = rest.get(..length).unwrap_or_default();
        self.at += length;
        if self.peek().is_some() {
            self.bump();
        }
        text.trim_ascii_end()
    }

    /// The words up to the end of the line into `words` (cleared first); the newline is consumed.
    pub(crate) fn words(&mut self, words: &mut Vec<Token<'a>>) -> Result<(), LineError> {
        words.clear();
        loop {
            self.skip_blank(false);
            match self.peek() {
                None => return Ok(()),
                Some(b'\n') => {
                    self.bump();
                    return Ok(());
                }
                Some(_) if words.len() >= MAX_WORDS => {
                    self.raw_line();
                    return Err(LineError::TooManyWords);
                }
                Some(_) => words.push(self.word()?),
            }
        }
    }

    fn word(&mut self) -> Result<Token<'a>, LineError> {
        let (start, place) = (self.at, self.place());
        let mut plain = true;
        let mut text: Vec<u8> = Vec::new();
        let mut last = 0;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => break,
                // inside a word a quote is a byte like another: interface and chain names are listed unquoted
                b'"' if self.at == start || (last == b'=' && self.since(start).starts_with(b"--")) => {
                    if plain {
                        text.extend_from_slice(self.since(start));
                        plain = false;
                    }
                    self.quoted(&mut text)?;
                    last = b'"';
                }
                _ => {
                    if !plain {
                        text.push(byte);
                    }
                    last = byte;
                    self.at += 1;
                }
            }
        }
        let raw = self.since(start);
        let text = if plain { Cow::Borrowed(raw) } else { Cow::Owned(text) };
        Ok(Token { raw, text, start, place })
    }

    fn quoted(&mut self, text: &mut Vec<u8>) -> Result<(), LineError> {
        let open = self.place();
        self.bump();
        while let Some(byte) = self.peek() {
            self.bump();
            match byte {
                b'"' => return Ok(()),
                b'\\' => {
                    let Some(escaped) = self.peek() else { break };
                    text.push(escaped);
                    self.bump();
                }
                other => text.push(other),
            }
        }
        Err(LineError::OpenQuote(open))
    }

    /// Offset of the next byte.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(input: &[u8]) -> Vec<Vec<u8>> {
        let mut cursor = Cursor::new(input);
        let mut out = Vec::new();
        cursor.words(&mut out).expect("complete line");
        out.iter().map(|token| token.text.to_vec()).collect()
    }

    #[test]
    fn quotes_reach_across_newlines_and_keep_every_byte() {
        assert_eq!(words(b"-A \"a\nb\" c\nnext"), [b"-A".to_vec(), b"a\nb".to_vec(), b"c".to_vec()]);
        assert_eq!(words(br#""q \" \\ \' z" y"#), [br#"q " \ ' z"#.to_vec(), b"y".to_vec()]);
        assert_eq!(words(b"\"x\xfey\""), [b"x\xfey".to_vec()]);
        assert_eq!(words(b"\"\" --comment=\"a b\""), [b"".to_vec(), b"--comment=a b".to_vec()]);
        assert_eq!(words(b"-i eth\"0 -j X"), [b"-i".to_vec(), b"eth\"0".to_vec(), b"-j".to_vec(), b"X".to_vec()]);
    }

    #[test]
    fn places_count_lines_inside_quotes() {
        let mut cursor = Cursor::new(b"a \"x\ny\" b\nc");
        let mut out = Vec::new();
        cursor.words(&mut out).expect("first line");
        assert_eq!(out.last().map(|token| token.place), Some((2, 4)));
        cursor.words(&mut out).expect("second line");
        assert_eq!(out.first().map(|token| token.place), Some((3, 1)));
    }

    #[test]
    fn an_open_quote_and_endless_words_are_told() {
        let mut out = Vec::new();
        assert_eq!(Cursor::new(b"a \"b\nc").words(&mut out), Err(LineError::OpenQuote((1, 3))));
        assert_eq!(Cursor::new(b"\"a\\").words(&mut out), Err(LineError::OpenQuote((1, 1))));
        let many = b"x ".repeat(MAX_WORDS + 1);
        assert_eq!(Cursor::new(&many).words(&mut out), Err(LineError::TooManyWords));
    }
}
