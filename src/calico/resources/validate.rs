//! What the API server refuses although each field by itself is well formed.

use super::cursor::{Cursor, join};
use super::kind::Kind;
use super::problem::ProblemKind;
use super::rules::Setting;
use super::types::{Entity, Field, HostEndpoint, Meta, Policy, Port, Protocol, Rule, Tier};
use crate::calico::names::{Action, Direction};
use crate::calico::settings::ports::shortened;

pub(super) fn rule(cursor: &mut Cursor<'_>, rule: &Rule, path: &str, setting: Setting) {
    ports(cursor, rule, path);
    icmp(cursor, rule, path);
    families(cursor, rule, path);
    for (key, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        let path = join(path, key);
        services(cursor, entity, &path, key, setting);
        domains(cursor, rule, entity, &path, key, setting.direction);
        for net in entity.not_nets.iter().filter(|net| net.prefix.length() == 0) {
            let message = format!("{} in notNets: the rule can never match", net.text);
            let at = (net.line, net.column);
            cursor.refuse(ProblemKind::NotEverything, at, &join(&path, "notNets"), message, "remove the rule");
        }
    }
    if let Some(http) = &rule.http {
        let message = "http is matched by a sidecar, never by the host's rules: on a host endpoint the rule allows by address and port alone";
        cursor.problem(ProblemKind::Http, (http.line, http.column), &join(path, "http"), message, "remove it");
    }
}

fn ports(cursor: &mut Cursor<'_>, rule: &Rule, path: &str) {
    let protocol = rule.protocol.as_ref().map(|protocol| protocol.value);
    for (key, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        for (list, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
            let Some(first) = ports.first() else { continue };
            let numeric = ports.iter().any(|port| matches!(port.value, Port::Range(_)));
            let fits = match protocol {
                Some(protocol) => protocol.has_ports(),
                // names say their protocol themselves
                None => !numeric,
            };
            if fits {
                continue;
            }
            let found = protocol.map_or_else(|| "no protocol".to_owned(), |protocol| format!("protocol {protocol}"));
            let message = format!("ports with {found}, expected TCP, UDP or SCTP");
            let fix = "add protocol: TCP (or UDP, SCTP) to the rule; one rule for each protocol";
            let path = join(&join(path, key), list);
            cursor.refuse(ProblemKind::PortsWithoutProtocol, (first.line, first.column), &path, message, fix);
        }
    }
}

fn icmp(cursor: &mut Cursor<'_>, rule: &Rule, path: &str) {
    for (key, icmp) in [("icmp", &rule.icmp), ("notICMP", &rule.not_icmp)] {
        let Some(icmp) = icmp else { continue };
        let number = rule.protocol.as_ref().map(|protocol| protocol.number());
        if !matches!(number, Some(1 | 58)) {
            let found = rule.protocol.as_ref().map_or("none".to_owned(), |protocol| protocol.to_string());
            let message = format!("ICMP fields with protocol {found}, expected ICMP or ICMPv6");
            let fix = "add protocol: ICMP or protocol: ICMPv6";
            cursor.refuse(ProblemKind::Icmp, (icmp.line, icmp.column), &join(path, key), message, fix);
        }
    }
    let named = match rule.protocol.as_ref().map(|protocol| protocol.value) {
        Some(Protocol::Name("ICMP")) => Some(4),
        Some(Protocol::Name("ICMPv6")) => Some(6),
        _ => None,
    };
    if let (Some(named), Some(version)) = (named, &rule.ip_version)
        && version.value != named
    {
        let message = format!("ipVersion {} with a protocol of IPv{named}: the rule never matches", version.value);
        let at = (version.line, version.column);
        cursor.refuse(ProblemKind::Icmp, at, &join(path, "ipVersion"), message, "remove ipVersion");
    }
}

fn families(cursor: &mut Cursor<'_>, rule: &Rule, path: &str) {
    let ends = [&rule.source, &rule.destination];
    let all = ends.into_iter().flat_map(|entity| entity.nets.iter().chain(&entity.not_nets));
    let family = |net: &Field<super::types::Net>| if net.prefix.is_ipv4() { 4 } else { 6 };
    let mut first = rule.ip_version.as_ref().map(|version| version.value);
    for net in all {
        let found = family(net);
        match first {
            None => first = Some(found),
            Some(known) if known != found => {
                let message = format!("{} of IPv{found} in a rule of IPv{known}", net.text);
                let fix = "write one rule for IPv4 and one for IPv6";
                cursor.refuse(ProblemKind::MixedFamilies, (net.line, net.column), path, message, fix);
                return;
            }
            Some(_) => {}
        }
    }
}

