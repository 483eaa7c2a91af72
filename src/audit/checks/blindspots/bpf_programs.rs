//! # HG904 bpf-programs
//!
//! ## What it checks
//! BPF programs and tc filters attached to interfaces, from `bpf.json` (`bpftool -j net`), `tc.txt` (`tc filter show`)
//! and `ip-link.json` (`ip -j -d link` tells XDP).
//!
//! ## Why it matters
//! They see packets before netfilter (XDP, tc ingress) or after it (tc egress) and may drop, redirect or rewrite them. No
//! rule listing shows that. In Calico's eBPF mode the whole policy is there, failsafes included.
//!
//! ## How to fix
//! Find out whose programs they are (`bpftool net`, `bpftool prog show`). For Calico's eBPF mode `hepguard failsafe` reads
//! the failsafe maps (`bpf-failsafe-v4.json`, `bpf-failsafe-v6.json`) and compares them with Felix's settings.
//!
//! ## Limits
//! What the programs decide is not read: the verdict of a packet that meets one is unknown, with the program named.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::host::bpf::Program;

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
    let programs = &context.snapshot.host.programs;
    if programs.is_empty() {
        return Vec::new();
    }
    let calico = programs.iter().any(Program::is_calico);
    let title = if calico {
        "Calico's BPF programs are attached: policy and failsafes are there, not in the rules judged here"
    } else {
        "BPF programs or tc filters see packets outside netfilter; verdicts behind them are unknown"
    };
    let mut finding = Finding::new(check, json!({ "calico": calico }), title)
        .fix("see `bpftool net`, `bpftool prog show` and `tc filter show` for whose programs they are");
    for program in programs.iter().take(8) {
        finding = finding.evidence(program.source, program.words());
    }
    vec![if calico { finding.severity(Severity::High) } else { finding }]
}
