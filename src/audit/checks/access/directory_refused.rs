//! # HG214 directory-refused
//!
//! ## What it checks
//! Servers that sssd, nslcd, the LDAP client and Kerberos are configured with, as new connections.
//!
//! ## Why it matters
//! A login is a chain of flows. SSH itself is admitted, the banner comes, and then the user is not known or the ticket is not
//! given (cause S15). Caches hide it for hours.
//!
//! ## How to fix
//! Allow the directory's servers, and keep one account that needs none of them.
//!
//! ## Limits
//! Servers found by DNS service records have no address in the files and are not judged.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG214",
    name: "directory-refused",
    severity: Severity::High,
    summary: "the directory that knows the users is refused: SSH connects and the login fails",
    source: include_str!("directory_refused.rs"),
    run,
};

const FIX: &str = "allow the server's port (LDAP 389 or 636, Kerberos 88, RADIUS 1812) before the rule named above, and keep a \
    local account with a key; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Reconnect, |flow| flow.kind == FlowKind::Directory, FIX)
}
