//! # HG208 cloud-service-refused
//!
//! ## What it checks
//! Where the firmware's tables (`dmi.txt`) name a cloud: its metadata service, and what else machines there cannot do without:
//! Azure's wire server 168.63.129.16, Oracle's iSCSI boot volume, DNS and NTP at 169.254.0.0/16.
//!
//! ## Why it matters
//! Credentials of the instance expire and are not renewed, cloud-init finds nothing at the next boot, agents report the machine
//! as dead, and an Oracle machine hangs on its own boot disk (causes S07, S08, S09).
//!
//! ## How to fix
//! Allow the flows, as root if nobody else needs them (`-m owner --uid-owner 0`).
//!
//! ## Limits
//! Packets are judged as those of root. Blocking metadata for users is good practice and stays silent.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG208",
    name: "cloud-service-refused",
    severity: Severity::Medium,
    summary: "a service of the cloud that this machine needs is refused",
    source: include_str!("cloud_refused.rs"),
    run,
};

const FIX: &str = "allow the address and port, for root at least; where the service is blocked on purpose, write down why and what \
    it costs at the next boot; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Renewal, |flow| flow.kind == FlowKind::Cloud, FIX)
}
