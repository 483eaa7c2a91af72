//! Devices that belong to another: packets of a bridge's or bond's ports arrive by the bridge or bond. What a bridge passes
//! on itself, and what a VRF does, is not followed: those packets are lost.

use super::drive::Drive;
use super::walk::Flow;
use crate::analysis::devices::{MAX_LEVELS, Master, carriers, ports};
use crate::analysis::path::{self, Group};
use crate::packet::{Family, Hook};
use crate::ruleset::interface_number;
use crate::space::Dimension;
use crate::space::bdd::{Built, Set};
use crate::space::header::Binding;

/// Which end of the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    In,
    Out,
}

impl Drive<'_, '_> {
    /// Leads packets from the devices they came in by to those the IP hooks see. Also the bridges some came in by ports of.
    pub(super) fn taken(&mut self, flows: Vec<Flow>) -> Built<(Vec<Flow>, Vec<u128>)> {
        let mut bridges = Vec::new();
        let (mut done, mut moving) = (Vec::new(), flows);
        for _ in 0..MAX_LEVELS {
            let (stay, moved) = self.one_up(End::In, moving, &mut bridges)?;
            done.extend(stay);
            moving = self.device(Hook::Ingress, moved)?;
            if moving.is_empty() {
                return Ok((self.walk.merged(done)?, bridges));
            }
        }
        self.lose_all(moving, "devices stand on each other without end")?;
        Ok((done, bridges))
    }

    /// Packets on their way out by ports leave by their masters, to the IP hooks.
    pub(super) fn sent_by_master(&mut self, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let (mut done, mut moving) = (Vec::new(), flows);
        for _ in 0..MAX_LEVELS {
            let (stay, moved) = self.one_up(End::Out, moving, &mut Vec::new())?;
            done.extend(stay);
            moving = moved;
            if moving.is_empty() {
                return self.walk.merged(done);
            }
        }
        self.lose_all(moving, "devices stand on each other without end")?;
        Ok(done)
    }

    /// Packets that came in by a port and go on by the same bridge, or by what is not known, may have been passed on by it.
    pub(super) fn unless_passed_on(&mut self, through: Vec<Flow>, bridges: &[u128]) -> Built<Vec<Flow>> {
        let mut left = Vec::new();
        for flow in through {
            let header = self.walk.header(flow.header);
            let by = header.iif.known().filter(|iif| bridges.contains(iif));
            let doubtful = match (by, header.oif) {
                (None, _) => false,
                (Some(bridge), Binding::Known(oif)) => oif == bridge,
                // ports were moved to their bridge, and the rest of a class is no port
                (Some(bridge), Binding::Free(dimension)) => {
                    let own = self.of_device(dimension, bridge)?;
                    let bdd = &mut self.walk.encoder.bdd;
                    let (inside, outside) = (bdd.and(flow.set, own)?, bdd.minus(flow.set, own)?);
                    self.lose_all(vec![Flow { set: inside, ..flow }], PASSED_ON)?;
                    left.extend((!outside.is_empty()).then_some(Flow { set: outside, ..flow }));
                    continue;
                }
                (Some(_), _) => true,
            };
            if doubtful {
                self.lose_all(vec![flow], PASSED_ON)?;
            } else {
                left.push(flow);
            }
        }
        Ok(left)
    }

    /// Flows that stay on their device, and those moved to its master; those whose way is not followed are lost.
    fn one_up(&mut self, end: End, flows: Vec<Flow>, bridges: &mut Vec<u128>) -> Built<(Vec<Flow>, Vec<Flow>)> {
        let (mut stay, mut moved) = (Vec::new(), Vec::new());
        for flow in flows {
            let header = self.walk.header(flow.header);
            let binding = if end == End::In { header.iif } else { header.oif };
            let numbers: Vec<u128> = match binding {
                Binding::Known(number) => vec![number],
                Binding::Free(_) => self.walk.encoder.layout.interfaces().names().to_vec(),
                Binding::Missing => Vec::new(),
                Binding::Unknown => match self.hooks.devices.any_not_followed() {
                    Some(why) => {
                        let why = format!("the interface is not known, and {why}");
                        self.lose_all(vec![flow], &why)?;
                        continue;
                    }
                    None => Vec::new(),
                },
            };
            let mut rest = flow.set;
            for number in numbers {
                let Some(master) = self.hooks.devices.get(number).master.clone() else { continue };
                let set = match binding {
                    Binding::Free(dimension) => {
                        let own = self.of_device(dimension, number)?;
                        self.walk.encoder.bdd.and(flow.set, own)?
                    }
                    _ => flow.set,
                };
                rest = self.walk.encoder.bdd.minus(rest, set)?;
                let part = Flow { set, ..flow };
                let up = match self.open(end, number, &master) {
                    Ok(up) => up,
                    Err(why) => {
                        self.lose_all(vec![part], &why)?;
                        continue;
                    }
                };
                if matches!(master, Master::Bridge(_)) {
                    bridges.push(up);
                }
                moved.extend(self.walk.rewrite(vec![part], |header| match end {
                    End::In => header.iif = Binding::Known(up),
                    End::Out => header.oif = Binding::Known(up),
                }));
            }
            stay.extend((!rest.is_empty()).then_some(Flow { set: rest, ..flow }));
        }
        Ok((stay, self.walk.merged(moved)?))
    }

