//! Interfaces, addresses, routes, policy rules and kernel settings of the copy.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::confine;
use super::{Ended, Step};
use crate::files::SnapshotFiles;

/// Time for all of `ip`.
const LIMIT: Duration = Duration::from_secs(60);

/// Lines for `ip -batch`.
struct Batch {
    lines: Vec<String>,
    /// The kind of device that stands for those of hardware.
    stand_in: &'static str,
}

/// Kinds of devices that can stand for any other, the best first; kernels lack some.
const STAND_INS: [&str; 3] = ["dummy", "ifb", "bridge"];

/// Most kernel settings that are named.
const MAX_NAMED: usize = 16;

/// The first kind that this kernel has.
fn stand_in() -> &'static str {
    let works = |kind: &&&str| {
        let mut probe = Batch { lines: Vec::new(), stand_in: "" };
        probe.lines.push(format!("link add name hepguard0 type {kind}"));
        probe.lines.push("link del dev hepguard0".to_owned());
        probe.run(&[]).is_empty()
    };
    STAND_INS.iter().find(works).copied().unwrap_or("dummy")
}

/// How the network was copied.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// What could not be made.
    pub(super) failed: Vec<String>,
    /// Interfaces of a kind that a plain device stands for, with that kind: `wg0 (wireguard)`.
    pub(super) stand_ins: Vec<String>,
    /// Kernel settings that are not as on the host.
    pub(super) settings: Vec<String>,
}

/// Makes the network that the files tell of.
pub(super) fn copy(files: &SnapshotFiles) -> Copied {
    let list = |name: &str| -> Vec<Value> {
        // some files hold two documents, one a family
        let documents = serde_json::Deserializer::from_slice(files.bytes(name).unwrap_or(b"[]")).into_iter::<Value>();
        documents.flatten().flat_map(|value| value.as_array().cloned().unwrap_or_default()).collect()
    };
    let addresses = list("ip-addr.json");
    let mut links = list("ip-link.json");
    if links.is_empty() {
        links.clone_from(&addresses);
    }
    let mut copied = Copied { stand_ins: stood_for(&links), ..Copied::default() };
    let stand_in = stand_in();
    for kind in [&[][..], &["-6"]] {
        let mut batch = Batch { lines: Vec::new(), stand_in };
        if kind.is_empty() {
            batch.links(&links);
            batch.addresses(&addresses);
        }
        let six = !kind.is_empty();
        batch.routes(&list("ip-route.json"), six);
        batch.rules(&list("ip-rule.json"), six);
        copied.failed.extend(batch.run(kind));
        if kind.is_empty() {
            copied.settings = settings(files);
        }
    }
    copied
}

/// Kind of a link that is more than a card or a plain device.
fn kind(link: &Value) -> Option<&str> {
    word(link.get("linkinfo")?, "info_kind")
}

/// Interfaces that a plain device stands for, although their kind does something of its own: a tunnel wraps, a VLAN tags.
fn stood_for(links: &[Value]) -> Vec<String> {
    let made = ["bridge", "bond", "vrf", "dummy", "ifb"];
    let others = links.iter().filter_map(|link| Some((word(link, "ifname")?, kind(link)?)));
    others.filter(|(_, kind)| !made.contains(kind)).map(|(name, kind)| format!("{name} ({kind})")).collect()
}

fn word<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str).filter(|text| is_plain(text))
}

/// A word that `ip -batch` reads as one.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\#".contains(&byte))
}

fn has_flag(object: &Value, flag: &str) -> bool {
    object.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.iter().any(|one| one == flag))
}

impl Batch {
    fn links(&mut self, links: &[Value]) {
        self.lines.push("link set lo up".to_owned());
        let names =
            || links.iter().filter_map(|link| Some((link, word(link, "ifname")?))).filter(|(_, name)| *name != "lo");
        for (link, name) in names() {
            let info = link.get("linkinfo");
            let kind = kind(link).unwrap_or("none");
            let data = |key: &str| info.and_then(|info| info.get("info_data")?.get(key)?.as_u64());
            let made = match kind {
                "bridge" => "type bridge".to_owned(),
                "bond" => "type bond".to_owned(),
                "vrf" => format!("type vrf table {}", data("table").unwrap_or(1)),
                _ => format!("type {}", self.stand_in),
            };
            let address = word(link, "address").filter(|address| address.len() == 17);
            let address = address.map(|address| format!(" address {address}")).unwrap_or_default();
            self.lines.push(format!("link add name {name}{address} {made}"));
            if let Some(mtu) = link.get("mtu").and_then(Value::as_u64).filter(|mtu| (68..=65_535).contains(mtu)) {
                self.lines.push(format!("link set dev {name} mtu {mtu}"));
            }
        }
        for (link, name) in names() {
            if let Some(master) = word(link, "master") {
                self.lines.push(format!("link set dev {name} master {master}"));
            }
            if has_flag(link, "UP") {
                self.lines.push(format!("link set dev {name} up"));
            }
        }
    }

