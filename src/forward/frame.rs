//! How messages are told apart on a stream: RFC 6587's octet counting (RFC 5425 asks for it on TLS), or a line feed behind each.

/// Framing of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// `LEN SP MSG`.
    #[default]
    OctetCounting,
    /// `MSG LF`: for receivers that know nothing else.
    LineFeed,
}

/// A message as bytes on the stream. Messages hold no line feed: encoders spell control characters out.
#[must_use]
pub fn framed(framing: Framing, message: &[u8], out: &mut Vec<u8>) -> usize {
    let before = out.len();
    match framing {
        Framing::OctetCounting => {
            out.extend_from_slice(message.len().to_string().as_bytes());
            out.push(b' ');
            out.extend_from_slice(message);
        }
        Framing::LineFeed => {
            out.extend(message.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
            out.push(b'\n');
        }
    }
    out.len() - before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_not_characters() {
        let mut out = Vec::new();
        assert_eq!(framed(Framing::OctetCounting, "aä".as_bytes(), &mut out), 5);
        assert_eq!(out, "3 aä".as_bytes());
    }

    #[test]
    fn a_line_feed_inside_never_makes_two_messages() {
        let mut out = Vec::new();
        let _ = framed(Framing::LineFeed, b"a\n12 b", &mut out);
        assert_eq!(out, b"a 12 b\n");
    }
}
