//! The ways to a collector. Each says when a message counts as delivered:
//!
//! | transport | delivered when |
//! |---|---|
//! | file | written and on the disk |
//! | unix | the socket took the datagram |
//! | journald | journald read it, and went on to the next |
//! | udp | it was sent: nobody answers, so it may be lost |
//! | tcp, tls | the peer's kernel acknowledged it, and the connection lived a while longer without a reset |
//! | relp | the receiver answered `200` for it |
//! | http | the collector answered that it took it |

mod file;
mod http;
mod journald;
mod relp;
mod stream;
mod tls;

use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::ops::Range;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use super::frame::Framing;
pub use http::{Api, Http};
pub use tls::Tls;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest wait for a write or an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, a message a line; opened again when it was moved away.
    File(PathBuf),
    /// A datagram socket such as `/dev/log`.
    Unix(PathBuf),
    /// systemd's journal by its native socket.
    Journald(PathBuf),
    /// Syslog over UDP (RFC 5426), `host:port`.
    Udp(String),
    /// Syslog over TCP (RFC 6587), `host:port`.
    Tcp {
        /// `host:port`.
        address: String,
        /// Framing.
        framing: Framing,
    },
    /// Syslog over TLS (RFC 5425), `host:port`.
    Tls {
        /// `host:port`.
        address: String,
        /// Certificates.
        tls: Tls,
    },
    /// RELP, over TLS if there are certificates, `host:port`.
    Relp {
        /// `host:port`.
        address: String,
        /// Certificates.
        tls: Option<Tls>,
    },
    /// HTTP or HTTPS.
    Http(Http),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
            Self::Journald(path) => write!(f, "journald {}", path.display()),
            Self::Udp(address) => write!(f, "udp {address}"),
            Self::Tcp { address, .. } => write!(f, "tcp {address}"),
            Self::Tls { address, .. } => write!(f, "tls {address}"),
            Self::Relp { address, tls: None } => write!(f, "relp {address}"),
            Self::Relp { address, tls: Some(_) } => write!(f, "relp+tls {address}"),
            Self::Http(http) => write!(f, "{} {}", http.api.name(), http.url),
        }
    }
}

/// Why messages did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The way is broken just now: trying again may help.
    Lost(String),
    /// The other side or our own set-up refuses: trying again soon will not help, someone has to act.
    Refused(String),
    /// The collector takes messages, but not the first of those that are not delivered.
    Unwanted(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(text) | Self::Refused(text) | Self::Unwanted(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    fn lost(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::Lost(format!("{what}: {error}"))
    }
}

/// Messages that the collector took for bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it says of them.
    pub why: String,
    /// Which, by their places among those sent last.
    pub among: Range<usize>,
    /// How many of these; fewer than `among` where the collector does not say which.
    pub count: usize,
}

/// An open way.
pub trait Link: Send {
    /// Sends messages in order. Returns how many of them, from the first, are delivered; it may wait for the collector's
    /// answer. What is sent but not delivered yet counts in a later [`Link::settle`].
    ///
    /// # Errors
    /// The way is broken: everything not delivered has to be sent again on a new one.
    fn send(&mut self, messages: &[Vec<u8>]) -> Result<usize, Failure>;

    /// Waits up to `patience` for deliveries still open; returns how many more are delivered.
    ///
    /// # Errors
    /// As [`Link::send`].
    fn settle(&mut self, patience: Duration) -> Result<usize, Failure>;

    /// What the collector took for bad in the last [`Link::send`]: those messages count as delivered, sending them again would
    /// only block the rest.
    fn refused(&mut self) -> Vec<Refusal> {
        Vec::new()
    }

    /// How many messages may be on the way at once.
    fn window(&self) -> usize {
        512
    }
}

