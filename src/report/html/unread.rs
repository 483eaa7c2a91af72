//! What could not be read or decided: a clean part of the page is no clean bill where its input is named here.

use super::markup::Html;
use super::{Page, list};
use crate::report::text::count;

pub(super) fn section(html: &mut Html, page: &Page<'_>) {
    let audit = page.audit.unreadable.iter().map(|unread| format!("{}: {}", unread.input, unread.why));
    let failsafe = page.failsafe.incomplete.iter().cloned();
    let names = page.flows.unresolved.iter();
    let names = names.map(|flow| format!("{} ({}): nothing here tells its address", flow.name, flow.source));
    let assumed = page.flows.assumptions.iter().cloned();
    let logs = page.denies.into_iter().flat_map(|answer| &answer.unreadable);
    let logs = logs.map(|file| format!("{}: {}", file.path, file.error));
    let mut lines: Vec<String> = audit.chain(failsafe).chain(names).chain(assumed).chain(logs).collect();
    if page.flows.left_out > 0 {
        lines.push(format!("{} more were seen and are not judged", count(page.flows.left_out, "flow")));
    }
    if lines.is_empty() {
        html.leaf("p", &[], "Everything that is needed could be read.");
    } else {
        list(html, lines);
    }
    html.leaf(
        "p",
        &[],
        "Never seen from here: firewalls outside the host (security groups, routers), what programs at XDP or tc decide, and \
         policy that exists only in the datastore.",
    );
}