    fn addresses(&mut self, interfaces: &[Value]) {
        for interface in interfaces {
            let Some(name) = word(interface, "ifname") else { continue };
            let all = interface.get("addr_info").and_then(Value::as_array).into_iter().flatten();
            for address in all {
                let (Some(local), Some(length)) =
                    (word(address, "local"), address.get("prefixlen").and_then(Value::as_u64))
                else {
                    continue;
                };
                if name == "lo" && (local == "127.0.0.1" || local == "::1") {
                    continue;
                }
                let six = local.contains(':');
                // made by the kernel as the link comes up, or left from then
                let verb = if six { "replace" } else { "add" };
                let scope = word(address, "scope").map(|scope| format!(" scope {scope}")).unwrap_or_default();
                let broadcast = word(address, "broadcast").map(|to| format!(" broadcast {to}")).unwrap_or_default();
                let peer = word(address, "address").map(|peer| format!(" peer {peer}"));
                let at = if peer.is_some() { local.to_owned() } else { format!("{local}/{length}") };
                let peer = peer.map(|peer| format!("{peer}/{length}")).unwrap_or_default();
                let nodad = if six { " nodad" } else { "" };
                self.lines.push(format!("addr {verb} {at}{peer}{broadcast}{scope} dev {name}{nodad}"));
            }
        }
    }

    fn routes(&mut self, routes: &[Value], six: bool) {
        for route in routes {
            let Some(to) = word(route, "dst") else { continue };
            let kernel = word(route, "protocol") == Some("kernel") || word(route, "table") == Some("local");
            if kernel || is_six(route, to) != six {
                continue;
            }
            let mut line = String::from("route replace");
            for part in [word(route, "type"), Some(to)].into_iter().flatten() {
                line.push(' ');
                line.push_str(part);
            }
            for (key, name) in [
                ("gateway", "via"),
                ("dev", "dev"),
                ("prefsrc", "src"),
                ("scope", "scope"),
                ("table", "table"),
                ("protocol", "proto"),
            ] {
                if let Some(value) = word(route, key) {
                    line.push_str(&format!(" {name} {value}"));
                }
            }
            if let Some(host) = route.get("via").and_then(|via| word(via, "host")) {
                line.push_str(&format!(" via inet6 {host}"));
            }
            if let Some(metric) = route.get("metric").and_then(Value::as_u64) {
                line.push_str(&format!(" metric {metric}"));
            }
            // the copy's devices know no neighbours
            if has_flag(route, "onlink") || word(route, "gateway").is_some() && word(route, "dev").is_some() {
                line.push_str(" onlink");
            }
            for hop in route.get("nexthops").and_then(Value::as_array).into_iter().flatten() {
                line.push_str(" nexthop");
                for (key, name) in [("gateway", "via"), ("dev", "dev")] {
                    if let Some(value) = word(hop, key) {
                        line.push_str(&format!(" {name} {value}"));
                    }
                }
                if let Some(weight) = hop.get("weight").and_then(Value::as_u64) {
                    line.push_str(&format!(" weight {weight}"));
                }
                line.push_str(" onlink");
            }
            self.lines.push(line);
        }
    }

    fn rules(&mut self, rules: &[Value], six: bool) {
        for rule in rules {
            let Some(priority) = rule.get("priority").and_then(Value::as_u64) else { continue };
            if [0, 32_766, 32_767].contains(&priority) {
                continue;
            }
            let ends = [word(rule, "src"), word(rule, "dst")];
            let of_six = ends.iter().flatten().any(|end| end.contains(':'));
            let of_four = ends.iter().flatten().any(|end| end.contains('.'));
            if (six && of_four) || (!six && of_six) {
                continue;
            }
            let mut line = format!("rule add priority {priority}");
            for (key, length, name) in [("src", "srclen", "from"), ("dst", "dstlen", "to")] {
                if let Some(end) = word(rule, key) {
                    let length =
                        rule.get(length).and_then(Value::as_u64).map(|length| format!("/{length}")).unwrap_or_default();
                    line.push_str(&format!(" {name} {end}{length}"));
                }
            }
            if let Some(mark) = word(rule, "fwmark") {
                let mask = word(rule, "fwmask").map(|mask| format!("/{mask}")).unwrap_or_default();
                line.push_str(&format!(" fwmark {mark}{mask}"));
            }
            for (key, name) in [
                ("iif", "iif"),
                ("oif", "oif"),
                ("ipproto", "ipproto"),
                ("tos", "tos"),
                ("table", "lookup"),
                ("action", ""),
            ] {
                if let Some(value) = word(rule, key) {
                    line.push_str(&format!(" {name} {value}"));
                }
            }
            for (key, name) in
                [("sport", "sport"), ("dport", "dport"), ("suppress_prefixlength", "suppress_prefixlength")]
            {
                if let Some(value) = rule.get(key).filter(|value| value.is_u64()) {
                    line.push_str(&format!(" {name} {value}"));
                }
            }
            self.lines.push(line);
        }
    }

