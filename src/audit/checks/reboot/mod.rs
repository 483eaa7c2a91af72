//! HG7xx: what the next boot makes of the firewall.

pub mod firewalld;
pub mod firewalld_backend;
pub mod firewalld_zone;
pub mod flush;
pub mod hostname;
pub mod legacy_kernel;
pub mod lost_after;
pub mod lost_before_felix;
pub mod missing_set;
pub mod not_enabled;
pub mod open_until_felix;
pub mod stale_saved;
pub mod two_loaders;
pub mod ufw_ssh;

use serde_json::json;

use crate::analysis::reboot::ProblemKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::Finding;

/// A finding for each thing of each file that has a problem of this kind; `title` takes what it is about and the file.
fn of_file(
    context: &Context<'_>,
    check: &Check,
    kind: ProblemKind,
    title: impl Fn(&str, &str) -> String,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for problem in context.boot.problems.iter().filter(|problem| problem.kind == kind) {
        let subject = json!({ "file": problem.file, "about": problem.about });
        let place = if problem.line == 0 { problem.file.clone() } else { format!("{}:{}", problem.file, problem.line) };
        match findings.iter_mut().find(|finding| finding.subject == subject) {
            Some(finding) if finding.evidence.len() < 4 => {
                finding.evidence.push(crate::audit::finding::Evidence { source: place, text: problem.text.clone() });
            }
            Some(_) => {}
            None => {
                let finding = Finding::new(check, subject, title(&problem.about, &problem.file));
                findings.push(finding.evidence(place, &problem.text));
            }
        }
    }
    findings
}
