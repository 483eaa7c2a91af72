//! Predictions against what is rendered whole, which hashes prove elsewhere.

use super::*;
use crate::calico::settings::{Assignment, Place as Line, Settings, Source};
use crate::ruleset::{Rule, Table, Verdict};
use std::sync::Arc;

const HOST: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: bastion-eth0, labels: {role: bastion}}
spec: {node: bastion, interfaceName: eth0, expectedIPs: [10.0.1.10], profiles: [projectcalico-default-allow]}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 100}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: admins, labels: {who: admins}}
spec: {nets: [192.0.2.0/24, 'fd00::/64']}
";

const SSH: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: security.ssh}
spec:
  tier: security
  order: 10
  selector: role == 'bastion'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: who == 'admins', namespaceSelector: global()}, destination: {ports: [22]}}
";

const WEB: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  order: 20
  selector: role == 'bastion'
  types: [Ingress, Egress]
  ingress:
  - {action: Deny, source: {nets: [10.9.0.0/16, 10.8.0.0/16]}}
  - {action: Allow, protocol: TCP, destination: {ports: [80, 443]}}
  egress:
  - {action: Allow}
";

fn knowledge(texts: &[&str], settings: &[(&str, &str)]) -> Knowledge {
    let mut resources = Resources::default();
    for text in texts {
        resources.read(&Arc::from("a.yaml"), text.as_bytes());
    }
    assert_eq!(resources.problems, Vec::new());
    let place = Line { file: Arc::from("calico.env"), line: 1 };
    let assignments: Vec<Assignment> = settings
        .iter()
        .map(|(name, value)| Assignment {
            source: Source::Environment,
            name: (*name).into(),
            value: (*value).into(),
            place: place.clone(),
        })
        .collect();
    let settings = Settings::resolve(&assignments);
    Knowledge { resources, settings, node: Some("bastion".to_owned()), ..Knowledge::default() }
}

/// The rules Felix has written for this, and nothing else, on a host with one interface.
fn written(known: &Knowledge) -> Ruleset {
    let nothing = Ruleset::default();
    let prediction = predict(&Situation { ruleset: &nothing, host: &host(), known }, known);
    assert!(prediction.rendered_whole);
    assert_eq!(prediction.unknown, Vec::<String>::new());
    prediction.ruleset
}

fn host() -> Host {
    let interface = |name: &str| crate::host::Interface { name: name.into(), ..crate::host::Interface::default() };
    Host { interfaces: Some(vec![interface("lo"), interface("eth0")]), ..Host::default() }
}

/// Every rule by table, chain and number, and the members of every set.
fn words(ruleset: &Ruleset) -> BTreeSet<String> {
    let rules = |table: &Table| -> Vec<String> {
        let of = |chain: &crate::ruleset::Chain| -> Vec<String> {
            let title = format!("{} {}", table.title(), chain.name);
            let mut all = vec![title.clone()];
            all.extend(chain.rules.iter().enumerate().map(|(number, rule)| format!("{title} {number} {}", rule.text)));
            all
        };
        table.chains.iter().flat_map(of).collect()
    };
    let sets = ruleset.ipsets.iter().chain(ruleset.tables.iter().flat_map(|table| &table.sets));
    let members = |set: &crate::ruleset::Set| {
        let keys: BTreeSet<String> = set.elements.keys().map(|key| format!("{key:?}")).collect();
        format!("{} {keys:?}", set.name)
    };
    ruleset.tables.iter().flat_map(rules).chain(sets.map(members)).collect()
}

fn after(live: &Ruleset, known: &Knowledge, wanted: &Knowledge) -> Prediction {
    predict(&Situation { ruleset: live, host: &host(), known }, wanted)
}

const MODES: [&[(&str, &str)]; 2] = [&[], &[("NFTablesMode", "Enabled")]];

#[test]
fn what_is_foretold_is_what_is_written_afterwards() {
    for mode in MODES {
        let known = knowledge(&[HOST, SSH, WEB], mode);
        let live = written(&known);
        let changes: [(&str, Knowledge); 5] = [
            ("a policy goes", knowledge(&[HOST, WEB], mode)),
            ("a policy comes", knowledge(&[HOST, SSH, WEB, &WEB.replace("name: web", "name: more")], mode)),
            ("a policy changes", knowledge(&[HOST, SSH, &WEB.replace("Deny", "Pass")], mode)),
            (
                "a set changes",
                knowledge(&[&HOST.replace("192.0.2.0/24", "192.0.2.0/25, 198.51.100.7"), SSH, WEB], mode),
            ),
            ("nothing changes", known.clone()),
        ];
        for (what, wanted) in changes {
            let prediction = after(&live, &known, &wanted);
            assert!(prediction.fidelity.is_exact() && prediction.fidelity.rules > 100, "{:?}", prediction.fidelity);
            assert_eq!(prediction.unknown, Vec::<String>::new(), "{what}");
            let (foretold, then) = (words(&prediction.ruleset), words(&written(&wanted)));
            let missing: Vec<_> = then.difference(&foretold).collect();
            assert_eq!(missing, Vec::<&String>::new(), "{what}");
            // Felix removes sets and chains that nothing asks any more later
            let more: Vec<_> = foretold.difference(&then).filter(|text| !text.starts_with("cali")).collect();
            assert_eq!(more, Vec::<&String>::new(), "{what}");
        }
    }
}

