//! FelixConfiguration resources, turned into the raw settings that Felix gets from its datastore.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::params::param;
use super::ports::parse_net;
use super::value::Kind;
use super::{Assignment, Broken, Loaded, Outcome, Place, Remark, Source};
use crate::calico::yaml::{self, Node, Value};
use crate::diagnostic::{Diagnostic, Level, MAX_DIAGNOSTICS};

/// What the exported resources say.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// An export of FelixConfigurations was given (even an empty list of them).
    pub given: bool,
    /// Settings that apply to this host.
    pub loaded: Loaded,
    /// Resources of which cannot be said whether they apply to this host.
    pub undecided: Vec<Remark>,
    /// Documents that do not parse.
    pub diagnostics: Vec<Diagnostic>,
}

/// A resource, cut to what matters here.
struct Resource {
    name: String,
    created: String,
    annotations: Vec<(String, u32, String)>,
    spec: Node,
    place: Place,
    selector: Option<String>,
}

/// Reads every FelixConfiguration in `files` (name and bytes), for the host `host`; its `node.<host>` resource counts only
/// when the name is known.
pub fn read<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>, host: Option<&str>) -> Found {
    let mut found = Found::default();
    let mut resources: BTreeMap<String, Resource> = BTreeMap::new();
    let mut nodes: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (name, bytes) in files {
        let file: Arc<str> = Arc::from(name);
        let text = String::from_utf8_lossy(bytes);
        for (offset, document) in yaml::documents(&text) {
            // resources of other kinds are none of this reader's business, and large exports are full of them
            let felix = document.contains("FelixConfiguration");
            if !felix && !is_node(document) {
                continue;
            }
            match yaml::read(document) {
                Ok(root) => collect(&root, &file, offset, 0, &mut found.given, &mut resources, &mut nodes),
                Err(error) if found.diagnostics.len() < MAX_DIAGNOSTICS => {
                    let line =
                        if error.line == 0 { offset.saturating_add(1) } else { offset.saturating_add(error.line) };
                    let message = format!("expected a Calico resource as YAML or JSON: {}", error.message);
                    found.diagnostics.push(Diagnostic::new(Level::Error, &file, line, error.column, message));
                }
                Err(_) => {}
            }
        }
    }
    choose(&mut found, resources, &nodes, host);
    found
}

fn is_node(document: &str) -> bool {
    document.lines().any(|line| line.trim_start_matches([' ', '-']).trim_end() == "kind: Node")
        || document.contains("\"Node\"")
}

fn collect(
    root: &Node,
    file: &Arc<str>,
    offset: u32,
    depth: usize,
    given: &mut bool,
    resources: &mut BTreeMap<String, Resource>,
    nodes: &mut BTreeMap<String, BTreeMap<String, String>>,
) {
    let kind = root.get("kind").and_then(Node::text).unwrap_or_default();
    let metadata = root.get("metadata");
    let field = |name: &str| metadata.and_then(|m| m.get(name)).and_then(Node::text).unwrap_or_default().to_owned();
    match kind {
        "FelixConfigurationList" => *given = true,
        "Node" => {
            let labels = metadata.and_then(|m| m.get("labels")).map(Node::entries).unwrap_or_default();
            let labels = labels.iter().filter_map(|(key, _, value)| Some((key.clone(), value.text()?.to_owned())));
            nodes.insert(field("name"), labels.collect());
        }
        "FelixConfiguration" => {
            *given = true;
            let annotations = metadata.and_then(|m| m.get("annotations")).map(Node::entries).unwrap_or_default();
            let spec = root.get("spec").cloned().unwrap_or(Node::null(root.line));
            let resource = Resource {
                name: field("name"),
                created: field("creationTimestamp"),
                annotations: annotations
                    .iter()
                    .filter_map(|(key, line, value)| Some((key.clone(), line + offset, value.text()?.to_owned())))
                    .collect(),
                selector: spec.get("nodeSelector").and_then(Node::text).map(str::to_owned),
                place: Place { file: Arc::clone(file), line: root.line.saturating_add(offset) },
                spec: spec.moved(offset),
            };
            resources.insert(resource.name.clone(), resource);
        }
        _ => {}
    }
    if (kind == "List" || kind.ends_with("List")) && depth < 3 {
        for item in root.get("items").map(Node::items).unwrap_or_default() {
            collect(item, file, offset, depth + 1, given, resources, nodes);
        }
    }
}

