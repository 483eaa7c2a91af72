//! What a group of denies means on this host: whether the flow must work, and the smallest Calico rule that would admit it.
//!
//! A suggestion admits one peer and one service, never more than the log shows. It is given only where a rule of Calico
//! denied and the log tells enough; else the reason is told. Nothing here ever proposes to block anybody.

pub mod failsafe;

use std::net::IpAddr;

use crate::analysis::flows::{Flow, FlowKind, Inventory};
use crate::logs::event::{Direction, Source};
use crate::logs::query::{Field, Value};
use crate::logs::tally;
use crate::packet::{self, Protocol};

/// What the denies of a group have in common, as far as its key tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    source: Option<Source>,
    direction: Option<Direction>,
    protocol: Option<Protocol>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    port: Option<u16>,
    icmp: (Option<u8>, Option<u8>),
    tier: Option<String>,
    policy: Option<String>,
    rule: Option<i64>,
}

/// A rule that would admit a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// Where it belongs.
    pub place: String,
    /// The rule, YAML, an item of `ingress` or `egress`.
    pub rule: String,
    /// What else it would admit.
    pub admits: String,
    /// The command that says what the rule changes, once it is in the policy's file.
    pub plan: String,
}

impl Denied {
    /// Of a group's key.
    #[must_use]
    pub fn of_key<'v>(key: impl IntoIterator<Item = (Field, &'v Value)>) -> Self {
        let mut denied = Self::default();
        for (field, value) in key {
            denied.set(field, value);
        }
        denied
    }

    fn set(&mut self, field: Field, value: &Value) {
        match (field, value) {
            (Field::Source, Value::Text(text)) => self.source = tally::source(text).ok(),
            (Field::Direction, Value::Text(text)) => self.direction = tally::direction(text).ok(),
            (Field::Proto, Value::Text(text)) => self.protocol = text.parse().ok(),
            (Field::SrcIp, Value::Address(address)) => self.src = Some(*address),
            (Field::DstIp, Value::Address(address)) => self.dst = Some(*address),
            (Field::DstPort, Value::Number(port)) => self.port = u16::try_from(*port).ok(),
            (Field::IcmpType, Value::Number(kind)) => self.icmp.0 = u8::try_from(*kind).ok(),
            (Field::IcmpCode, Value::Number(code)) => self.icmp.1 = u8::try_from(*code).ok(),
            (Field::Tier, Value::Text(text)) => self.tier = Some(text.clone()),
            (Field::Policy, Value::Text(text)) => self.policy = Some(text.clone()),
            (Field::RuleIndex, Value::Number(index)) => self.rule = Some(*index),
            _ => {}
        }
    }

    /// The other end, seen from the host that logged.
    #[must_use]
    pub fn far_end(&self) -> Option<IpAddr> {
        match self.direction? {
            Direction::Ingress => self.src,
            Direction::Egress => self.dst,
            Direction::Forward => None,
        }
    }

    /// The flow of the inventory that these denies hit. New SSH logins must work from anywhere; every other flow has its
    /// own peer.
    #[must_use]
    pub fn needed<'i>(&self, inventory: &'i Inventory) -> Option<&'i Flow> {
        let direction = match self.direction? {
            Direction::Ingress => packet::Direction::In,
            Direction::Egress => packet::Direction::Out,
            Direction::Forward => return None,
        };
        let (protocol, dst) = (self.protocol?, self.dst?);
        inventory.flows.iter().find(|flow| {
            let packet = &flow.packet;
            let peer = match direction {
                packet::Direction::In => flow.kind == FlowKind::SshIn || Some(packet.src) == self.src,
                _ => packet.dst == dst,
            };
            packet.direction == direction
                && packet.protocol == protocol
                && packet.dport == self.port
                && packet.src.is_ipv4() == dst.is_ipv4()
                && (self.port.is_some() || packet.icmp.map(|(kind, _)| kind) == self.icmp.0)
                && peer
        })
    }

    /// The smallest rule that would admit the group.
    ///
    /// # Errors
    /// Why no rule is suggested.
    pub fn suggestion(&self) -> Result<Suggestion, String> {
        if self.source == Some(Source::Kernel) {
            return Err("a firewall rule logged it, and the log does not say that Calico denied it".to_owned());
        }
        let place = self.place()?;
        let (list, peer_side, peer) = match self.direction {
            Some(Direction::Ingress) => ("ingress", "source", self.src),
            Some(Direction::Egress) => ("egress", "destination", self.dst),
            _ => return Err("the group does not say whether the traffic came in or went out".to_owned()),
        };
        let peer = peer.ok_or(
            "the group does not tell the peer, and a rule without one would admit everybody: group by \
                               src_ip and dst_ip",
        )?;
        if !is_somebody(peer) {
            return Err(format!("{peer} is no single host; decide yourself whom to admit"));
        }
        let protocol = self.protocol.ok_or("the group does not tell the protocol: group by proto")?;
        let width = if peer.is_ipv4() { 32 } else { 128 };
        let mut rule = format!("- action: Allow\n  protocol: {}\n", protocol_name(protocol));
        let mut service = protocol.to_string();
        match (protocol, self.port, self.icmp) {
            (Protocol::TCP | Protocol::UDP | Protocol::SCTP, Some(port), _) if port > 0 => {
                service = format!("{protocol}/{port}");
                let ports = format!("ports: [{port}]");
                if list == "ingress" {
                    rule.push_str(&format!("  source:\n    nets: [{peer}/{width}]\n  destination:\n    {ports}\n"));
                } else {
                    rule.push_str(&format!("  destination:\n    nets: [{peer}/{width}]\n    {ports}\n"));
                }
            }
            (Protocol::TCP | Protocol::UDP | Protocol::SCTP, _, _) => {
                return Err("the log does not tell the port, and a rule without one would admit all of them".to_owned());
            }
            (_, _, (kind, code)) => {
                if let Some(kind) = kind {
                    service = format!("{protocol} type {kind}");
                    rule.push_str(&format!("  icmp:\n    type: {kind}\n"));
                    if let Some(code) = code {
                        rule.push_str(&format!("    code: {code}\n"));
                    }
                }
                rule.push_str(&format!("  {peer_side}:\n    nets: [{peer}/{width}]\n"));
            }
        }
        let admits = if list == "ingress" {
            format!(
                "new {service} connections at any time from whoever holds {peer}, to every endpoint the policy selects"
            )
        } else {
            format!(
                "new {service} connections at any time to whatever answers at {peer} (other names on that address too), from \
                 every program of every endpoint the policy selects"
            )
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let file = self.policy.as_deref().filter(|name| name.chars().all(is_plain) && !name.starts_with(['-', '_']));
        let plan = format!("hepguard plan -f {}.yaml", file.unwrap_or("policy"));
        Ok(Suggestion { place: format!("{place}, in its {list} list"), rule, admits, plan })
    }

    /// Where an Allow rule takes effect.
    fn place(&self) -> Result<String, String> {
        let tier = self.tier.as_deref().ok_or("the group does not tell the tier: group by tier, policy, rule_index")?;
        let policy = self.policy.as_deref().filter(|policy| !policy.ends_with("__NO_MATCH__"));
        match (tier, policy, self.rule) {
            ("__PROFILE__", Some(profile), Some(rule @ 0..)) => Ok(format!("before rule {rule} of profile {profile}")),
            ("__PROFILE__", _, _) => Ok("a policy of tier default that selects this host endpoint".to_owned()),
            (_, Some(policy), Some(-1)) => Ok(format!("at the end of policy {policy} in tier {tier}")),
            (_, None, Some(-1)) => Ok(format!("a policy of tier {tier} that selects this host endpoint")),
            (_, Some(policy), Some(rule @ 0..)) => Ok(format!("before rule {rule} of policy {policy} in tier {tier}")),
            _ => Err("the log does not tell which rule denied it".to_owned()),
        }
    }
}