fn services(cursor: &mut Cursor<'_>, entity: &Entity, path: &str, key: &str, setting: Setting) {
    let Some(service) = &entity.services else { return };
    let at = (service.line, service.column);
    let path = join(path, "services");
    let side = if setting.direction == Direction::In { "source" } else { "destination" };
    if key != side {
        let message = format!("services in the {key} of an {} rule", setting.direction.calico());
        cursor.refuse(ProblemKind::Services, at, &path, message, format!("move it to {side}"));
    }
    if entity.has_selector() || !entity.nets.is_empty() || !entity.not_nets.is_empty() {
        let message = "services with selectors or nets in one place";
        cursor.refuse(ProblemKind::Services, at, &path, message, "write two rules");
    }
    if key == "destination" && (!entity.ports.is_empty() || !entity.not_ports.is_empty()) {
        let message = "services with ports: the service gives the ports";
        cursor.refuse(ProblemKind::Services, at, &path, message, "remove the ports");
    }
    if !setting.namespaced && service.namespace.is_none() {
        let message = "a service without namespace in a global policy";
        cursor.refuse(ProblemKind::Services, at, &path, message, "add namespace");
    }
}

fn domains(cursor: &mut Cursor<'_>, rule: &Rule, entity: &Entity, path: &str, key: &str, direction: Direction) {
    let Some(first) = entity.domains.first() else { return };
    let at = (first.line, first.column);
    let path = join(path, "domains");
    let allow = rule.action.as_ref().is_none_or(|action| action.value == Action::Allow);
    if direction == Direction::In || key == "source" || !allow {
        let message = "domains are only matched in the destination of egress rules that allow";
        cursor.refuse(ProblemKind::Domains, at, &path, message, "use nets or a network set");
    }
    if entity.selector.is_some() || !entity.nets.is_empty() {
        let message = "domains with a selector or nets in one place";
        cursor.refuse(ProblemKind::Domains, at, &path, message, "write two rules");
    }
    for domain in &entity.domains {
        if let Some(why) = bad_domain(&domain.value) {
            let message = format!("{:?}: {why}", shortened(&domain.value));
            let fix = "write example.com and, for all below it, *.example.com";
            cursor.refuse(ProblemKind::Domains, (domain.line, domain.column), &path, message, fix);
        }
    }
}

/// Why a text is no domain that policy takes.
pub(super) fn bad_domain(text: &str) -> Option<&'static str> {
    let parts: Vec<&str> = text.split('.').collect();
    let stars = parts.iter().filter(|part| part.contains('*')).count();
    if stars > 1 {
        return Some("at most one * is allowed");
    }
    if parts.iter().any(|part| part.contains('*') && *part != "*") {
        return Some("a * stands for whole names between dots");
    }
    if parts.last() == Some(&"*") {
        return Some("the last name cannot be *");
    }
    let fits = |part: &&str| {
        *part == "*" || (!part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
    };
    (!parts.iter().all(fits)).then_some("not a domain name")
}

/// A policy as a whole.
pub(super) fn policy(cursor: &mut Cursor<'_>, policy: &Policy, meta: &Meta) {
    layers(cursor, policy);
    staged(cursor, policy, meta);
    let tier = policy.tier();
    let at = policy.tier.as_ref().map_or((meta.name.line, meta.name.column), |tier| (tier.line, tier.column));
    if tier != "default" && !meta.name.value.starts_with(&format!("{tier}.")) && meta.kind.has_tier() {
        let message = format!(
            "policy {:?} in tier {tier}: Calico Enterprise and open-source Calico up to 3.31 refuse names without the tier in front",
            shortened(&meta.name.value)
        );
        let fix = format!("name it {tier}.{}, which 3.32 takes as well", shortened(&meta.name.value));
        cursor.problem(ProblemKind::TierName, at, "metadata.name", message, fix);
    }
}

fn layers(cursor: &mut Cursor<'_>, policy: &Policy) {
    let on = |switch: &Option<Field<bool>>| switch.as_ref().filter(|switch| switch.value).map(|s| (s.line, s.column));
    let (untracked, pre_dnat) = (on(&policy.do_not_track), on(&policy.pre_dnat));
    if let (Some(at), Some(_)) = (pre_dnat, untracked) {
        let fix = "write two policies";
        cursor.refuse(ProblemKind::Layers, at, "spec.preDNAT", "preDNAT with doNotTrack", fix);
    }
    for (field, switch) in [("doNotTrack", untracked), ("preDNAT", pre_dnat)] {
        if let Some(at) = switch
            && on(&policy.apply_on_forward).is_none()
        {
            let message = format!("{field} without applyOnForward");
            let fix = "add applyOnForward: true";
            cursor.refuse(ProblemKind::Layers, at, &format!("spec.{field}"), message, fix);
        }
    }
    if pre_dnat.is_some() {
        let typed = policy.types.iter().flat_map(|types| &types.value).find(|kind| kind.value == Direction::Out);
        let at = typed.map(|kind| (kind.line, kind.column));
        let ruled = policy.egress.as_ref().filter(|rules| !rules.value.is_empty()).map(|rules| (rules.line, 0));
        if let Some(at) = at.or(ruled) {
            let message = "preDNAT policy has no egress: it sees packets that come in";
            let fix = "remove Egress and the egress rules, or move them to a policy without preDNAT";
            cursor.refuse(ProblemKind::Layers, at, "spec.egress", message, fix);
        }
    }
}