    /// The master's number, or why its way is not followed.
    fn open(&self, end: End, device: u128, master: &Master) -> Result<u128, String> {
        let (name, bridge) = match master {
            Master::Other(why) => return Err(why.clone()),
            Master::Bond(name) => (name, false),
            Master::Bridge(name) => (name, true),
        };
        let up = interface_number(name.as_bytes());
        let own = &self.hooks.devices.get(device).name;
        let [four, six] = self.hooks.devices.get(up).frames_cross;
        let crosses = if self.walk.facts.family() == Family::Ipv6 { six } else { four };
        if end == End::In && bridge && crosses != Some(false) && self.has_chain(&self.hooks.ingress, up) {
            let words = "whether the rules of prerouting come before its ingress chains is not followed";
            return Err(format!("{own} is a port of bridge {name}: {words}"));
        }
        if end == End::Out && self.has_chain(&self.hooks.egress, device) {
            return Err(format!("{own} is a port of {name}, and has egress chains of its own: not followed"));
        }
        Ok(up)
    }

    fn has_chain(&self, groups: &[Group], device: u128) -> bool {
        path::hangs_on(self.walk.encoder.ruleset(), groups, device)
    }

    /// Packets of devices that others with chains of their own carry, or whose ports have such chains, are lost.
    pub(super) fn carried(&mut self, hook: Hook, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let hooks = self.hooks;
        let groups = if hook == Hook::Ingress { &hooks.ingress } else { &hooks.egress };
        if groups.is_empty() {
            return Ok(flows);
        }
        let host = self.walk.facts.host();
        let mut doubtful: Vec<(u128, String)> = Vec::new();
        for interface in host.interfaces.iter().flatten() {
            let stack = carriers(host, interface_number(interface.name.as_bytes()));
            let ports = ports(host, &stack).into_iter().map(|(port, _)| port);
            if stack.iter().skip(1).copied().chain(ports).any(|below| self.has_chain(groups, below)) {
                let words = format!("{hook} chains on devices below {} are not followed", interface.name);
                doubtful.extend(stack.first().map(|own| (*own, words)));
            }
        }
        let mut left = Vec::new();
        for flow in flows {
            let header = self.walk.header(flow.header);
            let binding = if hook == Hook::Ingress { header.iif } else { header.oif };
            let mut rest = flow.set;
            for (device, words) in &doubtful {
                let set = match binding {
                    Binding::Known(number) if number == *device => rest,
                    Binding::Free(dimension) => {
                        let own = self.of_device(dimension, *device)?;
                        self.walk.encoder.bdd.and(rest, own)?
                    }
                    Binding::Unknown => rest,
                    _ => continue,
                };
                rest = self.walk.encoder.bdd.minus(rest, set)?;
                self.lose_all(vec![Flow { set, ..flow }], words)?;
            }
            left.extend((!rest.is_empty()).then_some(Flow { set: rest, ..flow }));
        }
        Ok(left)
    }

    fn of_device(&mut self, dimension: Dimension, device: u128) -> Built<Set> {
        let encoder = &mut self.walk.encoder;
        let names = encoder.layout.interfaces().names().to_vec();
        encoder.layout.of_classes(&mut encoder.bdd, dimension, |class| names.get(class) == Some(&device))
    }

    fn lose_all(&mut self, flows: Vec<Flow>, why: &str) -> Built<()> {
        for flow in flows.into_iter().filter(|flow| !flow.set.is_empty()) {
            self.walk.lose(&mut self.ended, flow.set, None, || why.to_owned())?;
        }
        Ok(())
    }
}

const PASSED_ON: &str =
    "it comes in by a port of a bridge and goes on by that bridge: whether it is routed or passed on is not followed";

#[cfg(test)]
mod tests {
    use crate::analysis::reach::{Engine, HostFacts, Settings, Way};
    use crate::host::{Host, Interface};
    use crate::packet::{Family, Hook};
    use crate::ruleset::{Backend, BaseChain, Chain, ChainKind, Field, Match, Policy, Rule};
    use crate::ruleset::{Interval, Ruleset, Step, Table, Verdict, interface_number};
    use crate::space::Dimension;
    use crate::space::bdd::Set;
    use crate::space::header::{Binding, Header};

    fn number(name: &str) -> u128 {
        interface_number(name.as_bytes())
    }

    fn host(devices: &[(&str, &str, Option<&str>)]) -> Host {
        let device = |&(name, kind, master): &(&str, &str, Option<&str>)| Interface {
            name: name.into(),
            kind: kind.into(),
            master: master.map(Into::into),
            ..Interface::default()
        };
        Host { interfaces: Some(devices.iter().map(device).collect()), ..Host::default() }
    }

