use std::net::IpAddr;

use super::judge::{Decision, Flow, Judge};
use super::*;
use crate::calico::settings::ports::{Entry, parse_list};

const IN: Direction = Direction::In;
const OUT: Direction = Direction::Out;

fn read(text: &str) -> Resources {
    let resources = Resources::of([("set.yaml", text.as_bytes())]);
    let bad: Vec<&str> = resources.problems.iter().filter(|p| p.refused).map(|p| p.message.as_str()).collect();
    assert!(bad.is_empty(), "{bad:?}");
    resources
}

fn resource(kind: &str, name: &str, labels: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec: {{{spec}}}\n"
    )
}

fn gnp(name: &str, spec: &str) -> String {
    resource("GlobalNetworkPolicy", name, "", spec)
}

fn hep(profiles: &str) -> String {
    resource(
        "HostEndpoint",
        "b1",
        "role: bastion",
        &format!("node: b1, interfaceName: eth0, expectedIPs: [10.9.0.5], profiles: [{profiles}]"),
    )
}

const SECURITY: &str =
    "---\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: security}\nspec: {order: 300}\n";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

/// `in tcp 443`, `out udp 53 147.75.40.148`: a peer may follow.
fn flow(words: &str) -> (Direction, Flow) {
    let mut words = words.split(' ');
    let direction = if words.next() == Some("in") { IN } else { OUT };
    let protocol = if words.next() == Some("udp") { 17 } else { 6 };
    let port = words.next().and_then(|word| word.parse().ok()).expect("a port");
    let peer = address(words.next().unwrap_or("203.0.113.7"));
    let own = address(if peer.is_ipv4() { "10.9.0.5" } else { "2001:db8::5" });
    let (source, destination) = if direction == IN { (peer, own) } else { (own, peer) };
    (direction, Flow::to_port(protocol, source, destination, port))
}

fn defaults() -> (Vec<Entry>, Vec<Entry>) {
    let list = |text: &str| parse_list(text).expect("a list");
    (
        list("tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667"),
        list("udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667"),
    )
}

/// Verdict and what decided, in short: `deny end security`, `allow failsafe tcp:22`, `deny security.p 0`.
fn said(text: &str, layer: Layer, words: &str, (inbound, outbound): (Vec<Entry>, Vec<Entry>)) -> String {
    let resources = read(text);
    let model = Model::of(&resources, Generation::From332);
    let endpoint = model.endpoints.iter().find(|endpoint| endpoint.node() == "b1").expect("b1");
    let force = model.for_endpoint(endpoint);
    let judge = Judge::new(&model, inbound, outbound);
    let (direction, flow) = flow(words);
    let judgement = judge.judge(&force, layer, direction, &flow, false);
    let ends = judgement.ends.iter().map(|end| {
        let verdict = match end.allowed {
            Some(true) => "allow",
            Some(false) => "deny",
            None => "none",
        };
        let name = |index: usize| model.policies[index].resource.meta.name.value.clone();
        let by = match &end.by {
            Decision::Failsafe(entry) => format!("failsafe {entry}"),
            Decision::Rule { policy, rule } => format!("{} {rule}", name(*policy)),
            Decision::EndOfTier { tier, .. } => format!("end {}", model.tiers[*tier].name),
            Decision::Profile { name, .. } => format!("profile {name}"),
            Decision::MissingProfile(name) => format!("missing {name}"),
            Decision::NoProfile => "no profile".to_owned(),
            Decision::ForwardDefault => "forward".to_owned(),
            Decision::NoVerdict => "nothing".to_owned(),
        };
        format!("{verdict} {by}")
    });
    ends.collect::<Vec<_>>().join(", ")
}

fn check(text: &str, cases: &[(&str, &str)]) {
    for (words, expected) in cases {
        assert_eq!(&said(text, Layer::Normal, words, defaults()), expected, "{words}\n{text}");
    }
}

