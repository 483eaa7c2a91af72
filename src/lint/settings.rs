//! Settings of Felix and of Calico's controllers among the resources.

use super::context::Context;
use super::{At, Findings, Lint, define};
use crate::calico::resources::{Resource, Spec};
use crate::calico::settings::ports::{Entry, parse_list};
use crate::calico::settings::{Assignment, Place, params};

define!(
    AUTO_CREATE_OFF, "HG430", "automatic-endpoints-off", High, "automatic host endpoints are switched off",
    what: "`autoCreate: Disabled` in a KubeControllersConfiguration that is given.",
    why: "Where they were on, all automatic host endpoints are deleted at once and every node is open. Where they were off nothing changes.",
    fix: "Leave it `Enabled`; to open nodes for a while use a policy that allows.",
    limits: "Whether the nodes have automatic host endpoints now is not known from policy files."
);
define!(
    UNKNOWN_SETTING, "HG493", "felix-setting-misspelt", Medium, "a field of FelixConfiguration that is nearly the name of a setting",
    what: "Fields of FelixConfiguration that are no setting of Felix, but up to three letters from one.",
    why: "The API drops the field or refuses the resource, and Felix goes on with its default: a misspelt failsafe list leaves the default list in force.",
    fix: "Write the name that is suggested.",
    limits: "Settings that only Calico Enterprise has are not all known; they are reported only where they look like a known one."
);
define!(
    FAILSAFES_OFF, "HG494", "failsafes-without-access", Critical, "the failsafe list given would take away access",
    what: "`failsafeInboundHostPorts` of a FelixConfiguration that is empty or has no TCP 22, and `failsafeOutboundHostPorts` that is empty.",
    why: "The list replaces Felix's own. Without SSH in it, access hangs on policy alone; without the datastore in the outbound list, a bad policy cannot be taken back from outside.",
    fix: "List every port that must work, with `net` where it can be restricted: TCP 22 in; UDP 53, UDP 67, TCP 6443 and 5473 out.",
    limits: "A list in the environment or configuration file of Felix wins over the resource and is not known here."
);
define!(
    FAILSAFE_FAMILY, "HG495", "failsafe-for-one-family", Medium, "a failsafe for SSH exists for one family only",
    what: "Inbound entries for TCP 22 that all have nets of one family.",
    why: "An entry with an IPv4 net, `0.0.0.0/0` included, has no rule at all in IPv6.",
    fix: "Add an entry with an IPv6 net, or one without net.",
    limits: "A host without IPv6 needs none."
);
define!(
    DROP_OVERRIDE, "HG496", "drop-action-overridden", High, "denied packets are let through",
    what: "`dropActionOverride: Accept` or `LogAndAccept` (Calico Enterprise).",
    why: "Nothing is dropped any more, while logs go on saying deny.",
    fix: "Set it to `Drop` or `LogAndDrop` when the search is over.",
    limits: "The setting in Felix's environment is not known here."
);
define!(
    LOGGING_OFF, "HG497", "denies-are-not-logged", Low, "what would tell of denied packets of hosts is switched off",
    what: "`syslogReporterEnabled: false` or `flowLogsEnableHostEndpoint: false` written in a FelixConfiguration.",
    why: "Without either, a denied connection of a host leaves no line: a lockout is silent.",
    fix: "Set them to true, or put Log rules in front of denies.",
    limits: "Calico Enterprise only; both are off by default there, which is not reported."
);
define!(
    IPV6_OFF, "HG498", "ipv6-not-policed", High, "IPv6 is not policed",
    what: "`ipv6Support: false` in a FelixConfiguration.",
    why: "Felix programs nothing for IPv6: on a host with IPv6 addresses everything is open there, whatever policies say.",
    fix: "Remove the setting, or take IPv6 off the hosts.",
    limits: "Whether hosts have IPv6 is known from `expectedIPs` only; where none has an address of IPv6 the severity is low."
);
define!(
    INTERFACES, "HG499", "interfaces-taken-out", High, "interfaces of hosts are taken for workloads' or excluded",
    what: "`interfacePrefix` and `interfaceExclude` that fit usual names of network cards (eth, en, bond, wl, ib) or the loopback interface.",
    why: "Host endpoints have no say on such interfaces. Those taken for workloads' are dropped as unknown, those excluded are open.",
    fix: "Use prefixes that only workloads' interfaces have, such as `cali`.",
    limits: "Interfaces of the hosts are not known from policy files; unusual names are not seen."
);

