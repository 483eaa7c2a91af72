//! Address sets built from intervals, and read back as prefixes, intervals and sizes.

use fastrand::Rng;
use hepguard::packet::{Family, Prefix};
use hepguard::ruleset::{Interval, interface_number};
use hepguard::space::cover::cover;
use hepguard::space::describe::{intervals, prefixes, size};
use hepguard::space::ranges::{gaps, joined};
use hepguard::space::{Bdd, Dimension, Interfaces, Layout, Order, Set};

fn layout(family: Family) -> Layout {
    Layout::new(family, Order::Host, Interfaces::new(&[], []))
}

fn random_intervals(rng: &mut Rng, family: Family, count: usize) -> Vec<Interval> {
    let width = if family == Family::Ipv4 { 32 } else { 128 };
    let number = |rng: &mut Rng| rng.u128(..) >> (128 - width);
    let interval = |rng: &mut Rng| {
        let low = number(rng);
        let span = rng.u128(..) >> rng.u32(96..128);
        let most = if width == 32 { u128::from(u32::MAX) } else { u128::MAX };
        Interval { low, high: low.saturating_add(span).min(most) }
    };
    (0..count).map(|_| interval(rng)).collect()
}

#[test]
fn intervals_become_sets_and_come_back() {
    for (family, dimension) in [(Family::Ipv4, Dimension::Source), (Family::Ipv6, Dimension::Destination)] {
        let layout = layout(family);
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let mut bdd = Bdd::new(Bdd::BUDGET);
            let all = joined(random_intervals(&mut rng, family, 40));
            let bits = layout.bits(&mut bdd, dimension).expect("room");
            let set = bdd.within(&bits, &all).expect("room");
            let (found, cut) = intervals(&bdd, &layout, set, dimension, 100_000);
            assert_eq!((found, cut), (all.clone(), false), "{family} seed {seed}");
            // one at a time gives the same diagram
            let one_by_one = all.iter().map(|one| bdd.within(&bits, &[*one]).expect("room")).collect::<Vec<_>>();
            assert_eq!(bdd.union(one_by_one), Ok(set));
            let width = if family == Family::Ipv4 { 32 } else { 128 };
            let rest = bdd.within(&bits, &gaps(&all, width)).expect("room");
            assert_eq!(rest, !set);
            if family == Family::Ipv4 {
                let count: u128 = all.iter().map(|one| one.high - one.low + 1).sum();
                assert_eq!(size(&bdd, &layout, set, dimension), count as f64);
            }
        }
    }
}

/// The fewest prefixes for an interval: always the largest aligned block that still fits.
fn greedy(interval: Interval, width: u32) -> u128 {
    let (mut low, mut count) = (interval.low, 0);
    loop {
        let aligned = if low == 0 { width } else { low.trailing_zeros().min(width) };
        let fits = (0..=aligned).rev().find(|free| {
            let span = if *free >= 128 { u128::MAX } else { (1u128 << free) - 1 };
            low.checked_add(span).is_some_and(|end| end <= interval.high)
        });
        let free = fits.expect("one address always fits");
        count += 1;
        match low.checked_add(1u128 << free) {
            Some(next) if next <= interval.high => low = next,
            _ => return count,
        }
    }
}

#[test]
fn prefixes_are_exact_and_as_few_as_there_are() {
    let layout = layout(Family::Ipv4);
    for seed in 0..30 {
        let mut rng = Rng::with_seed(seed);
        let mut bdd = Bdd::new(Bdd::BUDGET);
        let all = joined(random_intervals(&mut rng, Family::Ipv4, 12));
        let bits = layout.bits(&mut bdd, Dimension::Source).expect("room");
        let set = bdd.within(&bits, &all).expect("room");
        let listing = prefixes(&bdd, &layout, (set, set), Dimension::Source, 100_000);
        let again = joined(
            listing
                .items
                .iter()
                .map(|prefix: &Prefix| Interval { low: prefix.range().0, high: prefix.range().1 })
                .collect(),
        );
        assert_eq!(again, all, "exact");
        // blocks of different intervals never join: each interval's fewest are the whole's fewest
        assert_eq!(listing.total, all.iter().map(|one| greedy(*one, 32)).sum::<u128>(), "seed {seed}");
        let cut = prefixes(&bdd, &layout, (set, set), Dimension::Source, 5);
        assert_eq!((cut.items.len(), cut.total), (5, listing.total), "cut lists know how many there are");
    }
}

#[test]
fn addresses_nobody_asks_about_save_prefixes() {
    // all of 10/8 but .5: with .5 out of the question, one prefix
    let layout = layout(Family::Ipv4);
    let mut bdd = Bdd::new(Bdd::BUDGET);
    let bits = layout.bits(&mut bdd, Dimension::Source).expect("room");
    let ten = bdd.within(&bits, &[Interval { low: 0x0a00_0000, high: 0x0aff_ffff }]).expect("room");
    let five = bdd.equal(&bits, 0x0a00_0005).expect("room");
    let must = bdd.minus(ten, five).expect("room");
    let exact = prefixes(&bdd, &layout, (must, must), Dimension::Source, 100);
    let loose = prefixes(&bdd, &layout, (must, ten), Dimension::Source, 100);
    assert_eq!((exact.total, loose.total), (24, 1));
    assert_eq!(loose.items.first().map(Prefix::to_string).as_deref(), Some("10.0.0.0/8"));
    assert_eq!(prefixes(&bdd, &layout, (Set::NONE, ten), Dimension::Source, 100).total, 0);
}