/// The raw settings of one FelixConfiguration, whichever hosts it is for. Lines are those of `root`.
pub(in crate::calico) fn one(root: &Node, file: &Arc<str>) -> Loaded {
    let mut resources = BTreeMap::new();
    collect(root, file, 0, 0, &mut false, &mut resources, &mut BTreeMap::new());
    let mut loaded = Loaded::default();
    for resource in resources.into_values() {
        let per_host = resource.name.starts_with("node.");
        loaded
            .extend(assignments(&resource, if per_host { Source::DatastorePerHost } else { Source::DatastoreGlobal }));
    }
    loaded
}

/// Which resources apply to the host.
fn choose(
    found: &mut Found,
    resources: BTreeMap<String, Resource>,
    nodes: &BTreeMap<String, BTreeMap<String, String>>,
    host: Option<&str>,
) {
    let mut selected: Vec<Resource> = Vec::new();
    for resource in resources.into_values() {
        let note = |text: String| Remark { place: resource.place.clone(), text };
        let name = super::ports::shortened(&resource.name);
        match (resource.name.strip_prefix("node."), &resource.selector, host) {
            _ if resource.name == "default" => found.loaded.extend(assignments(&resource, Source::DatastoreGlobal)),
            (Some(node), _, Some(host)) if node == host => {
                found.loaded.extend(assignments(&resource, Source::DatastorePerHost));
            }
            (Some(_), _, Some(_)) => {}
            (Some(node), _, None) => {
                found.undecided.push(note(format!(
                    "{name} applies to the host {:?}; this host's name is unknown",
                    super::ports::shortened(node)
                )));
            }
            (None, None, _) => found.loaded.remarks.push(note(format!(
                "{name} is neither default nor node.HOST and has no nodeSelector; Felix ignores it"
            ))),
            (None, Some(selector), _) => {
                let labels = host.and_then(|host| nodes.get(host));
                match labels.map(|labels| selects(selector, labels)) {
                    Some(Some(true)) => selected.push(resource),
                    Some(Some(false)) => {}
                    None if host.is_some() && !nodes.is_empty() => {}
                    _ => found.undecided.push(note(format!(
                        "whether {name} (nodeSelector {:?}) applies cannot be told from the resources given",
                        super::ports::shortened(selector)
                    ))),
                }
            }
        }
    }
    // the oldest wins, then the smallest name
    selected.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
    if let Some(resource) = selected.first() {
        let text = "read by Felix 3.32 and newer only".to_owned();
        found.loaded.remarks.push(Remark { place: resource.place.clone(), text });
        found.loaded.extend(assignments(resource, Source::DatastorePerSelector));
    }
}

/// Whether a selector of simple terms (`all()`, `has(k)`, `!has(k)`, `k == 'v'`, `k != 'v'`, joined by `&&`) selects
/// `labels`; `None` for any other form.
fn selects(selector: &str, labels: &BTreeMap<String, String>) -> Option<bool> {
    let mut all = true;
    for term in selector.split("&&").map(str::trim) {
        let quoted = |text: &str| {
            let text = text.trim();
            let inner = ['\'', '"'].into_iter().find_map(|q| text.strip_prefix(q)?.strip_suffix(q));
            inner.filter(|inner| !inner.contains(['\'', '"'])).map(str::to_owned)
        };
        let inside = |text: &str| {
            text.strip_suffix(')').map(str::trim).filter(|key| !key.contains(['(', ' '])).map(str::to_owned)
        };
        let key =
            |text: &str| Some(text.trim().to_owned()).filter(|key| !key.is_empty() && !key.contains(['(', ' ', '!']));
        all &= if term == "all()" {
            true
        } else if let Some(name) = term.strip_prefix("has(") {
            labels.contains_key(&inside(name)?)
        } else if let Some(name) = term.strip_prefix("!has(") {
            !labels.contains_key(&inside(name)?)
        } else if let Some((name, value)) = term.split_once("==") {
            labels.get(&key(name)?) == Some(&quoted(value)?)
        } else if let Some((name, value)) = term.split_once("!=") {
            labels.get(&key(name)?) != Some(&quoted(value)?)
        } else {
            return None;
        };
    }
    Some(all)
}

