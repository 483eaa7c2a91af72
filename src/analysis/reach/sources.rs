//! What the kernel itself thinks of source addresses, for all of them at once: martians and `rp_filter`
//! (`fib_validate_source`, `ip_route_input_slow`, `ip6_rcv_core`), between the rules of prerouting and the next hook.

use std::rc::Rc;

use super::drive::{Drive, lo};
use super::facts::Back;
use super::walk::Flow;
use crate::analysis::devices::Device;
use crate::packet::{CtState, Family, Prefix, Protocol};
use crate::ruleset::Interval;
use crate::space::bdd::{Built, Set};
use crate::space::encode::Truth;
use crate::space::header::{Binding, Header};

/// What the kernel does with sources of one kind on one device.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Judged {
    /// They may pass.
    pass: bool,
    /// They may be dropped.
    stop: bool,
    /// What drops them, or may, in words that name the setting.
    why: String,
}

impl Judged {
    fn fine() -> Self {
        Self { pass: true, stop: false, why: String::new() }
    }

    fn bad(why: String) -> Self {
        Self { pass: false, stop: true, why }
    }

    fn open(why: String) -> Self {
        Self { pass: true, stop: true, why }
    }

    /// Both, where a setting is not known.
    fn or(self, other: Self) -> Self {
        let why = if self.stop { self.why } else { other.why };
        Self { pass: self.pass || other.pass, stop: self.stop || other.stop, why }
    }
}

/// What decides besides source and device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Asked {
    source: Binding,
    iif: Binding,
    /// Goes through this host, not to it.
    through: bool,
    /// Its socket may still know a route (early demultiplexing), or its destination is not the one it came with.
    excused: bool,
}

/// Sources the kernel drops, or may drop.
#[derive(Debug)]
pub(super) struct Ruling {
    why: String,
    /// `false`: it may let them pass.
    sure: bool,
    set: Set,
}

/// Everything the kernel says of the sources of one header.
#[derive(Debug)]
pub(super) struct Rulings {
    pass: Set,
    stop: Set,
    each: Vec<Ruling>,
}

impl Drive<'_, '_> {
    /// Drops what the kernel drops for its source.
    pub(super) fn sources(&mut self, flows: Vec<Flow>, through: bool) -> Built<Vec<Flow>> {
        let mut left = Vec::new();
        for flow in flows {
            let header = self.walk.header(flow.header);
            if header.iif == Binding::Known(0) || header.iif == Binding::Known(lo()) {
                left.push(flow);
                continue;
            }
            let excused = !through && is_of_socket(&header);
            let asked = Asked { source: header.ends.src, iif: header.iif, through, excused };
            let rulings = match self.walk.sources.get(&asked) {
                Some(known) => Rc::clone(known),
                None => {
                    let made = Rc::new(self.rulings(asked)?);
                    self.walk.sources.insert(asked, Rc::clone(&made));
                    made
                }
            };
            let special = self.sent_to_all(header.ends.dst)?;
            let bdd = &mut self.walk.encoder.bdd;
            let (pass, stop) = (bdd.and(flow.set, rulings.pass)?, bdd.and(flow.set, rulings.stop)?);
            // what is sent to all is judged by other rules
            let spared = bdd.and(flow.set, special)?;
            let pass = bdd.or(pass, spared)?;
            // where rulesets are compared, what the kernel may let pass is for their rules to judge
            let alike = self.walk.encoder.answers_alike();
            let bdd = &mut self.walk.encoder.bdd;
            let stop = if alike { bdd.minus(stop, pass)? } else { stop };
            self.ended.refused = bdd.or(self.ended.refused, stop)?;
            if let Some(notes) = &mut self.walk.notes {
                for ruling in &rulings.each {
                    let set = bdd.and(flow.set, ruling.set)?;
                    let doubtful = if ruling.sure { bdd.and(set, special)? } else { set };
                    let certain = if ruling.sure { bdd.minus(set, special)? } else { Set::NONE };
                    notes.refused_by_kernel(&ruling.why, certain);
                    if !alike {
                        notes.asked(None, ruling.why.clone(), doubtful);
                    }
                }
            }
            left.extend((!pass.is_empty()).then_some(Flow { set: pass, ..flow }));
        }
        Ok(left)
    }

    /// Destinations that are groups, or nobody's.
    fn sent_to_all(&mut self, dst: Binding) -> Built {
        let special: &[&str] = match self.walk.facts.family() {
            Family::Ipv4 => &["0.0.0.0", "224.0.0.0/4", "255.255.255.255"],
            _ => &["ff00::/8"],
        };
        Ok(self.walk.encoder.bound_within(dst, &ranges(special))?.possible)
    }

