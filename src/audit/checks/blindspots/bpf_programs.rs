//! # HG904 bpf-programs
//!
//! ## What it checks
//! BPF programs attached to interfaces at XDP or tc, from `bpf.json` (`bpftool -j net`) and `tc.txt`
//! (`tc filter show`).
//!
//! ## Why it matters
//! They see packets before netfilter (XDP, tc ingress) or after it (tc egress) and may drop, redirect or rewrite them. No
//! rule listing shows that. In Calico's eBPF mode the whole policy is there, failsafes included.
//!
//! ## How to fix
//! Find out whose programs they are (`bpftool net`, `bpftool prog show`). For Calico's eBPF mode read the failsafe maps
//! (`bpftool map dump pinned /sys/fs/bpf/tc/globals/cali_v4_fsafes2`).
//!
//! ## Limits
//! What the programs decide is not read; verdicts of hosts with such programs hold for netfilter only.

use serde_json::{Value, json};

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG904",
    name: "bpf-programs",
    severity: Severity::Medium,
    summary: "BPF programs decide about packets outside netfilter",
    source: include_str!("bpf_programs.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut programs: Vec<(&str, String)> = Vec::new();
    if let Some(bytes) = context.snapshot.files.bytes("bpf.json") {
        // damaged JSON is reported by its reader; here it simply names no program
        let listed: Value = serde_json::from_slice(bytes).unwrap_or_default();
        programs.extend(attached(&listed).into_iter().map(|text| ("bpf.json", text)));
    }
    if let Some(bytes) = context.snapshot.files.bytes("tc.txt") {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().filter(|line| line.contains(" bpf ") && line.contains("handle"));
        programs.extend(lines.map(|line| ("tc.txt", line.trim().to_owned())));
    }
    if programs.is_empty() {
        return Vec::new();
    }
    let calico = programs.iter().any(|(_, text)| text.contains("cali"));
    let title = if calico {
        "Calico's BPF programs are attached: policy and failsafes are there, not in the rules judged here"
    } else {
        "BPF programs are attached to interfaces; verdicts here hold for netfilter only"
    };
    let mut finding = Finding::new(check, json!({ "calico": calico }), title)
        .fix("see `bpftool net` and `bpftool prog show` for whose programs they are");
    for (source, text) in programs.iter().take(8) {
        finding = finding.evidence(*source, text);
    }
    vec![if calico { finding.severity(Severity::High) } else { finding }]
}

/// Programs in `bpftool -j net show`: `[{"xdp":[{"devname","name",…}],"tc":[…], …}]`.
fn attached(listed: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for object in listed.as_array().into_iter().flatten() {
        for hook in ["xdp", "tc", "tcx", "netfilter"] {
            for program in object.get(hook).and_then(Value::as_array).into_iter().flatten() {
                let word = |key: &str| program.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
                found.push(format!("{hook} on {}: {} {}", word("devname"), word("name"), word("kind")));
            }
        }
    }
    found
}
