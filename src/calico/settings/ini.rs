//! `felix.cfg`, as Felix's INI library reads it.
//!
//! All sections are merged, `:` is a delimiter like `=`, `#` and `;` start a comment even inside a value, and one bad line
//! makes the whole file unreadable, which stops Felix.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Assignment, Broken, Loaded, Outcome, Place, Remark, Source};

/// Reads `felix.cfg`.
#[must_use]
pub fn read(file: &Arc<str>, bytes: &[u8]) -> Loaded {
    let text = String::from_utf8_lossy(without_mark(bytes));
    let mut reader = Reader { rest: &text, line: 0 };
    let mut sections: Vec<(String, Vec<Key>)> = vec![("DEFAULT".to_owned(), Vec::new())];
    let mut loaded = Loaded::default();
    if let Err((line, reason)) = reader.read(&mut sections, file, &mut loaded.remarks) {
        let place = Place { file: Arc::clone(file), line };
        loaded.broken.push(Broken { place, reason, outcome: Outcome::StartLoop });
        return loaded;
    }
    for key in sections.into_iter().flat_map(|(_, keys)| keys) {
        let place = Place { file: Arc::clone(file), line: key.line };
        let (name, value) = (key.name.into(), key.value.into());
        loaded.assignments.push(Assignment { source: Source::ConfigFile, name, value, place });
    }
    loaded
}

struct Key {
    name: String,
    value: String,
    line: u32,
}

/// Byte order marks of UTF-8 and UTF-16 are skipped.
fn without_mark(bytes: &[u8]) -> &[u8] {
    [b"\xef\xbb\xbf".as_slice(), b"\xfe\xff", b"\xff\xfe"]
        .into_iter()
        .find_map(|mark| bytes.strip_prefix(mark))
        .unwrap_or(bytes)
}

struct Reader<'a> {
    rest: &'a str,
    /// Number of the line read last.
    line: u32,
}

type Failure = (u32, String);

impl<'a> Reader<'a> {
    fn next_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = match self.rest.find('\n') {
            Some(at) => self.rest.split_at(at + 1),
            None => (self.rest, ""),
        };
        self.rest = rest;
        self.line = self.line.saturating_add(1);
        Some(line)
    }

    fn read(
        &mut self,
        sections: &mut Vec<(String, Vec<Key>)>,
        file: &Arc<str>,
        remarks: &mut Vec<Remark>,
    ) -> Result<(), Failure> {
        let mut current = 0;
        let mut named: BTreeMap<String, usize> = sections.iter().map(|(name, _)| name.clone()).zip(0..).collect();
        let mut keyed: BTreeMap<(usize, String), usize> = BTreeMap::new();
        while let Some(line) = self.next_line() {
            let line = line.trim_start();
            let at = self.line;
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                let Some(end) = name.rfind(']') else { return Err((at, "a section without ]".to_owned())) };
                let name = name.get(..end).unwrap_or_default();
                if name.is_empty() {
                    return Err((at, "a section without a name".to_owned()));
                }
                current = *named.entry(name.to_owned()).or_insert_with(|| {
                    sections.push((name.to_owned(), Vec::new()));
                    sections.len() - 1
                });
                continue;
            }
            let (name, rest) = key_name(line).map_err(|reason| (at, reason.to_owned()))?;
            let value = self.value(rest, file, remarks)?;
            let Some((_, keys)) = sections.get_mut(current) else { continue };
            let index = *keyed.entry((current, name.to_owned())).or_insert(keys.len());
            match keys.get_mut(index) {
                Some(key) => {
                    if remarks.len() < 50 {
                        let place = Place { file: Arc::clone(file), line: key.line };
                        let name = super::ports::shortened(name);
                        remarks.push(Remark { place, text: format!("{name} is set again in line {at}, which wins") });
                    }
                    key.value = value;
                    key.line = at;
                }
                None => keys.push(Key { name: name.to_owned(), value, line: at }),
            }
        }
        Ok(())
    }

    fn value(&mut self, rest: &str, file: &Arc<str>, remarks: &mut Vec<Remark>) -> Result<String, Failure> {
        let line = rest.trim_start();
        let quote = match line {
            "" => return Ok(String::new()),
            _ if line.len() > 3 && line.starts_with("\"\"\"") => Some("\"\"\""),
            _ if line.starts_with('`') => Some("`"),
            _ => None,
        };
        if let Some(quote) = quote {
            let inner = line.get(quote.len()..).unwrap_or_default();
            return match inner.rfind(quote) {
                Some(end) => Ok(inner.get(..end).unwrap_or_default().to_owned()),
                None => self.raw_lines(inner, quote),
            };
        }
        let line = line.trim();
        if let Some(start) = line.strip_suffix('\\') {
            return Ok(self.continued(start));
        }
        let (line, cut) = match line.find(['#', ';']) {
            Some(at) => (line.get(..at).unwrap_or_default().trim(), true),
            None => (line, false),
        };
        if cut && remarks.len() < 50 {
            let place = Place { file: Arc::clone(file), line: self.line };
            remarks.push(Remark { place, text: "the value ends before # or ;, even inside quotes".to_owned() });
        }
        Ok(unquoted(line).to_owned())
    }

    /// A raw value that goes on until its quote.
    fn raw_lines(&mut self, start: &str, quote: &str) -> Result<String, Failure> {
        let at = self.line;
        let mut value = start.to_owned();
        while let Some(next) = self.next_line() {
            if let Some(end) = next.rfind(quote) {
                value.push_str(next.get(..end).unwrap_or_default());
                return Ok(value);
            }
            value.push_str(next);
        }
        Err((at, format!("a value without its closing {quote}")))
    }

    /// A value that goes on behind a backslash; neither comments nor quotes count in it.
    fn continued(&mut self, start: &str) -> String {
        let mut value = start.to_owned();
        while let Some(next) = self.next_line() {
            let next = next.trim();
            if next.is_empty() {
                break;
            }
            value.push_str(next);
            if !value.ends_with('\\') {
                break;
            }
            value.pop();
        }
        value
    }
}

