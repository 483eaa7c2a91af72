use super::*;
use crate::calico::names::{Action, Direction};

fn read(text: &str) -> Resources {
    Resources::of([("p.yaml", text.as_bytes())])
}

fn kinds(resources: &Resources) -> Vec<ProblemKind> {
    resources.problems.iter().map(|problem| problem.kind).collect()
}

fn policy(resources: &Resources) -> &Policy {
    match &resources.iter().next().expect("a resource").spec {
        Spec::Policy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

const HEAD: &str = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\nspec:\n";

/// A policy with one ingress rule of these fields.
fn rule(fields: &str) -> Resources {
    read(&format!("{HEAD}  ingress:\n  - {{action: Allow, {fields}}}\n"))
}

#[test]
fn every_field_knows_its_line() {
    let text = "# comment\n---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n name: security.p\nspec:\n tier: security\n order: 2\n selector: bastion == \"true\"\n types: [Ingress, Egress]\n egress:\n ###\n - action: Deny\n   protocol: TCP\n   destination:\n     nets: [10.0.1.30/32]\n     ports: [22, \"80:90\", http]\n - action: Log\n   icmp: {type: 8}\n   protocol: ICMP\n";
    let resources = read(text);
    assert_eq!(resources.problems, []);
    let policy = policy(&resources);
    assert_eq!((policy.tier(), policy.order.as_ref().map(|o| (o.value, o.line))), ("security", Some((2.0, 9))));
    assert_eq!(
        policy.selector.as_ref().map(|s| (s.value.as_str(), s.line, s.column)),
        Some(("bastion == \"true\"", 10, 12))
    );
    let rules = policy.rules(Direction::Out);
    assert_eq!(rules[0].action.as_ref().map(|a| (a.value, a.line)), Some((Action::Deny, 14)));
    assert_eq!(rules[0].destination.nets[0].line, 17);
    assert_eq!(rules[0].destination.ports[2].value, Port::Name("http".to_owned()));
    assert_eq!((rules[1].line, rules[1].icmp.as_ref().map(|i| i.value.kind)), (19, Some(Some(8))));
    assert_eq!(
        resources.iter().next().map(|r| (r.meta.title(), r.meta.place.line)),
        Some(("GlobalNetworkPolicy security.p".to_owned(), 3))
    );
    assert!(policy.rules(Direction::In).is_empty() && policy.ingress.is_none());
}

#[test]
fn every_form_of_input_is_read() {
    let item = "{\"apiVersion\": \"projectcalico.org/v3\", \"kind\": \"Tier\", \"metadata\": {\"name\": \"NAME\", \"managedFields\": [], \"creationTimestamp\": null}, \"spec\": {\"order\": 1}, \"status\": {}}";
    let named = |name: &str| item.replace("NAME", name);
    for (text, names) in [
        (named("a"), vec!["a"]),
        (format!("{}\n---   # next\n{}\n---\n# nothing\n---\n", named("a"), named("b")), vec!["a", "b"]),
        (format!("kind: List\napiVersion: v1\nitems:\n- {}\n- {}\n", named("a"), named("b")), vec!["a", "b"]),
        ("kind: TierList\napiVersion: projectcalico.org/v3\nitems:\n- metadata: {name: a}\n".to_owned(), vec!["a"]),
        (format!("- {}\n- {}\n", named("a"), named("b")), vec!["a", "b"]),
        (
            format!(
                "set -e\nkubectl apply -f - <<EOF\n{}\nEOF\nkubectl apply -f -<<'X'\n  {}\nX\n",
                named("a"),
                named("b")
            ),
            vec!["a", "b"],
        ),
        (format!("# Title\n```yaml\n{}\n```\n", named("a")), vec!["a"]),
        (format!("\u{feff}{}", named("a")), vec!["a"]),
    ] {
        let resources = read(&text);
        assert_eq!(resources.problems, [], "{text}");
        let found: Vec<&str> = resources.iter().map(|r| r.meta.name.value.as_str()).collect();
        assert_eq!(found, names, "{text}");
    }
    let felix = read(
        "kind: FelixConfigurationList\napiVersion: projectcalico.org/v3\nitems:\n- metadata: {name: default}\n  spec: {logPrefix: x}\n",
    );
    let Some(Spec::Felix(felix)) = felix.iter().next().map(|r| &r.spec) else { panic!("{felix:?}") };
    assert_eq!(felix.loaded.assignments.len(), 1, "items of typed lists have no kind of their own");
}

#[test]
fn stored_resources_give_their_labels_back() {
    let text = "apiVersion: crd.projectcalico.org/v1\nkind: HostEndpoint\nmetadata:\n  name: b1\n  labels: {a: old}\n  annotations:\n    projectcalico.org/metadata: '{\"labels\":{\"a\":\"new\",\"b\":\"x\"},\"uid\":\"1\"}'\nspec: {node: b1, interfaceName: eth0, expectedIPs: [10.9.0.5, \"fd00::5\"]}\n";
    let resources = read(text);
    assert_eq!(resources.problems, []);
    let meta = &resources.iter().next().expect("one").meta;
    assert_eq!(meta.api, Api::Crd);
    assert_eq!(
        meta.plain_labels(),
        Labels::from([("a".to_owned(), "new".to_owned()), ("b".to_owned(), "x".to_owned())])
    );
    let bad = read(&text.replace("'{", "'{{"));
    assert_eq!(kinds(&bad), [ProblemKind::BadValue]);
}

#[test]
fn what_does_not_fit_is_told_and_the_rest_stays() {
    for (fields, kind, refused) in [
        ("protcol: TCP", ProblemKind::UnknownField, false),
        ("protocol: tcp", ProblemKind::LetterCase, true),
        ("protocol: TPC", ProblemKind::BadValue, true),
        ("protocol: 300", ProblemKind::BadValue, true),
        ("protocol: TCP, destination: {ports: [\"80-90\"]}", ProblemKind::DashedPort, false),
        ("protocol: TCP, destination: {ports: [\"90:80\"]}", ProblemKind::Port, true),
        ("protocol: TCP, destination: {ports: [0]}", ProblemKind::Port, true),
        ("protocol: TCP, destination: {ports: [65536]}", ProblemKind::Port, true),
        ("destination: {ports: [80]}", ProblemKind::PortsWithoutProtocol, true),
        ("protocol: ICMP, destination: {ports: [80]}", ProblemKind::PortsWithoutProtocol, true),
        ("source: {nets: [10.0.0.1/8]}", ProblemKind::LooseNet, true),
        ("source: {nets: [10.0.0.1]}", ProblemKind::LooseNet, true),
        ("source: {nets: [example.com]}", ProblemKind::Net, true),
        ("source: {nets: [10.0.0.0/8, \"fd00::/8\"]}", ProblemKind::MixedFamilies, true),
        ("source: {nets: [10.0.0.0/8]}, ipVersion: 6", ProblemKind::MixedFamilies, true),
        ("source: {notNets: [0.0.0.0/0]}", ProblemKind::NotEverything, true),
        ("icmp: {type: 8}", ProblemKind::Icmp, true),
        ("protocol: ICMP, icmp: {code: 8}", ProblemKind::Icmp, true),
        ("protocol: ICMP, ipVersion: 6", ProblemKind::Icmp, true),
        ("source: {selector: \"a = 'x'\"}", ProblemKind::Selector, true),
        ("source: {selector: \"global()\"}", ProblemKind::GlobalSelector, true),
        ("source: {namespaceSelector: \"global() || a == 'x'\"}", ProblemKind::GlobalSelector, true),
        ("destination: {domains: [example.com]}", ProblemKind::Domains, true),
        ("source: {services: {name: x}}", ProblemKind::Services, true),
        ("http: {methods: [GET]}", ProblemKind::Http, false),
        ("ipVersion: 5", ProblemKind::BadValue, true),
        ("source: 5", ProblemKind::WrongType, true),
        ("source: {nets: 10.0.0.0/8}", ProblemKind::WrongType, true),
    ] {
        let resources = rule(fields);
        assert_eq!(kinds(&resources), [kind], "{fields}: {:?}", resources.problems);
        let problem = resources.problems.first().expect("one");
        assert_eq!((problem.refused, problem.place.line), (refused, 6), "{fields}");
        assert!(problem.field.starts_with("spec.ingress[0]"), "{fields}: {}", problem.field);
        let resource = resources.iter().next().expect("what was read stays");
        assert_eq!(resource.refused, refused, "{fields}");
        assert_eq!(policy(&resources).rules(Direction::In).len(), 1, "{fields}");
    }
    let bad_base = rule("protocol: TCP, destination: {ports: [80]}").problems;
    assert_eq!(bad_base, []);
    let plain = read(&format!(
        "{HEAD}  ingress:\n  - action: Allow\n    protocol: TCP\n    destination:\n      ports:\n      - 6040:6050\n"
    ));
    assert_eq!(kinds(&plain), [ProblemKind::UnquotedPort]);
    for good in [
        "source: {namespaceSelector: global()}",
        "protocol: 1, icmp: {type: 8, code: 0}",
        "destination: {ports: [http]}",
    ] {
        assert_eq!(rule(good).problems, [], "{good}");
    }
}

#[test]
fn policies_that_the_api_refuses() {
    for (spec, kind) in [
        ("doNotTrack: true", ProblemKind::Layers),
        ("preDNAT: true", ProblemKind::Layers),
        ("preDNAT: true\n  applyOnForward: true\n  types: [Egress]", ProblemKind::Layers),
        ("preDNAT: true\n  applyOnForward: true\n  egress: [{action: Allow}]", ProblemKind::Layers),
        ("preDNAT: true\n  doNotTrack: true\n  applyOnForward: true", ProblemKind::Layers),
        ("types: [ingress]", ProblemKind::LetterCase),
        ("types: [Both]", ProblemKind::BadValue),
        ("order: \"1000\"", ProblemKind::WrongType),
        ("order: abc", ProblemKind::WrongType),
        ("ingress: [{}]", ProblemKind::Missing),
        ("ingress: [{action: allow}]", ProblemKind::LetterCase),
        ("selector: |\n    a == 'x' ||\n    b == 'y'", ProblemKind::Selector),
        ("selector: global()", ProblemKind::GlobalSelector),
        ("applyOnForward: \"true\"", ProblemKind::WrongType),
        ("tier: security", ProblemKind::TierName),
        ("stagedAction: Set", ProblemKind::UnknownField),
        ("oder: 5", ProblemKind::UnknownField),
    ] {
        let resources = read(&format!("{HEAD}  {spec}\n"));
        assert_eq!(kinds(&resources), [kind], "{spec}: {:?}", resources.problems);
    }
    let order = read(&format!("{HEAD}  order: 1e3\n  selector: >-\n    a == 'x' &&\n    b == 'y'\n"));
    assert_eq!(order.problems, []);
    assert_eq!(policy(&order).order.as_ref().map(|o| o.value), Some(1000.0));
    let near = read(&format!("{HEAD}  oder: 5\n"));
    assert_eq!(near.problems[0].fix, "did you mean order?");
}

#[test]
fn other_kinds_say_what_is_wrong() {
    let head = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    for (text, kind) in [
        (head("HostEndpoint", "h", "{interfaceName: eth0}"), ProblemKind::Missing),
        (head("HostEndpoint", "h", "{node: h}"), ProblemKind::NoInterface),
        (head("HostEndpoint", "h", "{node: h, interfaceName: \"eth*\"}"), ProblemKind::BadValue),
        (head("HostEndpoint", "h", "{node: h, expectedIPs: [10.0.0.1/32]}"), ProblemKind::BadValue),
        (head("HostEndpoint", "h", "{node: h, interfaceName: a, ports: [{name: x}]}"), ProblemKind::Missing),
        (head("Tier", "a.b", "{order: 1}"), ProblemKind::BadValue),
        (head("Tier", "default", "{order: 1}"), ProblemKind::BadValue),
        (head("Tier", "t", "{defaultAction: pass}"), ProblemKind::LetterCase),
        (head("GlobalNetworkSet", "s", "{nets: [x]}"), ProblemKind::Net),
        (head("GlobalNetworkSet", "s", "{allowedEgressDomains: [\"*.*.x\"]}"), ProblemKind::Domains),
        (head("GlobalNetworkPolcy", "s", "{}"), ProblemKind::OtherKind),
        (
            head(
                "KubeControllersConfiguration",
                "default",
                "{controllers: {node: {hostEndpoint: {autoCreate: true}}}}",
            ),
            ProblemKind::WrongType,
        ),
        ("kind: Tier\nmetadata: {name: t}\n".to_owned(), ProblemKind::Missing),
        ("apiVersion: v2\nkind: Tier\nmetadata: {name: t}\n".to_owned(), ProblemKind::BadValue),
        ("kind: Tier\napiVersion: projectcalico.org/v3\n".to_owned(), ProblemKind::NotAResource),
        ("a: b\n".to_owned(), ProblemKind::NotAResource),
        ("just text\n".to_owned(), ProblemKind::NotAResource),
        (
            head("HostEndpoint", "h", "{node: h, interfaceName: a}")
                .replace("{name: h}", "{name: h, labels: {a: true}}"),
            ProblemKind::WrongType,
        ),
        (
            head("HostEndpoint", "h", "{node: h, interfaceName: a}")
                .replace("{name: h}", "{name: h, labels: {a: \"x y\"}}"),
            ProblemKind::Label,
        ),
    ] {
        let resources = read(&text);
        assert_eq!(kinds(&resources), [kind], "{text}: {:?}", resources.problems);
    }
    let lenient = read(&head("GlobalNetworkSet", "s", "{nets: [10.0.0.1, 10.0.0.1/8, 0.0.0.0/0]}"));
    assert_eq!(lenient.problems, [], "sets take host bits");
}

#[test]
fn broken_documents_do_not_hide_others() {
    let text = format!(
        "{HEAD}  order: 1\n---\nkind: [\n---\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: t}}\n"
    );
    let resources = read(&text);
    assert_eq!((resources.len(), kinds(&resources)), (2, vec![ProblemKind::Malformed]));
    assert!(resources.problems[0].place.line >= 7, "{:?}", resources.problems);
    let bang = read(&format!("{HEAD}  selector: {{a\n"));
    assert!(bang.problems[0].fix.contains("quotes"), "{:?}", bang.problems);
    let tab = read("kind: Tier\n\tmetadata: x\n");
    assert!(tab.problems[0].fix.contains("tabs"), "{:?}", tab.problems);
    assert!(!read(&"[".repeat(100_000)).problems.is_empty());
    assert!(!read(&format!("{HEAD}  ingress: [{}]", "{action: x},".repeat(3_000))).problems.is_empty());
}

#[test]
fn sets_of_resources_change() {
    let one = |name: &str, order: u32| {
        format!("{}  order: {order}\n---\n", HEAD.replace("{name: p}", &format!("{{name: {name}}}")))
    };
    let mut all = read(&[one("a", 1), one("b", 2), one("default.a", 3)].concat());
    assert_eq!(kinds(&all), [ProblemKind::Duplicate]);
    assert_eq!(all.len(), 2);
    let change =
        read(&[one("b", 5), one("c", 6), format!("{}  order: x\n", HEAD.replace("{name: p}", "{name: a}"))].concat());
    assert_eq!(all.apply(&change), ["GlobalNetworkPolicy b"]);
    let orders: Vec<f64> = all
        .iter()
        .filter_map(|r| match &r.spec {
            Spec::Policy(policy) => policy.order.as_ref().map(|o| o.value),
            _ => None,
        })
        .collect();
    assert_eq!(orders, [3.0, 5.0, 6.0], "what is refused changes nothing");
    assert!(all.delete("gnp/b").is_ok());
    assert!(all.delete("globalnetworkpolicies.projectcalico.org/a").is_ok());
    assert!(all.delete("gnp/d").expect_err("gone").contains("did you mean c?"));
    assert!(all.delete("pod/x").expect_err("no kind").contains("no kind"));
    assert!(all.delete("gnp").expect_err("no name").contains("expected KIND/NAME"));
    assert_eq!(all.len(), 1);
}

#[test]
fn resources_are_found_by_name_among_many_and_after_a_deletion() {
    let set = |number: usize| {
        format!(
            "- {{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {{name: s{number}}}, spec: {{nets: []}}}}\n"
        )
    };
    let text: String = (0..3000).map(set).collect();
    let mut resources = Resources::of([("sets.yaml", text.as_bytes())]);
    assert_eq!((resources.len(), resources.problems.len()), (3000, 0));
    resources.delete("gns/s10").expect("it is there");
    assert!(resources.delete("gns/s10").is_err());
    for number in [0, 9, 11, 2999] {
        let name = format!("s{number}");
        let found = resources.get(&Kind::GlobalNetworkSet, None, &name).expect("it is there");
        assert_eq!(found.meta.name.value, name);
    }
    let again = Resources::of([("again.yaml", set(2999).as_bytes())]);
    assert_eq!(resources.apply(&again), ["GlobalNetworkSet s2999"]);
    assert_eq!(resources.len(), 2999);
}