/// Vectors 2 to 11, 16 to 22, 26 to 30, 35, 36, 38 to 40 of the notes on Calico policy.
#[test]
fn a_host_endpoint_alone() {
    check(
        &hep(""),
        &[
            ("in tcp 443", "deny no profile"),
            ("in tcp 22", "allow failsafe tcp:22"),
            ("out udp 53", "allow failsafe udp:53"),
            ("out tcp 53", "deny no profile"),
            ("out tcp 22", "deny no profile"),
        ],
    );
    check(&hep(ALLOW_PROFILE), &[("in tcp 80", "allow profile projectcalico-default-allow")]);
    check(&hep("gone"), &[("in tcp 80", "deny missing gone")]);
    assert_eq!(said(&hep(""), Layer::Forward, "in tcp 80", defaults()), "allow forward");
}

#[test]
fn one_direction_leaves_the_other_to_profiles() {
    let allow = gnp("p", "types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [443]}}]");
    check(
        &[hep(ALLOW_PROFILE), allow.clone()].concat(),
        &[
            ("in tcp 443", "allow p 0"),
            ("in tcp 80", "deny end default"),
            ("out tcp 80", "allow profile projectcalico-default-allow"),
        ],
    );
    check(&[hep(""), allow].concat(), &[("out tcp 80", "deny no profile")]);
}

#[test]
fn the_labs_break_nine() {
    let set = resource("GlobalNetworkSet", "repos", "hep-external-domains: \"true\"", "nets: [198.51.100.0/24]");
    let open = "egress: [{action: Allow, protocol: TCP, destination: {selector: has(hep-external-domains), namespaceSelector: global(), ports: [443]}}]";
    let policy = |more: &str| {
        let spec = format!("tier: security, order: 2, selector: role == 'bastion', types: [Ingress, Egress], {more}");
        [SECURITY.to_owned(), hep(""), set.clone(), gnp("security.hep-external", &spec)].concat()
    };
    check(
        &policy(open),
        &[
            ("out tcp 443 147.75.40.148", "deny end security"),
            ("out tcp 443 198.51.100.9", "allow security.hep-external 0"),
        ],
    );
    let broken = policy("egress: [{action: Deny, protocol: TCP, destination: {nets: [10.0.1.30/32], ports: [22]}}]");
    let out = |list: &str| (Vec::new(), parse_list(list).expect("a list"));
    let ssh = "out tcp 22 10.0.1.30";
    assert_eq!(said(&broken, Layer::Normal, ssh, out("udp:53")), "deny security.hep-external 0");
    let failsafe = out("tcp:0.0.0.0/0:22");
    assert_eq!(said(&broken, Layer::Normal, ssh, failsafe.clone()), "allow failsafe tcp:0.0.0.0/0:22");
    assert_eq!(said(&broken, Layer::Normal, "out tcp 22 2001:db8::30", failsafe), "deny end security");
}

#[test]
fn tiers_pass_deny_and_log() {
    let web = gnp("web", "types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [443]}}]");
    let with = |spec: &str| {
        [SECURITY.to_owned(), hep(""), gnp("security.s", &format!("tier: security, {spec}")), web.clone()].concat()
    };
    let rules = |rule: &str| with(&format!("types: [Ingress], ingress: [{{action: {rule}}}]"));
    check(&rules("Log"), &[("in tcp 443", "deny end security")]);
    check(&rules("Pass"), &[("in tcp 443", "allow web 0")]);
    check(&rules("Deny"), &[("in tcp 443", "deny security.s 0")]);
    check(&with("types: [Egress]"), &[("in tcp 443", "allow web 0")]);
    let passing = rules("Log").replace("{order: 300}", "{order: 300, defaultAction: Pass}");
    check(&passing, &[("in tcp 443", "allow web 0"), ("in tcp 80", "deny end default")]);
    let alone = [
        SECURITY.replace("{order: 300}", "{order: 300, defaultAction: Pass}"),
        hep(""),
        gnp("security.s", "tier: security, types: [Ingress]"),
    ]
    .concat();
    check(&alone, &[("in tcp 443", "deny no profile")]);
}

