//! The cloud's own services, which only its machines need: told by the firmware's tables (`dmi.txt`).

use std::net::IpAddr;

use super::{EPHEMERAL, Flow, FlowKind, Seeker};
use crate::packet::Protocol;

/// Words in the firmware's tables that tell a cloud.
const SIGNS: [(&str, Cloud); 12] = [
    ("oraclecloud", Cloud::Oracle),
    ("amazon ec2", Cloud::Amazon),
    ("7783-7084-3265-9085-8269-3286-77", Cloud::Azure),
    ("google compute engine", Cloud::Google),
    ("alibaba cloud", Cloud::Alibaba),
    ("digitalocean", Cloud::Plain("DigitalOcean")),
    ("hetzner", Cloud::Plain("Hetzner")),
    ("openstack", Cloud::Plain("OpenStack")),
    ("scaleway", Cloud::Scaleway),
    ("vultr", Cloud::Plain("Vultr")),
    ("exoscale", Cloud::Plain("Exoscale")),
    ("upcloud", Cloud::Plain("UpCloud")),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cloud {
    Amazon,
    Azure,
    Google,
    Oracle,
    Alibaba,
    Scaleway,
    Plain(&'static str),
}

/// What it is, address, protocol, port.
type Service = (&'static str, &'static str, Protocol, u16);

const METADATA: &str = "169.254.169.254";

impl Cloud {
    fn name(self) -> &'static str {
        match self {
            Self::Amazon => "Amazon EC2",
            Self::Azure => "Azure",
            Self::Google => "Google Compute Engine",
            Self::Oracle => "Oracle Cloud",
            Self::Alibaba => "Alibaba Cloud",
            Self::Scaleway => "Scaleway",
            Self::Plain(name) => name,
        }
    }

    fn services(self) -> Vec<Service> {
        let (tcp, udp) = (Protocol::TCP, Protocol::UDP);
        match self {
            Self::Azure => vec![
                ("metadata", METADATA, tcp, 80),
                ("the wire server", "168.63.129.16", tcp, 80),
                ("the wire server's host plugin", "168.63.129.16", tcp, 32526),
            ],
            Self::Google => vec![("metadata", METADATA, tcp, 80), ("metadata's DNS", METADATA, udp, 53)],
            Self::Oracle => vec![
                ("metadata", METADATA, tcp, 80),
                ("the boot volume (iSCSI)", "169.254.0.2", tcp, 3260),
                ("the instance's DNS", METADATA, udp, 53),
                ("the instance's NTP", METADATA, udp, 123),
            ],
            Self::Alibaba => vec![("metadata", "100.100.100.200", tcp, 80)],
            Self::Scaleway => vec![("metadata", "169.254.42.42", tcp, 80)],
            Self::Amazon | Self::Plain(_) => vec![("metadata", METADATA, tcp, 80)],
        }
    }
}

impl Seeker<'_> {
    pub(super) fn cloud(&mut self) {
        let Some(text) = self.text("dmi.txt") else { return };
        let lower = text.to_ascii_lowercase();
        let sign = |sign: &str| lower.lines().position(|line| line.contains(sign));
        let Some((line, cloud)) = SIGNS.iter().find_map(|(word, cloud)| Some((sign(word)?, *cloud))) else { return };
        let shown: String = text.lines().nth(line).unwrap_or_default().chars().take(80).collect();
        for (what, address, protocol, port) in cloud.services() {
            let Ok(address) = address.parse::<IpAddr>() else { continue };
            let Some(mut packet) = self.links.outgoing(protocol, None, EPHEMERAL, (address, port)) else { continue };
            // agents and cloud-init run as root; rules often admit nobody else
            packet.uid = Some(0);
            let name = format!("{} {what} ({protocol}/{port}) at {address}", cloud.name());
            let flow = Flow::new(FlowKind::Cloud, name, format!("dmi.txt:{}", line + 1), shown.clone(), packet);
            self.found.push(flow.timer("credential expiry"));
        }
    }
}
