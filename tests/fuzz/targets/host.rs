//! Listings of the host around the firewall.

use hepguard::diagnostic::MAX_DIAGNOSTICS;
use hepguard::host;

use super::firewall::source;

/// `ip -j addr`, `link`, `route` and `rule`: each reader gets every text.
pub(super) fn ip_json(input: &[u8]) {
    let mut tables = host::ip::TableNumbers::default();
    let interfaces = host::ip::interfaces(&source(), input);
    let routes = host::ip::routes(&source(), input, &mut tables);
    let rules = host::ip::rules(&source(), input, &mut tables);
    let remarks = [&interfaces.diagnostics, &routes.diagnostics, &rules.diagnostics];
    assert!(remarks.iter().all(|remarks| remarks.len() <= MAX_DIAGNOSTICS));
    let mut known = Vec::new();
    for interface in interfaces.value {
        host::ip::merge(&mut known, interface);
    }
}

/// A socket written as a line reads as the same socket, but for control characters in its owner's name.
pub(super) fn sockets(input: &[u8]) {
    let read = host::sockets::read(&source(), input);
    assert!(read.diagnostics.len() <= MAX_DIAGNOSTICS);
    for socket in &read.value {
        let line = host::sockets::line(socket);
        let again = host::sockets::read(&source(), line.as_bytes());
        let [again] = &again.value[..] else { panic!("{line:?}: {:?}", again.diagnostics) };
        let ends = |socket: &host::Socket| {
            (socket.protocol, socket.local, socket.local_port, socket.peer, socket.listening, socket.device.clone())
        };
        assert_eq!(ends(again), ends(socket), "{line:?}");
        assert_eq!(host::sockets::line(again), line);
    }
}

pub(super) fn conntrack(input: &[u8]) {
    assert!(host::conntrack::read(&source(), input).diagnostics.len() <= MAX_DIAGNOSTICS);
}

pub(super) fn sysctl(input: &[u8]) {
    assert!(host::sysctl::read(&source(), input).diagnostics.len() <= MAX_DIAGNOSTICS);
}
