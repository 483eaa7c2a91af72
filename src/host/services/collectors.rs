//! Where logs and alarms are sent: rsyslog, syslog-ng, journald's upload, Fluent Bit, Vector, Filebeat, Promtail, Wazuh,
//! auditd's remote plugin, Falco's sidekick.

use super::{Destination, Peer, host_and_port, lines, url, value_of};
use crate::packet::Protocol;

/// Syslog's port.
const SYSLOG: u16 = 514;

/// Destinations in a file, by the program its name tells.
#[must_use]
pub fn read(name: &str, text: &str) -> Vec<Destination> {
    let mut found = if name.contains("rsyslog") {
        rsyslog(text)
    } else if name.contains("syslog-ng") {
        syslog_ng(text)
    } else if name.contains("fluent-bit") || name.contains("td-agent-bit") {
        fluent_bit(text)
    } else if name.ends_with("ossec.conf") {
        wazuh(text)
    } else if name.ends_with("audisp-remote.conf") {
        audisp(text)
    } else {
        generic(text)
    };
    found.retain(|one| !one.peer.is_loopback());
    found.truncate(super::MAX_FOUND);
    found
}

/// `@host`, `@@host:port` and `action(type="omfwd" …)`, which may run over lines.
fn rsyslog(text: &str) -> Vec<Destination> {
    let mut found = Vec::new();
    let mut action: Option<(u32, String)> = None;
    for (line, content) in lines(text, &['#']) {
        if let Some((_, text)) = &mut action {
            text.push(' ');
            text.push_str(content);
        } else if let Some((_, rest)) = content.split_once("action(") {
            action = Some((line, rest.to_owned()));
        } else if let Some(peer) = content.split_whitespace().nth(1).and_then(|word| word.strip_prefix('@')) {
            found.extend(forward(peer, line));
        }
        if let Some((line, text)) = action.take_if(|(_, text)| text.contains(')') || text.len() > 4096) {
            found.extend(omfwd(&text, line));
        }
    }
    found
}

/// What stands behind the first `@`: another one for TCP, options in parentheses, the peer.
fn forward(text: &str, line: u32) -> Option<Destination> {
    let (protocol, text) = match text.strip_prefix('@') {
        Some(rest) => (Protocol::TCP, rest),
        None => (Protocol::UDP, text),
    };
    let text = if text.starts_with('(') { text.split_once(')')?.1 } else { text };
    let (peer, port) = host_and_port(text.split(';').next()?)?;
    Some(Destination { peer, protocol, port: port.unwrap_or(SYSLOG), line })
}

fn omfwd(text: &str, line: u32) -> Option<Destination> {
    let value = |name: &str| {
        let lower = text.to_ascii_lowercase();
        let at = lower.find(&format!("{name}=\""))? + name.len() + 2;
        let rest = text.get(at..)?;
        rest.split('"').next()
    };
    let kind = value("type")?.to_ascii_lowercase();
    if !matches!(kind.as_str(), "omfwd" | "omrelp") {
        return None;
    }
    let protocol = match value("protocol") {
        Some(protocol) if protocol.eq_ignore_ascii_case("tcp") => Protocol::TCP,
        _ if kind == "omrelp" => Protocol::TCP,
        _ => Protocol::UDP,
    };
    let port = value("port").and_then(|port| port.parse().ok()).unwrap_or(SYSLOG);
    Some(Destination { peer: Peer::read(value("target")?)?, protocol, port, line })
}

/// `destination d { network("host" port(6514) transport("tls")); };`
fn syslog_ng(text: &str) -> Vec<Destination> {
    const DRIVERS: [&str; 6] = ["network(", "syslog(", "tcp(", "udp(", "tcp6(", "udp6("];
    let mut found = Vec::new();
    let mut inside = false;
    let mut driver: Option<(u32, &str, String)> = None;
    for (line, content) in lines(text, &['#']) {
        inside |= content.starts_with("destination ");
        if let Some((_, _, text)) = &mut driver {
            text.push(' ');
            text.push_str(content);
        } else if let Some(name) = DRIVERS.iter().filter(|_| inside).find(|name| content.contains(**name)) {
            let rest = content.split_once(name).map_or("", |(_, rest)| rest);
            driver = Some((line, name, rest.to_owned()));
        }
        let closed = content.ends_with("};") || content == "}";
        if let Some((line, name, text)) =
            driver.take_if(|(_, _, text)| text.contains(");") || closed || text.len() > 4096)
        {
            found.extend(driver_of(name, &text, line));
        }
        inside &= !closed;
    }
    found
}

