//! A bastion as Felix leaves it: its chains in every table, its IP sets, Docker's NAT, and a host firewall in native
//! nftables beside them.

use crate::examine::Examiner;
use crate::firewall::Firewall;
use crate::harness::in_namespace;
use crate::lab::Lab;
use crate::tally::Tally;

const IPSETS: &str = include_str!("bastion/ipsets.txt");
const IPV4: &str = include_str!("bastion/ipv4.rules");
const IPV6: &str = include_str!("bastion/ipv6.rules");
const CALICO: &str = include_str!("bastion/calico.nft");
const HOST: &str = include_str!("bastion/ufw.nft");

/// Packets drawn for each flavour.
const PACKETS: u16 = 20_800;

fn compare(name: &str, firewall: &Firewall) {
    in_namespace(name, || {
        let mut lab = Lab::build().expect("a lab");
        let mut examiner = Examiner::new(&mut lab).expect("an empty firewall");
        let mut all = Tally::default();
        for seed in 0..4 {
            let examined = examiner.examine(std::slice::from_ref(firewall), seed, PACKETS / 4);
            for one in examined.unwrap_or_else(|error| panic!("{name}: {error}")) {
                if let Some(report) = one.report {
                    panic!("{name}, seed {seed}: {report}");
                }
                all.add(&one.tally);
            }
        }
        println!("{name}: {all}");
        let total = all.total();
        assert!(total.verdicts * 10 > u64::from(PACKETS) * 8, "the packets drawn are not the packets compared: {all}");
        assert!(total.passed * 10 > total.verdicts && total.passed * 10 < total.verdicts * 9, "one-sided: {all}");
        assert!(total.unknown * 100 < total.verdicts, "too much is unknown: {all}");
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

#[test]
fn a_bastion_whose_tables_stand_in_all_three_forms_is_judged_as_the_kernel_judges_it() {
    // Felix on the legacy tables, Docker's and the host's own rules through iptables-nft, a firewall of native nftables
    let foreign =
        |rules: &str| rules.lines().filter(|line| !line.contains("cali")).map(|line| format!("{line}\n")).collect();
    let legacy = [IPV4.to_owned(), IPV6.to_owned()];
    let xtables_nft = [foreign(IPV4), foreign(IPV6)];
    let firewall = Firewall { ipsets: IPSETS.to_owned(), legacy, xtables_nft, nft: HOST.to_owned() };
    compare("bastion, iptables-legacy with iptables-nft and nft", &firewall);
}
