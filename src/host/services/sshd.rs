//! On which ports sshd is to listen: `sshd_config` (sshd_config(5)) and socket units (systemd.socket(5)).

use super::lines;

/// Ports with their lines. `Port` and the port of `ListenAddress`; what stands behind `Match` cannot set them.
#[must_use]
pub fn ports(text: &str) -> Vec<(u16, u32)> {
    let mut found = Vec::new();
    for (number, line) in lines(text, &['#']) {
        let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        let value = value.trim_matches('"');
        match key.to_ascii_lowercase().as_str() {
            "match" => break,
            "port" => found.extend(value.parse().ok().map(|port| (port, number))),
            "listenaddress" => found.extend(port_of(value).map(|port| (port, number))),
            _ => {}
        }
    }
    found.retain(|(port, _)| *port > 0);
    found.truncate(super::MAX_FOUND);
    found
}

/// Ports of `ListenStream=`; an empty value forgets those before it.
#[must_use]
pub fn socket_ports(text: &str) -> Vec<(u16, u32)> {
    let mut found = Vec::new();
    for (number, line) in lines(text, &['#', ';']) {
        match super::value_of(line, "ListenStream") {
            Some("") => found.clear(),
            Some(value) => {
                let port = value.parse().ok().or_else(|| port_of(value));
                found.extend(port.filter(|port| *port > 0).map(|port| (port, number)));
            }
            None => {}
        }
    }
    found.truncate(super::MAX_FOUND);
    found
}

fn port_of(address: &str) -> Option<u16> {
    super::host_and_port(address).and_then(|(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_both_kinds_of_files() {
        let text = "#Port 1\nPort 2222\nport=2200\nListenAddress 10.0.0.1:2022\nListenAddress ::\nPort x\nMatch User a\nPort 9\n";
        assert_eq!(ports(text), [(2222, 2), (2200, 3), (2022, 4)]);
        let unit = "[Socket]\nListenStream=22\nListenStream=\nListenStream=2222\nListenStream=0.0.0.0:2200\nListenStream=/run/x\n";
        assert_eq!(socket_ports(unit), [(2222, 4), (2200, 5)]);
    }
}
