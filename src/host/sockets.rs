//! Reader and writer of socket listings in the form of `ss -H -tuanp`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::Socket;
use crate::diagnostic::{Level, Parsed, Remarks};
use crate::packet::Protocol;

/// Reads one socket a line: `tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=700,fd=3))`.
///
/// Header lines are passed over. A listing of one protocol only (`ss -ltn`) has no first column; it is read as TCP's, and a
/// remark says so.
#[must_use]
pub fn read(source: &Arc<str>, text: &[u8]) -> Parsed<Vec<Socket>> {
    let mut remarks = Remarks::new(source);
    let mut found = Vec::new();
    let mut guessed = None;
    for (number, line) in (1_u32..).zip(text.split(|byte| *byte == b'\n')) {
        let line = String::from_utf8_lossy(line);
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        if matches!(first, "" | "Netid" | "State") {
            continue;
        }
        let line = if STATES.contains(&first) {
            guessed = guessed.or(Some(number));
            Cow::Owned(format!("{} {line}", if first == "UNCONN" { "udp" } else { "tcp" }))
        } else {
            line
        };
        match socket(&line) {
            Ok(socket) => found.extend(socket),
            Err(message) => remarks.add(Level::Warning, number, 1, format!("{message}; line not used")),
        }
    }
    if let Some(line) = guessed {
        let message = "no column says tcp or udp; taken as tcp; list all sockets with 'ss -H -tuanp'";
        remarks.add(Level::Warning, line, 1, message);
    }
    remarks.with(found)
}

const STATES: [&str; 12] = [
    "LISTEN",
    "ESTAB",
    "UNCONN",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "CLOSE-WAIT",
    "LAST-ACK",
    "CLOSING",
    "CLOSED",
];

/// `None` for kinds of sockets that do not matter here (unix, raw, netlink of a listing of everything).
fn socket(line: &str) -> Result<Option<Socket>, String> {
    let mut words = line.split_ascii_whitespace();
    let protocol = match words.next().unwrap_or_default() {
        "tcp" | "mptcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        "dccp" => Protocol::DCCP,
        "nl" | "p_raw" | "p_dgr" | "raw" | "u_str" | "u_dgr" | "u_seq" | "icmp6" | "v_str" | "v_dgr" | "xdp"
        | "ti_rd" => {
            return Ok(None);
        }
        other => return Err(format!("expected tcp or udp as 'ss -H -tuanp' prints it, found {other:?}")),
    };
    let state = words.next().unwrap_or_default();
    if !STATES.contains(&state) {
        return Err(format!("expected a socket state such as LISTEN or ESTAB, found {state:?}"));
    }
    let (local, peer) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(_queued), Some(_room), Some(local), Some(peer)) => (local, peer),
        _ => return Err("expected queues, local and peer address (cut short?)".to_owned()),
    };
    let (local_address, dual_stack, device, local_port) = endpoint(local)?;
    let (peer_address, _, _, peer_port) = endpoint(peer)?;
    // names before it may look like an owner, too
    let end = peer.as_ptr().addr() - line.as_ptr().addr() + peer.len();
    let (process, pid) = owner(line.get(end..).unwrap_or_default());
    Ok(Some(Socket {
        protocol,
        local: local_address,
        dual_stack,
        local_port: local_port.unwrap_or(0),
        device,
        peer: peer_port.map(|port| (peer_address, port)),
        listening: matches!(state, "LISTEN" | "UNCONN"),
        process,
        pid,
    }))
}

type Endpoint = (IpAddr, bool, Option<Box<str>>, Option<u16>);

/// `10.0.0.1:22`, `[::1]:22`, `::1:22` (old), `*:22` (any, both families), `127.0.0.53%lo:53`, `[fe80::1]%eth0:546`.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    let bad = || format!("expected an address and a numeric port such as 10.0.0.1:22, found {text:?}");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port = if port == "*" { None } else { Some(port.parse().map_err(|_| bad())?) };
    let (host, device) = match host.split_once('%') {
        Some((host, device)) => (host, Some(device.trim_end_matches(']'))),
        None => (host, None),
    };
    let device = device.map(Into::into);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host == "*" {
        return Ok((IpAddr::V6(Ipv6Addr::UNSPECIFIED), true, device, port));
    }
    let address: IpAddr = host.parse().map_err(|_| bad())?;
    Ok((address.to_canonical(), false, device, port))
}

/// First owner in `users:(("sshd",pid=700,fd=3),…)`.
fn owner(line: &str) -> (Option<Box<str>>, Option<u32>) {
    let Some((_, users)) = line.split_once("users:((\"") else { return (None, None) };
    // a name may hold quotes itself; what follows it is fixed
    let Some((name, rest)) = users.split_once("\",pid=") else { return (None, None) };
    let digits: &str = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    (Some(name.into()), digits.parse().ok())
}

