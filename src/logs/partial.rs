//! Container log lines that their runtime cut at 16 KiB: CRI's `P` parts up to the one marked `F`, and Docker's objects up
//! to the one whose text ends a line. Parts of different streams may alternate.

use serde::Deserialize;

use super::scan::LINE_LIMIT;

/// Who wrote a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Cri,
    Docker,
}

/// A line of a container's log.
struct Part<'a> {
    form: Form,
    error_stream: bool,
    /// Its line goes on in the next part of the stream.
    more: bool,
    stamp: &'a [u8],
    text: std::borrow::Cow<'a, [u8]>,
}

/// The start of a line whose end has not come yet.
struct Open {
    form: Form,
    error_stream: bool,
    stamp: Vec<u8>,
    text: Vec<u8>,
    offset: u64,
    length: usize,
    cut: bool,
}

/// A line put together.
pub(super) struct Whole {
    /// As one part would have held it.
    pub(super) line: Vec<u8>,
    /// Offset of its first part.
    pub(super) offset: u64,
    /// Length of its first part.
    pub(super) length: usize,
    /// It was too long, and its end is missing.
    pub(super) cut: bool,
}

/// What a line turned out to be.
pub(super) enum Joined {
    /// Nothing that is put together.
    Alone,
    /// A part; the rest is to come.
    Held,
    /// The last part.
    Whole(Whole),
}

/// Puts parts together.
#[derive(Default)]
pub(super) struct Joiner {
    open: Vec<Open>,
}

impl Joiner {
    /// Whether parts wait for their rest, so that every line must be looked at.
    pub(super) fn waits(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes a line.
    pub(super) fn take(&mut self, line: &[u8], offset: u64) -> Joined {
        let Some(part) = part(line, self.waits()) else { return Joined::Alone };
        let same = |open: &Open| open.form == part.form && open.error_stream == part.error_stream;
        let place = self.open.iter().position(same);
        let mut open = match place {
            Some(place) => self.open.swap_remove(place),
            None if !part.more => return Joined::Alone,
            None => Open {
                form: part.form,
                error_stream: part.error_stream,
                stamp: part.stamp.to_vec(),
                text: Vec::new(),
                offset,
                length: line.len(),
                cut: false,
            },
        };
        let room = LINE_LIMIT.saturating_sub(open.text.len());
        open.cut |= part.text.len() > room;
        open.text.extend_from_slice(part.text.get(..room).unwrap_or(&part.text));
        if part.more {
            self.open.push(open);
            return Joined::Held;
        }
        Joined::Whole(open.whole())
    }

    /// The lines whose end did not come.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = Whole> {
        self.open.drain(..).map(Open::whole)
    }
}

impl Open {
    fn whole(mut self) -> Whole {
        let stream = if self.error_stream { "stderr" } else { "stdout" };
        let line = match self.form {
            Form::Cri => {
                let head = LINE_LIMIT.saturating_sub(self.stamp.len() + " stdout F ".len());
                self.cut |= self.text.len() > head;
                self.text.truncate(head);
                [&self.stamp, b" ".as_slice(), stream.as_bytes(), b" F ", &self.text].concat()
            }
            Form::Docker => loop {
                let text = String::from_utf8_lossy(&self.text);
                let time = String::from_utf8_lossy(&self.stamp);
                let line = serde_json::json!({ "log": text, "stream": stream, "time": time }).to_string();
                // escapes make it longer
                if line.len() <= LINE_LIMIT || self.text.is_empty() {
                    break line.into_bytes();
                }
                self.cut = true;
                self.text.truncate(self.text.len() / 2);
            },
        };
        Whole { line, offset: self.offset, length: self.length, cut: self.cut }
    }
}

/// Whether a line is CRI's, whole or not.
pub(super) fn is_cri(line: &[u8]) -> bool {
    line.first().is_some_and(u8::is_ascii_digit) && cri(line).is_some()
}

/// Reads a part; of Docker's lines a whole one only when `whole` ones are asked for, since most are.
fn part(line: &[u8], whole: bool) -> Option<Part<'_>> {
    match line.first()? {
        b'{' => docker(line, whole),
        byte if byte.is_ascii_digit() => cri(line),
        _ => None,
    }
}

