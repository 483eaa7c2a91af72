//! What the reader of resources says: fields, values and combinations that Calico does not take.

use super::context::Context;
use super::{At, EXACT, Findings, Lint, define};
use crate::calico::resources::ProblemKind;

define!(
    NOT_YAML, "HG401", "not-yaml", High, "a document is neither YAML nor JSON",
    what: "Each document of each file is parsed as YAML 1.2, of which JSON is a part, with limits on size and nesting.",
    why: "Nothing in the document can be applied or checked. Other documents of the file are still read.",
    fix: "Mend the place that is named. Selectors that begin with `!`, `{`, a quote or `*` need quotes around the whole; indent with blanks, not tabs.",
    limits: "The parser stops at the first fault of a document; there may be more behind it."
);
define!(
    NOT_A_RESOURCE, "HG402", "not-a-resource", High, "a document is no resource: kind or name is missing",
    what: "Each document and each item of a list needs `kind` and `metadata.name`.",
    why: "The API server refuses it. What it was meant to do does not happen, which with a Deny means open, with an Allow closed.",
    fix: "Add `apiVersion: projectcalico.org/v3`, `kind` and `metadata.name`, or remove the document.",
    limits: "`generateName` is taken by `kubectl create` only; such a document is reported as well."
);
define!(
    OTHER_KIND, "HG403", "kind-not-looked-at", Info, "a resource of a kind that is not of Calico's policy model",
    what: "Kinds that decide what happens to packets of hosts are read; others are named here, so that nothing is ignored in silence.",
    why: "A typing error in `kind` hides a whole policy. A Deployment or Service beside the policies is of no concern.",
    fix: "Where a kind is suggested, correct it. Otherwise there is nothing to do.",
    limits: "What the other resource does to the host's traffic (a Service with NodePorts) is not judged."
);
define!(
    DUPLICATE, "HG404", "resource-given-twice", Medium, "the same resource is given twice with the last one winning",
    what: "Resources are told apart by kind, namespace and name; policies of the tier `default` by their name with and without `default.`.",
    why: "Whichever is applied last wins. The order of files in a folder or of two pipelines is a poor way to choose a firewall.",
    fix: "Keep one of them, or give them different names.",
    limits: "Exports of two clusters read together are always duplicates of each other: lint them apart."
);
define!(
    UNKNOWN_FIELD, "HG405", "unknown-field", High, "a field that the kind does not have",
    what: "Every field of a resource is compared with those its kind has.",
    why: "calicoctl refuses the file; kubectl may drop the field without a word. A dropped condition makes a rule match more: `protcol: TCP` on an Allow opens every protocol.",
    fix: "Correct the name; the nearest one is suggested where there is one.",
    limits: "Fields of Calico Enterprise that this program does not know yet are reported as well."
);
define!(
    WRONG_TYPE, "HG406", "wrong-type", High, "a value of another type than its field's",
    what: "Numbers, truth values, texts, lists and maps must be what the field takes: `order: \"10\"` is a text, and a label's value `true` without quotes is no text.",
    why: "The API server refuses the resource as a whole. The state before stays in force.",
    fix: "Write the type that is named: quotes around texts that look like numbers or truth values (`y`, `n`, `on`, `off` as well), none around numbers.",
    limits: EXACT
);
define!(
    BAD_VALUE, "HG407", "value-not-taken", High, "a value that its field does not take",
    what: "Words, numbers and names are compared with what the field allows: actions, protocols, interface names, orders of built-in tiers.",
    why: "The API server refuses the resource, or Felix treats it as if it did not exist. A missing Deny is an open port; a missing host endpoint is an unpoliced interface.",
    fix: "Write one of the values named.",
    limits: EXACT
);
define!(
    MISSING, "HG408", "field-missing", High, "a field that must be there is missing",
    what: "Rules need `action`, host endpoints need `node`, resources need `apiVersion`.",
    why: "The API server refuses the resource as a whole.",
    fix: "Add the field with a value Calico takes.",
    limits: EXACT
);
define!(
    LETTER_CASE, "HG409", "letter-case", High, "the right word in the wrong case",
    what: "Actions, types, protocols and switches are compared in their exact case.",
    why: "`action: allow`, `types: [ingress]` and `protocol: tcp` are refused by the API, although older dumps and other tools print them so.",
    fix: "Write the word as suggested.",
    limits: EXACT
);
define!(
    SELECTOR, "HG410", "selector-does-not-parse", High, "a selector that does not parse",
    what: "Every selector is read with Calico's own grammar: quotes around values, `==`, `&&`, `||`, blanks and tabs only.",
    why: "The policy is refused; where it reached the datastore anyway, Felix behaves as if it did not exist.",
    fix: "Correct it at the column named. In YAML use `>-` and not `|` for long ones: line breaks are no blanks to selectors.",
    limits: "One error a selector is reported."
);
define!(
    GLOBAL_SELECTOR, "HG411", "global-in-selector", High, "global() where it is not allowed",
    what: "`global()` may stand alone in the `namespaceSelector` of a rule, nowhere else.",
    why: "The API server refuses the policy.",
    fix: "To address host endpoints and global network sets alone, write `namespaceSelector: global()` beside the rule's selector.",
    limits: EXACT
);
define!(
    BAD_PORT, "HG412", "port-not-valid", High, "a port or range that is none",
    what: "Ports are numbers of 1 to 65535, ranges are `\"low:high\"`, names have letters, digits, `_`, `.` and `-`.",
    why: "The API server refuses the policy as a whole.",
    fix: "Write the port or range as the message says.",
    limits: EXACT
);
define!(
    DASHED_PORT, "HG413", "port-range-with-dash", High, "80-90 is the name of a port, not a range",
    what: "An entry of `ports` of two numbers with a dash between them.",
    why: "Calico takes it for the name of a port. No endpoint has such a port, so the rule never matches: an Allow stays closed, a Deny stays open, and nobody is told.",
    fix: "Write the range with a colon, in quotes: `\"80:90\"`.",
    limits: "An endpoint may really define a port of that name; then nothing is wrong."
);
define!(
    UNQUOTED_PORT, "HG414", "port-range-without-quotes", Low, "a range of ports without quotes",
    what: "`6040:6050` without quotes in a list of ports.",
    why: "YAML 1.1 readers take two numbers with a colon for one number of base 60. kubectl and calicoctl do not; templating tools may, and then another port is opened.",
    fix: "Put it in quotes: `\"6040:6050\"`.",
    limits: EXACT
);
define!(
    PORTS_WITHOUT_PROTOCOL, "HG415", "ports-without-protocol", High, "ports in a rule whose protocol has none",
    what: "Rules with numeric ports need `protocol: TCP`, `UDP` or `SCTP`.",
    why: "The API server refuses the policy; written straight into the datastore, Felix logs `Validation failed` and behaves as if it did not exist.",
    fix: "Add the protocol; write one rule for TCP and one for UDP where both are meant.",
    limits: EXACT
);
define!(
    BAD_NET, "HG416", "net-not-valid", High, "a net that is none",
    what: "`nets` and `notNets` hold CIDRs of IPv4 or IPv6.",
    why: "The API server refuses the policy. Names of hosts are not resolved.",
    fix: "Write the addresses; for names use a network set (Calico Enterprise: `domains`).",
    limits: EXACT
);
define!(
    LOOSE_NET, "HG417", "net-with-host-bits", High, "a net with host bits, or an address without length, in a rule",
    what: "Nets of rules must be exact: `10.0.0.0/8`, `10.0.0.5/32`. Network sets take both loose forms.",
    why: "calicoctl refuses the policy. It also hides what was meant: `10.0.1.30/24` is a whole net where one host may have been meant.",
    fix: "Write the net that is suggested, or `/32` (`/128`) for the single host.",
    limits: EXACT
);
define!(
    MIXED_FAMILIES, "HG418", "families-mixed-in-rule", High, "IPv4 and IPv6 nets in one rule",
    what: "All nets of a rule, its source's and its destination's, must be of one family, and agree with `ipVersion`.",
    why: "The API server refuses the policy.",
    fix: "Write two rules, one for each family.",
    limits: EXACT
);
define!(
    NOT_EVERYTHING, "HG419", "everything-in-not-nets", High, "every address in notNets",
    what: "`0.0.0.0/0` or `::/0` in `notNets`.",
    why: "Such a rule can never match; the API refuses it, and Felix leaves it out.",
    fix: "Remove the rule, or name the nets that are really not meant.",
    limits: EXACT
);
define!(
    ICMP, "HG420", "icmp-without-protocol", High, "ICMP fields that do not go with the protocol",
    what: "`icmp` and `notICMP` need `protocol: ICMP` or `ICMPv6`; a code needs a type; the family must be the protocol's.",
    why: "The API server refuses the policy, or the rule never matches.",
    fix: "Add or correct the protocol; write one rule for ICMP and one for ICMPv6.",
    limits: EXACT
);
define!(
    LAYERS, "HG421", "layers-do-not-go-together", High, "doNotTrack, preDNAT and applyOnForward that do not go together",
    what: "`doNotTrack` and `preDNAT` exclude each other, both need `applyOnForward: true`, and `preDNAT` has no egress.",
    why: "The API server refuses the policy.",
    fix: "Add `applyOnForward: true`; split policies that mix the two.",
    limits: EXACT
);
define!(
    DOMAINS, "HG422", "domains-misplaced", High, "domains where they do nothing, or not a domain",
    what: "`domains` stand in the destination of egress rules that allow, alone, with at most one `*` for whole names.",
    why: "The policy is refused: domains can only be learned for what this host looks up and goes to.",
    fix: "Use nets or a network set elsewhere; write `example.com` and `*.example.com` for a domain and all below it.",
    limits: "The grammar is that of Calico Enterprise; open-source Calico has no domains (HG485)."
);
define!(
    SERVICES, "HG423", "services-misplaced", High, "services that do not go with the rest of the rule",
    what: "`services` stand in the source of ingress rules and the destination of egress rules, without selectors, nets or ports; in global policies with a namespace.",
    why: "The API server refuses the policy.",
    fix: "Move the field, or split the rule.",
    limits: "Whether the service exists is not known from policy files."
);
define!(
    TIER_NAME, "HG424", "policy-name-without-tier", Low, "a policy's name does not start with its tier",
    what: "Policies of tiers other than `default` whose name does not begin with the tier and a dot.",
    why: "Calico Enterprise and open-source Calico of 3.29 to 3.31 refuse such names; 3.32 takes them. The same file works in one cluster and fails in the next.",
    fix: "Name the policy `TIER.NAME`; 3.32 takes that too, and `spec.tier` alone decides there.",
    limits: "The version of the cluster is not known from policy files, unless a ClusterInformation is among them."
);
define!(
    LABEL, "HG425", "label-not-valid", High, "a label or its value that Kubernetes does not take",
    what: "Keys and values of labels have at most 63 letters, digits, `-`, `_` and `.`; keys may have a domain in front.",
    why: "The resource is refused, and every policy that selects by the label misses it.",
    fix: "Choose a value that fits; selectors compare byte by byte, so change them too.",
    limits: EXACT
);
define!(
    TOO_MANY, "HG426", "too-many-entries", High, "more entries or characters than the API takes",
    what: "At most 1024 rules a direction, 256 nets and 50 ports a list, 1024 characters a selector.",
    why: "The API server refuses the policy; older releases may take it and newer ones not.",
    fix: "Split the policy, or move nets into a GlobalNetworkSet and select it by label.",
    limits: EXACT
);
define!(
    STAGED_CONTENT, "HG427", "staged-delete-with-content", Medium, "a staged deletion that also has rules",
    what: "`stagedAction: Delete` in a StagedGlobalNetworkPolicy that has more than tier and action.",
    why: "The API server refuses it. A staged deletion says that the enforced policy of the same name would go.",
    fix: "Remove everything but `tier` and `stagedAction`, or set the action to `Set`.",
    limits: EXACT
);
define!(
    NO_INTERFACE, "HG428", "endpoint-names-nothing", High, "a host endpoint that names neither interface nor addresses",
    what: "Host endpoints need `interfaceName` or `expectedIPs`.",
    why: "The API server refuses it, and the host stays unpoliced.",
    fix: "Write `interfaceName: \"*\"` for every interface, or the name of one; add `expectedIPs` so that rules can name the host.",
    limits: EXACT
);
define!(
    HTTP, "HG429", "http-not-enforced-on-hosts", Medium, "http conditions that no rule of the host enforces",
    what: "Rules of hosts that ask for `http`.",
    why: "Paths and methods are matched by a sidecar in front of pods. On a host endpoint the rule allows by address and port alone: it opens more than it says.",
    fix: "Do not rely on it for hosts; restrict source and port.",
    limits: "A policy that only selects pods is reported as well, since pods' labels are not known."
);

