//! # HG212 storage-refused
//!
//! ## What it checks
//! Mounted network file systems (NFS, CIFS, Ceph, Gluster) and iSCSI sessions, each as a new connection to the server.
//!
//! ## Why it matters
//! A mount is used over a connection that exists. When it breaks, every process that touches the mount hangs in the kernel and
//! cannot be killed; with a home directory on it no login ends (cause S13).
//!
//! ## How to fix
//! Allow the server's port in policy. For NFSv3 also its mount and lock ports.
//!
//! ## Limits
//! Only what is mounted or connected now is known. NFSv3's helper ports are not looked up.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG212",
    name: "storage-refused",
    severity: Severity::High,
    summary: "a file system or disk of another host is refused: processes will hang on it",
    source: include_str!("storage_refused.rs"),
    run,
};

const FIX: &str = "allow the server's port before the rule named above; do not restart services on the mount before that; safe over \
    SSH while your shell does not touch it";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Reconnect, |flow| flow.kind == FlowKind::Storage, FIX)
}