/// Whether an address is one host's, as a peer.
pub(super) fn is_somebody(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

/// A protocol as Calico's resources spell it.
pub(super) fn protocol_name(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "TCP".to_owned(),
        Protocol::UDP => "UDP".to_owned(),
        Protocol::ICMP => "ICMP".to_owned(),
        Protocol(58) => "ICMPv6".to_owned(),
        Protocol::SCTP => "SCTP".to_owned(),
        Protocol(136) => "UDPLite".to_owned(),
        Protocol(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::flows::inventory;
    use crate::demo::World;
    use crate::snapshot;

    fn denied(direction: &str, src: &str, dst: &str, port: i64) -> Vec<(Field, Value)> {
        let text = |text: &str| Value::Text(text.to_owned());
        let address = |text: &str| Value::Address(text.parse().expect("an address"));
        vec![
            (Field::Source, text("felix")),
            (Field::Direction, text(direction)),
            (Field::Tier, text("security")),
            (Field::Policy, text("hep-external")),
            (Field::RuleIndex, Value::Number(-1)),
            (Field::Proto, text("tcp")),
            (Field::SrcIp, address(src)),
            (Field::DstIp, address(dst)),
            (Field::DstPort, Value::Number(port)),
        ]
    }

    fn of(key: &[(Field, Value)]) -> Denied {
        Denied::of_key(key.iter().map(|(field, value)| (*field, value)))
    }

    fn with(key: &[(Field, Value)], field: Field, value: &Value) -> Denied {
        let mut key = key.to_vec();
        for one in key.iter_mut().filter(|one| one.0 == field) {
            one.1 = value.clone();
        }
        of(&key)
    }

    #[test]
    fn a_rule_admits_one_peer_and_one_service() {
        let key = denied("egress", "10.0.1.10", "147.75.40.148", 443);
        let suggestion = of(&key).suggestion().expect("a rule");
        let rule = "- action: Allow\n  protocol: TCP\n  destination:\n    nets: [147.75.40.148/32]\n    ports: [443]\n";
        assert_eq!(suggestion.rule, rule);
        assert_eq!(suggestion.place, "at the end of policy hep-external in tier security, in its egress list");
        assert!(suggestion.admits.contains("147.75.40.148") && suggestion.admits.contains("every program"));
        let inward = of(&denied("ingress", "203.0.113.7", "10.0.1.10", 22)).suggestion().expect("a rule");
        assert!(inward.rule.contains("source:\n    nets: [203.0.113.7/32]\n  destination:\n    ports: [22]"));
        let explicit = with(&key, Field::RuleIndex, &Value::Number(2)).suggestion().expect("a rule");
        assert!(explicit.place.starts_with("before rule 2 of policy hep-external"), "{}", explicit.place);
    }

    #[test]
    fn what_would_admit_more_than_was_seen_is_not_suggested() {
        let key = denied("egress", "10.0.1.10", "147.75.40.148", 443);
        for (field, value, word) in [
            (Field::DstIp, Value::Null, "everybody"),
            (Field::DstPort, Value::Null, "port"),
            (Field::Proto, Value::Null, "protocol"),
            (Field::Direction, Value::Text("forward".to_owned()), "came in"),
            (Field::RuleIndex, Value::Number(-2), "which rule"),
            (Field::Source, Value::Text("kernel".to_owned()), "Calico"),
            (Field::DstIp, Value::Address(IpAddr::from([255; 4])), "no single host"),
            (Field::DstIp, Value::Address(IpAddr::from([0; 4])), "no single host"),
            (Field::DstIp, Value::Address(IpAddr::from([224, 0, 0, 1])), "no single host"),
        ] {
            let error = with(&key, field, &value).suggestion().expect_err("no rule");
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn flows_that_must_work_are_known() {
        let inventory = inventory(&snapshot::read(World::Before.files()));
        let name = |denied: Denied| denied.needed(&inventory).map(|flow| flow.name.clone());
        let ssh = name(of(&denied("ingress", "198.51.100.77", "10.0.1.10", 22)));
        assert!(ssh.is_some_and(|name| name.contains("22")), "SSH in from anywhere");
        let api = name(of(&denied("egress", "10.0.1.10", "10.0.1.20", 6443)));
        assert!(api.is_some_and(|name| name.contains("6443")));
        assert_eq!(name(of(&denied("egress", "10.0.1.10", "147.75.40.148", 443))), None);
        assert_eq!(name(of(&denied("ingress", "10.0.1.20", "10.0.1.10", 6443))), None, "the other way");
    }
}