const ANNOTATION: &str = "config.projectcalico.org/";

/// Names of fields that differ from the parameter's name in more than letter case.
const ALIASES: [(&str, &str); 11] = [
    ("iptablesPostWriteCheckInterval", "IptablesPostWriteCheckIntervalSecs"),
    ("iptablesLockProbeInterval", "IptablesLockProbeIntervalMillis"),
    ("netlinkTimeout", "NetlinkTimeoutSecs"),
    ("ipipEnabled", "IpInIpEnabled"),
    ("ipipMTU", "IpInIpMtu"),
    ("reportingInterval", "ReportingIntervalSecs"),
    ("reportingTTL", "ReportingTTLSecs"),
    ("endpointReportingDelay", "EndpointReportingDelaySecs"),
    ("usageReportingInitialDelay", "UsageReportingInitialDelaySecs"),
    ("usageReportingInterval", "UsageReportingIntervalSecs"),
    ("externalNodesList", "ExternalNodesCIDRList"),
];

/// The raw settings of one resource. An annotation named exactly like a field's parameter replaces that field.
fn assignments(resource: &Resource, source: Source) -> Loaded {
    let mut loaded = Loaded::default();
    let file = &resource.place.file;
    let annotated: Vec<(&str, u32, &str)> = resource
        .annotations
        .iter()
        .filter_map(|(key, line, value)| Some((key.strip_prefix(ANNOTATION)?, *line, value.as_str())))
        .collect();
    for (field, line, node) in resource.spec.entries() {
        if field == "nodeSelector" || node.value == Value::Null {
            continue;
        }
        let alias = ALIASES.iter().find(|(from, _)| from == field).map(|(_, to)| *to);
        let known = param(alias.unwrap_or(field));
        let name = known.map_or(field.as_str(), |known| known.name);
        if annotated.iter().any(|(annotation, _, _)| *annotation == name) {
            continue;
        }
        let place = Place { file: Arc::clone(file), line: *line };
        match raw_text(known.map(|known| known.kind), node) {
            Ok(value) => {
                loaded.assignments.push(Assignment { source, name: name.into(), value: value.into(), place });
            }
            Err(Unfit::Form(expected)) => {
                let text =
                    format!("expected {expected}; the API server would refuse this, so it is not what is stored");
                loaded.remarks.push(Remark { place, text });
            }
            Err(Unfit::Crash(reason)) => {
                loaded.broken.push(Broken { place, reason, outcome: Outcome::PanicLoop });
            }
        }
    }
    for (name, line, value) in annotated {
        let place = Place { file: Arc::clone(file), line };
        loaded.assignments.push(Assignment { source, name: name.into(), value: value.into(), place });
    }
    loaded
}