const BY_KIND: [(ProblemKind, Lint); 29] = [
    (ProblemKind::Malformed, NOT_YAML),
    (ProblemKind::NotAResource, NOT_A_RESOURCE),
    (ProblemKind::OtherKind, OTHER_KIND),
    (ProblemKind::Duplicate, DUPLICATE),
    (ProblemKind::UnknownField, UNKNOWN_FIELD),
    (ProblemKind::WrongType, WRONG_TYPE),
    (ProblemKind::BadValue, BAD_VALUE),
    (ProblemKind::Missing, MISSING),
    (ProblemKind::LetterCase, LETTER_CASE),
    (ProblemKind::Selector, SELECTOR),
    (ProblemKind::GlobalSelector, GLOBAL_SELECTOR),
    (ProblemKind::Port, BAD_PORT),
    (ProblemKind::DashedPort, DASHED_PORT),
    (ProblemKind::UnquotedPort, UNQUOTED_PORT),
    (ProblemKind::PortsWithoutProtocol, PORTS_WITHOUT_PROTOCOL),
    (ProblemKind::Net, BAD_NET),
    (ProblemKind::LooseNet, LOOSE_NET),
    (ProblemKind::MixedFamilies, MIXED_FAMILIES),
    (ProblemKind::NotEverything, NOT_EVERYTHING),
    (ProblemKind::Icmp, ICMP),
    (ProblemKind::Layers, LAYERS),
    (ProblemKind::Domains, DOMAINS),
    (ProblemKind::Services, SERVICES),
    (ProblemKind::TierName, TIER_NAME),
    (ProblemKind::Label, LABEL),
    (ProblemKind::TooMany, TOO_MANY),
    (ProblemKind::StagedContent, STAGED_CONTENT),
    (ProblemKind::NoInterface, NO_INTERFACE),
    (ProblemKind::Http, HTTP),
];

/// In the order of their codes.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    BY_KIND.into_iter().map(|(_, lint)| lint)
}

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for problem in &context.resources.problems {
        let lint = BY_KIND.iter().find(|(kind, _)| *kind == problem.kind).map_or(&BAD_VALUE, |(_, lint)| lint);
        let at =
            At { place: &problem.place, column: problem.column, resource: &problem.resource, field: &problem.field };
        let title = match (problem.resource.as_str(), problem.field.as_str()) {
            ("", "") => problem.message.clone(),
            (resource, "") => format!("{resource}: {}", problem.message),
            (resource, field) => format!("{resource}: {field}: {}", problem.message),
        };
        let fix = if problem.fix.is_empty() { lint.fix.to_owned() } else { problem.fix.clone() };
        found.add(lint, at, title, fix);
    }
}