#[test]
fn staged_policies_change_nothing() {
    let staged = resource("StagedGlobalNetworkPolicy", "security.s", "", "tier: security, types: [Ingress]");
    check(
        &[SECURITY.to_owned(), hep(ALLOW_PROFILE), staged.clone()].concat(),
        &[("in tcp 443", "allow profile projectcalico-default-allow")],
    );
    let web = gnp(
        "security.w",
        "tier: security, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [443]}}]",
    );
    let both = [SECURITY.to_owned(), hep(ALLOW_PROFILE), staged, web].concat();
    check(&both, &[("in tcp 80", "deny end security")]);
    let resources = read(&both);
    let model = Model::of(&resources, Generation::From332);
    let (inbound, outbound) = defaults();
    let judge = Judge::new(&model, inbound, outbound);
    let (_, flow) = flow("in tcp 443");
    let force = model.for_endpoint(&model.endpoints[0]);
    let pending = judge.judge(&force, Layer::Normal, IN, &flow, true);
    assert!(pending.allows(), "the staged one has no rules: {pending:?}");
    assert_eq!(force.tiers(Layer::Normal)[0].ingress.len(), 2, "staged ones keep their place");
}

#[test]
fn a_tier_without_order_ties_with_default() {
    let set = |tier: &str| {
        let tiered = format!("---\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {tier}}}\n");
        let allow = gnp(&format!("{tier}.a"), &format!("tier: {tier}, types: [Ingress], ingress: [{{action: Allow}}]"));
        [tiered, hep(""), allow, gnp("deny", "types: [Ingress, Egress]")].concat()
    };
    check(&set("security"), &[("in tcp 443", "deny end default")]);
    check(&set("app"), &[("in tcp 443", "allow app.a 0")]);
    let unknown = set("app").replace("kind: Tier", "kind: Profile");
    check(&unknown, &[("in tcp 443", "deny end default")]);
}