/// One line in the form [`read`] takes. Connected TCP sockets are `ESTAB` here, whatever their exact state.
#[must_use]
pub fn line(socket: &Socket) -> String {
    let state = match (socket.listening, socket.protocol) {
        (true, Protocol::UDP) => "UNCONN",
        (true, _) => "LISTEN",
        (false, _) => "ESTAB",
    };
    let host = |address: IpAddr, dual_stack: bool| match address {
        IpAddr::V6(_) if dual_stack => "*".to_owned(),
        IpAddr::V6(v6) => format!("[{v6}]"),
        IpAddr::V4(v4) => v4.to_string(),
    };
    let device = socket.device.as_deref().map(|device| format!("%{device}")).unwrap_or_default();
    let peer = match socket.peer {
        Some((address, port)) => format!("{}:{port}", host(address, false)),
        None if socket.local.is_ipv4() => "0.0.0.0:*".to_owned(),
        None if socket.dual_stack => "*:*".to_owned(),
        None => "[::]:*".to_owned(),
    };
    let local = host(socket.local, socket.dual_stack);
    let mut line = format!("{} {state} 0 0 {local}{device}:{} {peer}", socket.protocol, socket.local_port);
    if let (Some(process), Some(pid)) = (&socket.process, socket.pid) {
        let name: String = process.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = write!(line, " users:((\"{name}\",pid={pid},fd=0))");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Parsed<Vec<Socket>> {
        read(&Arc::from("sockets.txt"), text.as_bytes())
    }

    const LISTING: &str = "\
udp UNCONN 0      0           127.0.0.53%lo:53               0.0.0.0:*     users:((\"systemd-resolve\",pid=11999,fd=7)) \n\
udp UNCONN 0      0      [fe80::1]%eth0:546               [::]:*     users:((\"a b\",pid=12,fd=12))\n\
udp ESTAB  0      0                   [::1]:5353               [::1]:99    users:((\"python3\",pid=11999,fd=8)) \n\
tcp LISTEN 1      128             127.0.0.1:2222             0.0.0.0:*     users:((\"sshd\",pid=1,fd=3),(\"sshd\",pid=2,fd=3)) \n\
tcp ESTAB  0      0               127.0.0.1:2222           127.0.0.1:46556                                    \n\
tcp LISTEN 1      128                     *:80                     *:*     users:((\"python3\",pid=11999,fd=4)) \n\
tcp ESTAB  0      0      [::ffff:127.0.0.1]:80    [::ffff:127.0.0.1]:39382                                    \n";

    #[test]
    fn every_form_of_address() {
        let read = all(LISTING);
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        let texts: Vec<String> = read
            .value
            .iter()
            .map(|s| {
                let owner = (s.process.as_deref().unwrap_or("-"), s.pid.unwrap_or(0));
                format!(
                    "{} {}:{} {:?} {:?} {} {owner:?}",
                    s.protocol, s.local, s.local_port, s.device, s.peer, s.listening
                )
            })
            .collect();
        assert_eq!(
            texts,
            [
                r#"udp 127.0.0.53:53 Some("lo") None true ("systemd-resolve", 11999)"#,
                r#"udp fe80::1:546 Some("eth0") None true ("a b", 12)"#,
                r#"udp ::1:5353 None Some((::1, 99)) false ("python3", 11999)"#,
                r#"tcp 127.0.0.1:2222 None None true ("sshd", 1)"#,
                r#"tcp 127.0.0.1:2222 None Some((127.0.0.1, 46556)) false ("-", 0)"#,
                r#"tcp :::80 None None true ("python3", 11999)"#,
                r#"tcp 127.0.0.1:80 None Some((127.0.0.1, 39382)) false ("-", 0)"#,
            ]
        );
        assert_eq!(read.value.iter().filter(|socket| socket.dual_stack).count(), 1);
    }

    #[test]
    fn written_lines_read_back() {
        let first = all(LISTING).value;
        let written: String = first.iter().map(|socket| line(socket) + "\n").collect();
        assert_eq!(all(&written).value, first);
    }

    #[test]
    fn headers_pass_and_one_protocol_listings_are_doubted() {
        let read = all("State Recv-Q Send-Q Local Address:Port Peer Address:Port\nLISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n");
        assert_eq!(read.value.len(), 1);
        assert!(read.diagnostics.iter().any(|d| d.line == 2 && d.message.contains("taken as tcp")));
    }

    #[test]
    fn bad_lines_cost_only_themselves() {
        let read = all(
            "tcp LISTEN 0 128 0.0.0.0:ssh 0.0.0.0:*\ntcp LISTEN 0\n\u{1}\u{2}\ntcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n",
        );
        assert_eq!(read.value.len(), 1);
        assert_eq!(read.diagnostics.iter().map(|d| d.line).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
