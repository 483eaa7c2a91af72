//! Meanings of real names and rules.

use super::*;
use crate::calico::integrity::tests::ruleset;
use crate::packet::Family;
use crate::ruleset::{Backend, Effect};

const BASTION: &str = "*filter\n\
    -A INPUT -m comment --comment \"cali:Cz_u1IQiXIMmKD4c\" -j cali-INPUT\n\
    -A INPUT -j ACCEPT\n\
    -A cali-INPUT -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -j MARK --set-xmark 0x0/0x1b0000\n\
    -A cali-from-host-endpoint -i ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -g cali-fh-ens5\n\
    -A cali-from-host-endpoint -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -g cali-fh-any-interface-at-all\n\
    -A cali-fh-ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A cali-fh-ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m conntrack --ctstate INVALID -j DROP\n\
    -A cali-fh-ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -j cali-failsafe-in\n\
    -A cali-fh-ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m comment --comment \"Start of tier security\" -j MARK --set-xmark 0x0/0x20000\n\
    -A cali-fh-ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m mark --mark 0x0/0x20000 -j cali-pi-gnp/hep\n\
    -A cali-fh-ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m comment --comment \"Return if policy accepted\" -m mark --mark 0x10000/0x10000 -j RETURN\n\
    -A cali-fh-ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m comment --comment \"End of tier security. Drop if no policies passed packet\" -m mark --mark 0x0/0x20000 -j DROP\n\
    -A cali-fh-ens5 -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m comment --comment \"Drop if no profiles matched\" -j DROP\n\
    -A cali-failsafe-in -s 10.0.0.0/8 -p tcp -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m multiport --dports 22 -j ACCEPT\n\
    -A cali-pi-gnp/hep -p tcp -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m comment --comment \"GlobalNetworkPolicy hep ingress\" -m multiport --dports 22 -j MARK --set-xmark 0x10000/0x10000\n\
    -A cali-pi-gnp/hep -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m mark --mark 0x10000/0x10000 -j RETURN\n\
    -A cali-pi-gnp/hep -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -j MARK --set-xmark 0x0/0x180000\n\
    -A cali-pi-gnp/hep -p tcp -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -j MARK --set-xmark 0x80000/0x80000\n\
    -A cali-pi-gnp/hep -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m mark --mark 0x80000/0x80000 -j MARK --set-xmark 0x40000/0x40000\n\
    -A cali-pi-gnp/hep -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -m mark --mark 0x40000/0x40000 -j DROP\n\
    -A cali-pi-gnp/hep -m comment --comment \"cali:AAAAAAAAAAAAAAAA\" -j MARK --set-xmark 0x20000/0x20000\n";

/// Every rule of a chain, in words. The test reader makes each `-j` a jump, so verdicts are put right here.
fn said(chain: &str) -> Vec<String> {
    let mut ruleset = ruleset(BASTION, Backend::IptablesLegacy, Family::Ipv4);
    for rule in ruleset.tables.iter_mut().flat_map(|table| &mut table.chains).flat_map(|chain| &mut chain.rules) {
        for step in &mut rule.steps {
            let Step::Verdict(Verdict::Jump(target)) = step else { continue };
            *step = match &**target {
                "ACCEPT" => Step::Verdict(Verdict::Accept),
                "DROP" => Step::Verdict(Verdict::Drop),
                "RETURN" => Step::Verdict(Verdict::Return),
                "MARK" => Step::Effect(Effect::Count),
                _ => continue,
            };
        }
    }
    let (index, found) = ruleset.tables[0].chain(chain).expect("the chain");
    let place = |rule| RuleRef { table: 0, chain: index, rule };
    let say = |rule| meaning(&ruleset, place(rule)).map_or_else(|| "nothing".to_owned(), |meaning| meaning.to_string());
    (0..found.rules.len()).map(say).collect()
}

#[test]
fn kernel_chains_hold_the_hook_and_what_is_not_felix() {
    assert_eq!(said("INPUT"), ["Felix's hook in INPUT", "nothing"]);
    assert_eq!(
        said("cali-from-host-endpoint"),
        ["host endpoint of interface ens5, ingress", "host endpoint of interface *, ingress"]
    );
}

#[test]
fn an_endpoint_chain_reads_like_its_policy_order() {
    assert_eq!(
        said("cali-fh-ens5"),
        [
            "conntrack state established",
            "conntrack state invalid",
            "inbound failsafe list",
            "start of tier security, ingress",
            "GlobalNetworkPolicy hep in tier security, ingress",
            "accepted by a policy of tier security, ingress",
            "end of tier security, ingress: no policy of the tier allowed it",
            "no policy and no profile allowed it, ingress",
        ]
    );
    assert_eq!(said("cali-failsafe-in"), ["failsafe tcp:10.0.0.0/8:22 (inbound)"]);
}

#[test]
fn dataplane_rules_are_counted_back_to_policy_rules() {
    let rule = |number: u32, action: &str| {
        format!("GlobalNetworkPolicy hep in tier security, ingress rule {number} ({action})")
    };
    assert_eq!(
        said("cali-pi-gnp/hep"),
        [
            rule(0, "allow"),
            rule(0, "allow"),
            rule(1, "deny"),
            rule(1, "deny"),
            rule(1, "deny"),
            rule(1, "deny"),
            rule(2, "pass"),
        ]
    );
}

#[test]
fn json_is_as_promised() {
    let entry = Meaning::Failsafe { direction: Direction::In, entry: "tcp:22".to_owned(), reply: false };
    let json = serde_json::to_string(&entry).expect("plain data");
    assert_eq!(json, r#"{"kind":"failsafe","direction":"in","entry":"tcp:22"}"#);
}