/// Felix writes a rule's annotations into its comments, which are hashed, and polices no excluded interface.
#[test]
fn annotations_and_excluded_interfaces_shape_what_is_written() {
    for mode in MODES {
        let noted = WEB.replace("{action: Deny, ", "{action: Deny, metadata: {annotations: {why: old nets}}, ");
        let known = knowledge(&[HOST, &noted], mode);
        let live = written(&known);
        assert!(words(&live).iter().any(|text| text.contains("why=old nets")), "a comment of the rule");
        let prediction = after(&live, &known, &knowledge(&[HOST, SSH, &noted], mode));
        assert!(prediction.fidelity.is_exact(), "{:?}", prediction.fidelity);
        let mut settings = mode.to_vec();
        settings.push(("InterfaceExclude", "kube-ipvs0,/^eth/"));
        let open = written(&knowledge(&[HOST, WEB], &settings));
        assert!(!words(&open).iter().any(|text| text.contains("cali-fh-eth0")), "eth0 is excluded");
        settings.pop();
        settings.push(("InterfaceExclude", "/eth[0-9]/"));
        let known = knowledge(&[HOST, WEB], &settings);
        let nothing = Ruleset::default();
        let prediction = predict(&Situation { ruleset: &nothing, host: &host(), known: &known }, &known);
        assert!(prediction.unknown.iter().any(|text| text.contains("InterfaceExclude has the pattern /eth[0-9]/")));
    }
}

#[test]
fn settings_change_the_chains_they_shape() {
    for mode in MODES {
        let known = knowledge(&[HOST, SSH, WEB], mode);
        let live = written(&known);
        let mut settings = mode.to_vec();
        settings.push(("FailsafeInboundHostPorts", "tcp:10.0.0.0/8:22"));
        settings.push(("FailsafeOutboundHostPorts", "none"));
        let deny = if mode.is_empty() { "IptablesFilterDenyAction" } else { "NftablesFilterDenyAction" };
        settings.push((deny, "REJECT"));
        let wanted = knowledge(&[HOST, SSH, WEB], &settings);
        let prediction = after(&live, &known, &wanted);
        assert_eq!(prediction.unknown, Vec::<String>::new());
        assert_eq!(words(&prediction.ruleset), words(&written(&wanted)));
    }
}

#[test]
fn a_value_that_stops_felix_leaves_the_rules() {
    let known = knowledge(&[HOST, SSH], &[]);
    let live = written(&known);
    let wanted = knowledge(&[HOST], &[("FailsafeInboundHostPorts", "sctp:22")]);
    let prediction = after(&live, &known, &wanted);
    assert_eq!(words(&prediction.ruleset), words(&live));
    assert!(prediction.notes[0].contains("stops Felix"), "{:?}", prediction.notes);
}

/// The live chains are all that is known.
#[test]
fn without_an_export_a_change_touches_its_own_chains_alone() {
    for mode in MODES {
        let live = written(&knowledge(&[HOST, SSH, WEB], mode));
        let nothing = knowledge(&[], mode);
        let wanted = knowledge(&[&WEB.replace("Deny", "Pass")], mode);
        let prediction = after(&live, &nothing, &wanted);
        assert_eq!(prediction.unknown, Vec::<String>::new());
        assert_eq!(prediction.generation, Some(Generation::From332));
        assert!(prediction.fidelity.is_exact() && prediction.fidelity.rules > 50, "{:?}", prediction.fidelity);
        let then = written(&knowledge(&[HOST, SSH, &WEB.replace("Deny", "Pass")], mode));
        assert_eq!(words(&prediction.ruleset), words(&then));
        // lists are known without policies
        let mut settings = mode.to_vec();
        settings.push(("FailsafeInboundHostPorts", "tcp:2222"));
        let prediction = after(&live, &nothing, &knowledge(&[], &settings));
        assert_eq!(prediction.unknown, Vec::<String>::new());
        assert_eq!(words(&prediction.ruleset), words(&written(&knowledge(&[HOST, SSH, WEB], &settings))));
    }
}