    fn rulings(&mut self, asked: Asked) -> Built<Rulings> {
        let mut all = Rulings { pass: Set::NONE, stop: Set::NONE, each: Vec::new() };
        if let Binding::Known(number) = asked.iif {
            self.on_device(asked, number, Set::ALL, &mut all)?;
            return Ok(all);
        }
        let names = self.walk.encoder.layout.interfaces().names().to_vec();
        for (class, number) in names.into_iter().enumerate().filter(|(_, number)| *number != lo()) {
            let on = match asked.iif {
                Binding::Free(dimension) => {
                    let encoder = &mut self.walk.encoder;
                    encoder.layout.of_classes(&mut encoder.bdd, dimension, |one| one == class)?
                }
                _ => Set::ALL,
            };
            self.on_device(asked, number, on, &mut all)?;
        }
        // lo asks nothing
        let judged = self.walk.encoder.bdd.or(all.pass, all.stop)?;
        all.pass = match asked.iif {
            Binding::Free(_) => self.walk.encoder.bdd.or(all.pass, !judged)?,
            _ => Set::ALL,
        };
        // by which device it came is open, and so is what that one says
        all.each.iter_mut().for_each(|ruling| ruling.sure &= matches!(asked.iif, Binding::Free(_)));
        Ok(all)
    }

    /// What one device says, for the packets `on` it.
    fn on_device(&mut self, asked: Asked, number: u128, on: Set, all: &mut Rulings) -> Built<()> {
        let facts = self.walk.facts;
        let device = facts.settings(number);
        let martians = martians(facts.family(), device);
        let mut spoken_for = Set::NONE;
        for (judged, intervals) in martians {
            let set = self.walk.encoder.bound_within(asked.source, &intervals)?;
            spoken_for = self.walk.encoder.bdd.or(spoken_for, set.certain)?;
            self.add(all, &judged, set.possible, on)?;
        }
        let mark = if device.src_valid_mark == Some(false) { Some(0) } else { None };
        let pieces = facts.ways_back(mark, asked.through);
        let mut kinds: Vec<(Judged, Vec<Interval>)> = Vec::new();
        for (interval, back) in pieces.iter() {
            let mut judged = facts.judged(back, device, number, asked.through);
            if asked.excused && judged.stop && !judged.pass {
                judged = Judged::open(format!("{} (unless the connection's socket still knows a route)", judged.why));
            }
            match kinds.iter_mut().find(|(known, _)| *known == judged) {
                Some((_, intervals)) => intervals.push(*interval),
                None => kinds.push((judged, vec![*interval])),
            }
        }
        for (judged, intervals) in kinds {
            let Truth { possible, .. } = self.walk.encoder.bound_within(asked.source, &intervals)?;
            let possible = self.walk.encoder.bdd.minus(possible, spoken_for)?;
            self.add(all, &judged, possible, on)?;
        }
        Ok(())
    }

    fn add(&mut self, all: &mut Rulings, judged: &Judged, set: Set, on: Set) -> Built<()> {
        let bdd = &mut self.walk.encoder.bdd;
        let set = bdd.and(set, on)?;
        if judged.pass {
            all.pass = bdd.or(all.pass, set)?;
        }
        if judged.stop && !set.is_empty() {
            all.stop = bdd.or(all.stop, set)?;
            all.each.push(Ruling { why: judged.why.clone(), sure: !judged.pass, set });
        }
        Ok(())
    }
}

/// A socket of an established connection may remember the route it had.
fn is_of_socket(header: &Header) -> bool {
    let protocols = [Protocol::TCP, Protocol::UDP].map(|protocol| u128::from(protocol.0));
    let asks_socket = header.protocol.known().is_none_or(|protocol| protocols.contains(&protocol));
    asks_socket && header.state != CtState::NEW
}

fn ranges(prefixes: &[&str]) -> Vec<Interval> {
    let ranges = prefixes.iter().filter_map(|text| text.parse::<Prefix>().ok()).map(Prefix::range);
    ranges.map(|(low, high)| Interval { low, high }).collect()
}