fn driver_of(name: &str, text: &str, line: u32) -> Option<Destination> {
    let option = |name: &str| text.split(name).nth(1)?.split(')').next().map(|value| value.trim().trim_matches('"'));
    let peer = Peer::read(text.split(['"', '\'']).nth(1)?)?;
    let transport = option("transport(").unwrap_or_default();
    let tcp = name.starts_with("tcp") || matches!(transport, "tcp" | "tls");
    let udp = name.starts_with("udp") || transport == "udp";
    let protocol = if tcp || !udp { Protocol::TCP } else { Protocol::UDP };
    let usual = if transport == "tls" {
        6514
    } else if name == "syslog(" {
        601
    } else {
        SYSLOG
    };
    let port = option("port(").and_then(|port| port.parse().ok()).unwrap_or(usual);
    Some(Destination { peer, protocol, port, line })
}

/// An `[OUTPUT]` section as far as it was read.
#[derive(Default)]
struct Output {
    plugin: String,
    peer: Option<(Peer, u32)>,
    port: Option<u16>,
    udp: bool,
}

impl Output {
    fn destination(self) -> Option<Destination> {
        let (peer, line) = self.peer?;
        let usual = match self.plugin.as_str() {
            "forward" => 24224,
            "es" | "opensearch" => 9200,
            "splunk" => 8088,
            "loki" => 3100,
            "gelf" => 12201,
            "syslog" => SYSLOG,
            "tcp" => 5170,
            _ => 80,
        };
        let protocol = if self.udp { Protocol::UDP } else { Protocol::TCP };
        Some(Destination { peer, protocol, port: self.port.unwrap_or(usual), line })
    }
}

/// `[OUTPUT]` sections with `Name`, `Host`, `Port`.
fn fluent_bit(text: &str) -> Vec<Destination> {
    let mut found = Vec::new();
    let mut output: Option<Output> = None;
    for (line, content) in lines(text, &['#']) {
        if content.starts_with('[') {
            found.extend(output.take().and_then(Output::destination));
            output = content.eq_ignore_ascii_case("[OUTPUT]").then(Output::default);
            continue;
        }
        let Some(output) = &mut output else { continue };
        let Some((key, value)) = content.split_once(char::is_whitespace) else { continue };
        let value = value.trim();
        match key.to_ascii_lowercase().as_str() {
            "name" => {
                output.plugin = value.to_ascii_lowercase();
                output.udp = matches!(output.plugin.as_str(), "syslog" | "gelf");
            }
            "host" => output.peer = Peer::read(value).map(|peer| (peer, line)),
            "port" => output.port = value.parse().ok(),
            "mode" => output.udp = value.eq_ignore_ascii_case("udp"),
            _ => {}
        }
    }
    found.extend(output.and_then(Output::destination));
    found
}

/// `<address>` or `<server-ip>`, `<port>`, `<protocol>` inside `<client>`.
fn wazuh(text: &str) -> Vec<Destination> {
    let mut found: Vec<Destination> = Vec::new();
    let mut inside = false;
    for (line, content) in lines(text, &[]) {
        inside = (inside || content.starts_with("<client>")) && !content.starts_with("</client>");
        let element = |name: &str| content.strip_prefix(&format!("<{name}>"))?.split('<').next().map(str::trim);
        let address = element("address").or_else(|| element("server-ip")).or_else(|| element("server-hostname"));
        if let Some(peer) = address.filter(|_| inside).and_then(Peer::read) {
            found.push(Destination { peer, protocol: Protocol::TCP, port: 1514, line });
        }
        let Some(last) = found.last_mut().filter(|_| inside) else { continue };
        if let Some(port) = element("port").and_then(|port| port.parse().ok()) {
            last.port = port;
        }
        if element("protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp")) {
            last.protocol = Protocol::UDP;
        }
    }
    found
}

/// `remote_server = host`, `port = 60`.
fn audisp(text: &str) -> Vec<Destination> {
    let value = |name: &str| lines(text, &['#']).find_map(|(line, content)| Some((line, value_of(content, name)?)));
    let server = value("remote_server").and_then(|(line, text)| Some((line, Peer::read(text)?)));
    let port = value("port").and_then(|(_, text)| text.parse().ok()).unwrap_or(60);
    server.into_iter().map(|(line, peer)| Destination { peer, protocol: Protocol::TCP, port, line }).collect()
}

