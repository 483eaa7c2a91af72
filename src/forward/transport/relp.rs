//! RELP, the reliable event logging protocol of rsyslog: each message is answered, so that what was sent and not answered is
//! sent again on the next connection.
//!
//! `FRAME = TXNR SP COMMAND SP DATALEN [SP DATA] LF`; TXNR counts from 1 to 999999999. Version 0 is what rsyslog speaks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::stream::{Wire, is_later, readable};
use super::tls::failure;
use super::{Failure, Link, PATIENCE, head};

/// Messages on the way at once: librelp's own window.
const WINDOW: usize = 128;

/// Longest answer believed.
const MAX_ANSWER: usize = 128 * 1024;

const LAST_NUMBER: u32 = 999_999_999;

pub(super) struct Relp<W: Wire> {
    wire: W,
    number: u32,
    /// Numbers sent and not answered, in order.
    open: VecDeque<u32>,
    received: Vec<u8>,
    /// What the receiver said of the first open message, when it refused it.
    refusal: Option<String>,
}

/// An answer, or a hint of the server (number 0).
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    number: u32,
    command: String,
    data: Vec<u8>,
}

impl<W: Wire> Relp<W> {
    pub(super) fn open(wire: W) -> Result<Self, Failure> {
        let mut link = Self { wire, number: 0, open: VecDeque::new(), received: Vec::new(), refusal: None };
        let version = env!("CARGO_PKG_VERSION");
        let offer = format!("relp_version=0\nrelp_software=hepguard,{version}\ncommands=syslog");
        let number = link.write("open", &[offer.into_bytes()])?;
        let end = Instant::now() + PATIENCE;
        let answer = loop {
            if let Some(frame) = link.next_frame()? {
                break frame;
            }
            if Instant::now() >= end || !link.fill(end.saturating_duration_since(Instant::now()))? {
                return Err(Failure::Lost("RELP: no answer to our greeting".to_owned()));
            }
        };
        let text = String::from_utf8_lossy(&answer.data).into_owned();
        if Some(&number) != link.open.front() || answer.number != number || !text.starts_with("200") {
            return Err(Failure::Refused(format!("RELP: the receiver refuses: {}", head(&text))));
        }
        link.open.clear();
        if !text
            .lines()
            .any(|line| line.strip_prefix("commands=").is_some_and(|all| all.split(',').any(|one| one == "syslog")))
        {
            return Err(Failure::Refused("RELP: the receiver does not take syslog".to_owned()));
        }
        Ok(link)
    }

    /// Writes a frame for each piece of data; returns the last number.
    fn write(&mut self, command: &str, all: &[Vec<u8>]) -> Result<u32, Failure> {
        let mut out = Vec::new();
        for data in all {
            self.number = if self.number >= LAST_NUMBER { 1 } else { self.number + 1 };
            out.extend_from_slice(format!("{} {command} {}", self.number, data.len()).as_bytes());
            if !data.is_empty() {
                out.push(b' ');
                out.extend_from_slice(data);
            }
            out.push(b'\n');
            self.open.push_back(self.number);
        }
        let written = self.wire.write_all(&out).and_then(|()| self.wire.flush());
        written.map_err(|error| failure("RELP: write", &error))?;
        Ok(self.number)
    }

