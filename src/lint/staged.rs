//! Staged policies against flows that were observed.

use std::collections::BTreeMap;

use super::context::{Context, DIRECTIONS};
use super::{At, Findings, JUDGED, Lint, define};
use crate::calico::names::Direction;
use crate::calico::order::judge::Flow;
use crate::calico::order::{Endpoint, InForce, Layer};
use crate::diagnostic::printable;
use crate::logs::event::{Action, Direction as Seen};
use crate::logs::flowlog::Record;

define!(
    WOULD_DENY, "HG457", "staged-would-deny", High, "a staged policy would deny flows that were observed",
    what: "With `--flow-logs FILE`: each allowed flow of a host endpoint given is judged with staged policies enforced; and what the logs themselves say of staged policies (`pending_policies`, `staged:` in `all_policies`) is counted.",
    why: "Promoting the policy breaks these flows at their next connection.",
    fix: "Allow them in a policy before the staged one, or in the staged policy itself; promote it when a week of logs is clean.",
    limits: JUDGED
);

/// Those of this family.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    std::iter::once(WOULD_DENY)
}

/// Examples of flows in a finding.
const EXAMPLES: usize = 3;

/// Flows that one policy would deny.
#[derive(Default)]
struct Denied {
    flows: usize,
    packets: u64,
    examples: Vec<String>,
    by: String,
}

impl Denied {
    fn add(&mut self, record: &Record, direction: &str) {
        self.flows += 1;
        self.packets = self.packets.saturating_add(record.packets);
        let end = |ip: Option<std::net::IpAddr>| ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
        let protocol = record.proto.map_or_else(String::new, |proto| crate::packet::Protocol(proto).to_string());
        let port = record.dst_port.map_or_else(String::new, |port| format!(" port {port}"));
        let text = format!("{direction} {protocol} {} to {}{port}", end(record.src_ip), end(record.dst_ip));
        if self.examples.len() < EXAMPLES && !self.examples.contains(&text) {
            self.examples.push(text);
        }
    }
}

pub(super) fn look(context: &Context<'_>, flows: &[Record], found: &mut Findings) {
    if !context.model.policies.iter().any(|policy| policy.staged) {
        return;
    }
    let forces: BTreeMap<&str, InForce<'_>> =
        context.model.endpoints.iter().map(|e| (e.name.as_str(), context.model.for_endpoint(e))).collect();
    // by index of the policy in the model
    let mut denied: BTreeMap<usize, Denied> = BTreeMap::new();
    for record in flows.iter().filter(|record| record.action == Action::Allow) {
        match judged(context, &forces, record) {
            Some((index, by, direction)) => {
                let entry = denied.entry(index).or_default();
                entry.by = by;
                entry.add(record, direction.calico());
            }
            // the logs' own word, for flows of endpoints that are not given
            None => {
                let said = record.would_deny.as_ref().and_then(|hit| named(context, &hit.name, &hit.tier));
                if let Some(index) = said {
                    let entry = denied.entry(index).or_default();
                    if entry.by.is_empty() {
                        entry.by = "as the logs themselves say".to_owned();
                    }
                    entry.add(record, record.direction.map_or("", |direction| direction.name()));
                }
            }
        }
    }
    for (index, denied) in denied {
        let Some(policy) = context.model.policy(index) else { continue };
        let title = policy.resource.meta.title();
        let text = printable(&format!(
            "{title} would deny {} observed flow(s), {} packet(s) ({}): {}",
            denied.flows,
            denied.packets,
            denied.by,
            denied.examples.join("; ")
        ));
        found.add(&WOULD_DENY, At::resource(policy.resource, &title), text, WOULD_DENY.fix);
    }
}

/// The staged policy that would turn an allowed flow of a known endpoint into a denied one, and what exactly.
fn judged(
    context: &Context<'_>,
    forces: &BTreeMap<&str, InForce<'_>>,
    record: &Record,
) -> Option<(usize, String, Direction)> {
    let (source, destination, protocol) = (record.src_ip?, record.dst_ip?, record.proto?);
    let flow = Flow {
        protocol,
        source,
        destination,
        source_port: record.src_port.unwrap_or(50_000),
        destination_port: record.dst_port.unwrap_or(0),
        icmp: None,
    };
    for direction in DIRECTIONS {
        let reported = match record.direction {
            Some(Seen::Ingress) => direction == Direction::In,
            Some(Seen::Egress) => direction == Direction::Out,
            Some(Seen::Forward) => return None,
            None => true,
        };
        let own = if direction == Direction::In { destination } else { source };
        let of = |endpoint: &&Endpoint| endpoint.spec.expected_ips.iter().any(|ip| ip.value == own);
        let Some(endpoint) = context.model.endpoints.iter().find(of).filter(|_| reported) else { continue };
        let force = forces.get(endpoint.name.as_str())?;
        let now = context.judge.judge(force, Layer::Normal, direction, &flow, false);
        let then = context.judge.judge(force, Layer::Normal, direction, &flow, true);
        if now.denies() || !then.denies() {
            continue;
        }
        let end = then.ends.first()?;
        let culprit = context.culprit(&end.by)?;
        // the end of a tier is blamed on its last policy: name the staged one that brought the tier into play
        let index = context.model.policies.iter().position(|policy| std::ptr::eq(policy.resource, culprit))?;
        let tier = context.model.policy(index)?.tier;
        let staged = context
            .model
            .policies
            .iter()
            .position(|policy| policy.staged && policy.tier == tier && context.model.selects(policy, endpoint));
        let blamed = if context.model.policy(index)?.staged { index } else { staged? };
        return Some((blamed, context.by(&end.by), direction));
    }
    None
}

/// The staged policy that a flow log names.
fn named(context: &Context<'_>, name: &str, tier: &str) -> Option<usize> {
    let plain = name.replace("staged:", "");
    context.model.policies.iter().position(|policy| {
        let own = &policy.resource.meta.name.value;
        policy.staged
            && policy.policy.tier() == tier
            && (*own == plain || format!("{tier}.{own}") == plain || *own == format!("{tier}.{plain}"))
    })
}
