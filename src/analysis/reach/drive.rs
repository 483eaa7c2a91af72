//! The packets' way through the hooks: device, tracking, routing, NAT, loopback.

use super::HostFacts;
use super::chains::Passed;
use super::nat::{MAX_PERMUTED, orders};
use super::walk::{Flow, Walk};
use crate::analysis::devices::Devices;
use crate::analysis::offload::{Offload, offloads};
use crate::analysis::path::{self, BaseRef, CONNTRACK_PRIORITY, Group, Unit};
use crate::packet::{Family, Hook, InterfacePattern};
use crate::ruleset::{ChainKind, Interval, Ruleset, interface_interval, interface_number};
use crate::space::Dimension;
use crate::space::bdd::{Built, Set};
use crate::space::encode::Site;
use crate::space::header::{Binding, Tracking};
use crate::space::ranges::joined;

/// The hooks as they are hung.
pub(super) struct Hooks {
    stack: Vec<(Hook, Vec<Group>)>,
    pub(super) ingress: Vec<Group>,
    pub(super) egress: Vec<Group>,
    /// The host's devices and their masters.
    pub(super) devices: Devices,
    bridged: bool,
    /// Flowtables that may hold connections of these packets.
    pub(super) offloads: Vec<Offload>,
    /// NAT runs: a packet for this host may be another's.
    pub(super) translates: bool,
    /// Some chain at output sends changed packets through routing again.
    reroutes: bool,
}

impl Hooks {
    pub(super) fn new(ruleset: &Ruleset, facts: &HostFacts<'_>) -> Self {
        let (host, family) = (facts.host(), facts.family());
        let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
        Self {
            stack: hooks.map(|hook| (hook, path::hook_groups(ruleset, family, hook))).to_vec(),
            ingress: path::device_groups(ruleset, Hook::Ingress),
            egress: path::device_groups(ruleset, Hook::Egress),
            devices: Devices::new(host),
            bridged: !path::bridge_chains(ruleset).is_empty(),
            offloads: offloads(ruleset, host).into_iter().filter(|offload| offload.sees(family)).collect(),
            translates: path::nat_is_set_up(ruleset, family),
            reroutes: path::any_reroutes(ruleset),
        }
    }

    fn groups(&self, hook: Hook) -> &[Group] {
        self.stack.iter().find(|(known, _)| *known == hook).map(|(_, groups)| groups.as_slice()).unwrap_or_default()
    }
}

const NONE: Binding = Binding::Known(0);

pub(super) fn lo() -> u128 {
    interface_number(b"lo")
}

/// A walk under way: what goes on, and what ended so far.
pub(super) struct Drive<'w, 'a> {
    pub(super) walk: &'w mut Walk<'a>,
    pub(super) hooks: &'w Hooks,
    /// Refused and lost packets; the flows in it are not used.
    pub(super) ended: Passed,
}

impl Drive<'_, '_> {
    /// One hook alone, with the interfaces the headers have.
    pub(super) fn only(&mut self, hook: Hook, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let flows = match hook {
            Hook::Prerouting | Hook::Output => flows,
            _ => self.track(flows),
        };
        self.hook(hook, flows)
    }

    /// One chain alone, with the interfaces the headers have.
    pub(super) fn alone(&mut self, table: usize, chain: usize, hook: Hook, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let content = self.walk.encoder.ruleset().tables.get(table);
        let settings = content.and_then(|table| table.chains.get(chain)).and_then(|chain| chain.base.as_ref());
        let early = settings.is_some_and(|settings| settings.priority < CONNTRACK_PRIORITY);
        let flows = if early && matches!(hook, Hook::Prerouting | Hook::Output) { flows } else { self.track(flows) };
        let Some(settings) = settings else {
            let Some(content) = content else { return Ok(flows) };
            let site = Site { hook, table, family: content.family };
            let mut passed = self.walk.enter(site, chain, flows, 0)?;
            self.walk.settle(&mut passed)?;
            self.walk.add(&mut self.ended, &passed)?;
            let back = self.walk.encoder.bdd.union(passed.returned.iter().map(|flow| flow.set))?;
            let why = || "the chain ends without a verdict: the rules that call it decide".to_owned();
            self.walk.lose(&mut self.ended, back, None, why)?;
            return Ok(passed.accepted);
        };
        let base = BaseRef { table, chain, priority: settings.priority };
        let unit = match settings.kind {
            ChainKind::Nat => Unit::Nat(vec![base]),
            _ => Unit::Chain(base),
        };
        self.unit(&unit, hook, flows)
    }

