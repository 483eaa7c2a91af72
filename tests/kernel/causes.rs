//! The rules that cause a finding (HG606 to HG609, HG611), by the kernel's own counters.
//!
//! For each rule that does nothing the packets it asks for are found first: all others are taken out of the way, and what it
//! now takes it was kept from. The same packets are then sent through the rules named as its causes and nothing else but the
//! jumps that lead there: they take every one of them, each has a part, and nothing comes to the idle rule. Where rules that
//! call its chain are named, none sends it a packet, and all do once they send everything. A redundant rule is taken away:
//! every packet gets the verdict it got, and the rules named take over exactly its packets.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use hepguard::audit::idle::{Fault, IdleRule, idle};
use hepguard::files::SnapshotFiles;
use hepguard::packet::{Direction, Protocol};
use hepguard::ruleset::RuleRef;
use hepguard::snapshot::Snapshot;

use crate::firewall::{self, Firewall};
use crate::harness::in_namespace;
use crate::judge::Listings;
use crate::lab::{DEVICES, Lab, Shot};
use crate::matrix::HOSTS;
use crate::self_check::shot;

/// Sources beside those of the hosts, in their networks.
const NEIGHBOURS: [(&str, &str); 4] =
    [("ens5", "203.0.113.8"), ("eth1", "192.168.7.78"), ("eth1", "198.51.100.10"), ("cali0a1b2c3d4e5", "10.65.0.3")];

/// Chains besides FORWARD, none of which calls one in front of it.
const CHAINS: [&str; 3] = ["FORWARD", "web", "deep"];