#[test]
fn masks_with_holes_are_exact() {
    // 10.0.0.1/255.0.0.255: every host called .1 in 10/8
    let layout = layout(Family::Ipv4);
    let mut bdd = Bdd::new(Bdd::BUDGET);
    let bits = layout.bits(&mut bdd, Dimension::Source).expect("room");
    let mask = 0xff00_00ffu32;
    let masked: Vec<Set> = (0..32).map(|at| if mask >> (31 - at) & 1 == 1 { bits[at] } else { Set::NONE }).collect();
    let set = bdd.equal(&masked, 0x0a00_0001).expect("room");
    let listing = prefixes(&bdd, &layout, (set, set), Dimension::Source, 3);
    assert_eq!((listing.items[1].to_string().as_str(), listing.total), ("10.0.1.1/32", 65_536));
    let end = size(&bdd, &layout, set, Dimension::Source);
    assert_eq!(end, 65_536.0);
}

#[test]
fn large_sets_make_no_node_they_do_not_need() {
    for (family, count) in [(Family::Ipv4, 100_000usize), (Family::Ipv6, 10_000)] {
        let mut rng = Rng::with_seed(9);
        let width = if family == Family::Ipv4 { 32 } else { 128 };
        let members = (0..count).map(|_| Interval::single(rng.u128(..) >> (128 - width))).collect();
        let members = joined(members);
        let layout = layout(family);
        let mut bdd = Bdd::new(Bdd::BUDGET);
        let bits = layout.bits(&mut bdd, Dimension::Source).expect("room");
        let set = bdd.within(&bits, &members).expect("room");
        // every member has its own path below the place where it parts from its neighbours
        let most = count * (width as usize - count.ilog2() as usize + 3);
        assert!(bdd.nodes() < most, "{family}: {} nodes", bdd.nodes());
        let (first, _) = layout.place(Dimension::Source);
        for number in members.iter().step_by(997).flat_map(|member| [member.low, member.low ^ 1, member.high ^ 1 << 9])
        {
            let held = bdd.contains(set, |variable| number >> (width - 1 - u32::from(variable - first)) & 1 == 1);
            assert_eq!(held, members.iter().any(|member| member.contains(number)), "{family} {number:x}");
        }
    }
}

#[test]
fn interfaces_that_no_rule_tells_apart_are_one_class() {
    let number = |name: &str| interface_number(name.as_bytes());
    let cali = Interval { low: number("cali"), high: number("cali") | ((1 << 96) - 1) };
    let docker = Interval::single(number("docker0"));
    let known = [number("ens5"), number("cali12"), number("lo")];
    let classes = Interfaces::new(&known, [cali, docker]);
    let names: Vec<u128> = classes.names().to_vec();
    assert_eq!(names.iter().filter(|name| cali.contains(**name)).count(), 2, "cali12 and any other cali");
    assert!(names.contains(&docker.low));
    assert!(names.iter().any(|name| !cali.contains(*name) && !known.contains(name) && *name != docker.low));
    for (at, name) in names.iter().enumerate() {
        assert_eq!(classes.is_known(at), known.contains(name));
        let bytes = name.to_be_bytes();
        let text: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != 0).collect();
        assert!((1..=15).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic), "{text:?}");
    }
    let lonely = Interfaces::new(&[], []);
    assert_eq!(lonely.names().len(), 1, "all names are one class");
}

#[test]
fn products_hold_a_set_and_none_of_them_can_be_left_out() {
    let layout = layout(Family::Ipv4);
    let mut rng = Rng::with_seed(11);
    for _ in 0..200 {
        let mut bdd = Bdd::new(Bdd::BUDGET);
        let mut product = |bdd: &mut Bdd| {
            [Dimension::Source, Dimension::DestinationPort, Dimension::Protocol].into_iter().fold(
                Set::ALL,
                |all, one| {
                    let bits = layout.bits(bdd, one).expect("room");
                    let low = rng.u128(..60);
                    let within = bdd.within(&bits, &[Interval { low, high: low + rng.u128(..40) }]).expect("room");
                    bdd.and(all, within).expect("room")
                },
            )
        };
        let (sets, more): (Vec<Set>, Vec<Set>) = (0..5).map(|_| (product(&mut bdd), product(&mut bdd))).unzip();
        let must = bdd.union(sets).expect("room");
        let more = bdd.union(more).expect("room");
        let may = bdd.or(must, more).expect("room");
        let found = cover(&mut bdd, &layout, (must, may), 1000).expect("room");
        let products: Vec<Set> = found.products.iter().map(|product| product.set).collect();
        let all = bdd.union(products.clone()).expect("room");
        assert!(bdd.is_subset(must, all).expect("room") && bdd.is_subset(all, may).expect("room"));
        for left_out in 0..products.len() {
            let others = products.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, set)| *set);
            let others = bdd.union(others).expect("room");
            assert!(!bdd.is_subset(must, others).expect("room"), "product {left_out} is needless");
        }
    }
}
