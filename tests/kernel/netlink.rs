//! Netlink messages by hand (`linux/netlink.h`): what the oracle says to the kernel without starting a tool.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 4;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// Bytes in front of a message's payload.
pub(crate) const HEADER: usize = 16;

/// Messages one behind the other, as one `send` takes them.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    start: usize,
}

impl Messages {
    /// Begins a message.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, payload: &[u8]) {
        self.start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend([0; 8]);
        self.bytes.extend(payload);
    }

    /// Adds an attribute to the message begun last.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("attributes are short");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute that holds those `inside` adds.
    pub(crate) fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let place = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        inside(self);
        let length = u16::try_from(self.bytes.len() - place).expect("attributes are short");
        self.bytes[place..place + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Ends the message begun last.
    pub(crate) fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.start).expect("messages are short");
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// A netfilter netlink socket of the calling thread's namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens it.
    pub(crate) fn open() -> Result<Self, String> {
        let problem = |what: &str, error: nix::Error| format!("netlink: {what}: {error}");
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)
            .map_err(|error| problem("socket", error))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(|error| problem("bind", error))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)).map_err(|error| problem("receive buffer", error))?;
        // the kernel takes at most this much in one piece
        setsockopt(&socket, sockopt::SndBuf, &(1 << 20)).map_err(|error| problem("send buffer", error))?;
        Ok(Self { socket, buffer: vec![0; 64 * 1024] })
    }

    /// Sends `messages`; the last of them must ask for an acknowledgement. `Err` is the first error told.
    pub(crate) fn request(&mut self, messages: &Messages) -> Result<(), nix::Error> {
        send(self.socket.as_raw_fd(), &messages.bytes, MsgFlags::empty())?;
        let mut outcome = Ok(());
        loop {
            let got = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let mut acknowledged = false;
            each_message(&self.buffer[..got], |message| {
                // NLMSG_ERROR: the error, and the message it is about; 0 is the acknowledgement asked for
                if half(message, 4) != Some(2) {
                    return;
                }
                let code =
                    message.get(HEADER..HEADER + 4).and_then(|four| four.try_into().ok()).map_or(0, i32::from_ne_bytes);
                if code != 0 && outcome.is_ok() {
                    outcome = Err(nix::Error::from_raw(-code));
                }
                let flags = half(message, HEADER + 4 + 6).unwrap_or(0);
                acknowledged |= flags & ACK != 0;
            });
            if acknowledged {
                return outcome;
            }
        }
    }

    /// What has arrived, one datagram's messages at a time; `false` when there is nothing (or, if asked to wait, when a
    /// second has passed).
    pub(crate) fn receive(&mut self, wait: bool, read: impl FnMut(&[u8])) -> Result<bool, nix::Error> {
        if wait {
            let mut fds =
                [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&self.socket), nix::poll::PollFlags::POLLIN)];
            if nix::poll::poll(&mut fds, 1000u16)? == 0 {
                return Ok(false);
            }
        }
        match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(got) => {
                each_message(&self.buffer[..got], read);
                Ok(true)
            }
            Err(nix::Error::EAGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The 16 bits at `place`, in host order.
pub(crate) fn half(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

fn each_message(mut bytes: &[u8], mut read: impl FnMut(&[u8])) {
    while let Some(length) = bytes.get(..4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes) {
        let length = (length as usize).clamp(HEADER, bytes.len());
        read(&bytes[..length]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}