/// Why a field has no text form.
enum Unfit {
    /// Another type than the field's.
    Form(&'static str),
    /// The conversion crashes.
    Crash(String),
}

/// A field as the text that Felix gets.
fn raw_text(kind: Option<Kind>, node: &Node) -> Result<String, Unfit> {
    match (&node.value, kind) {
        (Value::List(entries), Some(Kind::PortList)) => port_list(entries),
        (_, Some(Kind::PortList)) => Err(Unfit::Form("a list of {protocol, port, net}")),
        (Value::Scalar(text), Some(Kind::Seconds | Kind::Millis)) => {
            let seconds = go_duration(text).ok_or(Unfit::Form("a duration such as 90s"))?;
            Ok(if kind == Some(Kind::Millis) { seconds * 1000.0 } else { seconds }.to_string())
        }
        (Value::Scalar(text), _) => Ok(text.clone()),
        (Value::Null, _) => Ok(String::new()),
        (Value::List(items), _) => {
            let parts: Vec<String> = items
                .iter()
                .map(|item| match item.text() {
                    Some(text) => text.to_owned(),
                    None => item.entries().iter().filter_map(|(_, _, v)| v.text()).collect::<Vec<_>>().join("-"),
                })
                .collect();
            Ok(parts.join(","))
        }
        (Value::Map(entries), _) => {
            let parts: Vec<String> =
                entries.iter().filter_map(|(key, _, v)| Some(format!("{key}={}", v.text()?))).collect();
            Ok(parts.join(","))
        }
    }
}

/// The structured form of a failsafe list; an empty one is `none`.
fn port_list(entries: &[Node]) -> Result<String, Unfit> {
    if entries.is_empty() {
        return Ok("none".to_owned());
    }
    let mut parts = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Map(_) = entry.value else { return Err(Unfit::Form("entries of {protocol, port, net}")) };
        let text = |key: &str| entry.get(key).and_then(Node::text).unwrap_or_default();
        let protocol = text("protocol").to_lowercase();
        // a missing number is 0 in Go
        let port = if text("port").is_empty() { "0" } else { text("port") };
        let net = text("net");
        parts.push(if net.is_empty() {
            format!("{protocol}:{port}")
        } else {
            let v4 = parse_net(net)
                .ok_or_else(|| {
                    let net = super::ports::shortened(net);
                    Unfit::Crash(format!("the net {net:?} is neither a CIDR nor an address; converting it crashes"))
                })?
                .is_ipv4();
            if v4 { format!("{protocol}:{net}:{port}") } else { format!("{protocol}:[{net}]:{port}") }
        });
    }
    Ok(parts.join(","))
}

