//! # HG602 accept-before-felix
//!
//! ## What it checks
//! Rules that stand before Felix's jump in a kernel chain (`INPUT`, `OUTPUT`, `FORWARD`) and can accept packets.
//!
//! ## Why it matters
//! An accept ends the table's chain: packets it takes never meet Calico policy. The policy looks enforced, the counters of
//! its deny rules stay at zero, and the port is open. Typical causes are `ChainInsertMode=Append`, Docker or fail2ban after
//! a restart, and hand-made rules inserted with `-I`.
//!
//! ## How to fix
//! Move the rule behind Felix's jump (or express it as Calico policy), and set `ChainInsertMode` to `Insert`. Felix puts
//! its own jump back to the top at its next refresh (`IptablesRefreshInterval`, 180 s), but only in insert mode.
//!
//! ## Limits
//! Accepting loopback traffic and replies of established connections before Felix is usual and not reported. Chains in
//! other tables are not looked at here: their accept does not end Felix's chain.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, FelixHook, is_felix_chain, outcomes, place_text, rules};
use crate::audit::finding::{Finding, Severity};
use crate::packet::{CtState, InterfacePattern};
use crate::ruleset::{Expr, Field, Match, Operator, Rule, SetRef, Step, interface_interval};

/// The check.
pub const CHECK: Check = Check {
    code: "HG602",
    name: "accept-before-felix",
    severity: Severity::High,
    summary: "foreign rules accept packets before Calico policy sees them",
    source: include_str!("accept_before_felix.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for hook in context.felix_hooks().filter(FelixHook::is_filter) {
        let ahead = hook.chain.rules.iter().enumerate().take(hook.place.rule);
        let accepting: Vec<(usize, &Rule)> = ahead
            .filter(|(_, rule)| !rule.target().is_some_and(is_felix_chain))
            .filter(|(_, rule)| outcomes(hook.table, rule).accept && !is_customary(rule))
            .collect();
        let Some((first, _)) = accepting.first() else { continue };
        let subject = json!({
            "backend": hook.table.backend.name(),
            "family": hook.table.family.name(),
            "table": &*hook.table.name,
            "chain": &*hook.chain.name,
        });
        let title = format!(
            "{} of {} can accept packets before Felix's jump (rule {})",
            rules(accepting.len()),
            hook.chain.name,
            hook.place.rule + 1
        );
        let mut finding = Finding::new(check, subject, title);
        for (index, rule) in accepting.iter().take(5) {
            finding = finding.evidence(place_text(hook.table, hook.chain, *index), &*rule.text);
        }
        findings.push(finding.fix(format!(
            "look at `{}`; move rule {} behind the `cali-` jump or write it as Calico \
             policy; moving an accept for your own session is not safe over SSH unless policy admits it too",
            hook.list_command(),
            first + 1
        )));
    }
    findings
}

/// Accepts loopback only, or only packets of known connections.
fn is_customary(rule: &Rule) -> bool {
    let loopback = interface_interval(&InterfacePattern::exact("lo"));
    rule.steps.iter().any(|step| match step {
        Step::Match(Match::Lookup { left: Expr::Field(Field::Iifname | Field::Oifname), negate: false, set }) => {
            matches!(set, SetRef::Anonymous(set) if set.len() == 1 && set.key(0) == Some(&[loopback]))
        }
        Step::Match(Match::Compare { left: Expr::Field(field), operator, right: Expr::Number(value) }) => match field {
            Field::Iifname | Field::Oifname => *operator == Operator::Eq && *value == loopback.low,
            Field::CtState => {
                let known = u128::from(CtState::ESTABLISHED.union(CtState::RELATED).0);
                matches!(operator, Operator::Eq | Operator::AnyBit) && value & !known == 0
            }
            _ => false,
        },
        _ => false,
    })
}