    /// From a device: to this host when `local`, else through it, unless NAT sends them elsewhere.
    pub(super) fn arriving(&mut self, flows: Vec<Flow>, local: bool) -> Built<Vec<Flow>> {
        let offloaded = self.offloaded(&flows, local)?;
        let given: Vec<Binding> = flows.iter().map(|flow| self.walk.header(flow.header).oif).collect();
        let given = given.first().copied().unwrap_or(Binding::Unknown);
        let flows = self.walk.rewrite(flows, |header| header.oif = NONE);
        let flows = self.carried(Hook::Ingress, flows)?;
        let flows = self.device(Hook::Ingress, flows)?;
        let flows = self.bridged(flows)?;
        let (flows, bridges) = self.taken(flows)?;
        let said: Vec<Binding> = flows.iter().map(|flow| self.walk.header(flow.header).ends.dst).collect();
        let said = said.first().copied().unwrap_or(Binding::Unknown);
        let flows = self.hook(Hook::Prerouting, flows)?;
        let (to_host, through) = self.routed(flows, said, given, local)?;
        let to_host = self.sources(to_host, false)?;
        let through = self.sources(through, true)?;
        let through = self.sent_by_master(through)?;
        let through = self.unless_passed_on(through, &bridges)?;
        let mut left = self.hook(Hook::Input, to_host)?;
        let through = self.hook(Hook::Forward, through)?;
        let through = self.hook(Hook::Postrouting, through)?;
        let through = self.carried(Hook::Egress, through)?;
        left.append(&mut self.device(Hook::Egress, through)?);
        for (set, words) in offloaded {
            // chains at the outgoing device see them without mark and state
            let open = if self.hooks.egress.is_empty() { self.ended.refused } else { Set::ALL };
            let refused = self.walk.encoder.bdd.and(open, set)?;
            if !refused.is_empty() {
                // the answer says which of them are refused
                if self.walk.encoder.answers_alike() {
                    self.ended.refused = self.walk.encoder.bdd.minus(self.ended.refused, refused)?;
                }
                self.walk.lose(&mut self.ended, refused, None, || words)?;
            }
        }
        Ok(left)
    }

    /// Routing of packets that came in: to this host, or through it.
    fn routed(
        &mut self,
        flows: Vec<Flow>,
        said: Binding,
        given: Binding,
        local: bool,
    ) -> Built<(Vec<Flow>, Vec<Flow>)> {
        let (mut to_host, mut through) = (Vec::new(), Vec::new());
        for flow in flows {
            let header = self.walk.header(flow.header);
            let dst = header.ends.dst;
            let same = dst == said || dst.known().is_none();
            let mark = header.mark.known().and_then(|mark| u32::try_from(mark).ok());
            let here = match dst {
                _ if header.redirected => Some(true),
                Binding::Known(number) if !same => self.walk.facts.is_local(number, mark),
                _ => Some(local),
            };
            let (inside, outside) = match here {
                Some(_) => (flow.set, flow.set),
                None => {
                    let words = "whether the new destination is this host";
                    self.walk.either(flow.set, words, Hook::Prerouting, Some(&header))?
                }
            };
            if here != Some(false) && !inside.is_empty() {
                to_host.push(Flow { set: inside, ..flow });
            }
            if here != Some(true) && !outside.is_empty() {
                let flow = Flow { set: outside, ..flow };
                let oif = match dst {
                    // asked for address by address, the device stays the one that was given for them
                    Binding::Free(_) => given,
                    _ if dst == said => given,
                    Binding::Known(number) => {
                        self.walk.facts.device(number, mark).map_or(Binding::Unknown, Binding::Known)
                    }
                    _ => Binding::Unknown,
                };
                let rewritten = self.walk.rewrite(vec![flow], |header| {
                    header.oif = oif;
                    // forwarding takes one off before the rules of the hook see the packet
                    header.ttl = match header.ttl {
                        Binding::Known(ttl) => Binding::Known(ttl.saturating_sub(1)),
                        _ => Binding::Unknown,
                    };
                });
                through.extend(rewritten);
            }
        }
        Ok((to_host, through))
    }