    /// Runs the lines; gives back those that failed.
    fn run(&self, family: &[&str]) -> Vec<String> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        let mut command = vec!["ip"];
        command.extend(family);
        command.extend(["-force", "-batch", "-"]);
        let input = self.lines.join("\n") + "\n";
        let step = Step {
            name: "ip".to_owned(),
            command: command.iter().map(Into::into).collect(),
            input: input.into_bytes(),
            folder: "/".into(),
            independent: false,
        };
        match confine::run(&step, LIMIT) {
            Ok((Ended::Status(0), _)) => Vec::new(),
            Ok((_, said)) => self.failed(&said),
            Err(why) => vec![why],
        }
    }

    /// `Command failed -:7`, behind its reason.
    fn failed(&self, said: &str) -> Vec<String> {
        let mut all = Vec::new();
        let mut reason = "";
        for line in said.lines() {
            let Some(number) = line.strip_prefix("Command failed -:") else {
                reason = line;
                continue;
            };
            let number: usize = number.trim().parse().unwrap_or(0);
            let text = number.checked_sub(1).and_then(|at| self.lines.get(at)).map_or("", String::as_str);
            // there already, by the kernel's own hand
            if !reason.contains("File exists") {
                all.push(format!("'ip {text}' failed in the copy: {reason}"));
            }
        }
        all
    }
}

fn is_six(route: &Value, to: &str) -> bool {
    let six = |text: Option<&str>| text.is_some_and(|text| text.contains(':'));
    // default routes tell by their gateway, else by what only one family has
    six(Some(to)) || (to == "default" && (six(word(route, "gateway")) || route.get("pref").is_some()))
}

/// Settings of the network. Gives back those that could not be made as they are on the host.
fn settings(files: &SnapshotFiles) -> Vec<String> {
    let text = String::from_utf8_lossy(files.bytes("sysctl.txt").unwrap_or_default()).into_owned();
    let mut differing = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let (name, value) = (name.trim(), value.trim());
        if !name.starts_with("net.") || name.contains("..") || name.ends_with("_count") {
            continue;
        }
        // as sysctl writes names: dots between, slashes inside
        let path: String = name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect();
        let path = Path::new("/proc/sys").join(path);
        let is_so = || {
            let now = fs::read_to_string(&path).unwrap_or_default();
            now.split_whitespace().eq(value.split_whitespace())
        };
        if is_so() {
            continue;
        }
        let _ = fs::write(&path, value);
        if !is_so() && differing.len() < MAX_NAMED {
            differing.push(name.to_owned());
        }
    }
    differing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;

    #[test]
    fn the_labs_network_as_lines() {
        let files = demo::World::Before.files();
        let list = |name: &str| -> Vec<Value> {
            let value: Value = serde_json::from_slice(files.bytes(name).expect("there")).expect("JSON");
            value.as_array().cloned().expect("a list")
        };
        let mut batch = Batch { lines: Vec::new(), stand_in: "dummy" };
        batch.links(&list("ip-link.json"));
        batch.addresses(&list("ip-addr.json"));
        batch.routes(&list("ip-route.json"), false);
        for line in [
            "link set lo up",
            "link add name ens5 address 02:5e:7a:10:01:0a type dummy",
            "link set dev ens5 mtu 9001",
            "link set dev ens5 up",
            "route replace default via 10.0.1.1 dev ens5 src 10.0.1.10 proto dhcp metric 100 onlink",
        ] {
            assert!(batch.lines.iter().any(|known| known == line), "{line:?} in {:#?}", batch.lines);
        }
        assert!(batch.lines.iter().any(|line| line.starts_with("addr add 10.0.1.10/24 ")), "{:#?}", batch.lines);
    }

    #[test]
    fn links_that_something_stands_for_are_named() {
        let link = |name: &str, kind: Option<&str>| {
            let info = kind.map(|kind| serde_json::json!({ "info_kind": kind }));
            serde_json::json!({ "ifname": name, "linkinfo": info })
        };
        let links = [
            link("eth0", None),
            link("br0", Some("bridge")),
            link("eth0.7", Some("vlan")),
            link("wg0", Some("wireguard")),
        ];
        assert_eq!(stood_for(&links), ["eth0.7 (vlan)", "wg0 (wireguard)"]);
    }

    #[test]
    fn words_that_batch_would_split_are_left_out() {
        let link = serde_json::json!([{ "ifname": "a b\nlink del lo", "flags": ["UP"] }]);
        let mut batch = Batch { lines: Vec::new(), stand_in: "dummy" };
        batch.links(link.as_array().expect("a list"));
        assert_eq!(batch.lines, ["link set lo up"]);
    }
}