#[test]
fn a_new_policy_without_an_export_may_stand_anywhere() {
    for mode in MODES {
        let live = written(&knowledge(&[HOST, SSH, WEB], mode));
        let nothing = knowledge(&[], mode);
        let wanted = knowledge(&[&WEB.replace("name: web", "name: more")], mode);
        let prediction = after(&live, &nothing, &wanted);
        assert_eq!(prediction.unknown.len(), 2, "{:?}", prediction.unknown);
        assert!(prediction.unknown[0].contains("which host endpoints it selects"), "{:?}", prediction.unknown);
        let rules = prediction.ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        let calls: Vec<&Rule> =
            rules.filter(|rule| rule.target().is_some_and(|name| name.ends_with("gnp/more"))).collect();
        assert!(calls.len() >= 4 && calls.iter().all(|rule| !rule.opaque_parts().is_empty()), "{calls:?}");
        let chain = |ruleset: &Ruleset| {
            ruleset
                .tables
                .iter()
                .flat_map(|table| &table.chains)
                .filter(|chain| chain.name.ends_with("pi-gnp/more"))
                .count()
        };
        assert!(chain(&prediction.ruleset) >= 2, "both families");
    }
}

#[test]
fn a_policy_goes_without_an_export() {
    for mode in MODES {
        let all = knowledge(&[HOST, SSH, WEB], mode);
        let live = written(&all);
        // the export knows the policy that goes, and not the rest
        let prediction = after(&live, &knowledge(&[SSH], mode), &knowledge(&[], mode));
        let then = written(&knowledge(&[HOST, WEB], mode));
        let (foretold, then) = (words(&prediction.ruleset), words(&then));
        // hashes follow from what stood before
        let bare = |all: &BTreeSet<String>| -> Vec<String> {
            let text = |text: &String| crate::ruleset::without_comments(text.split(" comment ").next().unwrap_or(text));
            all.iter().filter(|text| !text.starts_with("cali")).map(text).collect()
        };
        assert_eq!(bare(&foretold), bare(&then));
    }
}

#[test]
fn rules_of_others_keep_their_say() {
    let known = knowledge(&[HOST, SSH, WEB], &[]);
    let mut live = written(&known);
    let foreign = Rule {
        steps: vec![crate::ruleset::Step::Verdict(Verdict::Drop)],
        text: "-A INPUT -j DROP".into(),
        ..Rule::default()
    };
    for table in live.tables.iter_mut().filter(|table| &*table.name == "filter") {
        for chain in table.chains.iter_mut().filter(|chain| &*chain.name == "INPUT") {
            chain.rules.insert(0, foreign.clone());
            chain.rules.push(foreign.clone());
        }
    }
    let prediction = after(&live, &known, &knowledge(&[HOST, WEB], &[("IptablesFilterAllowAction", "RETURN")]));
    for table in prediction.ruleset.tables.iter().filter(|table| &*table.name == "filter") {
        let (_, input) = table.chain("INPUT").expect("INPUT");
        let texts: Vec<&str> = input.rules.iter().map(|rule| &*rule.text).collect();
        assert_eq!((texts.len(), texts[0], texts[2]), (3, "-A INPUT -j DROP", "-A INPUT -j DROP"));
        let (_, forward) = table.chain("FORWARD").expect("FORWARD");
        assert!(
            forward.rules.iter().any(|rule| rule.text.contains("Policy explicitly") && rule.text.ends_with("RETURN"))
        );
    }
}

#[test]
fn an_icmp_code_stops_felix_on_nft_and_only_there() {
    let ping = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: ping}
spec:
  selector: role == 'bastion'
  ingress: [{action: Allow, protocol: ICMP, icmp: {type: 3, code: 4}}]
";
    for mode in MODES {
        let known = knowledge(&[HOST, SSH], mode);
        let live = written(&known);
        let prediction = after(&live, &known, &knowledge(&[HOST, SSH, ping], mode));
        let ipv4 = |ruleset: &Ruleset| -> BTreeSet<String> {
            words(ruleset).into_iter().filter(|text| text.contains(" ipv4 ")).collect()
        };
        let frozen = ipv4(&prediction.ruleset) == ipv4(&live);
        assert_eq!((frozen, prediction.unknown.len()), if mode.is_empty() { (false, 0) } else { (true, 1) });
    }
}

#[test]
fn two_hundred_policies_take_a_fraction_of_a_second() {
    let many: String =
        (0..200).map(|number| format!("---{}", WEB.replace("name: web", &format!("name: web-{number}")))).collect();
    let known = knowledge(&[HOST, SSH, &many], &[]);
    let live = written(&known);
    let wanted = knowledge(&[HOST, SSH, &many.replace("Deny", "Pass")], &[]);
    let start = cpu_time();
    let prediction = after(&live, &known, &wanted);
    let taken = cpu_time() - start;
    assert!(prediction.fidelity.is_exact(), "{:?}", prediction.fidelity);
    assert!(taken.as_secs_f64() < 10.0, "{taken:?} in an unoptimised build");
}

/// What this thread has cost so far, whatever else the machine does.
fn cpu_time() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
    std::time::Duration::from_nanos(nanoseconds.expect("a number"))
}