/// Opens the way to `target`.
///
/// # Errors
/// It cannot be opened, and why.
pub fn open(target: &Target) -> Result<Box<dyn Link>, Failure> {
    Ok(match target {
        Target::File(path) => Box::new(file::FileLink::open(path)?),
        Target::Unix(path) => Box::new(Datagrams::Unix(unix(path)?)),
        Target::Journald(path) => Box::new(journald::JournalLink::open(path)?),
        Target::Udp(address) => Box::new(Datagrams::Udp(udp(address)?)),
        Target::Tcp { address, framing } => Box::new(stream::StreamLink::plain(connect(address)?, *framing)?),
        Target::Tls { address, tls } => {
            let socket = connect(address)?;
            Box::new(stream::StreamLink::over_tls(tls::handshake(socket, address, tls)?)?)
        }
        Target::Relp { address, tls } => {
            let socket = connect(address)?;
            match tls {
                None => Box::new(relp::Relp::open(socket)?),
                Some(tls) => Box::new(relp::Relp::open(tls::handshake(socket, address, tls)?)?),
            }
        }
        Target::Http(http) => Box::new(http::HttpLink::open(http)?),
    })
}

/// Connects, trying every address the name has now.
fn connect(address: &str) -> Result<TcpStream, Failure> {
    let mut last = None;
    for candidate in resolve(address)? {
        match TcpStream::connect_timeout(&candidate, CONNECT) {
            Ok(socket) => {
                let set = socket
                    .set_nodelay(true)
                    .and_then(|()| socket.set_read_timeout(Some(PATIENCE)))
                    .and_then(|()| socket.set_write_timeout(Some(PATIENCE)));
                set.map_err(|error| Failure::lost(candidate, error))?;
                keep_alive(&socket);
                return Ok(socket);
            }
            Err(error) => last = Some(Failure::lost(candidate, error)),
        }
    }
    Err(last.unwrap_or_else(|| Failure::Lost(format!("{address}: has no address"))))
}

/// A peer that is gone without a word is noticed within a minute or so, not after a quarter of an hour.
fn keep_alive(socket: &TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = setsockopt(socket, sockopt::KeepAlive, &true);
    let _ = setsockopt(socket, sockopt::TcpKeepIdle, &30);
    let _ = setsockopt(socket, sockopt::TcpKeepInterval, &10);
    let _ = setsockopt(socket, sockopt::TcpKeepCount, &3);
    let _ = setsockopt(socket, sockopt::TcpUserTimeout, &60_000);
}

fn resolve(address: &str) -> Result<Vec<SocketAddr>, Failure> {
    match address.to_socket_addrs() {
        Ok(found) => Ok(found.collect()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            Err(Failure::Refused(format!("{address}: expected HOST:PORT")))
        }
        Err(error) => Err(Failure::lost(format!("{address}: its name has no address now"), error)),
    }
}

/// The start of what a collector answered, safe to show.
fn head(text: &str) -> String {
    crate::diagnostic::printable(&text.chars().take(120).collect::<String>())
}

/// The host of `host:port`, without brackets.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

enum Datagrams {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

fn unix(path: &std::path::Path) -> Result<UnixDatagram, Failure> {
    let socket = UnixDatagram::unbound().map_err(|error| Failure::lost("socket", error))?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(|error| Failure::lost("socket", error))?;
    socket.connect(path).map_err(|error| Failure::lost(path.display(), error))?;
    Ok(socket)
}

fn udp(address: &str) -> Result<UdpSocket, Failure> {
    let mut last = None;
    for candidate in resolve(address)? {
        let any = if candidate.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).and_then(|socket| socket.connect(candidate).map(|()| socket));
        match socket {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(Failure::lost(candidate, error)),
        }
    }
    Err(last.unwrap_or_else(|| Failure::Lost(format!("{address}: has no address"))))
}

impl Link for Datagrams {
    fn send(&mut self, messages: &[Vec<u8>]) -> Result<usize, Failure> {
        for message in messages {
            let sent = match self {
                Self::Unix(socket) => socket.send(message),
                Self::Udp(socket) => socket.send(message),
            };
            // an ICMP "port unreachable" of the datagram before arrives here
            sent.map_err(|error| Failure::lost("datagram", error))?;
        }
        Ok(messages.len())
    }

    fn settle(&mut self, _: Duration) -> Result<usize, Failure> {
        Ok(0)
    }

    fn window(&self) -> usize {
        64
    }
}
