//! The sockets others ask: status (one JSON document a connection) and metrics (HTTP). No client can hold the daemon up: each is
//! served as it can take bytes, a few at a time, and let go after some seconds.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Clients at the same time.
const MAX_CLIENTS: usize = 16;
/// A client that is not done by then is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest request.
const MAX_REQUEST: usize = 8 * 1024;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    Status,
    Metrics,
}

enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

struct Client {
    stream: Stream,
    ask: Ask,
    request: Vec<u8>,
    answer: Option<(Vec<u8>, usize)>,
    since: Instant,
}

pub(super) struct Server {
    listeners: Vec<(Listener, Ask)>,
    clients: Vec<Client>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self { listeners: Vec::new(), clients: Vec::new() }
    }

    /// Listens on a Unix socket; a socket nobody listens on any more is replaced.
    pub(super) fn unix(&mut self, path: &Path, ask: Ask, mode: u32) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => {
                if UnixStream::connect(path).is_ok() {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already"));
                }
                fs::remove_file(path)?;
            }
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there and is no socket")),
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        self.listeners.push((Listener::Unix(listener, path.to_owned()), ask));
        Ok(())
    }

    /// Listens on an address.
    pub(super) fn tcp(&mut self, address: SocketAddr, ask: Ask) -> io::Result<()> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        self.listeners.push((Listener::Tcp(listener), ask));
        Ok(())
    }

    /// Handles to wait for: readable ones, and writable ones.
    pub(super) fn fds(&self) -> Vec<(BorrowedFd<'_>, bool)> {
        let listeners = self.listeners.iter().map(|(listener, _)| match listener {
            Listener::Unix(listener, _) => (listener.as_fd(), false),
            Listener::Tcp(listener) => (listener.as_fd(), false),
        });
        listeners.chain(self.clients.iter().map(|client| (client.stream.fd(), client.answer.is_some()))).collect()
    }

    /// When the next client is let go.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.since + PATIENCE).min()
    }

    /// Serves whoever can be served; `answer` makes the document.
    pub(super) fn serve(&mut self, now: Instant, answer: &mut dyn FnMut(Ask) -> String) {
        for (listener, ask) in &self.listeners {
            while self.clients.len() < MAX_CLIENTS {
                let accepted = match listener {
                    Listener::Unix(listener, _) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
                    Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
                };
                let Ok(stream) = accepted else { break };
                if stream.set_nonblocking().is_ok() {
                    self.clients.push(Client { stream, ask: *ask, request: Vec::new(), answer: None, since: now });
                }
            }
        }
        self.clients.retain_mut(|client| client.go_on(answer) && now.duration_since(client.since) < PATIENCE);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for (listener, _) in &self.listeners {
            if let Listener::Unix(_, path) = listener {
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl Stream {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(true),
            Self::Tcp(stream) => stream.set_nonblocking(true),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }
}

impl Client {
    /// Whether there is more to do.
    fn go_on(&mut self, answer: &mut dyn FnMut(Ask) -> String) -> bool {
        if self.answer.is_none() {
            match (self.ask, self.read_request()) {
                (_, None) => return false,
                // who asks for the status says nothing
                (Ask::Status, _) => self.answer = Some((answer(Ask::Status).into_bytes(), 0)),
                (Ask::Metrics, Some(true)) => self.answer = Some((http(&self.request, answer), 0)),
                (Ask::Metrics, Some(false)) => return true,
            }
        }
        let Some((bytes, sent)) = &mut self.answer else { return false };
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return false,
                Ok(written) => *sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Whether the request is complete; `None` when the client is gone or says too much.
    fn read_request(&mut self) -> Option<bool> {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return (self.ask == Ask::Status).then_some(true),
                Ok(read) => self.request.extend_from_slice(buffer.get(..read)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if self.request.len() > MAX_REQUEST {
                return None;
            }
        }
        Some(memchr::memmem::find(&self.request, b"\r\n\r\n").is_some())
    }
}

fn http(request: &[u8], answer: &mut dyn FnMut(Ask) -> String) -> Vec<u8> {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (status, kind, body) = match (method, path) {
        (b"GET" | b"HEAD", b"/metrics") => {
            ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", answer(Ask::Metrics))
        }
        (b"GET" | b"HEAD", b"/healthz") => ("200 OK", "text/plain; charset=utf-8", "ok\n".to_owned()),
        (b"GET" | b"HEAD", _) => ("404 Not Found", "text/plain; charset=utf-8", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain; charset=utf-8", "GET only\n".to_owned()),
    };
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if method != b"HEAD" {
        text.push_str(&body);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &Path, request: &[u8], server: &mut Server) -> String {
        let mut stream = UnixStream::connect(path).expect("connected");
        stream.write_all(request).expect("asked");
        stream.set_nonblocking(true).expect("set");
        let mut got = Vec::new();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            server.serve(Instant::now(), &mut |ask| match ask {
                Ask::Status => "s".repeat(1 << 20),
                Ask::Metrics => "# EOF\n".to_owned(),
            });
            match stream.read_to_end(&mut got) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        String::from_utf8(got).expect("text")
    }

    #[test]
    fn each_gets_its_answer_and_the_slow_are_let_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let (status, metrics) = (folder.path().join("run/s.sock"), folder.path().join("run/m.sock"));
        let mut server = Server::new();
        server.unix(&status, Ask::Status, 0o600).expect("listens");
        server.unix(&metrics, Ask::Metrics, 0o666).expect("listens");
        assert_eq!(ask(&status, b"", &mut server).len(), 1 << 20, "more than a socket holds");
        let answer = ask(&metrics, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", &mut server);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n# EOF\n"), "{answer}");
        assert!(ask(&metrics, b"GET / HTTP/1.1\r\n\r\n", &mut server).starts_with("HTTP/1.1 404 "));
        assert!(ask(&metrics, b"POST /metrics HTTP/1.1\r\n\r\n", &mut server).starts_with("HTTP/1.1 405 "));
        assert_eq!(ask(&metrics, &[b'x'; 20_000], &mut server), "");
        let slow: Vec<UnixStream> = (0..30).map(|_| UnixStream::connect(&metrics).expect("connected")).collect();
        let now = Instant::now();
        server.serve(now, &mut |_| String::new());
        assert_eq!(server.clients.len(), MAX_CLIENTS);
        (1..5).for_each(|times| server.serve(now + PATIENCE * times, &mut |_| String::new()));
        assert!(server.clients.is_empty());
        drop(slow);
        // a second one is refused while the first listens; what is left of it afterwards is replaced
        assert!(Server::new().unix(&status, Ask::Status, 0o600).is_err());
        drop(server);
        assert!(!status.exists());
        fs::write(&status, "no socket").expect("written");
        assert!(Server::new().unix(&status, Ask::Status, 0o600).is_err());
    }
}
