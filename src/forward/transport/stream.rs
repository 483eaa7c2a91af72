//! Syslog on a TCP or TLS stream: nobody answers, so a message counts as delivered once the peer's kernel acknowledged its
//! bytes and the connection lived on for [`HOLD`]. A collector that is killed may still lose what it had not written; only
//! RELP and HTTP close that gap.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::tls::TlsStream;
use super::{Failure, Link, PATIENCE};
use crate::forward::frame::{Framing, framed};

/// How long a connection has to live after the last byte was acknowledged. In TLS 1.3 a refused client certificate shows
/// only after the handshake, within a round trip or two.
const HOLD: Duration = Duration::from_secs(2);

/// A byte stream whose socket can be asked.
pub(super) trait Wire: Read + Write + Send {
    /// The socket below.
    fn socket(&self) -> &TcpStream;

    /// Bytes that were read from the socket and wait above it.
    fn buffered(&mut self) -> bool {
        false
    }

    /// Says, where the stream has a word for it, that no more comes.
    fn farewell(&mut self) {}
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

pub(super) struct StreamLink {
    wire: Box<dyn Wire>,
    framing: Framing,
    /// Batches that are written: how many messages, and when the kernel had no more bytes to send, once it had none.
    open: VecDeque<(usize, Option<Instant>)>,
}

impl StreamLink {
    pub(super) fn plain(socket: TcpStream, framing: Framing) -> Result<Self, Failure> {
        Self::new(Box::new(socket), framing)
    }

    /// RFC 5425 asks for octet counting.
    pub(super) fn over_tls(stream: TlsStream) -> Result<Self, Failure> {
        Self::new(Box::new(stream), Framing::OctetCounting)
    }

    fn new(wire: Box<dyn Wire>, framing: Framing) -> Result<Self, Failure> {
        let mut link = Self { wire, framing, open: VecDeque::new() };
        // a collector that refuses us says so now, not after the first message
        link.watch(Duration::from_millis(300))?;
        Ok(link)
    }

    /// Looks for an end of the connection for as long as `patience`: collectors say nothing, so whatever comes is the end or
    /// an alert.
    fn watch(&mut self, patience: Duration) -> Result<(), Failure> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !readable(self.wire.socket(), left)? && !self.wire.buffered() {
                return Ok(());
            }
            self.wire
                .socket()
                .set_read_timeout(Some(Duration::from_millis(50)))
                .map_err(|e| Failure::lost("socket", e))?;
            let mut bytes = [0; 512];
            match self.wire.read(&mut bytes) {
                Ok(0) => return Err(Failure::Lost("the collector closed the connection".to_owned())),
                // nothing is expected, and nothing is made of it
                Ok(_) => {}
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(super::tls::failure("the collector ended the connection", &error)),
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// Batches whose bytes the peer's kernel has, for long enough.
    fn delivered(&mut self) -> usize {
        if unsent(self.wire.socket()) == Some(0) {
            let now = Instant::now();
            for (_, since) in &mut self.open {
                since.get_or_insert(now);
            }
        }
        let mut count = 0;
        while let Some((messages, Some(since))) = self.open.front() {
            if since.elapsed() < HOLD {
                break;
            }
            count += messages;
            self.open.pop_front();
        }
        count
    }
}

/// Whether reading would return: bytes, an end or an error.
pub(super) fn readable(socket: &TcpStream, patience: Duration) -> Result<bool, Failure> {
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, timeout) {
        Ok(count) => Ok(count > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(Failure::lost("poll", error)),
    }
}

pub(super) fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Bytes the peer has not taken: its kernel in TCP, its process on a local socket.
pub(super) fn unsent(socket: &impl AsRawFd) -> Option<i32> {
    unacknowledged::bytes(socket.as_raw_fd())
}

/// `SIOCOUTQ` (tcp(7), unix(7)); nix has the request's shape, not the request.
#[allow(unsafe_code, reason = "an ioctl that nix does not wrap")]
mod unacknowledged {
    use nix::libc::{TIOCOUTQ, c_int};

    nix::ioctl_read_bad!(siocoutq, TIOCOUTQ, c_int);

    pub(super) fn bytes(socket: c_int) -> Option<i32> {
        let mut bytes: c_int = 0;
        // SAFETY: the descriptor is open for the length of the call, and the kernel writes one int through the pointer
        unsafe { siocoutq(socket, &raw mut bytes) }.ok().map(|_| bytes)
    }
}

impl Drop for StreamLink {
    fn drop(&mut self) {
        self.wire.farewell();
    }
}

impl Link for StreamLink {
    fn send(&mut self, messages: &[Vec<u8>]) -> Result<usize, Failure> {
        // a collector that restarts in an orderly way has said so before: what is written now would be lost
        self.watch(Duration::ZERO)?;
        let mut bytes = Vec::new();
        for message in messages {
            let _ = framed(self.framing, message, &mut bytes);
        }
        let _ = self.wire.socket().set_read_timeout(Some(PATIENCE));
        let written = self.wire.write_all(&bytes).and_then(|()| self.wire.flush());
        written.map_err(|error| super::tls::failure("write", &error))?;
        self.open.push_back((messages.len(), None));
        Ok(self.delivered())
    }

    fn settle(&mut self, patience: Duration) -> Result<usize, Failure> {
        let end = Instant::now() + patience;
        loop {
            let delivered = self.delivered();
            if delivered > 0 || self.open.is_empty() {
                return Ok(delivered);
            }
            let left = end.saturating_duration_since(Instant::now());
            self.watch(left.min(Duration::from_millis(100)))?;
            if left.is_zero() {
                return Ok(self.delivered());
            }
        }
    }

    fn window(&self) -> usize {
        4096
    }
}