/// A condition in both languages.
#[derive(Clone, Debug)]
enum Ask {
    From(String),
    To(String),
    By(&'static str),
    Ports(Protocol, u16, u16),
    Protocol(Protocol),
    Known,
    New,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Accept,
    Drop,
    Reject,
    Return,
    Jump(&'static str),
    Goto(&'static str),
}

use Target as T;

#[derive(Clone, Debug)]
struct Line {
    chain: &'static str,
    asks: Vec<Ask>,
    target: Target,
}

impl Ask {
    fn iptables(&self) -> String {
        match self {
            Self::From(prefix) => format!(" -s {prefix}"),
            Self::To(prefix) => format!(" -d {prefix}"),
            Self::By(name) => format!(" -i {name}"),
            Self::Ports(protocol, low, high) => format!(" -p {protocol} -m {protocol} --dport {low}:{high}"),
            Self::Protocol(protocol) => format!(" -p {protocol}"),
            Self::Known => " -m conntrack --ctstate RELATED,ESTABLISHED".to_owned(),
            Self::New => " -m conntrack --ctstate NEW".to_owned(),
        }
    }

    fn nft(&self) -> String {
        match self {
            Self::From(prefix) => format!("ip saddr {prefix} "),
            Self::To(prefix) => format!("ip daddr {prefix} "),
            Self::By(name) => format!("iifname \"{}\" ", name.replace('+', "*")),
            Self::Ports(protocol, low, high) if low == high => format!("{protocol} dport {low} "),
            Self::Ports(protocol, low, high) => format!("{protocol} dport {low}-{high} "),
            Self::Protocol(protocol) => format!("meta l4proto {protocol} "),
            Self::Known => "ct state established,related ".to_owned(),
            Self::New => "ct state new ".to_owned(),
        }
    }
}

impl Target {
    fn called(self) -> Option<&'static str> {
        match self {
            T::Jump(chain) | T::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

impl Line {
    fn iptables(&self) -> String {
        let asks: String = self.asks.iter().map(Ask::iptables).collect();
        let target = match self.target {
            T::Accept => "-j ACCEPT".to_owned(),
            T::Drop => "-j DROP".to_owned(),
            T::Reject => "-j REJECT".to_owned(),
            T::Return => "-j RETURN".to_owned(),
            T::Jump(chain) => format!("-j {chain}"),
            T::Goto(chain) => format!("-g {chain}"),
        };
        format!("-A {}{asks} {target}\n", self.chain)
    }

    fn nft(&self) -> String {
        let asks: String = self.asks.iter().map(Ask::nft).collect();
        let target = match self.target {
            T::Accept => "accept".to_owned(),
            T::Drop => "drop".to_owned(),
            T::Reject => "reject".to_owned(),
            T::Return => "return".to_owned(),
            T::Jump(chain) => format!("jump {chain}"),
            T::Goto(chain) => format!("goto {chain}"),
        };
        format!("add rule ip filter {} {asks}counter {target}\n", self.chain)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialect {
    Legacy,
    XtablesNft,
    Nft,
}

const DIALECTS: [Dialect; 3] = [Dialect::Legacy, Dialect::XtablesNft, Dialect::Nft];

/// A filter table: its policy for forwarded packets, and rules in order.
#[derive(Clone, Debug)]
struct Rules {
    accepts: bool,
    lines: Vec<Line>,
}

impl Rules {
    fn firewall(&self, dialect: Dialect) -> Firewall {
        let mut firewall = Firewall::default();
        if dialect == Dialect::Nft {
            let policy = if self.accepts { "accept" } else { "drop" };
            firewall.nft = format!(
                "table ip filter {{\n}}\nadd chain ip filter FORWARD {{ type filter hook forward priority 0; policy {policy}; }}\n"
            );
            firewall.nft.extend(CHAINS[1..].iter().map(|chain| format!("add chain ip filter {chain}\n")));
            firewall.nft.extend(self.lines.iter().map(Line::nft));
            return firewall;
        }
        let policy = if self.accepts { "ACCEPT" } else { "DROP" };
        let mut text = format!("*filter\n:FORWARD {policy} [0:0]\n");
        text.extend(CHAINS[1..].iter().map(|chain| format!(":{chain} - [0:0]\n")));
        text.extend(self.lines.iter().map(Line::iptables));
        text += "COMMIT\n";
        match dialect {
            Dialect::Legacy => firewall.legacy[0] = text,
            _ => firewall.xtables_nft[0] = text,
        }
        firewall
    }

    /// Which of the lines a place of the listed ruleset is.
    fn line(&self, snapshot: &Snapshot, place: RuleRef) -> usize {
        let name = &snapshot.ruleset.tables[place.table].chains[place.chain].name;
        let of_chain = self.lines.iter().enumerate().filter(|(_, line)| **name == *line.chain);
        of_chain.map(|(at, _)| at).nth(place.rule).expect("every rule listed was written")
    }

    /// Only the lines in `kept`, and the jumps that lead to their chains.
    fn only(&self, kept: &BTreeSet<usize>) -> (Self, Vec<usize>) {
        let mut chains: BTreeSet<&str> = kept.iter().map(|at| self.lines[*at].chain).collect();
        for _ in CHAINS {
            let calls = |line: &&Line| line.target.called().is_some_and(|called| chains.contains(called));
            let callers: Vec<&str> = self.lines.iter().filter(calls).map(|line| line.chain).collect();
            chains.extend(callers);
        }
        let stays = |at: &usize| {
            kept.contains(at) || self.lines[*at].target.called().is_some_and(|called| chains.contains(called))
        };
        let stays: Vec<usize> = (0..self.lines.len()).filter(stays).collect();
        let lines = stays.iter().map(|at| self.lines[*at].clone()).collect();
        (Self { accepts: false, lines }, stays)
    }
}

/// A ruleset in the kernel, and packets for it.
struct Bench {
    lab: Lab,
    dialect: Dialect,
    empty: SnapshotFiles,
    loaded: Firewall,
    shots: Vec<Shot>,
    port: u16,
}

impl Bench {
    /// With `rules` loaded; also what the library reads of them.
    fn start(dialect: Dialect, rules: &Rules) -> (Self, Listings) {
        let lab = Lab::build().expect("a lab");
        let empty = firewall::list().expect("the empty namespace is listed");
        let loaded = rules.firewall(dialect);
        loaded.load().expect("the rules load");
        let listings = Listings::read(loaded.list_onto(&empty).expect("the rules are listed"));
        let mut shots = Vec::new();
        for (own, src) in HOSTS.into_iter().chain(NEIGHBOURS) {
            for (_, dst) in HOSTS.into_iter().filter(|(_, dst)| *dst != src) {
                let by_all = DEVICES.map(|iif| (iif, Protocol::TCP, 22));
                for (iif, protocol, port) in
                    by_all.into_iter().chain([(own, Protocol::TCP, 80), (own, Protocol::UDP, 22)])
                {
                    let mut one = shot(Direction::Forward, protocol, src, dst, 0, port);
                    one.packet.iif = Some(iif.into());
                    shots.push(one);
                }
            }
        }
        let mut bench = Self { lab, dialect, empty, loaded, shots, port: 1_000 };
        bench.lab.open_eyes().expect("the probe loads");
        (bench, listings)
    }

    fn listings(&self) -> Listings {
        Listings::read(self.loaded.list_onto(&self.empty).expect("the rules are listed"))
    }

    fn load(&mut self, rules: &Rules) {
        let next = rules.firewall(self.dialect);
        next.replace(&self.loaded).unwrap_or_else(|error| panic!("{error}\n{}", next.describe()));
        self.loaded = next;
    }

    /// Sends some of the packets, each as a connection of its own; which passed.
    fn send(&mut self, which: &[usize]) -> Vec<bool> {
        let mut passed = Vec::with_capacity(which.len());
        for at in which {
            self.port = if self.port == u16::MAX { 1_000 } else { self.port + 1 };
            let mut one = self.shots[*at].clone();
            one.packet.sport = Some(self.port);
            passed.push(self.lab.shoot(&one).expect("the probe works").passed());
        }
        passed
    }

    fn send_all(&mut self) -> Vec<bool> {
        let all: Vec<usize> = (0..self.shots.len()).collect();
        self.send(&all)
    }

    /// What the rules loaded have counted, in the order of `rules`.
    fn counted(&self, rules: &Rules) -> Vec<u64> {
        let listed = self.listings();
        let mut by_chain: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for chain in listed.snapshot().ruleset.tables.iter().flat_map(|table| &table.chains) {
            let counts = chain.rules.iter().map(|rule| rule.counters.expect("every rule counts").packets);
            by_chain.entry(&chain.name).or_default().extend(counts);
        }
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut count = |line: &Line| {
            let at = seen.entry(line.chain).or_default();
            *at += 1;
            by_chain[line.chain][*at - 1]
        };
        rules.lines.iter().map(&mut count).collect()
    }
}

/// What was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Shown {
    covered: usize,
    not_sent: usize,
    impossible: usize,
    redundant: usize,
    packets: usize,
    /// Rules of whose packets none was among those sent.
    unseen: usize,
}

/// Shows it for every finding about `rules`; what each idle rule's causes are, by lines.
fn show(dialect: Dialect, rules: &Rules, shown: &mut Shown) -> Vec<(usize, Fault, Vec<usize>)> {
    let (mut bench, listings) = Bench::start(dialect, rules);
    let snapshot = listings.snapshot();
    let found = idle(snapshot);
    assert!(found.unjudged.is_empty(), "{:?}", found.unjudged);
    let whole = bench.send_all();
    let counted = bench.counted(rules);
    let mut told = Vec::new();
    for one in &found.rules {
        let idle = rules.line(snapshot, one.place);
        assert_eq!(counted[idle], 0, "line {idle} is called idle\n{}", bench.loaded.describe());
        let causes: Vec<usize> = one.causes.iter().map(|cause| rules.line(snapshot, cause.place)).collect();
        match one.fault {
            Fault::NeverAsked => never_sent(&mut bench, rules, idle, &causes, shown),
            _ => taken(&mut bench, rules, idle, &causes, shown),
        }
        told.push((idle, one.fault, causes));
    }
    for one in &found.redundant {
        again(&mut bench, rules, snapshot, one, (&whole, &counted), shown);
    }
    told
}

/// The packets that line `idle` takes when nothing but jumps is in front of it.
fn asked_for(bench: &mut Bench, rules: &Rules, idle: usize) -> Vec<usize> {
    let mut alone = rules.clone();
    alone.lines[idle].target = T::Accept;
    let (alone, _) = alone.only(&BTreeSet::from([idle]));
    bench.load(&alone);
    let passed = bench.send_all();
    passed.iter().enumerate().filter(|(_, passed)| **passed).map(|(at, _)| at).collect()
}

/// The causes take every packet that line `idle` asks for.
fn taken(bench: &mut Bench, rules: &Rules, idle: usize, causes: &[usize], shown: &mut Shown) {
    let covered = asked_for(bench, rules, idle);
    // none of those sent belongs to a known connection
    let known = |line: &Line| line.asks.iter().any(|ask| matches!(ask, Ask::Known));
    let behind_known = rules.lines.iter().any(|line| line.target.called().is_some() && known(line));
    shown.unseen += usize::from(covered.is_empty() && !known(&rules.lines[idle]) && !behind_known);
    let kept: BTreeSet<usize> = causes.iter().copied().chain([idle]).collect();
    let (few, stays) = rules.only(&kept);
    bench.load(&few);
    bench.send(&covered);
    let counted = bench.counted(&few);
    let dialect = bench.dialect;
    let describe = || format!("line {idle}, causes {causes:?}: {counted:?}\n{}", rules.firewall(dialect).describe());
    let of = |line: usize| counted[stays.iter().position(|stayed| *stayed == line).expect("it was kept")];
    assert_eq!(of(idle), 0, "its causes let a packet through to it: {}", describe());
    assert!(!causes.is_empty(), "covered by nobody: {}", describe());
    let sum: u64 = causes.iter().map(|cause| of(*cause)).sum();
    // a packet may leave a chain that is called twice by the same rule twice
    let exactly = |cause: &usize| matches!(rules.lines[*cause].target, T::Accept | T::Drop | T::Reject);
    let exactly = causes.iter().all(exactly);
    let sent = covered.len() as u64;
    assert!(sum == sent || (!exactly && sum > sent), "{sum} of {sent} packets taken: {}", describe());
    let partless = causes.iter().find(|cause| !covered.is_empty() && of(**cause) == 0);
    assert_eq!(partless, None, "it takes nothing: {}", describe());
    shown.covered += 1;
    shown.packets += covered.len();
}

/// No packet that line `idle` asks for comes to it through the rules that call its chain; through open ones it does.
fn never_sent(bench: &mut Bench, rules: &Rules, idle: usize, causes: &[usize], shown: &mut Shown) {
    let sent = asked_for(bench, rules, idle);
    assert!(sent.is_empty(), "line {idle}, {sent:?}\n{}", rules.firewall(bench.dialect).describe());
    let mut open = rules.clone();
    for line in open.lines.iter_mut().filter(|line| line.target.called().is_some()) {
        line.asks.clear();
    }
    let come = asked_for(bench, &open, idle).len();
    let describe = || format!("line {idle}, causes {causes:?}\n{}", rules.firewall(bench.dialect).describe());
    if causes.is_empty() {
        assert_eq!(come, 0, "a contradiction is met: {}", describe());
        shown.impossible += 1;
    } else {
        let call = |cause: &usize| rules.lines[*cause].target.called() == Some(rules.lines[idle].chain);
        assert!(causes.iter().all(call), "these do not call its chain: {}", describe());
        shown.unseen += usize::from(come == 0);
        shown.not_sent += 1;
        shown.packets += come;
    }
}

/// Without a redundant rule every verdict stays, and the rules named take its packets.
fn again(
    bench: &mut Bench,
    rules: &Rules,
    snapshot: &Snapshot,
    one: &IdleRule,
    (whole, counted): (&[bool], &[u64]),
    shown: &mut Shown,
) {
    let gone = rules.line(snapshot, one.place);
    let mut without = rules.clone();
    without.lines.remove(gone);
    bench.load(&without);
    let passed = bench.send_all();
    let describe = || format!("without line {gone}\n{}", rules.firewall(bench.dialect).describe());
    assert_eq!(passed, whole, "{}", describe());
    let mut now = bench.counted(&without);
    now.insert(gone, 0);
    let by: Vec<usize> = one.causes.iter().map(|cause| rules.line(snapshot, cause.place)).collect();
    let more: u64 = by.iter().map(|line| now[*line] - counted[*line]).sum();
    assert_eq!(more, counted[gone], "{by:?} take over: {counted:?}, {now:?} {}", describe());
    shown.redundant += 1;
    shown.packets += usize::try_from(more).expect("few");
    shown.unseen += usize::from(more == 0);
}

fn line(chain: &'static str, asks: &[Ask], target: Target) -> Line {
    Line { chain, asks: asks.to_vec(), target }
}

fn from(prefix: &str) -> Ask {
    Ask::From(prefix.to_owned())
}

fn to(prefix: &str) -> Ask {
    Ask::To(prefix.to_owned())
}

const SSH: Ask = Ask::Ports(Protocol::TCP, 22, 22);

/// What people do: with the causes that a person would name, by line.
fn by_hand() -> (Rules, Vec<(usize, Fault, Vec<usize>)>) {
    use Fault::{AcceptOverruled, DenyOverruled, NeverAsked, Shadowed};
    let lines = vec![
        /* 0 */ line("FORWARD", &[Ask::Known], T::Accept),
        /* 1 */ line("FORWARD", &[from("192.168.7.0/25"), SSH], T::Jump("web")),
        /* 2 */ line("FORWARD", &[from("10.0.1.0/25")], T::Accept),
        /* 3 */ line("FORWARD", &[from("10.0.1.128/25")], T::Drop),
        // two halves of it, and a contradiction of one of them
        /* 4 */
        line("FORWARD", &[from("10.0.1.0/24"), to("172.17.0.0/16")], T::Accept),
        /* 5 */ line("FORWARD", &[from("10.0.1.77/32")], T::Reject),
        // by what a called chain does with them
        /* 6 */
        line("FORWARD", &[from("192.168.7.77/32"), SSH, to("172.17.0.9/32")], T::Accept),
        /* 7 */ line("FORWARD", &[from("198.51.100.0/24")], T::Goto("deep")),
        /* 8 */ line("FORWARD", &[from("198.51.100.9/32"), to("10.0.1.0/24")], T::Accept),
        /* 9 */ line("FORWARD", &[from("203.0.113.7/32")], T::Drop),
        /* 10 */ line("FORWARD", &[from("203.0.113.0/24")], T::Drop),
        /* 11 */ line("FORWARD", &[from("10.65.0.2/32"), to("10.65.0.2/31")], T::Return),
        /* 12 */ line("FORWARD", &[Ask::Known, Ask::New], T::Accept),
        /* 13 */ line("web", &[to("172.17.0.0/16")], T::Drop),
        /* 14 */ line("web", &[Ask::Ports(Protocol::TCP, 80, 80)], T::Accept),
        /* 15 */ line("web", &[], T::Return),
        /* 16 */ line("web", &[to("10.0.1.76/32")], T::Accept),
        /* 17 */ line("deep", &[Ask::Protocol(Protocol::TCP)], T::Drop),
        /* 18 */ line("deep", &[Ask::Ports(Protocol::TCP, 80, 90)], T::Reject),
    ];
    let causes = vec![
        (4, AcceptOverruled, vec![2, 3]),
        (5, DenyOverruled, vec![2]),
        (6, AcceptOverruled, vec![13]),
        (8, Shadowed, vec![7]),
        (12, NeverAsked, vec![]),
        (14, NeverAsked, vec![1]),
        (16, Shadowed, vec![15]),
        (18, Shadowed, vec![17]),
    ];
    (Rules { accepts: false, lines }, causes)
}

#[test]
fn the_rules_named_as_causes_take_the_packets() {
    let (rules, expected) = by_hand();
    for dialect in DIALECTS {
        in_namespace("causes by hand", || {
            let mut shown = Shown::default();
            let mut told = show(dialect, &rules, &mut shown);
            told.sort_by_key(|(idle, _, _)| *idle);
            assert_eq!(told, expected, "{dialect:?}");
            let expected = Shown { covered: 6, not_sent: 1, impossible: 1, redundant: 1, ..shown };
            assert_eq!((shown, shown.unseen), (expected, 0));
            println!("causes by hand, {dialect:?}: {shown:?}");
        });
    }
}

/// Rules about some of the hosts, with every target.
fn drawn(rng: &mut Rng) -> Rules {
    let mut lines = Vec::new();
    for (chain, count) in [("FORWARD", 12), ("web", 6), ("deep", 4)] {
        for _ in 0..count {
            let end = |rng: &mut Rng| {
                let (_, address) = rng.choice(HOSTS).expect("one");
                format!("{address}/{}", rng.choice([8, 16, 24, 24, 32, 32]).expect("one"))
            };
            let mut asks = Vec::new();
            if rng.u8(0..3) > 0 {
                asks.push(Ask::From(end(rng)));
            }
            if rng.u8(0..3) == 0 {
                asks.push(Ask::To(end(rng)));
            }
            match rng.u8(0..9) {
                0 => asks.push(Ask::By(rng.choice(["ens5", "eth1", "cali+"]).expect("one"))),
                1..4 => asks.push(SSH),
                4 => asks.push(Ask::Ports(Protocol::TCP, 80, 1024)),
                5 => asks.push(Ask::Protocol(rng.choice([Protocol::TCP, Protocol::UDP]).expect("one"))),
                6 if rng.bool() => asks.push(Ask::Known),
                _ => {}
            }
            let mut targets = vec![T::Accept, T::Accept, T::Drop, T::Drop, T::Reject, T::Return];
            match chain {
                "FORWARD" => targets.extend([T::Jump("web"), T::Jump("deep"), T::Goto("deep")]),
                "web" => targets.extend([T::Jump("deep"), T::Return]),
                _ => {}
            }
            lines.push(Line { chain, asks, target: rng.choice(targets).expect("one") });
        }
        // what was asked for narrowly is asked for more widely later
        for _ in 0..2 {
            let mut wider = lines[lines.len() - 1 - rng.usize(..count)].clone();
            wider.asks.pop();
            lines.push(wider);
        }
    }
    Rules { accepts: rng.bool(), lines }
}

#[test]
fn the_rules_named_as_causes_take_the_packets_of_random_rules() {
    let mut all = Shown::default();
    for seed in 0..18 {
        let rules = drawn(&mut Rng::with_seed(seed));
        let dialect = DIALECTS[usize::try_from(seed).expect("small") % 3];
        in_namespace("causes", || {
            show(dialect, &rules, &mut all);
        });
    }
    println!("causes of random rules: {all:?}");
    if all != Shown::default() {
        let Shown { covered, not_sent, redundant, packets, unseen, .. } = all;
        assert!(covered > 60 && not_sent > 10 && redundant > 10 && packets > 10_000, "{all:?}");
        assert!(unseen * 20 < covered, "nearly all are seen: {all:?}");
    }
}