/// Keys whose values are destinations in YAML, TOML and `key = value` files.
const KEYS: [&str; 16] = [
    "address",
    "bootstrap_servers",
    "endpoint",
    "endpoints",
    "hec_host",
    "host",
    "hosts",
    "hostport",
    "opensearch",
    "remote_server",
    "server",
    "servers",
    "target",
    "uri",
    "url",
    "urls",
];

/// URLs and `host:port` behind the usual keys; a list may follow in the lines below.
fn generic(text: &str) -> Vec<Destination> {
    let mut found = Vec::new();
    let mut listing = false;
    for (line, content) in lines(text, &['#', ';']) {
        let item = content.strip_prefix("- ");
        let content = item.unwrap_or(content);
        let value = match content.split_once(['=', ':']) {
            Some((key, value)) if KEYS.contains(&key.trim().trim_matches('"').to_ascii_lowercase().as_str()) => {
                listing = value.trim().is_empty() || value.trim() == "[";
                value
            }
            _ if listing && (item.is_some() || content.starts_with(['"', '\''])) => content,
            _ => {
                listing = false;
                continue;
            }
        };
        for part in value.split([',', ' ', '[', '\t']).map(|part| part.trim_matches(['"', '\'', ']', ' '])) {
            let peer = url(part).or_else(|| host_and_port(part).and_then(|(peer, port)| Some((peer, port?))));
            found.extend(peer.map(|(peer, port)| Destination { peer, protocol: Protocol::TCP, port, line }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, text: &str) -> Vec<String> {
        let all = read(name, text);
        all.iter().map(|one| format!("{} {}/{} {}", one.line, one.protocol, one.port, one.peer)).collect()
    }

    #[test]
    fn rsyslog_in_its_three_grammars() {
        let text = "# *.* @old\n*.* @10.0.0.5\n*.* @@(z9)siem.example:6514;fmt\nauth.* action(type=\"omfwd\"\n  target=\"10.0.0.6\" port=\"1514\" protocol=\"tcp\")\n\
            *.* action(type=\"omfile\" file=\"/x\")\n*.* :omusrmsg:*\n*.* @127.0.0.1\n";
        assert_eq!(
            shown("etc/rsyslog.conf", text),
            ["2 udp/514 10.0.0.5", "3 tcp/6514 siem.example", "4 tcp/1514 10.0.0.6"]
        );
    }

    #[test]
    fn the_others() {
        let ng = "source s { network(\"0.0.0.0\" port(1)); };\ndestination d {\n network(\"siem.example\" port(6514) transport(\"tls\"));\n};\n";
        assert_eq!(shown("etc/syslog-ng/syslog-ng.conf", ng), ["3 tcp/6514 siem.example"]);
        let bit = "[INPUT]\n Name tail\n Host x\n[OUTPUT]\n Name forward\n Host 10.0.0.7\n[OUTPUT]\n name syslog\n host 10.0.0.8\n port 5140\n mode tcp\n";
        assert_eq!(shown("etc/fluent-bit/fluent-bit.conf", bit), ["6 tcp/24224 10.0.0.7", "9 tcp/5140 10.0.0.8"]);
        let wazuh = "<client>\n<server>\n<address>10.0.0.9</address>\n<port>1515</port>\n<protocol>udp</protocol>\n</server>\n</client>\n";
        assert_eq!(shown("etc/ossec.conf", wazuh), ["3 udp/1515 10.0.0.9"]);
        let vector = "[sources.a]\naddress = \"0.0.0.0:514\"\n[sinks.b]\nendpoints = [\"https://10.0.0.1:9200\"]\naddress = \"siem.example:6000\"\n";
        assert_eq!(shown("etc/vector/vector.toml", vector), ["4 tcp/9200 10.0.0.1", "5 tcp/6000 siem.example"]);
        let beat = "output.logstash:\n  hosts:\n    - \"10.0.0.3:5044\"\n    - 10.0.0.4:5044\n  other: x:1\n";
        assert_eq!(shown("etc/filebeat/filebeat.yml", beat), ["3 tcp/5044 10.0.0.3", "4 tcp/5044 10.0.0.4"]);
        assert_eq!(
            shown("etc/audit/audisp-remote.conf", "remote_server = 10.0.0.2\nport = 60\n"),
            ["1 tcp/60 10.0.0.2"]
        );
        assert_eq!(
            shown("etc/systemd/journal-upload.conf", "[Upload]\nURL=https://logs.example:19532\n"),
            ["2 tcp/19532 logs.example"]
        );
    }
}