/// `2026-08-21T07:11:02.010551207+00:00 stdout P text`.
fn cri(line: &[u8]) -> Option<Part<'_>> {
    let blank = line.iter().take(40).position(|byte| *byte == b' ')?;
    let (stamp, rest) = line.split_at_checked(blank)?;
    if stamp.len() < 20 || stamp.get(10) != Some(&b'T') {
        return None;
    }
    let (error_stream, rest) = match rest.strip_prefix(b" stdout ") {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix(b" stderr ")?),
    };
    let (tags, text) = rest.split_at_checked(rest.iter().take(64).position(|byte| *byte == b' ')?)?;
    let more = match tags.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let text = text.get(1..)?;
    Some(Part { form: Form::Cri, error_stream, more, stamp, text: text.strip_suffix(b"\r").unwrap_or(text).into() })
}

#[derive(Deserialize)]
struct Object<'a> {
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default, borrow)]
    time: &'a str,
}

/// `{"log":"text","stream":"stdout","time":"…"}`; the text of a line's last part ends with its line feed.
fn docker(line: &[u8], whole: bool) -> Option<Part<'_>> {
    let rest = line.strip_prefix(b"{\"log\":\"")?;
    // Docker writes the keys in this order; a line with attributes between them is read to be sure
    let end = memchr::memmem::rfind(rest, b"\",\"stream\":\"");
    if !whole && end.is_some_and(|end| ends_line(rest.get(..end).unwrap_or_default())) {
        return None;
    }
    let Object { log, stream, time } = serde_json::from_slice(line).ok()?;
    let more = !log.ends_with('\n');
    let error_stream = stream == "stderr";
    Some(Part { form: Form::Docker, error_stream, more, stamp: time.as_bytes(), text: log.into_bytes().into() })
}

/// Whether a text, escaped as JSON does, ends with a line feed.
fn ends_line(escaped: &[u8]) -> bool {
    let Some(before) = escaped.strip_suffix(b"n") else { return false };
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(lines: &[&str]) -> Vec<(String, u64)> {
        let mut joiner = Joiner::default();
        let mut whole = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            match joiner.take(line.as_bytes(), number as u64) {
                Joined::Alone => whole.push(((*line).to_owned(), number as u64)),
                Joined::Held => {}
                Joined::Whole(one) => whole.push((String::from_utf8(one.line).expect("text"), one.offset)),
            }
        }
        whole
    }

    #[test]
    fn parts_of_each_stream_become_one_line_with_the_first_ones_time() {
        let at = "2026-08-21T07:11:02.010551207+00:00";
        let later = "2026-08-21T07:11:03.010551207Z";
        let lines = [
            format!("{at} stdout P one "),
            format!("{at} stderr F other"),
            format!("{later} stdout P two "),
            format!("{later} stderr P half"),
            format!("{later} stdout F three"),
            format!("{later} stdout F alone"),
            format!("{later} stderr F  done"),
        ];
        let joined = join(&lines.each_ref().map(String::as_str));
        let expected = [
            (format!("{at} stderr F other"), 1),
            (format!("{at} stdout F one two three"), 0),
            (format!("{later} stdout F alone"), 5),
            (format!("{later} stderr F half done"), 3),
        ];
        assert_eq!(joined, expected);
        let docker = [
            r#"{"log":"one \"a\\","stream":"stdout","time":"2026-08-21T07:11:02.01Z"}"#,
            r#"{"log":"n\n","stream":"stderr","time":"2026-08-21T07:11:02.02Z"}"#,
            r#"{"log":"two\\n","stream":"stdout","time":"2026-08-21T07:11:02.03Z"}"#,
            r#"{"log":"\n","stream":"stdout","time":"2026-08-21T07:11:02.04Z"}"#,
        ];
        let joined = join(&docker);
        assert_eq!(joined.len(), 2);
        assert_eq!(joined[0].0, docker[1]);
        let whole: serde_json::Value = serde_json::from_str(&joined[1].0).expect("an object");
        assert_eq!(whole["log"], "one \"a\\two\\n\n");
        assert_eq!(whole["time"], "2026-08-21T07:11:02.01Z");
    }

    #[test]
    fn what_grows_without_end_stays_within_bounds() {
        let mut joiner = Joiner::default();
        let part = format!("2026-08-21T07:11:02.010551207Z stdout P {}", "\u{1}".repeat(16_000));
        let docker = format!(r#"{{"log":"{}","stream":"stdout","time":""}}"#, "\\u0001".repeat(16_000));
        for _ in 0..100 {
            assert!(matches!(joiner.take(part.as_bytes(), 0), Joined::Held));
            assert!(matches!(joiner.take(docker.as_bytes(), 0), Joined::Held));
        }
        let rest: Vec<Whole> = joiner.rest().collect();
        assert_eq!(rest.len(), 2);
        assert!(rest.iter().all(|whole| whole.cut && whole.line.len() <= LINE_LIMIT));
        assert!(!joiner.waits());
    }
}
