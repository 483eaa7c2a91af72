//! # HG303 rules-ahead-of-felix
//!
//! ## What it checks
//! Foreign rules before Felix's jump in a kernel chain that can drop packets or that hepguard cannot judge, and foreign base
//! chains at earlier priorities of the same hook that do so.
//!
//! ## Why it matters
//! What is dropped there never reaches the failsafe rules: the failsafe list does not protect against it, and Calico's logs
//! and counters show nothing. In insert mode Felix wants the first place; a rule above it is new, or somebody keeps putting
//! it there.
//!
//! ## How to fix
//! Find the tool that writes the rule (fail2ban, ufw, firewalld, docker, a script) and let it write behind Felix's jump, or
//! express the rule as Calico policy. `iptables -D` the rule when nobody owns it.
//!
//! ## Limits
//! A drop ahead may be exactly what was meant (a ban list): severity is medium, and high only where the rule drops whole
//! protocols or everything. Accepts ahead are HG602.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, FelixHook, is_felix_chain, outcomes, place_text, rules};
use crate::audit::finding::{Finding, Severity};
use crate::ruleset::{Policy, Rule, RuleRef, Step};

/// The check.
pub const CHECK: Check = Check {
    code: "HG303",
    name: "rules-ahead-of-felix",
    severity: Severity::Medium,
    summary: "foreign rules can drop packets before the failsafe rules see them",
    source: include_str!("rules_ahead_of_felix.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings: Vec<Finding> = context.felix_hooks().filter_map(|hook| in_same_chain(check, &hook)).collect();
    findings.extend(earlier_chains(context, check));
    findings
}

fn in_same_chain(check: &Check, hook: &FelixHook<'_>) -> Option<Finding> {
    let ahead: Vec<(usize, &Rule)> = hook
        .chain
        .rules
        .iter()
        .enumerate()
        .take(hook.place.rule)
        .filter(|(_, rule)| !rule.target().is_some_and(is_felix_chain))
        .filter(|(_, rule)| {
            let may = outcomes(hook.table, rule);
            may.drop || may.unknown
        })
        .collect();
    let total = ahead.iter().any(|(_, rule)| drops_everything(rule));
    let (first, _) = ahead.first()?;
    let title = format!(
        "{} ahead of Felix's jump in {} {} can drop packets before the failsafe rules",
        rules(ahead.len()),
        hook.table.name,
        hook.chain.name
    );
    let subject = json!({
        "backend": hook.table.backend.name(),
        "family": hook.table.family.name(),
        "table": &*hook.table.name,
        "chain": &*hook.chain.name,
    });
    let mut finding = Finding::new(check, subject, title).fix(format!(
        "find who writes rule {} of {} (`{}`) and move it behind the `cali-` jump; removing a drop is safe over SSH",
        first + 1,
        hook.chain.name,
        hook.list_command()
    ));
    for (index, rule) in ahead.iter().take(5) {
        finding = finding.evidence(place_text(hook.table, hook.chain, *index), &*rule.text);
    }
    Some(if total { finding.severity(Severity::High) } else { finding })
}

/// Base chains of other tables on the same hook that run before the one with Felix's jump and can drop.
fn earlier_chains(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    let hooks: Vec<FelixHook<'_>> = context.felix_hooks().filter(|hook| !hook.is_nat()).collect();
    for (t, table) in context.ruleset().tables.iter().enumerate() {
        if table.dormant || table.has_felix_chains() {
            continue;
        }
        for (c, chain) in table.chains.iter().enumerate() {
            let Some(base) = &chain.base else { continue };
            // the failsafe rules of the hook's first Felix table are what this chain may forestall
            let behind = hooks
                .iter()
                .filter(|hook| hook.hook == base.hook && table.family.sees(hook.table.family))
                .filter_map(|hook| hook.chain.base.as_ref())
                .any(|felix| felix.priority > base.priority);
            if !behind {
                continue;
            }
            let dropping = chain.rules.iter().position(|rule| {
                let may = outcomes(table, rule);
                may.drop || may.unknown
            });
            let place = match (dropping, base.policy) {
                (Some(rule), _) => rule,
                (None, Policy::Drop) => RuleRef::POLICY,
                (None, Policy::Accept) => continue,
            };
            let text = context.ruleset().rule(RuleRef { table: t, chain: c, rule: place });
            let subject = json!({
                "backend": table.backend.name(),
                "family": table.family.name(),
                "table": &*table.name,
                "chain": &*chain.name,
            });
            let title =
                format!("{} {} runs before Felix at {} and can drop packets", table.title(), chain.name, base.hook);
            findings.push(
                Finding::new(check, subject, title)
                    .severity(Severity::Low)
                    .evidence(place_text(table, chain, place), text.map_or("policy drop", |rule| &*rule.text))
                    .fix(format!(
                        "make sure that {} admits every failsafe port, or give its chain a later priority than {}",
                        table.name, base.priority
                    )),
            );
        }
    }
    findings
}

/// A drop or reject without any condition.
fn drops_everything(rule: &Rule) -> bool {
    use crate::ruleset::Verdict::{Drop, Reject};
    !rule.steps.iter().any(|step| matches!(step, Step::Match(_) | Step::Vmap { .. }))
        && rule.steps.iter().any(|step| matches!(step, Step::Verdict(Drop | Reject(_))))
}
