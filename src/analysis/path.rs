//! Which base chains a packet meets at each hook, in order: legacy, iptables-nft and native nft tables together.
//!
//! Chains of type nat do not hang at their own priority: they are entries of conntrack's NAT hooks, which run at -100
//! (destination) and 100 (source), and among themselves in order of priority.

use crate::packet::{Family, Hook, InterfacePattern};
use crate::ruleset::{BaseChain, ChainKind, Effect, Policy, RuleRef, Ruleset, Step, Verdict, interface_interval};

/// Where connection tracking happens (`NF_IP_PRI_CONNTRACK`).
pub const CONNTRACK_PRIORITY: i32 = -200;

/// A base chain: indices into the [`Ruleset`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BaseRef {
    /// Index of the table.
    pub table: usize,
    /// Index of the chain.
    pub chain: usize,
    /// Its own priority.
    pub priority: i32,
}

impl BaseRef {
    /// The chain's policy as a place.
    #[must_use]
    pub fn policy_ref(self) -> RuleRef {
        RuleRef { table: self.table, chain: self.chain, rule: RuleRef::POLICY }
    }
}

/// What runs as one at a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A filter or route chain.
    Chain(BaseRef),
    /// All nat chains of the hook; empty when NAT is set up but no chain hangs here.
    Nat(Vec<BaseRef>),
}

/// Units of one priority; more than one: the kernel's order depends on who was loaded last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Their priority.
    pub priority: i32,
    /// The units, in listing order.
    pub units: Vec<Unit>,
    /// Several units, of which one at least changes what the others see (marks, tracking, addresses).
    pub order_matters: bool,
}

/// Chains on a hook of the IP stack, in the order packets meet them.
#[must_use]
pub fn hook_groups(ruleset: &Ruleset, family: Family, hook: Hook) -> Vec<Group> {
    let mut units: Vec<(i32, Unit)> = Vec::new();
    let mut nat: Vec<BaseRef> = Vec::new();
    for (place, base) in base_chains(ruleset, |table_family| table_family.sees(family)) {
        if base.kind == ChainKind::Nat {
            if base.hook == hook {
                nat.push(place);
            }
        } else if base.hook == hook {
            units.push((base.priority, Unit::Chain(place)));
        }
    }
    if let Some(priority) = nat_priority(hook).filter(|_| nat_is_set_up(ruleset, family)) {
        nat.sort_by_key(|place| place.priority);
        units.push((priority, Unit::Nat(nat)));
    }
    grouped(ruleset, units)
}

/// Chains of families `netdev` and (at ingress) `inet`, with the devices they hang on.
#[must_use]
pub fn device_groups(ruleset: &Ruleset, hook: Hook) -> Vec<Group> {
    let at_device = |family| family == Family::Netdev || (family == Family::Inet && hook == Hook::Ingress);
    let units = base_chains(ruleset, at_device)
        .filter(|(_, base)| base.hook == hook)
        .map(|(place, base)| (base.priority, Unit::Chain(place)))
        .collect();
    grouped(ruleset, units)
}

/// Whether a chain of these groups hangs on the device with this interface number, or may.
#[must_use]
pub fn hangs_on(ruleset: &Ruleset, groups: &[Group], device: u128) -> bool {
    groups.iter().flat_map(|group| &group.units).any(|unit| {
        let Unit::Chain(base) = unit else { return false };
        let chain = ruleset.tables.get(base.table).and_then(|table| table.chains.get(base.chain));
        let names = chain.and_then(|chain| chain.base.as_ref()).map(|settings| &settings.devices);
        let on = |name: &str| interface_interval(&InterfacePattern::from_nft(name)).contains(device);
        names.is_some_and(|names| names.is_empty() || names.iter().any(|name| on(name)))
    })
}

/// Base chains of bridge tables that could refuse a frame.
#[must_use]
pub fn bridge_chains(ruleset: &Ruleset) -> Vec<BaseRef> {
    let refuses = |place: &BaseRef| {
        let Some(table) = ruleset.tables.get(place.table) else { return false };
        let policy = table.chains.get(place.chain).and_then(|chain| chain.base.as_ref()).map(|base| base.policy);
        policy == Some(Policy::Drop)
            || table.chains.iter().flat_map(|chain| &chain.rules).any(|rule| {
                rule.steps.iter().any(|step| match step {
                    Step::Verdict(verdict) => {
                        matches!(
                            verdict,
                            Verdict::Drop | Verdict::Reject(_) | Verdict::Opaque(_) | Verdict::Queue { .. }
                        )
                    }
                    Step::Vmap { .. } | Step::Effect(Effect::Opaque(_)) => true,
                    _ => false,
                })
            })
    };
    base_chains(ruleset, |family| family == Family::Bridge).map(|(place, _)| place).filter(refuses).collect()
}

/// Whether NAT hooks run for packets of `family`: they do as soon as one nat chain is loaded.
#[must_use]
pub fn nat_is_set_up(ruleset: &Ruleset, family: Family) -> bool {
    base_chains(ruleset, |table_family| table_family.sees(family)).any(|(_, base)| base.kind == ChainKind::Nat)
}

/// Whether some chain at output sends changed packets through routing again (`type route`, iptables' mangle).
#[must_use]
pub fn any_reroutes(ruleset: &Ruleset) -> bool {
    base_chains(ruleset, |_| true).any(|(place, base)| {
        let mangle = ruleset
            .tables
            .get(place.table)
            .is_some_and(|table| table.backend != crate::ruleset::Backend::Nft && &*table.name == "mangle");
        base.hook == Hook::Output && (base.kind == ChainKind::Route || mangle)
    })
}

fn nat_priority(hook: Hook) -> Option<i32> {
    match hook {
        Hook::Prerouting | Hook::Output => Some(-100),
        Hook::Postrouting | Hook::Input => Some(100),
        _ => None,
    }
}

/// Base chains of awake tables whose family passes `wanted`, in listing order.
fn base_chains(ruleset: &Ruleset, wanted: impl Fn(Family) -> bool) -> impl Iterator<Item = (BaseRef, &BaseChain)> {
    let tables = ruleset.tables.iter().enumerate().filter(move |(_, table)| !table.dormant && wanted(table.family));
    tables.flat_map(|(table, content)| {
        content.chains.iter().enumerate().filter_map(move |(chain, content)| {
            let base = content.base.as_ref()?;
            Some((BaseRef { table, chain, priority: base.priority }, base))
        })
    })
}

fn grouped(ruleset: &Ruleset, mut units: Vec<(i32, Unit)>) -> Vec<Group> {
    units.sort_by_key(|(priority, _)| *priority);
    let mut groups: Vec<Group> = Vec::new();
    for (priority, unit) in units {
        match groups.last_mut() {
            Some(group) if group.priority == priority => group.units.push(unit),
            _ => groups.push(Group { priority, units: vec![unit], order_matters: false }),
        }
    }
    for group in &mut groups {
        group.order_matters = group.units.len() > 1 && group.units.iter().any(|unit| changes_packets(ruleset, unit));
    }
    groups
}

/// Whether later chains may see another packet than this unit did.
fn changes_packets(ruleset: &Ruleset, unit: &Unit) -> bool {
    let place = match unit {
        Unit::Nat(_) => return true,
        Unit::Chain(place) => place,
    };
    let Some(table) = ruleset.tables.get(place.table) else { return false };
    table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps).any(|step| {
        matches!(
            step,
            Step::Effect(Effect::Set { .. } | Effect::NoTrack | Effect::UpdateSet { .. } | Effect::Opaque(_))
                | Step::Verdict(Verdict::Nat(_))
        )
    })
}