/// Go's durations (`1h30m`, `500ms`), in seconds.
fn go_duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    (!text.is_empty()).then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, host: Option<&str>) -> Found {
        read([("calico/felix.yaml", text.as_bytes())].into_iter(), host)
    }

    fn list(found: &Found) -> Vec<String> {
        let one = |a: &Assignment| format!("{:?} {}={}@{}", a.source, a.name, a.value, a.place.line);
        found.loaded.assignments.iter().map(one).collect()
    }

    #[test]
    fn structured_lists_become_felixs_text() {
        let text = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata:\n  name: default\nspec:\n  \
                    failsafeInboundHostPorts:\n  - protocol: TCP\n    port: 22\n  - {protocol: UDP, port: 53, net: 10.0.0.0/8}\n  \
                    - {protocol: TCP, port: 22, net: \"fd00::/8\"}\n  failsafeOutboundHostPorts: []\n  ipv6Support: false\n  \
                    iptablesRefreshInterval: 1m30s\n  iptablesMarkMask: 4294901760\n  logPrefix: null\n";
        assert_eq!(
            list(&found(text, None)),
            [
                "DatastoreGlobal FailsafeInboundHostPorts=tcp:22,udp:10.0.0.0/8:53,tcp:[fd00::/8]:22@6",
                "DatastoreGlobal FailsafeOutboundHostPorts=none@11",
                "DatastoreGlobal Ipv6Support=false@12",
                "DatastoreGlobal IptablesRefreshInterval=90@13",
                "DatastoreGlobal IptablesMarkMask=4294901760@14",
            ]
        );
    }

    #[test]
    fn lists_documents_and_json_are_walked() {
        let text = "kind: Other\n---\nkind: List\nitems:\n- kind: FelixConfiguration\n  metadata: {name: default}\n  spec: {logPrefix: a}\n\
                    ---\n{\"kind\":\"FelixConfigurationList\",\"items\":[{\"kind\":\"FelixConfiguration\",\n\"metadata\":{\"name\":\"node.b\"},\
                    \"spec\":{\"logPrefix\":\"b\"}}]}\n";
        assert_eq!(list(&found(text, Some("b"))), ["DatastoreGlobal LogPrefix=a@7", "DatastorePerHost LogPrefix=b@10"]);
        assert_eq!(list(&found(text, Some("c"))), ["DatastoreGlobal LogPrefix=a@7"]);
        let unknown = found(text, None);
        assert_eq!((list(&unknown).len(), unknown.undecided.len()), (1, 1));
        assert!(found("kind: FelixConfigurationList\nitems: []\n", None).given);
        assert!(!found("kind: GlobalNetworkPolicy\n", None).given);
    }

    #[test]
    fn annotations_replace_fields_of_the_same_name() {
        let text = "kind: FelixConfiguration\nmetadata:\n  name: default\n  annotations:\n    \
                    config.projectcalico.org/FailsafeInboundHostPorts: \"tcp:23\"\n    other: x\nspec:\n  \
                    failsafeInboundHostPorts: [{protocol: TCP, port: 22}]\n";
        assert_eq!(list(&found(text, None)), ["DatastoreGlobal FailsafeInboundHostPorts=tcp:23@5"]);
        let other_case = text.replace("/FailsafeIn", "/failsafeIn");
        assert_eq!(list(&found(&other_case, None)).len(), 2, "both reach Felix, which takes one by chance");
    }

    #[test]
    fn what_the_api_lets_through_reaches_felix() {
        let spec = |entry: &str| {
            format!(
                "kind: FelixConfiguration\nmetadata: {{name: default}}\nspec:\n  failsafeInboundHostPorts: [{entry}]\n"
            )
        };
        assert_eq!(
            list(&found(&spec("{protocol: SCTP, port: 22}"), None)),
            ["DatastoreGlobal FailsafeInboundHostPorts=sctp:22@4"]
        );
        assert_eq!(list(&found(&spec("{port: 22}"), None)), ["DatastoreGlobal FailsafeInboundHostPorts=:22@4"]);
        let crash = found(&spec("{protocol: TCP, port: 22, net: nowhere}"), None);
        assert_eq!(crash.loaded.broken.first().expect("crash").outcome, Outcome::PanicLoop);
        let wrong = found(&spec("").replace("[]", "\"tcp:22\""), None);
        assert!(wrong.loaded.assignments.is_empty() && wrong.loaded.remarks.len() == 1);
    }

    #[test]
    fn selectors_choose_the_oldest_that_matches() {
        let one = |name: &str, time: &str, selector: &str| {
            format!(
                "kind: FelixConfiguration\nmetadata: {{name: {name}, creationTimestamp: \"{time}\"}}\nspec: {{nodeSelector: \"{selector}\", logPrefix: {name}}}\n---\n"
            )
        };
        let node = "kind: Node\nmetadata: {name: b, labels: {role: bastion}}\n";
        let text = [
            one("young", "2026-02-01T00:00:00Z", "all()"),
            one("old", "2026-01-01T00:00:00Z", "role == 'bastion' && !has(x)"),
            one("none", "2025-01-01T00:00:00Z", "role == 'x'"),
        ]
        .concat();
        let with_node = found(&format!("{text}{node}"), Some("b"));
        assert_eq!(list(&with_node), ["DatastorePerSelector LogPrefix=old@7"]);
        assert_eq!(found(&text, Some("b")).undecided.len(), 3);
        assert_eq!(list(&found(&format!("{text}{node}"), Some("other"))), [""; 0]);
        assert_eq!(found(&format!("{}{node}", one("c", "", "role in {'a'}")), Some("b")).undecided.len(), 1);
    }

    #[test]
    fn unreadable_documents_are_told_with_their_line() {
        let broken = found("kind: Other\n---\nkind: FelixConfiguration\nspec: [\n", None);
        let diagnostic = broken.diagnostics.first().expect("an error");
        assert!(diagnostic.line >= 3 && !broken.given, "{diagnostic}");
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(go_duration("1h1m1.5s"), Some(3661.5));
        assert_eq!(go_duration("500ms"), Some(0.5));
        for bad in ["", "5", "s", "1x", "1.2.3s"] {
            assert_eq!(go_duration(bad), None, "{bad:?}");
        }
    }
}