/// The key of a line, and what stands behind its delimiter.
fn key_name(line: &str) -> Result<(&str, &str), &'static str> {
    const NO_DELIMITER: &str = "a line without = or :";
    let quote = match line {
        _ if line.len() > 6 && line.starts_with("\"\"\"") => "\"\"\"",
        _ if line.starts_with('"') => "\"",
        _ if line.starts_with('`') => "`",
        _ => "",
    };
    if quote.is_empty() {
        let at = line.find(['=', ':']).ok_or(NO_DELIMITER)?;
        if at == 0 {
            return Err("a line without a name before = or :");
        }
        return Ok((line.get(..at).unwrap_or_default().trim(), line.get(at + 1..).unwrap_or_default()));
    }
    let inner = line.get(quote.len()..).unwrap_or_default();
    let (name, behind) = inner.split_once(quote).ok_or("a quoted name without its closing quote")?;
    let at = behind.find(['=', ':']).ok_or(NO_DELIMITER)?;
    if name.trim().is_empty() {
        return Err("an empty name");
    }
    Ok((name.trim(), behind.get(at + 1..).unwrap_or_default()))
}

/// `text` without one pair of quotes around it, when that kind of quote is nowhere else in it.
fn unquoted(text: &str) -> &str {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| {
            let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
            (!inner.contains(quote)).then_some(inner)
        })
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<String, u32> {
        let loaded = read(&Arc::from("felix/felix.cfg"), text.as_bytes());
        match loaded.broken.first() {
            Some(broken) => Err(broken.place.line),
            None => {
                let one = |a: &Assignment| format!("{}={}@{}", a.name, a.value, a.place.line);
                Ok(loaded.assignments.iter().map(one).collect::<Vec<_>>().join(" | "))
            }
        }
    }

    #[test]
    fn sections_are_merged_and_text_before_them_counts() {
        assert_eq!(read_text("A=1\n[global]\nB = 2\n; no\n[other]\nC: 3\n"), Ok("A=1@1 | B=2@3 | C=3@6".into()));
        assert_eq!(read_text("[a]\nx=1\n[b]\nx=2\n[a]\nx=3\n"), Ok("x=3@6 | x=2@4".into()), "section b comes last");
        assert_eq!(read_text("x=1\nx=2\n"), Ok("x=2@2".into()));
    }

    #[test]
    fn the_first_delimiter_counts() {
        assert_eq!(read_text("Failsafe tcp:22"), Ok("Failsafe tcp=22@1".into()));
        assert_eq!(read_text("F = tcp:22,udp:53"), Ok("F=tcp:22,udp:53@1".into()));
    }

    #[test]
    fn comments_cut_values_even_in_quotes() {
        assert_eq!(read_text("F = tcp:22 # ssh"), Ok("F=tcp:22@1".into()));
        assert_eq!(read_text("F = tcp:22,;udp:53"), Ok("F=tcp:22,@1".into()));
        assert_eq!(read_text("P = \"a#b\""), Ok("P=\"a@1".into()));
        assert_eq!(read_text("P = `a#b`"), Ok("P=a#b@1".into()));
        let loaded = read(&Arc::from("f"), b"F = 22 # ssh\n");
        assert_eq!(loaded.remarks.len(), 1);
    }

    #[test]
    fn one_pair_of_quotes_goes() {
        for (text, value) in [
            ("\"tcp:22\"", "tcp:22"),
            ("'tcp:22'", "tcp:22"),
            ("''", ""),
            ("\"a\"b\"", "\"a\"b\""),
            ("'a\"", "'a\""),
            ("\"", "\""),
        ] {
            assert_eq!(read_text(&format!("F = {text}")), Ok(format!("F={value}@1")), "{text}");
        }
    }

    #[test]
    fn lines_join_and_raw_values_span_them() {
        assert_eq!(read_text("F = a,\\\n  b,\\\n c\nG=1"), Ok("F=a,b,c@1 | G=1@4".into()));
        assert_eq!(read_text("F = a\\\n\nG=1"), Ok("F=a@1 | G=1@3".into()));
        assert_eq!(read_text("F = a,\\\n b # c"), Ok("F=a,b # c@1".into()), "a joined value keeps its comment");
        assert_eq!(read_text("F = \"\"\"a\nb\"\"\"\nG=1"), Ok("F=a\nb@1 | G=1@3".into()));
        assert_eq!(read_text("F = a\\"), Ok("F=a@1".into()));
    }

    #[test]
    fn one_bad_line_stops_it_all() {
        for (text, line) in [
            ("A=1\nFailsafeInboundHostPorts\n", 2),
            ("[global\nA=1", 1),
            ("[]\n", 1),
            ("\n=1\n", 2),
            ("A=1\nB=`open\nC=2\n", 2),
            ("\"quoted = 1", 1),
            ("\"\" = 1", 1),
        ] {
            assert_eq!(read_text(text), Err(line), "{text:?}");
        }
    }

    #[test]
    fn marks_are_skipped_and_garbage_is_no_panic() {
        assert_eq!(read_text("\u{feff}A=1"), Ok("A=1@1".into()));
        let bytes: Vec<u8> = (0..=255u8).cycle().take(20_000).collect();
        let _ = read(&Arc::from("f"), &bytes);
        assert_eq!(read_text(""), Ok(String::new()));
    }
}
