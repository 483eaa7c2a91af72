//! A bastion as Felix leaves it: its chains in every table, its IP sets, Docker's NAT, and a host firewall in native
//! nftables beside them.

use crate::examine::{Tally, examine};
use crate::firewall::Firewall;
use crate::harness::in_namespace;
use crate::lab::Lab;

const IPSETS: &str = include_str!("bastion/ipsets.txt");
const IPV4: &str = include_str!("bastion/ipv4.rules");
const IPV6: &str = include_str!("bastion/ipv6.rules");
const CALICO: &str = include_str!("bastion/calico.nft");
const HOST: &str = include_str!("bastion/ufw.nft");

/// Packets drawn for each flavour.
const PACKETS: usize = 20_800;

fn compare(name: &str, firewall: &Firewall) {
    in_namespace(name, || {
        let mut lab = Lab::build().expect("a lab");
        let mut total = Tally::default();
        for seed in 0..4 {
            match examine(&mut lab, firewall, seed, PACKETS / 4) {
                Ok(tally) => total.add(tally),
                Err(report) => panic!("{name}: {report}"),
            }
        }
        println!("{name}: {total}");
        assert!(total.packets * 10 > PACKETS * 8, "the packets drawn are not the packets compared: {total}");
        assert!(total.passed * 10 > total.packets && total.passed * 10 < total.packets * 9, "one-sided: {total}");
        assert!(total.unknown * 100 < total.packets, "too much is unknown: {total}");
    });
}

#[test]
fn a_bastion_on_legacy_iptables_is_judged_as_the_kernel_judges_it() {
    let rules = [IPV4.to_owned(), IPV6.to_owned()];
    compare("bastion, iptables-legacy", &Firewall { ipsets: IPSETS.to_owned(), legacy: rules, ..Firewall::default() });
}

#[test]
fn a_bastion_on_legacy_iptables_beside_a_native_host_firewall_is_judged_as_the_kernel_judges_it() {
    let rules = [IPV4.to_owned(), IPV6.to_owned()];
    let nft = HOST.to_owned();
    let firewall = Firewall { ipsets: IPSETS.to_owned(), legacy: rules, nft, ..Firewall::default() };
    compare("bastion, iptables-legacy with nft", &firewall);
}

#[test]
fn a_bastion_on_iptables_nft_beside_a_native_host_firewall_is_judged_as_the_kernel_judges_it() {
    let xtables_nft = [IPV4.to_owned(), IPV6.to_owned()];
    let nft = HOST.to_owned();
    let firewall = Firewall { ipsets: IPSETS.to_owned(), xtables_nft, nft, ..Firewall::default() };
    compare("bastion, iptables-nft with nft", &firewall);
}

#[test]
fn a_bastion_of_felix_in_nftables_mode_beside_docker_and_a_host_firewall_is_judged_as_the_kernel_judges_it() {
    let foreign =
        |rules: &str| rules.lines().filter(|line| !line.contains("cali")).map(|line| format!("{line}\n")).collect();
    let xtables_nft = [foreign(IPV4), foreign(IPV6)];
    let nft = CALICO.to_owned() + HOST;
    compare("bastion, felix nftables mode", &Firewall { xtables_nft, nft, ..Firewall::default() });
}
