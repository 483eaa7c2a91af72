//! systemd's journal, in its native protocol: an entry a datagram. Nobody answers; but the kernel tells when journald has read
//! what was sent, and journald writes an entry before it reads the next one. So behind each batch goes an empty datagram, which
//! journald skips: once that one is read, the batch is in the journal.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::stream::unsent;
use super::{Failure, Link, unix};

/// How often to look whether journald has read everything.
const LOOK: Duration = Duration::from_millis(1);

pub(super) struct JournalLink {
    socket: UnixDatagram,
    /// Batches on the way: how many entries each.
    open: VecDeque<usize>,
}

impl JournalLink {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { socket: unix(path)?, open: VecDeque::new() })
    }

    fn entry(&self, entry: &[u8]) -> Result<(), Failure> {
        match self.socket.send(entry) {
            Ok(_) => Ok(()),
            // longer than the socket's buffer
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                self.sealed(entry).map_err(|error| Failure::lost("journald: a long entry", error))
            }
            Err(error) => Err(Failure::lost("journald", error)),
        }
    }

    /// Sends an entry as a file in memory that nobody can change any more.
    fn sealed(&self, entry: &[u8]) -> io::Result<()> {
        let file: OwnedFd = memfd_create(c"hepguard", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let mut file = std::fs::File::from(file);
        file.write_all(entry)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let descriptors = [file.as_raw_fd()];
        let told = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&[])], &told, MsgFlags::empty(), None)?;
        Ok(())
    }

    /// An empty datagram: refused when nobody holds the socket any more, and skipped otherwise.
    fn probe(&self) -> Result<(), Failure> {
        self.socket.send(&[]).map(drop).map_err(|error| Failure::lost("journald", error))
    }

    /// Entries that are in the journal.
    fn written(&mut self) -> Result<usize, Failure> {
        if self.open.is_empty() || unsent(&self.socket) != Some(0) {
            return Ok(0);
        }
        // what waits in a socket that is closed is gone, and counts as read
        self.probe()?;
        Ok(self.open.drain(..).sum())
    }
}

impl Link for JournalLink {
    fn send(&mut self, messages: &[Vec<u8>]) -> Result<usize, Failure> {
        for message in messages {
            self.entry(message)?;
        }
        self.probe()?;
        self.open.push_back(messages.len());
        self.written()
    }

    fn settle(&mut self, patience: Duration) -> Result<usize, Failure> {
        let end = Instant::now() + patience;
        loop {
            let written = self.written()?;
            if written > 0 || self.open.is_empty() || Instant::now() >= end {
                return Ok(written);
            }
            std::thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that reads only when it is told to.
    fn server(folder: &tempfile::TempDir) -> (UnixDatagram, JournalLink) {
        let path = folder.path().join("socket");
        let server = UnixDatagram::bind(&path).expect("a socket");
        (server, JournalLink::open(&path).expect("a way"))
    }

    #[test]
    fn an_entry_counts_when_it_was_read_and_not_when_its_reader_went_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let (server, mut link) = server(&folder);
        let two = [b"MESSAGE=a\n".to_vec(), b"MESSAGE=b\n".to_vec()];
        assert_eq!(link.send(&two), Ok(0));
        assert_eq!(link.settle(Duration::ZERO), Ok(0), "it waits in the socket");
        let mut bytes = [0; 64];
        let mut lengths = || server.recv(&mut bytes).expect("a datagram");
        assert_eq!([lengths(), lengths(), lengths()], [10, 10, 0]);
        assert_eq!(link.settle(Duration::ZERO), Ok(2));
        assert_eq!(link.send(&two), Ok(0));
        drop(server);
        assert!(matches!(link.settle(Duration::ZERO), Err(Failure::Lost(_))), "nobody will read it");
    }

    #[test]
    fn what_is_longer_than_a_datagram_is_sent_as_a_file() {
        use nix::sys::socket::{ControlMessageOwned, recvmsg};
        use std::io::{IoSliceMut, Read as _, Seek as _};
        let folder = tempfile::tempdir().expect("a folder");
        let (server, mut link) = server(&folder);
        let long = [b"MESSAGE=".to_vec(), vec![b'x'; 4 << 20], b"\n".to_vec()].concat();
        assert_eq!(link.send(std::slice::from_ref(&long)), Ok(0));
        let mut none = [0; 8];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut parts = [IoSliceMut::new(&mut none)];
        let got = recvmsg::<()>(server.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).expect("one");
        let descriptor = got.cmsgs().expect("whole").find_map(|told| match told {
            ControlMessageOwned::ScmRights(all) => all.first().copied(),
            _ => None,
        });
        assert_eq!(got.bytes, 0);
        let mut file = std::fs::File::open(format!("/proc/self/fd/{}", descriptor.expect("a file"))).expect("opened");
        let mut read = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut read).map(drop)).expect("read");
        assert_eq!(read, long);
    }
}
