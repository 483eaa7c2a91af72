//! TUN devices: what is written to one arrives from that interface.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// `struct ifreq` as `TUNSETIFF` reads it (`linux/if_tun.h`): name, flags, padding.
#[repr(C)]
#[derive(Debug)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    padding: [u8; 22],
}

/// Raw IP packets, no packet-info header in front (`IFF_TUN | IFF_NO_PI`).
const TUN_WITHOUT_HEADER: i16 = 0x0001 | 0x1000;
/// Ethernet frames, no packet-info header in front (`IFF_TAP | IFF_NO_PI`).
const TAP_WITHOUT_HEADER: i16 = 0x0002 | 0x1000;

/// An Ethernet device's own address.
pub(crate) const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x77];
/// Who sends what arrives by an Ethernet device.
pub(crate) const PEER_MAC: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];

#[expect(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]
mod request {
    use super::InterfaceRequest;

    nix::ioctl_readwrite_bad!(tunsetiff, nix::request_code_write!(b'T', 202, size_of::<i32>()), InterfaceRequest);

    /// Attaches the open file to the interface.
    pub(super) fn attach(fd: i32, request: &mut InterfaceRequest) -> nix::Result<()> {
        // SAFETY: `request` is exclusively ours and laid out as the 40 bytes of `struct ifreq`, which is all the kernel
        // reads and writes back for this request.
        unsafe { tunsetiff(fd, request) }.map(|_| ())
    }
}

/// A TUN device; it goes away when dropped.
pub(crate) struct Tun {
    file: File,
    /// The device's own hardware address, when it has one.
    mac: Option<[u8; 6]>,
    /// The VLAN its frames belong to, whatever device below carries them.
    vlan: Option<u16>,
}

impl Tun {
    /// Creates the device in the calling thread's namespace.
    pub(crate) fn create(name: &str) -> Result<Self, String> {
        Ok(Self { file: Self::open(name, TUN_WITHOUT_HEADER)?, mac: None, vlan: None })
    }

    /// Creates an Ethernet device (TAP).
    pub(crate) fn create_ethernet(name: &str) -> Result<Self, String> {
        let file = Self::open(name, TAP_WITHOUT_HEADER)?;
        let mac = OWN_MAC;
        let text = mac.map(|byte: u8| format!("{byte:02x}")).join(":");
        crate::harness::tool("ip", &["link", "set", name, "address", &text], "")?;
        Ok(Self { file, mac: Some(mac), vlan: None })
    }

    /// It has a link layer.
    pub(crate) fn is_ethernet(&self) -> bool {
        self.mac.is_some()
    }

    /// The same wire, for frames of a VLAN.
    pub(crate) fn tagged(&self, vlan: u16) -> std::io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, mac: self.mac, vlan: Some(vlan) })
    }

    /// What has been sent out by the device and not been read yet, link-layer headers included.
    pub(crate) fn sent(&self) -> Result<Vec<Vec<u8>>, String> {
        let mut all = Vec::new();
        loop {
            let mut asked = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            if poll(&mut asked, PollTimeout::ZERO).map_err(|error| error.to_string())? == 0 {
                return Ok(all);
            }
            let mut frame = vec![0; 2048];
            let length = (&self.file).read(&mut frame).map_err(|error| error.to_string())?;
            frame.truncate(length);
            all.push(frame);
        }
    }

    fn open(name: &str, flags: i16) -> Result<File, String> {
        let problem = |error: &dyn std::fmt::Display| format!("TUN device {name}: {error}");
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(|error| problem(&error))?;
        let mut request = InterfaceRequest { name: [0; 16], flags, padding: [0; 22] };
        if name.len() > 15 {
            return Err(problem(&"name longer than 15 bytes"));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        request::attach(file.as_raw_fd(), &mut request).map_err(|error| problem(&error))?;
        Ok(file)
    }

    /// Lets a packet arrive. The kernel has judged it when this returns.
    pub(crate) fn arrive(&self, packet: &[u8]) -> std::io::Result<()> {
        let Some(mac) = self.mac else { return (&self.file).write_all(packet) };
        let mut frame = mac.to_vec();
        frame.extend(PEER_MAC);
        let kind: u16 = if packet.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 };
        if let Some(vlan) = self.vlan {
            frame.extend([0x81, 0]);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        (&self.file).write_all(&frame)
    }
}