#[test]
fn order_within_a_tier() {
    let text = [
        hep(""),
        gnp("none", "ingress: [{action: Allow}]"),
        gnp("allow", "order: 100, ingress: [{action: Allow}]"),
        gnp("allow-dns", "order: 100, ingress: [{action: Deny}]"),
        gnp("b", "order: -5.5, ingress: [{action: Log}]"),
    ]
    .concat();
    let resources = read(&text);
    let names = |generation| {
        let model = Model::of(&resources, generation);
        model.policies.iter().map(|policy| policy.resource.meta.name.value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(Generation::From332), ["b", "allow-dns", "allow", "none"]);
    assert_eq!(names(Generation::V330), ["b", "allow", "allow-dns", "none"]);
}

#[test]
fn who_is_selected() {
    let deny = |spec: &str| [hep(ALLOW_PROFILE), gnp("d", &format!("{spec}, ingress: [{{action: Deny}}]"))].concat();
    let open = "allow profile projectcalico-default-allow";
    check(&deny("namespaceSelector: all()"), &[("in tcp 443", open)]);
    check(&deny("serviceAccountSelector: all()"), &[("in tcp 443", open)]);
    check(&deny("selector: \"has(role) && !(role in {'db','web'})\""), &[("in tcp 443", "deny d 0")]);
    check(&deny("selector: \"gone != 'x'\""), &[("in tcp 443", "deny d 0")]);
    check(&deny("selector: \"role == 'Bastion'\""), &[("in tcp 443", open)]);
    let profile = resource("Profile", "p", "", "labelsToApply: {zone: a, role: other}, ingress: [{action: Allow}]");
    let by_profile = [profile, hep("p"), gnp("z", "selector: \"zone == 'a' && role == 'bastion'\"")].concat();
    check(&by_profile, &[("in tcp 443", "deny end default"), ("out tcp 443", "deny no profile")]);
    let namespaced = resource("NetworkPolicy", "web", "", "selector: all(), ingress: [{action: Deny}]");
    check(&[hep(ALLOW_PROFILE), namespaced].concat(), &[("in tcp 443", open)]);
}

#[test]
fn peers_by_label_are_their_known_addresses() {
    let rule = |rule: &str| {
        let b2 = resource("HostEndpoint", "b2", "role: bastion", "node: b2, interfaceName: eth0");
        [hep(ALLOW_PROFILE), b2, gnp("p", &format!("ingress: [{rule}]"))].concat()
    };
    let global = "namespaceSelector: global()";
    let allow = rule(&format!("{{action: Allow, source: {{selector: \"role == 'bastion'\", {global}}}}}"));
    check(&allow, &[("in tcp 443 10.9.0.6", "deny end default"), ("in tcp 443 10.9.0.5", "allow p 0")]);
    let pods = rule("{action: Allow, source: {selector: \"role == 'bastion'\"}}");
    check(&pods, &[("in tcp 443 10.9.0.6", "allow p 0, deny end default")]);
    let lone = rule(
        "{action: Deny, source: {notSelector: \"has(projectcalico.org/created-by) && !has(projectcalico.org/namespace)\"}}",
    );
    check(&lone, &[("in tcp 443", "deny p 0")]);
    let set = rule(&format!("{{action: Deny, source: {{selector: \"trusted != 'true'\", {global}}}}}"));
    check(&set, &[("in tcp 443", "deny end default")]);
    let named = rule("{action: Allow, protocol: TCP, destination: {ports: [\"80-90\"]}}");
    check(&named, &[("in tcp 85", "deny end default")]);
}

#[test]
fn layers_are_kept_apart() {
    let forward = gnp(
        "f",
        "applyOnForward: true, types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]",
    );
    let text = [hep(""), forward].concat();
    assert_eq!(said(&text, Layer::Forward, "in tcp 443", defaults()), "deny end default");
    assert_eq!(said(&text, Layer::Forward, "out tcp 443", defaults()), "none nothing");
    assert_eq!(said(&text, Layer::Normal, "in tcp 80", defaults()), "allow f 0");
    let untracked = gnp(
        "u",
        "applyOnForward: true, doNotTrack: true, types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [80]}}]",
    );
    let text = [hep(""), untracked].concat();
    assert_eq!(said(&text, Layer::Untracked, "in tcp 80", defaults()), "deny u 0");
    assert_eq!(said(&text, Layer::Untracked, "in tcp 81", defaults()), "none nothing");
    assert_eq!(said(&text, Layer::Normal, "in tcp 80", defaults()), "deny no profile");
    let pre = gnp("d", "applyOnForward: true, preDNAT: true, types: [Ingress], ingress: [{action: Allow}]");
    let text = [hep(""), pre].concat();
    assert_eq!(said(&text, Layer::PreDnat, "in tcp 80", defaults()), "allow d 0");
    assert_eq!(said(&text, Layer::PreDnat, "out tcp 80", defaults()), "none nothing");
}

#[test]
fn types_as_each_way_of_storing_reads_them() {
    let of = |api: Api, spec: &str| {
        let text = gnp("p", spec);
        let resources = read(&text);
        let Some(Spec::Policy(policy)) = resources.iter().next().map(|r| &r.spec) else { panic!("{spec}") };
        let found = Directions::of(policy, api);
        (found.ingress, found.egress, found.doubtful)
    };
    assert_eq!(of(Api::V3, "order: 1"), (true, false, false));
    assert_eq!(of(Api::V3, "egress: [{action: Allow}]"), (false, true, false));
    assert_eq!(of(Api::V3, "egress: [{action: Allow}], ingress: [{action: Allow}]"), (true, true, false));
    assert_eq!(of(Api::V3, "egress: [{action: Allow}], ingress: []"), (false, true, true));
    assert_eq!(of(Api::V3, "ingress: [{action: Allow}], egress: []"), (true, false, true));
    assert_eq!(of(Api::V3, "types: []"), (true, false, true));
    assert_eq!(of(Api::V3, "types: [Egress]"), (false, true, false));
    assert_eq!(of(Api::Crd, "ingress: [{action: Allow}]"), (true, true, false));
}

#[test]
fn one_endpoint_governs_an_interface() {
    let endpoint = |name: &str, spec: &str| resource("HostEndpoint", name, "", &format!("node: b1, {spec}"));
    let text = [
        endpoint("b-eth0", "interfaceName: eth0"),
        endpoint("a-web", "expectedIPs: [10.9.0.5]"),
        endpoint("z-any", "interfaceName: \"*\""),
        endpoint("y-any", "interfaceName: \"*\""),
        endpoint("named", "interfaceName: eth7, expectedIPs: [10.9.0.9]"),
    ]
    .concat();
    let resources = read(&text);
    let model = Model::of(&resources, Generation::From332);
    let by = |interface: &str, ip: &str| match governing(
        model.endpoints_of("b1"),
        interface,
        &[address(ip)],
        &Exclusions::default(),
    ) {
        Governed::By(first, others) => {
            let others: Vec<&str> = others.iter().map(|endpoint| endpoint.name.as_str()).collect();
            format!("{} {others:?}", first.name)
        }
        other => format!("{other:?}"),
    };
    assert_eq!(by("eth0", "10.9.0.5"), "a-web [\"b-eth0\"]");
    assert_eq!(by("eth0", "10.9.0.6"), "b-eth0 []");
    assert_eq!(by("lo", "127.0.0.1"), "y-any [\"z-any\"]");
    assert_eq!(by("eth1", "10.9.0.9"), "y-any [\"z-any\"]", "an endpoint with a name never matches by address");
    assert_eq!(by("cali1234", "10.9.0.5"), "Excluded");
    assert_eq!(by("kube-ipvs0", "10.9.0.5"), "Excluded");
    assert_eq!(model.endpoints_of("B1").count(), 0, "names are compared exactly");
    let excluding = |pattern: &str| {
        let exclusions = Exclusions { excluded: vec![pattern.to_owned()], ..Exclusions::default() };
        governing(model.endpoints_of("b1"), "eth0", &[], &exclusions)
    };
    assert_eq!(excluding("/eth.*/"), Governed::Excluded);
    assert!(matches!(excluding("/^veth/"), Governed::By(..)));
    assert_eq!(excluding("/eth[0-9]/"), Governed::Undecided("/eth[0-9]/".to_owned()));
}

#[test]
fn controllers_make_endpoints_of_nodes() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n  labels: {kubernetes.io/os: linux, zone: a}\n  annotations: {projectcalico.org/IPv4Address: 10.0.1.20/24}\nstatus: {addresses: [{type: InternalIP, address: 10.0.1.20}, {type: Hostname, address: n1}, {type: InternalIP, address: \"fd00::20\"}]}\n";
    let controllers = |more: &str| {
        let spec = format!("controllers: {{node: {{hostEndpoint: {{autoCreate: Enabled{more}}}}}}}");
        resource("KubeControllersConfiguration", "default", "", &spec)
    };
    let made = |text: &str| {
        let resources = read(text);
        let interfaces = [("eth0", vec![address("10.0.1.20")]), ("lo", vec![])];
        let made = automatic_endpoints(&resources, Some(&OwnNode { name: "n1", interfaces: &interfaces }));
        let ends = made.endpoints.iter();
        let ends =
            ends.map(|e| format!("{} {:?} {} {}", e.name, e.interface(), e.spec.expected_ips.len(), e.labels.len()));
        ends.chain(made.doubts).collect::<Vec<_>>()
    };
    assert_eq!(made(node), [""; 0]);
    assert_eq!(made(&[node, &controllers("")].concat()), ["n1-auto-hep Some(\"*\") 2 3"]);
    let templates = controllers(
        ", createDefaultHostEndpoint: Disabled, templates: [{generateName: v4, interfaceCIDRs: [10.0.0.0/8], labels: {zone: b}}, {generateName: p, interfacePattern: \"^eth\", nodeSelector: \"zone == 'a'\"}, {generateName: none, interfaceCIDRs: [192.168.0.0/16]}]",
    );
    assert_eq!(
        made(&[node, &templates].concat()),
        ["n1-v4-auto-hep None 1 3", "n1-p-eth0-auto-hep Some(\"eth0\") 1 3"]
    );
    let open = controllers(
        ", createDefaultHostEndpoint: Disabled, templates: [{generateName: q, interfacePattern: \"eth[0-9]\"}]",
    );
    let told = made(&[node, &open].concat());
    assert!(told.len() == 2 && told[0].starts_with("whether eth0 gets an automatic host endpoint"), "{told:?}");
    let other = automatic_endpoints(&read(&[node, &open].concat()), Some(&OwnNode { name: "n2", interfaces: &[] }));
    assert!(other.doubts.is_empty(), "another node's endpoints are of no matter here");
    let resources = read(&[node, &controllers("")].concat());
    let model = Model::of(&resources, Generation::From332);
    assert!(model.endpoints[0].automatic && model.endpoints[0].labels.contains_key("projectcalico.org/created-by"));
}