/// Sources that are taken from no link, whatever the routes say.
fn martians(family: Family, device: &Device) -> Vec<(Judged, Vec<Interval>)> {
    let name = &device.name;
    if family != Family::Ipv4 {
        if device.disable_ipv6 == Some(true) {
            let why = format!("IPv6 is off on {name} (net.ipv6.conf.{name}.disable_ipv6=1)");
            return vec![(Judged::bad(why), vec![Interval { low: 0, high: u128::MAX }])];
        }
        let why = "martian source: loopback and group addresses come from no link".to_owned();
        return vec![(Judged::bad(why), ranges(&["::1", "ff00::/8"]))];
    }
    let bad = |why: &str| Judged::bad(format!("martian source: {why}"));
    let mut all = vec![
        (bad("nobody sends from a group's address"), ranges(&["224.0.0.0/4", "255.255.255.255"])),
        (bad("an unconfigured sender speaks to 255.255.255.255 only"), ranges(&["0.0.0.0"])),
        (
            Judged::open("martian source: 0.0.0.0/8 was nobody's before Linux 5.3".to_owned()),
            vec![Interval { low: 1, high: 0x00ff_ffff }],
        ),
    ];
    let loopback = ranges(&["127.0.0.0/8"]);
    let setting = format!("net.ipv4.conf.{name}.route_localnet");
    match device.route_localnet {
        Some(true) => {}
        Some(false) => all.push((bad(&format!("loopback addresses stay on lo ({setting}=0)")), loopback)),
        None => all.push((Judged::open(format!("whether {setting} takes loopback addresses is not known")), loopback)),
    }
    all
}

impl super::HostFacts<'_> {
    /// What a device makes of a source with this way back, under every setting it may have.
    fn judged(&self, back: &Back, device: &Device, number: u128, through: bool) -> Judged {
        if self.family() != Family::Ipv4 || self.host().sysctls.is_none() {
            return Judged::fine();
        }
        let all = self.host().interfaces.as_deref().unwrap_or_default();
        let is_vrf = |name: &str| all.iter().any(|one| &*one.name == name && &*one.kind == "vrf");
        let of_vrf = self.host().interface(&device.name).and_then(|one| one.master.as_deref()).is_some_and(is_vrf);
        if of_vrf || is_vrf(&device.name) {
            return Judged::open(format!("source checks on {} go by the routes of a VRF", device.name));
        }
        let locals = device.accept_local.map_or(vec![false, true], |known| vec![known]);
        let settings = device.rp_filter.iter().flat_map(|filter| locals.iter().map(move |local| (*filter, *local)));
        let each = settings.map(|(filter, local)| self.under(filter, local, back, device, number, through));
        let Some(judged) = each.reduce(Judged::or) else { return Judged::fine() };
        let is_known = device.rp_filter.len() == 1 && device.accept_local.is_some();
        match judged {
            Judged { pass: true, stop: true, .. } if !is_known => {
                let name = if device.name.is_empty() { "an interface nobody listed" } else { &device.name };
                Judged::open(format!("rp_filter or accept_local of {name} is not known (sysctl.txt)"))
            }
            other => other,
        }
    }

    fn under(&self, filter: u32, local: bool, back: &Back, device: &Device, number: u128, through: bool) -> Judged {
        let name = &device.name;
        let by_routes = filter != 0 || !local && self.custom_routing4();
        let setting = format!("rp_filter={filter} on {name}");
        let own = || Judged::bad(format!("martian source: an address of this host (accept_local=0 on {name})"));
        match back {
            Back::Local if !local => own(),
            Back::Local if filter == 0 => Judged::fine(),
            Back::Local => Judged::open(format!("{setting}: an address of this host (accept_local=1)")),
            Back::Group if filter == 0 && !by_routes && !through => Judged::fine(),
            Back::Group if filter == 0 => Judged::open("martian source: an address of everybody on a link".to_owned()),
            Back::Group => Judged::bad("martian source: an address of everybody on a link".to_owned()),
            Back::NotTold(_) if !by_routes => Judged::fine(),
            Back::NotTold(why) => Judged::open(format!("whether {setting} refuses is not known: {why}")),
            _ if filter == 0 => Judged::fine(),
            Back::Nowhere => Judged::bad(format!("{setting}: there is no route back")),
            Back::By(devices) if devices.contains(&number) => Judged::fine(),
            Back::By(_) if filter == 1 => Judged::bad(format!("{setting}: answers leave by another interface")),
            Back::By(_) => match device.has_ipv4 {
                Some(true) => Judged::fine(),
                Some(false) => Judged::bad(format!("{setting}: it has no IPv4 address and is not the way back")),
                None => Judged::open(format!("whether {name} has an IPv4 address, as {setting} asks, is not known")),
            },
        }
    }
}