    /// From a local process.
    pub(super) fn leaving(&mut self, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let sent: Vec<_> = flows.iter().map(|flow| self.walk.header(flow.header)).collect();
        let flows = self.walk.rewrite(flows, |header| header.iif = NONE);
        let flows = self.sent_by_master(flows)?;
        let flows = self.hook(Hook::Output, flows)?;
        let flows = match sent.first() {
            Some(sent) => self.route_again(flows, sent)?,
            None => flows,
        };
        let flows = self.sent_by_master(flows)?;
        let flows = self.multicast(flows)?;
        let flows = self.hook(Hook::Postrouting, flows)?;
        let flows = self.carried(Hook::Egress, flows)?;
        let flows = self.device(Hook::Egress, flows)?;
        let (mut looped, mut left) = (Vec::new(), Vec::new());
        for flow in flows {
            let oif = self.walk.header(flow.header).oif;
            let to_lo = match oif {
                // where the device is not known, only translated packets go astray: the others were routed before
                Binding::Unknown => Set::NONE,
                oif => self.walk.encoder.bound_within(oif, &[Interval::single(lo())])?.possible,
            };
            let bdd = &mut self.walk.encoder.bdd;
            let (inside, outside) = (bdd.and(flow.set, to_lo)?, bdd.minus(flow.set, to_lo)?);
            looped.extend((!inside.is_empty()).then_some(Flow { set: inside, ..flow }));
            left.extend((!outside.is_empty()).then_some(Flow { set: outside, ..flow }));
        }
        let looped = self.walk.rewrite(looped, |header| {
            header.iif = Binding::Known(lo());
            header.oif = NONE;
            // its connection was confirmed on the way out
            if header.is_tracked() {
                header.status = header.status.map(|status| status | 8);
            }
        });
        let looped = self.device(Hook::Ingress, looped)?;
        let looped = self.hook(Hook::Prerouting, looped)?;
        left.append(&mut self.hook(Hook::Input, looped)?);
        Ok(left)
    }

    /// The kernel hands multicast of this host on with the outgoing device in both places.
    fn multicast(&mut self, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let groups = match self.walk.facts.family() {
            Family::Ipv4 => Interval { low: 0xe000_0000, high: 0xefff_ffff },
            _ => Interval { low: 0xff << 120, high: u128::MAX },
        };
        let mut all = Vec::new();
        for flow in flows {
            let dst = self.walk.header(flow.header).ends.dst;
            let many = self.walk.encoder.bound_within(dst, &[groups])?.certain;
            let bdd = &mut self.walk.encoder.bdd;
            let (many, one) = (bdd.and(flow.set, many)?, bdd.minus(flow.set, many)?);
            all.extend(self.walk.rewrite(vec![Flow { set: many, ..flow }], |header| header.iif = Binding::Unknown));
            all.push(Flow { set: one, ..flow });
        }
        self.walk.merged(all)
    }