fn staged(cursor: &mut Cursor<'_>, policy: &Policy, meta: &Meta) {
    let Some(action) = &policy.staged_action else { return };
    let at = (action.line, action.column);
    if !meta.kind.is_staged() {
        let message = "stagedAction in an enforced policy";
        cursor.problem(ProblemKind::UnknownField, at, "spec.stagedAction", message, "remove it");
        return;
    }
    let bare = Policy { tier: policy.tier.clone(), staged_action: policy.staged_action.clone(), ..Policy::default() };
    if action.value == "Delete" && *policy != bare {
        let message = "stagedAction Delete with a content: only the tier may be given";
        let fix = "remove everything but tier and stagedAction";
        cursor.refuse(ProblemKind::StagedContent, at, "spec.stagedAction", message, fix);
    }
}

pub(super) fn tier(cursor: &mut Cursor<'_>, tier: &Tier, meta: &Meta) {
    let name = &meta.name;
    let at = (name.line, name.column);
    if name.value.contains('.') || name.value.len() > 63 {
        let message = format!("a tier called {:?}: at most 63 characters, no dots", shortened(&name.value));
        cursor.refuse(ProblemKind::BadValue, at, "metadata.name", message, "rename it");
    }
    let fixed = match name.value.as_str() {
        "default" => Some((1_000_000.0, false)),
        "kube-admin" => Some((1_000.0, true)),
        "kube-baseline" => Some((10_000_000.0, true)),
        _ => None,
    };
    let Some((order, pass)) = fixed else { return };
    if let Some(found) = &tier.order
        && found.value.total_cmp(&order).is_ne()
    {
        let message = format!("found {}, but the built-in tier {} has order {order}", found.value, name.value);
        cursor.refuse(ProblemKind::BadValue, (found.line, found.column), "spec.order", message, "");
    }
    if let Some(found) = &tier.default_pass
        && found.value != pass
    {
        let word = if pass { "Pass" } else { "Deny" };
        let message = format!("the built-in tier {} has defaultAction {word}", name.value);
        cursor.refuse(ProblemKind::BadValue, (found.line, found.column), "spec.defaultAction", message, "");
    }
}

pub(super) fn host_endpoint(cursor: &mut Cursor<'_>, endpoint: &HostEndpoint, addressed: bool, line: u32) {
    if endpoint.node.as_ref().is_none_or(|node| node.value.is_empty()) {
        let fix = "name the host as Felix does: its hostname in lower case, or FELIX_FELIXHOSTNAME";
        cursor.refuse(ProblemKind::Missing, (line, 0), "spec.node", "is missing", fix);
    }
    let interface = endpoint.interface.as_ref().filter(|interface| !interface.value.is_empty());
    if interface.is_none() && !addressed {
        let message = "neither interfaceName nor expectedIPs is given";
        let fix = "add interfaceName: \"*\" for every interface, or the name of one";
        cursor.refuse(ProblemKind::NoInterface, (line, 0), "spec", message, fix);
    }
    if let Some(interface) = interface {
        let name = &interface.value;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name != "*" && (name.len() > 15 || !name.chars().all(fits)) {
            let message = format!("found {:?}, expected \"*\" or the name of one interface", shortened(name));
            let fix = "patterns such as eth* are not taken; use \"*\" alone for all";
            let at = (interface.line, interface.column);
            cursor.refuse(ProblemKind::BadValue, at, "spec.interfaceName", message, fix);
        }
    }
}

/// Labels as Kubernetes takes them.
pub(super) fn labels(cursor: &mut Cursor<'_>, meta: &Meta) {
    for (key, value) in &meta.labels {
        let at = (value.line, value.column);
        let path = format!("metadata.labels.{}", shortened(key));
        if !label_key(key) {
            let message = "a label's key is a name of at most 63 letters, digits, '-', '_' and '.', behind a domain and '/' if need be";
            cursor.refuse(ProblemKind::Label, at, &path, message, "rename it");
        } else if !label_value(&value.value) {
            let message = format!(
                "value {:?}: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
                shortened(&value.value)
            );
            cursor.refuse(ProblemKind::Label, at, &path, message, "choose another value");
        } else if matches!(meta.kind, Kind::NetworkSet | Kind::GlobalNetworkSet) && key == "projectcalico.org/namespace"
        {
            let message = "this label is Calico's own";
            cursor.refuse(ProblemKind::Label, at, &path, message, "remove it");
        }
    }
}

fn label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let dns = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text
                .split('.')
                .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
    };
    !name.is_empty() && label_value(name) && prefix.is_none_or(dns)
}

fn label_value(value: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && ends(value.chars().next())
        && ends(value.chars().last())
}
