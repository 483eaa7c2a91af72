//! # HG901 unreadable-input
//!
//! ## What it checks
//! Inputs that could not be read, or only in part: a tool failed, a file is not readable, a listing is cut off or damaged.
//!
//! ## Why it matters
//! "No findings" about something nobody could look at is not good news. A firewall listing that fails halfway looks exactly
//! like an empty firewall.
//!
//! ## How to fix
//! The evidence says what failed. Run as root (or with the capabilities named in the README), install the missing tool, or
//! take the snapshot again. A damaged table (`… is incompatible, use 'nft' tool`) is listed by `nft -j list ruleset`.
//!
//! ## Limits
//! Inputs nobody looked for (a hand-made snapshot of few files) are not listed here unless another answer needs them.

use std::collections::BTreeMap;

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::diagnostic::{Diagnostic, Level};
use crate::files::{Doubt, FileState, NOT_INSTALLED, RIGHTS_HINT};

/// The check.
pub const CHECK: Check = Check {
    code: "HG901",
    name: "unreadable-input",
    severity: Severity::Medium,
    summary: "something the audit needs could not be read, or only in part",
    source: include_str!("unreadable_input.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut closed: Vec<(&str, &str)> = Vec::new();
    let mut missing: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (name, state) in &context.snapshot.files.files {
        match state {
            FileState::Absent => {}
            FileState::Present(_) => findings.extend(damaged(context, check, name)),
            FileState::Unreadable(why) => match (why.strip_suffix(RIGHTS_HINT), tool_of(why)) {
                (Some(why), _) => closed.push((name, why)),
                (None, Some(tool)) => missing.entry(tool).or_default().push((name, why)),
                (None, None) => {
                    let title = format!("{name} could not be read");
                    let finding = Finding::new(check, json!({ "input": name }), title).evidence(name, why);
                    findings.push(finish(finding, is_minor(name)));
                }
            },
        }
    }
    findings.extend(without_rights(check, &closed));
    findings.extend(missing.iter().map(|(tool, inputs)| without_tool(check, tool, inputs)));
    findings
}

/// The tool that is missing, of a reason that says so.
fn tool_of(why: &str) -> Option<&str> {
    let tool = why.strip_suffix(NOT_INSTALLED)?.trim_end().strip_prefix('\'')?.strip_suffix('\'')?;
    (!tool.contains('\'')).then_some(tool)
}

/// The packages that bring a tool: on Debian, on RHEL where it has another name.
fn packages(tool: &str) -> Option<(&'static str, &'static str)> {
    Some(match tool {
        "nft" => ("nftables", "nftables"),
        "ipset" => ("ipset", "ipset"),
        "ip" | "ss" => ("iproute2", "iproute"),
        "tc" => ("iproute2", "iproute-tc"),
        "conntrack" => ("conntrack", "conntrack-tools"),
        "bpftool" => ("bpftool", "bpftool"),
        _ if tool.starts_with("iptables-legacy") || tool.starts_with("ip6tables-legacy") => {
            ("iptables", "iptables-legacy")
        }
        _ if tool.starts_with("iptables-nft") || tool.starts_with("ip6tables-nft") => ("iptables", "iptables-nft"),
        _ => return None,
    })
}

/// All inputs that one missing tool would have written.
fn without_tool(check: &Check, tool: &str, inputs: &[(&str, &str)]) -> Finding {
    let title = match inputs {
        [(name, _)] => format!("{name} could not be read: {tool} is not installed"),
        all => format!("{} inputs could not be read: {tool} is not installed", all.len()),
    };
    let mut finding = Finding::new(check, json!({ "cause": "tool", "tool": tool }), title);
    for (name, why) in inputs {
        finding = finding.evidence(*name, *why);
    }
    let finding = finish(finding, inputs.iter().all(|(name, _)| is_minor(name)));
    let Some((debian, rhel)) = packages(tool) else { return finding };
    let elsewhere = if debian == rhel { String::new() } else { format!(" (on RHEL and its kin {rhel})") };
    finding.fix(format!("install the package {debian}{elsewhere}; what rests on this input is unknown until then"))
}

/// A file that its reader had to complain about.
fn damaged(context: &Context<'_>, check: &Check, name: &str) -> Option<Finding> {
    let label = context.snapshot.files.label(name);
    let doubt = context.snapshot.files.doubts.get(name);
    // parts of nft's listing that are missing are unknown by name; what changed meanwhile is HG907
    let parts = match doubt {
        Some(Doubt::Partial(why)) if name == "nft-ruleset.json" => Some(why),
        _ => None,
    };
    let changed = |d: &Diagnostic| matches!(doubt, Some(Doubt::Changed(why)) if *why == d.message);
    let of_file = |d: &&Diagnostic| {
        let bad = d.level == Level::Error || parts.is_some_and(|why| *why == d.message);
        bad && *d.source == *label && !changed(d)
    };
    let remarks: Vec<&Diagnostic> = context.snapshot.diagnostics.iter().filter(of_file).take(5).collect();
    let mut finding = Finding::new(check, json!({ "input": name }), format!("{name} was read only in part"));
    for remark in &remarks {
        let place = if remark.line > 0 { format!("{name}:{}:{}", remark.line, remark.column) } else { name.to_owned() };
        finding = finding.evidence(place, &*remark.message);
    }
    (!remarks.is_empty()).then(|| finish(finding, is_minor(name)))
}

/// All inputs that only lacked rights, in one finding: the cause is one.
fn without_rights(check: &Check, closed: &[(&str, &str)]) -> Option<Finding> {
    let title = match closed {
        [] => return None,
        [(name, _)] => format!("{name} could not be read: not allowed"),
        all => format!("{} inputs could not be read: not allowed", all.len()),
    };
    let mut finding = Finding::new(check, json!({ "cause": "rights" }), title);
    for (name, why) in closed {
        finding = finding.evidence(*name, *why);
    }
    let minor = closed.iter().all(|(name, _)| is_minor(name));
    let finding = finish(finding, minor);
    let how = RIGHTS_HINT.trim_start_matches("; ");
    Some(finding.fix(format!("{how}; what rests on these inputs is unknown until then")))
}

fn finish(finding: Finding, minor: bool) -> Finding {
    let finding =
        finding.fix("repair the cause above and run the audit again; what rests on this input is unknown until then");
    if minor { finding.severity(Severity::Low) } else { finding }
}

/// Inputs that only add detail.
fn is_minor(name: &str) -> bool {
    [
        "nft-kernel.json",
        "conntrack.txt",
        "sysctl.txt",
        "bpf.json",
        "bpf-failsafe-v4.json",
        "bpf-failsafe-v6.json",
        "tc.txt",
        "resolv.conf",
        "meta.json",
        "nft-ruleset.txt",
    ]
    .contains(&name)
        || name.starts_with("persisted/")
        || name.starts_with("leases/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_known_by_its_reason_and_its_package_named() {
        let why = format!("'iptables-legacy-save' {NOT_INSTALLED}");
        assert_eq!(tool_of(&why), Some("iptables-legacy-save"));
        assert_eq!(tool_of("'nft -j list ruleset' failed with status 1: 'x' is broken"), None);
        assert_eq!(tool_of("the tool 'nft' is not installed"), None);
        let finding = without_tool(&CHECK, "tc", &[("tc.txt", "'tc' is not installed")]);
        assert_eq!(finding.title, "tc.txt could not be read: tc is not installed");
        assert_eq!(finding.severity, Severity::Low, "it only adds detail");
        assert!(finding.fix.contains("iproute2 (on RHEL and its kin iproute-tc)"));
    }
}
