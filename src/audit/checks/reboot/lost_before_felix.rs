//! # HG706 felix-cannot-come-up
//!
//! ## What it checks
//! The rehearsal of a boot before Felix has written anything: whether the persisted rules admit the datastore, Typha,
//! the resolvers and DHCP. Felix's failsafe chains do not exist then.
//!
//! ## Why it matters
//! Felix opens nothing before it is in sync. A saved INPUT or OUTPUT policy DROP without these flows means that it
//! never gets there: no policy, no failsafe list, and no way to repair it from the cluster. A default drop that is there
//! before what admits SSH is the same mistake (causes F01, C23).
//!
//! ## How to fix
//! Admit the flows in the persisted rules themselves, SSH among them; failsafe lists help only later.
//!
//! ## Limits
//! Only where all that boot loads is known. A flow that is refused for some seconds and admitted by Felix afterwards is
//! reported only when Felix itself needs it, or it is the way in.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::lost;
use crate::packet::Protocol;

/// The check.
pub const CHECK: Check = Check {
    code: "HG706",
    name: "felix-cannot-come-up",
    severity: Severity::Critical,
    summary: "what boot loads refuses what Felix needs to come into sync",
    source: include_str!("lost_before_felix.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let needed = |flow: &crate::analysis::flows::Flow| {
        let way = matches!(flow.kind, FlowKind::Datastore | FlowKind::Typha | FlowKind::Dhcp | FlowKind::SshIn);
        way || flow.kind == FlowKind::Resolver && flow.packet.protocol == Protocol::UDP
    };
    let title = "is refused by what boot loads, before Felix is in sync";
    let found = lost(context, check, Bites::Reboot, |judged| judged.before_felix.as_ref(), needed, title);
    let told = |(finding, _): (Finding, _)| {
        finding.fix(
            "admit the flow in the persisted rules: the failsafe lists exist only once Felix is in sync; editing the file is \
             safe over SSH",
        )
    };
    found.into_iter().map(told).collect()
}