    /// Lets in what arrives by `name` only.
    fn input_of(name: &str) -> Ruleset {
        let by = Step::Match(Match::equals(Field::Iifname, number(name)));
        let rule = Rule { steps: vec![by, Step::Verdict(Verdict::Accept)], ..Rule::default() };
        let base = BaseChain {
            kind: ChainKind::Filter,
            hook: Hook::Input,
            priority: 0,
            policy: Policy::Drop,
            devices: Vec::new(),
        };
        let table = Table {
            backend: Backend::Nft,
            family: Family::Inet,
            name: "t".into(),
            dormant: false,
            chains: vec![Chain { name: "i".into(), base: Some(base), rules: vec![rule].into(), line: 0 }],
            sets: Vec::new(),
            source: "test".into(),
            flowtables: Vec::new(),
            other: Vec::new(),
        };
        Ruleset { tables: vec![table], ipsets: Vec::new() }
    }

    /// Packets from 203.0.113.0/24: sources nobody but rules refuses.
    fn somebody(engine: &mut Engine<'_>) -> Set {
        let encoder = engine.encoder();
        let bits = encoder.layout.bits(&mut encoder.bdd, Dimension::Source).expect("within the budget");
        let network = Interval { low: 0xcb00_7100, high: 0xcb00_71ff };
        encoder.bdd.within(&bits, &[network]).expect("within the budget")
    }

    /// Whether packets by an interface may be accepted, may be refused, and are lost.
    fn verdicts(host: &Host, rules: &Ruleset, way: Way, iif: Binding, oif: Binding) -> [bool; 3] {
        let facts = HostFacts::new(host, Family::Ipv4);
        let mut engine = Engine::new(rules, &facts, &Settings::default());
        let from = somebody(&mut engine);
        let found = engine.walk(way, Header { iif, oif, ..Header::open() }, from).expect("within the budget");
        [found.accepted, found.refused, found.lost].map(|set| !set.is_empty())
    }

    #[test]
    fn a_vrf_is_not_followed() {
        let host = host(&[("red", "vrf", None), ("eth1", "", Some("red")), ("eth0", "", None)]);
        let rules = input_of("eth0");
        let lost = [true, true, true];
        for name in ["red", "eth1"] {
            let by = Binding::Known(number(name));
            assert_eq!(verdicts(&host, &rules, Way::In, by, Binding::Known(0)), lost, "{name}");
            assert_eq!(verdicts(&host, &rules, Way::Out, Binding::Known(0), by), lost, "{name}");
        }
        assert_eq!(verdicts(&host, &rules, Way::In, Binding::Unknown, Binding::Known(0)), lost);
        let eth0 = Binding::Known(number("eth0"));
        assert_eq!(verdicts(&host, &rules, Way::In, eth0, Binding::Known(0)), [true, false, false]);
        assert_eq!(verdicts(&host, &rules, Way::Out, Binding::Known(0), eth0), [true, false, false]);
        assert_eq!(verdicts(&host, &rules, Way::Forward, eth0, Binding::Known(number("eth1"))), lost);
    }

    #[test]
    fn ports_hand_packets_to_their_bridge_or_bond_also_when_all_interfaces_are_asked() {
        for kind in ["bridge", "bond"] {
            let host = host(&[("m0", kind, None), ("p1", "", Some("m0")), ("p2", "", Some("m0"))]);
            let port = Binding::Known(number("p1"));
            let none = Binding::Known(0);
            assert_eq!(verdicts(&host, &input_of("m0"), Way::In, port, none), [true, false, false]);
            assert_eq!(verdicts(&host, &input_of("p1"), Way::In, port, none), [false, true, false]);
            let facts = HostFacts::new(&host, Family::Ipv4);
            let rules = input_of("m0");
            let mut engine = Engine::new(&rules, &facts, &Settings::default());
            let from = somebody(&mut engine);
            let found = engine.walk(Way::In, Header::open(), from).expect("within the budget");
            let names = engine.layout().interfaces().names().to_vec();
            let encoder = engine.encoder();
            let taken = [number("m0"), number("p1"), number("p2")];
            let by = |class: usize| names.get(class).is_some_and(|name| taken.contains(name));
            let wanted = encoder.layout.of_classes(&mut encoder.bdd, Dimension::InInterface, by);
            let wanted = wanted.and_then(|wanted| encoder.bdd.and(wanted, from)).expect("within the budget");
            assert_eq!((found.accepted, found.lost), (wanted, Set::NONE), "{kind}");
        }
    }

    #[test]
    fn what_stays_on_a_bridge_is_lost() {
        let host =
            host(&[("br0", "bridge", None), ("p1", "", Some("br0")), ("p2", "", Some("br0")), ("eth0", "", None)]);
        let through = |oif: &str| {
            let [iif, oif] = ["p1", oif].map(|name| Binding::Known(number(name)));
            verdicts(&host, &Ruleset::default(), Way::Forward, iif, oif)
        };
        assert_eq!([through("p2"), through("br0")], [[true; 3]; 2]);
        assert_eq!(through("eth0"), [true, false, false]);
    }
}