/// Those of this family, in the order of their codes.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    [AUTO_CREATE_OFF, UNKNOWN_SETTING, FAILSAFES_OFF, FAILSAFE_FAMILY, DROP_OVERRIDE, LOGGING_OFF, IPV6_OFF, INTERFACES]
        .into_iter()
}

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for resource in context.resources.iter() {
        match &resource.spec {
            Spec::KubeControllers(controllers) => {
                let off = controllers.auto_create.as_ref().filter(|on| !on.value);
                if let Some(off) = off {
                    let place = Place { line: off.line, ..resource.meta.place.clone() };
                    let title = resource.meta.title();
                    let field = "spec.controllers.node.hostEndpoint.autoCreate";
                    let at = At { place: &place, column: off.column, resource: &title, field };
                    let text = format!("{title} deletes every automatic host endpoint there is");
                    found.add(&AUTO_CREATE_OFF, at, text, AUTO_CREATE_OFF.fix);
                }
            }
            Spec::Felix(felix) => {
                for assignment in &felix.loaded.assignments {
                    one(context, resource, assignment, found);
                }
            }
            _ => {}
        }
    }
}

fn one(context: &Context<'_>, resource: &Resource, assignment: &Assignment, found: &mut Findings) {
    let title = resource.meta.title();
    let field = format!("spec.{}", assignment.name);
    let at = At { place: &assignment.place, column: 0, resource: &title, field: &field };
    let value: &str = &assignment.value;
    let is = |wanted: &[&str]| wanted.iter().any(|word| value.eq_ignore_ascii_case(word));
    match assignment.name.to_ascii_lowercase().as_str() {
        "failsafeinboundhostports" => inbound(at, value, found),
        "failsafeoutboundhostports" if list(value).is_some_and(|list| list.is_empty()) => {
            let text =
                format!("{title}: no outbound failsafe port at all: a bad policy cuts Felix off from its datastore");
            found.add(&FAILSAFES_OFF, at, text, FAILSAFES_OFF.fix);
        }
        "dropactionoverride" if is(&["Accept", "LogAndAccept"]) => {
            found.add(
                &DROP_OVERRIDE,
                at,
                format!("{title}: {value}: denied packets are let through"),
                DROP_OVERRIDE.fix,
            );
        }
        "syslogreporterenabled" | "flowlogsenablehostendpoint" if is(&["false"]) => {
            let text = format!("{title}: {} is off", assignment.name);
            found.add(&LOGGING_OFF, at, text, LOGGING_OFF.fix);
        }
        "ipv6support" if is(&["false"]) => {
            let ipv6 =
                context.model.endpoints.iter().any(|endpoint| endpoint.spec.expected_ips.iter().any(|ip| ip.is_ipv6()));
            let severity = if ipv6 || context.model.endpoints.is_empty() {
                IPV6_OFF.severity
            } else {
                crate::audit::finding::Severity::Low
            };
            found.add_as(&IPV6_OFF, severity, at, format!("{title}: IPv6 of its hosts is open"), IPV6_OFF.fix);
        }
        "interfaceprefix" | "interfaceexclude" => {
            let cards = ["eth", "en", "ens", "eno", "enp", "bond", "wl", "wlan", "ib", "em", "lo", "eth0", "ens5"];
            let taken: Vec<&str> = value.split(',').map(str::trim).filter(|name| cards.contains(name)).collect();
            if !taken.is_empty() {
                let text =
                    format!("{title}: {} takes {} out of host endpoints' reach", assignment.name, taken.join(", "));
                found.add(&INTERFACES, at, text, INTERFACES.fix);
            }
        }
        _ => {
            let near = params::param(&assignment.name).is_none().then(|| params::nearest(&assignment.name)).flatten();
            if let Some(near) = near {
                let text = format!("{title}: Felix has no setting {}", assignment.name);
                found.add(&UNKNOWN_SETTING, at, text, format!("did you mean {}?", near.name));
            }
        }
    }
}

fn list(value: &str) -> Option<Vec<Entry>> {
    if value.eq_ignore_ascii_case("none") {
        return Some(Vec::new());
    }
    // an empty value leaves the default in force
    if value.is_empty() { None } else { parse_list(value).ok() }
}

fn inbound(at: At<'_>, value: &str, found: &mut Findings) {
    let Some(list) = list(value) else { return };
    let title = at.resource;
    let ssh: Vec<&Entry> = list.iter().filter(|entry| entry.port == 22 && entry.protocol.0 == 6).collect();
    if list.is_empty() {
        let text = format!("{title}: no inbound failsafe port at all: access hangs on policy alone");
        found.add(&FAILSAFES_OFF, at, text, FAILSAFES_OFF.fix);
    } else if ssh.is_empty() {
        let text = format!("{title}: TCP 22 is not in the inbound failsafe list, which replaces Felix's own");
        found.add(&FAILSAFES_OFF, at, text, FAILSAFES_OFF.fix);
    }
    let family = |ipv4: bool| ssh.iter().any(|entry| entry.net.is_none_or(|net| net.is_ipv4() == ipv4));
    for (ipv4, name) in [(true, "IPv4"), (false, "IPv6")] {
        if !ssh.is_empty() && !family(ipv4) {
            let text = format!("{title}: the failsafe for TCP 22 does not exist for {name}");
            found.add(&FAILSAFE_FAMILY, at, text, FAILSAFE_FAMILY.fix);
        }
    }
}