    /// After output: changed packets are routed once more.
    fn route_again(&mut self, flows: Vec<Flow>, sent: &crate::space::header::Header) -> Built<Vec<Flow>> {
        let host = self.walk.facts.host();
        let by_mark = host.rules.iter().flatten().any(|rule| rule.mark.is_some());
        let mut routed = Vec::new();
        for flow in flows {
            let header = self.walk.header(flow.header);
            let moved = header.ends.dst != sent.ends.dst;
            let remarked = header.mark != sent.mark || header.ends.src != sent.ends.src;
            if !(moved || remarked && self.hooks.reroutes) {
                routed.push(flow);
                continue;
            }
            let mark = header.mark.known().and_then(|mark| u32::try_from(mark).ok());
            let lo = Binding::Known(lo());
            let oifs = match header.ends.dst {
                _ if header.redirected => vec![lo],
                Binding::Known(number) => match self.walk.facts.device(number, mark) {
                    Some(device) => vec![Binding::Known(device)],
                    None => vec![Binding::Unknown, lo],
                },
                Binding::Unknown if moved => vec![Binding::Unknown, lo],
                // a mark alone sends it elsewhere only where policy routing knows marks
                _ if by_mark => vec![Binding::Unknown],
                _ => vec![header.oif],
            };
            let mut flows = vec![flow];
            for (at, oif) in oifs.iter().enumerate() {
                let mut here = std::mem::take(&mut flows);
                if at + 1 < oifs.len() {
                    let words = "by which interface the changed packet leaves";
                    (here, flows) = self.walk.either_way(here, words, Hook::Output)?;
                }
                routed.extend(self.walk.rewrite(here, |header| header.oif = *oif));
            }
        }
        self.walk.merged(routed)
    }

    /// All base chains of a hook of the IP stack.
    fn hook(&mut self, hook: Hook, mut flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let hooks = self.hooks;
        let mut tracked = !matches!(hook, Hook::Prerouting | Hook::Output);
        for group in hooks.groups(hook) {
            if flows.is_empty() {
                return Ok(flows);
            }
            if !tracked && group.priority >= CONNTRACK_PRIORITY {
                tracked = true;
                if group.priority == CONNTRACK_PRIORITY {
                    // which runs first is not known
                    let words = "whether tracking comes before the chains of its priority";
                    let (after, before) = self.walk.either_way(flows, words, hook)?;
                    let mut both = self.track(after);
                    both.extend(before);
                    flows = self.group(group, hook, both)?;
                    flows = self.track(flows);
                    flows = self.walk.merged(flows)?;
                    continue;
                }
                flows = self.track(flows);
            }
            flows = self.group(group, hook, flows)?;
        }
        if !tracked {
            flows = self.track(flows);
        }
        Ok(flows)
    }

    /// Connection tracking sees the packets.
    fn track(&mut self, flows: Vec<Flow>) -> Vec<Flow> {
        self.walk.rewrite(flows, |header| {
            if header.tracking == Tracking::Before {
                header.tracking = Tracking::Seen;
            }
        })
    }