    /// Reads what is there, waiting up to `patience` for the first byte. False when nothing came.
    fn fill(&mut self, patience: Duration) -> Result<bool, Failure> {
        if !self.wire.buffered() && !readable(self.wire.socket(), patience)? {
            return Ok(false);
        }
        let mut bytes = [0; 16 * 1024];
        match self.wire.read(&mut bytes) {
            Ok(0) => Err(Failure::Lost("RELP: the receiver closed the connection".to_owned())),
            Ok(count) => {
                self.received.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(error) if is_later(&error) => Ok(false),
            Err(error) => Err(failure("RELP: read", &error)),
        }
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, Failure> {
        match parse(&self.received) {
            Parsed::Frame(frame, used) => {
                self.received.drain(..used);
                Ok(Some(frame))
            }
            Parsed::Partial if self.received.len() <= MAX_ANSWER => Ok(None),
            Parsed::Partial | Parsed::Broken => {
                Err(Failure::Lost(format!("RELP: no frame: {}", head(&String::from_utf8_lossy(&self.received)))))
            }
        }
    }

    /// Takes the answers that are there; returns how many messages they deliver. A refusal is told when those before it
    /// were.
    fn answers(&mut self) -> Result<usize, Failure> {
        let mut delivered = 0;
        if let Some(text) = self.refusal.take() {
            return Err(Failure::Unwanted(text));
        }
        while let Some(frame) = self.next_frame()? {
            if frame.number == 0 {
                return Err(Failure::Lost("RELP: the receiver is shutting down".to_owned()));
            }
            let text = String::from_utf8_lossy(&frame.data).into_owned();
            if self.open.front() != Some(&frame.number) || frame.command != "rsp" {
                return Err(Failure::Lost(format!("RELP: an answer nobody waits for: {}", frame.number)));
            }
            if !text.starts_with("200") {
                let text = format!("RELP: a message was refused: {}", head(&text));
                if delivered == 0 {
                    return Err(Failure::Unwanted(text));
                }
                self.refusal = Some(text);
                break;
            }
            self.open.pop_front();
            delivered += 1;
        }
        Ok(delivered)
    }
}

enum Parsed {
    Frame(Frame, usize),
    Partial,
    Broken,
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut place = 0;
    let mut word = |most: usize| -> Result<Option<String>, ()> {
        let rest = bytes.get(place..).unwrap_or_default();
        let Some(end) = rest.iter().take(most + 1).position(|byte| matches!(byte, b' ' | b'\n')) else {
            return if rest.len() > most { Err(()) } else { Ok(None) };
        };
        let text = std::str::from_utf8(&rest[..end]).map_err(|_| ())?.to_owned();
        place += end;
        // a frame without data ends behind its length
        if rest[end] == b' ' {
            place += 1;
        }
        Ok(Some(text))
    };
    let words = (|| -> Result<Option<(String, String, String)>, ()> {
        let Some(number) = word(9)? else { return Ok(None) };
        let Some(command) = word(32)? else { return Ok(None) };
        let Some(length) = word(9)? else { return Ok(None) };
        Ok(Some((number, command, length)))
    })();
    let (number, command, length) = match words {
        Ok(Some(words)) => words,
        Ok(None) => return Parsed::Partial,
        Err(()) => return Parsed::Broken,
    };
    let (Ok(number), Ok(length)) = (number.parse(), length.parse::<usize>()) else { return Parsed::Broken };
    if length > MAX_ANSWER {
        return Parsed::Broken;
    }
    match bytes.get(place..place + length + 1) {
        Some([data @ .., b'\n']) => Parsed::Frame(Frame { number, command, data: data.to_vec() }, place + length + 1),
        Some(_) => Parsed::Broken,
        None => Parsed::Partial,
    }
}

impl<W: Wire> Link for Relp<W> {
    fn send(&mut self, messages: &[Vec<u8>]) -> Result<usize, Failure> {
        let mut delivered = 0;
        for chunk in messages.chunks(32) {
            while self.open.len() + chunk.len() > WINDOW && self.refusal.is_none() {
                match self.settle(PATIENCE) {
                    Err(Failure::Unwanted(text)) if delivered > 0 => self.refusal = Some(text),
                    more => delivered += more?,
                }
            }
            if self.refusal.is_some() {
                break;
            }
            let _ = self.write("syslog", chunk)?;
            // answers that are there make room at once
            if self.fill(Duration::ZERO)? {
                match self.answers() {
                    Err(Failure::Unwanted(text)) if delivered > 0 => self.refusal = Some(text),
                    more => delivered += more?,
                }
            }
        }
        // a refusal that came first is told by the next call
        Ok(delivered)
    }

    fn settle(&mut self, patience: Duration) -> Result<usize, Failure> {
        if self.refusal.is_some() {
            return self.answers();
        }
        if self.open.is_empty() {
            // an orderly end is noticed before the next message is written into it
            return if self.fill(Duration::ZERO)? { self.answers() } else { Ok(0) };
        }
        let waited = self.fill(patience)?;
        if !waited && patience >= PATIENCE {
            return Err(Failure::Lost("RELP: no answer for half a minute".to_owned()));
        }
        self.answers()
    }
}

impl<W: Wire> Drop for Relp<W> {
    fn drop(&mut self) {
        let _ = self.write("close", &[Vec::new()]);
        self.wire.farewell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Option<(u32, String, Vec<u8>, usize)> {
        match parse(bytes) {
            Parsed::Frame(frame, used) => Some((frame.number, frame.command, frame.data, used)),
            Parsed::Partial | Parsed::Broken => None,
        }
    }

    #[test]
    fn frames_are_cut_where_their_length_says() {
        assert_eq!(frame(b"2 rsp 6 200 OK\n3 rsp"), Some((2, "rsp".to_owned(), b"200 OK".to_vec(), 15)));
        assert_eq!(frame(b"0 serverclose 0\n"), Some((0, "serverclose".to_owned(), vec![], 16)));
        assert_eq!(frame(b"1 rsp 3 a\nb\n"), Some((1, "rsp".to_owned(), b"a\nb".to_vec(), 12)));
        for (bytes, partial) in [
            (&b"2 rsp 6 200"[..], true),
            (b"2 rs", true),
            (b"x rsp 0\n", false),
            (b"1 rsp 2 abc\n", false),
            (b"12345678901 ", false),
        ] {
            assert_eq!(matches!(parse(bytes), Parsed::Partial), partial, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
