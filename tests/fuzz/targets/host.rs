//! Listings of the host around the firewall.

use hepguard::diagnostic::MAX_DIAGNOSTICS;
use hepguard::host;
use hepguard::host::services;

use super::firewall::source;
use super::folder::parts;

/// `ip -j addr`, `link`, `route`, `rule` and `maddr`: each reader gets every text.
pub(super) fn ip_json(input: &[u8]) {
    let mut tables = host::ip::TableNumbers::default();
    let interfaces = host::ip::interfaces(&source(), input);
    let routes = host::ip::routes(&source(), input, &mut tables);
    let rules = host::ip::rules(&source(), input, &mut tables);
    let groups = host::ip::groups(&source(), input);
    let remarks = [&interfaces.diagnostics, &routes.diagnostics, &rules.diagnostics, &groups.diagnostics];
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

/// BPF programs and filters, as `bpftool` and `tc` list them. A listing read twice tells nothing new.
pub(super) fn programs(input: &[u8]) {
    let attached = host::bpf::attached(&source(), input);
    assert!(attached.diagnostics.len() <= MAX_DIAGNOSTICS);
    let mut known = Vec::new();
    host::bpf::merge(&mut known, attached.value);
    host::bpf::merge(&mut known, host::bpf::filters(input));
    for program in &known {
        let _ = (program.words(), program.is_calico());
    }
}

/// Names of files that tell readers which program a configuration is of.
const COLLECTORS: [&str; 6] =
    ["rsyslog.conf", "syslog-ng.conf", "fluent-bit.conf", "ossec.conf", "audisp-remote.conf", "vector.toml"];

/// A service's configuration: each reader gets every text, as a file of one name and of each other.
pub(super) fn services(input: &[u8]) {
    let own = parts(input).into_iter().next();
    let (name, text) = own.map_or(("vector.toml".to_owned(), input), |(name, text)| (name, text));
    let text = String::from_utf8_lossy(text);
    for name in COLLECTORS.into_iter().chain([name.as_str()]) {
        bounded(&text, &services::collectors::read(name, &text));
    }
    for read in [
        services::directory::read,
        services::mounts::iscsi,
        services::time::servers,
        services::time::timesyncd,
        services::time::chrony_sources,
    ] {
        bounded(&text, &read(&text));
    }
    let most = text.len() + 1;
    assert!(services::sshd::ports(&text).len() <= most && services::sshd::socket_ports(&text).len() <= most);
    assert!(services::mounts::network(&text).len() <= most && services::leases::read(&text).len() <= most);
    assert!(services::routing::read(&text).bgp.len() <= most);
    let _ = services::in_hosts_file(&text, "localhost");
    for word in text.split_whitespace() {
        let _ = (services::host_and_port(word), services::url(word));
    }
}

/// Each destination names a line of the text.
fn bounded(text: &str, found: &[services::Destination]) {
    let lines = text.lines().count();
    assert!(found.iter().all(|one| (1..=lines).contains(&(one.line as usize))), "{found:?}");
}