    fn group(&mut self, group: &Group, hook: Hook, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        if !group.order_matters {
            let mut flows = flows;
            for unit in &group.units {
                flows = self.unit(unit, hook, flows)?;
            }
            return Ok(flows);
        }
        if group.units.len() > MAX_PERMUTED {
            let set = self.walk.encoder.bdd.union(flows.iter().map(|flow| flow.set))?;
            let why = || format!("{} chains hang at priority {} of {hook}", group.units.len(), group.priority);
            self.walk.lose(&mut self.ended, set, None, why)?;
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        let orders = orders(group.units.len());
        let mut left = flows;
        for (at, order) in orders.iter().enumerate() {
            let mut walked = std::mem::take(&mut left);
            if at + 1 < orders.len() {
                let words = format!("the order of the chains of priority {}: {order:?}", group.priority);
                (walked, left) = self.walk.either_way(walked, &words, hook)?;
            }
            for unit in order.iter().filter_map(|&at| group.units.get(at)) {
                walked = self.unit(unit, hook, walked)?;
            }
            all.append(&mut walked);
        }
        self.walk.merged(all)
    }

    fn unit(&mut self, unit: &Unit, hook: Hook, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let passed = match unit {
            Unit::Chain(base) => self.walk.base(*base, hook, flows)?,
            Unit::Nat(bases) => self.walk.nat(bases, hook, flows)?,
        };
        self.walk.add(&mut self.ended, &passed)?;
        Ok(passed.accepted)
    }

    /// Chains on the packets' devices.
    pub(super) fn device(&mut self, hook: Hook, mut flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let hooks = self.hooks;
        let groups = if hook == Hook::Ingress { &hooks.ingress } else { &hooks.egress };
        let ruleset = self.walk.encoder.ruleset();
        for unit in groups.iter().flat_map(|group| &group.units) {
            let Unit::Chain(base) = unit else { continue };
            let chain = ruleset.tables.get(base.table).and_then(|table| table.chains.get(base.chain));
            let Some(settings) = chain.and_then(|chain| chain.base.as_ref()) else { continue };
            let pattern = |name: &str| interface_interval(&InterfacePattern::from_nft(name));
            let names = joined(settings.devices.iter().map(|name| pattern(name)).collect());
            let (mut there, mut elsewhere) = (Vec::new(), Vec::new());
            for flow in flows {
                let header = self.walk.header(flow.header);
                let device = if hook == Hook::Ingress { header.iif } else { header.oif };
                let mut on = self.walk.encoder.bound_within(device, &names)?;
                if names.is_empty() || device == Binding::Missing {
                    on = crate::space::encode::Truth::OPEN;
                }
                let words = || format!("whether the packet crosses the chains on {:?}", settings.devices);
                on = self.walk.encoder.settled(on, 0, words, hook, &header)?;
                let bdd = &mut self.walk.encoder.bdd;
                let (inside, outside) = (bdd.and(flow.set, on.possible)?, bdd.minus(flow.set, on.certain)?);
                there.extend((!inside.is_empty()).then_some(Flow { set: inside, ..flow }));
                elsewhere.extend((!outside.is_empty()).then_some(Flow { set: outside, ..flow }));
            }
            let passed = self.walk.base(*base, hook, there)?;
            self.walk.add(&mut self.ended, &passed)?;
            elsewhere.extend(passed.accepted);
            flows = self.walk.merged(elsewhere)?;
        }
        Ok(flows)
    }

    /// Frames that come in over a bridge meet its tables first; those are not evaluated, so they may end there.
    fn bridged(&mut self, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        if !self.hooks.bridged {
            return Ok(flows);
        }
        let host = self.walk.facts.host();
        let plain = |name: u128| {
            let all = host.interfaces.as_deref().unwrap_or_default();
            let found = all.iter().find(|interface| interface_number(interface.name.as_bytes()) == name);
            found.is_some_and(|interface| &*interface.kind != "bridge" && interface.master.is_none())
        };
        let names = self.walk.encoder.layout.interfaces().names().to_vec();
        let mut left = Vec::with_capacity(flows.len());
        for flow in flows {
            let header = self.walk.header(flow.header);
            let set = match header.iif {
                Binding::Known(name) if plain(name) => Set::NONE,
                Binding::Free(Dimension::InInterface) => {
                    let encoder = &mut self.walk.encoder;
                    let may = |class: usize| names.get(class).is_none_or(|name| !plain(*name));
                    let bridged = encoder.layout.of_classes(&mut encoder.bdd, Dimension::InInterface, may)?;
                    encoder.bdd.and(flow.set, bridged)?
                }
                _ => flow.set,
            };
            let words = "a bridge table may refuse the frame before it gets here";
            let (refused, passed) = self.walk.either(set, words, Hook::Prerouting, Some(&header))?;
            let bdd = &mut self.walk.encoder.bdd;
            self.ended.refused = bdd.or(self.ended.refused, refused)?;
            let others = bdd.minus(flow.set, set)?;
            let passed = bdd.or(others, passed)?;
            left.extend((!passed.is_empty()).then_some(Flow { set: passed, ..flow }));
            if let Some(notes) = &mut self.walk.notes {
                notes.asked(None, words.to_owned(), set);
            }
        }
        Ok(left)
    }
}
