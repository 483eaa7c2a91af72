//! # HG705 lost-after-boot
//!
//! ## What it checks
//! The rehearsal of a boot: what the persisted files load, with Felix's chains on top as it would write them with the
//! settings on disk. Each flow of the inventory is judged in it.
//!
//! ## Why it matters
//! Rules that somebody added at the prompt, and rules of a firewall that is in the kernel but not in any file, are gone
//! after the next boot; what the file says instead has perhaps not been loaded for a year (causes F03, C23). A rollback that
//! put back the kernel alone leaves the change in the file (cause F23). Nobody connects the loss with the change.
//!
//! ## How to fix
//! Make the kernel and the files agree: save what is right (`iptables-save > /etc/iptables/rules.v4`, without daemons'
//! chains), or repair the file. Entries that the restart of Felix removes are HG105's.
//!
//! ## Limits
//! Native nftables files with rules, ufw and firewalld build their rules by programs that are not run here; then this
//! stays silent. Chains that Docker and others add at their start are left out.

use crate::analysis::conversation::Outcome;
use crate::analysis::flows::{Flow, FlowKind};
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::{Answer, Judged};
use crate::audit::lost::lost;

/// The check.
pub const CHECK: Check = Check {
    code: "HG705",
    name: "lost-after-boot",
    severity: Severity::High,
    summary: "a flow that works now is refused once the host has booted and Felix is in sync",
    source: include_str!("lost_after.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let found = lost(context, check, Bites::Reboot, by_boot, |_| true, "works now and is refused after a boot");
    let told = |(finding, flow): (Finding, &Flow)| {
        let way_in = matches!(flow.kind, FlowKind::Caller | FlowKind::SshIn | FlowKind::Dhcp | FlowKind::Datastore);
        let finding = if way_in { finding.severity(Severity::Critical) } else { finding };
        finding.fix(
            "put the rule that admits it now into the file that boot loads, and load the file in a private namespace to see \
             that it loads (`unshare -n iptables-restore < FILE`); safe over SSH",
        )
    };
    found.into_iter().map(told).collect()
}

/// After a boot; what the restart of Felix alone takes away is not the boot's doing.
fn by_boot(judged: &Judged) -> Option<&Answer> {
    let by_felix = judged.felix_restart.as_ref().is_some_and(|(held, _)| held.outcome == Outcome::Broken);
    judged.reboot.as_ref().filter(|_| !by_felix)
}
