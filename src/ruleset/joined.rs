//! Unequal tests of neighbouring header fields, which nft may have joined into one comparison.
//!
//! Before 1.1.0 nft loads `tcp sport != 1 tcp dport != 2` as one comparison of four bytes, which holds unless *both* are
//! equal, and lists it as the two tests it is not; iptables-nft 1.8.8 to 1.8.10 does the same with `! --sport 1 ! --dport 2`.
//! Who loaded a rule cannot be seen in a listing. Where the kernel was asked ([`KernelChain::unequal`]) it is known what the
//! rule compares; else such tests hold where both readings hold, and where only one does it is *undecided*.
//!
//! Equal tests are joined too, which changes nothing.

use super::kernel::{KernelChain, KernelTables, KernelUnequal};
use super::nft_words::place::{Place, place_of};
use super::{Backend, Elements, Expr, Field, Match, OpaqueKind, Operator, PayloadBase, Rule, SetRef, Step, Table};

/// Bytes that are one register of the kernel: no comparison is longer.
const REGISTER: u32 = 16;

/// Bytes the kernel compares fast; nft joins no network or transport fields to more (since 0.9.1).
const FAST: u32 = 4;

/// Some whole bytes of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bytes {
    base: PayloadBase,
    /// First byte behind the start of the header.
    offset: u32,
    /// Number of bytes.
    length: u32,
}

impl Bytes {
    fn of_bits(base: PayloadBase, offset: u32, length: u32) -> Option<Self> {
        (offset.is_multiple_of(8) && length.is_multiple_of(8) && length > 0).then_some(Self {
            base,
            offset: offset / 8,
            length: length / 8,
        })
    }

    fn end(self) -> u32 {
        self.offset.saturating_add(self.length)
    }

    fn is_followed_by(self, next: Self) -> bool {
        self.base == next.base && self.end() == next.offset
    }

    /// Whether some nft in use (0.9.1 and later) may have joined the two.
    fn may_join(self, next: Self) -> bool {
        let total = self.length + next.length;
        let fits = total <= FAST || self.base == PayloadBase::Link || self.length > FAST || next.length > FAST;
        self.is_followed_by(next) && total <= REGISTER && fits
    }
}

/// A condition that some bytes are not equal to something, and where in its rule it stands.
#[derive(Clone, Copy, Debug)]
struct Test {
    step: usize,
    bytes: Bytes,
}

/// Replaces tests that were joined, or may have been, in every table of nf_tables.
pub fn settle(tables: &mut [Table], kernel: Option<&KernelTables>) {
    for table in tables.iter_mut().filter(|table| table.backend != Backend::IptablesLegacy) {
        let told = kernel.and_then(|kernel| kernel.table(table.family, &table.name));
        let by_iptables = table.backend != Backend::Nft;
        for chain in &mut table.chains {
            let told = told.and_then(|table| table.chains.iter().find(|told| told.name == *chain.name));
            let told = told.filter(|told| told.rules == chain.rules.len());
            for (index, rule) in chain.rules.iter_mut().enumerate() {
                settle_rule(rule, by_iptables, told.and_then(|chain| unequal_of(chain, index)));
            }
        }
    }
}

/// What rule `index` compares according to the kernel; `None` when that was not asked.
fn unequal_of(chain: &KernelChain, index: usize) -> Option<&[KernelUnequal]> {
    let all = chain.unequal.as_deref()?;
    let start = all.partition_point(|one| one.rule <= index);
    let end = all.partition_point(|one| one.rule <= index + 1);
    all.get(start..end)
}

fn settle_rule(rule: &mut Rule, by_iptables: bool, told: Option<&[KernelUnequal]>) {
    let tests: Vec<Test> = rule
        .steps
        .iter()
        .enumerate()
        .filter_map(|(step, content)| match content {
            Step::Match(condition) => Some(Test { step, bytes: unequal_bytes(condition)? }),
            _ => None,
        })
        .collect();
    if tests.len() < 2 {
        return;
    }
    let known = told.and_then(|told| joined_by(&tests, told));
    let certain = known.is_some();
    let runs = known.unwrap_or_else(|| runs(rule, &tests, by_iptables));
    // from behind, so that the places of those before stay right
    for (first, last) in runs.into_iter().rev() {
        join(rule, first, last, certain);
    }
}

/// Runs of steps, first and last, that the kernel compares at once; `None` where what it told does not fit the rule.
fn joined_by(tests: &[Test], told: &[KernelUnequal]) -> Option<Vec<(usize, usize)>> {
    let mut runs = Vec::new();
    let mut left = tests;
    for one in told {
        let whole = Bytes { base: base_of(&one.header)?, offset: one.offset, length: one.length };
        // what is no part of the packet (`meta protocol`) is a test, but no load
        let first = left.iter().position(|test| test.bytes.base == whole.base && test.bytes.offset == whole.offset)?;
        let mut last = first;
        while left.get(last)?.bytes.end() < whole.end() {
            let next = left.get(last + 1)?;
            let is_next = left.get(last)?.bytes.is_followed_by(next.bytes) && next.step == left.get(last)?.step + 1;
            last = is_next.then_some(last + 1)?;
        }
        if left.get(last)?.bytes.end() != whole.end() {
            return None;
        }
        if last > first {
            runs.push((left.get(first)?.step, left.get(last)?.step));
        }
        left = left.get(last + 1..)?;
    }
    Some(runs)
}

/// The name of a header in [`KernelUnequal::header`].
fn base_of(name: &str) -> Option<PayloadBase> {
    match name {
        "link" => Some(PayloadBase::Link),
        "network" => Some(PayloadBase::Network),
        "transport" => Some(PayloadBase::Transport),
        "inner" => Some(PayloadBase::Inner),
        _ => None,
    }
}

/// Runs of steps, first and last, that may have been joined. Whichever of a run were, all of them unequal is enough for the
/// rule to go on, and none of them unequal is enough to end it.
fn runs(rule: &Rule, tests: &[Test], by_iptables: bool) -> Vec<(usize, usize)> {
    let is_port = |bytes: Bytes| bytes.base == PayloadBase::Transport && bytes.length == 2 && bytes.offset < 4;
    if by_iptables && !asks_tcp_or_udp(rule) {
        return Vec::new();
    }
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for pair in tests.windows(2) {
        let [before, next] = pair else { continue };
        let may_join = before.bytes.may_join(next.bytes) && before.step + 1 == next.step;
        if !may_join || (by_iptables && !is_port(next.bytes)) {
            continue;
        }
        match runs.last_mut() {
            Some((_, last)) if *last == before.step => *last = next.step,
            _ => runs.push((before.step, next.step)),
        }
    }
    runs
}

/// iptables-nft joins the ports of these alone; other protocols' are asked by matches of x_tables.
fn asks_tcp_or_udp(rule: &Rule) -> bool {
    let of = |protocol| Step::Match(Match::equals(Field::L4proto, protocol));
    rule.steps.contains(&of(6)) || rule.steps.contains(&of(17))
}

/// Makes one condition of the steps from `first` to `last`.
fn join(rule: &mut Rule, first: usize, last: usize, certain: bool) {
    if rule.steps.len() <= last {
        return;
    }
    let tests: Vec<Match> = rule
        .steps
        .drain(first..=last)
        .filter_map(|step| match step {
            Step::Match(condition) => Some(condition),
            _ => None,
        })
        .collect();
    let any = Match::Any(tests.clone());
    let condition = if certain {
        any
    } else {
        let text = format!(
            "whether neighbouring != are compared each or at once in `{}` (nft before 1.1.0 and iptables-nft before 1.8.11 \
             join them and list them alike; nft-kernel.json of `hepguard snapshot` tells)",
            rule.text
        );
        let at_once = Match::Opaque { kind: OpaqueKind::Property, text: text.into() };
        Match::Any(vec![Match::All(tests), Match::All(vec![at_once, any])])
    };
    rule.steps.insert(first, Step::Match(condition));
}

/// Which whole bytes of the packet `condition` asks to be unequal to one value.
fn unequal_bytes(condition: &Match) -> Option<Bytes> {
    match condition {
        Match::Compare { left, operator: Operator::Ne, right: Expr::Number(_) } => bytes_of(left),
        Match::Lookup { left, negate: true, set: SetRef::Anonymous(elements) } => {
            let whole = bytes_of(left)?;
            Some(Bytes { length: prefix_length(elements, whole.length)?, ..whole })
        }
        _ => None,
    }
}

/// How many bytes at the front the one network written in a rule fixes; `None` where it is none of whole bytes.
fn prefix_length(elements: &Elements, length: u32) -> Option<u32> {
    let mut keys = elements.keys();
    let (Some([only]), None, None) = (keys.next(), keys.next(), elements.catch_all()) else { return None };
    let free = only.low ^ only.high;
    let bits = free.count_ones();
    let is_prefix = bits == free.trailing_ones() && only.low.trailing_zeros() >= bits;
    // one value in a set is looked up, not compared
    (is_prefix && bits > 0 && bits.is_multiple_of(8) && bits < 8 * length).then(|| length - bits / 8)
}

fn bytes_of(expr: &Expr) -> Option<Bytes> {
    use PayloadBase::{Link, Network, Transport};
    let (base, offset, length) = match expr {
        Expr::Payload { base, offset, length } => return Bytes::of_bits(*base, *offset, *length),
        Expr::Field(field) => match field {
            Field::EtherDaddr => (Link, 0, 6),
            Field::EtherSaddr => (Link, 6, 6),
            Field::EtherType => (Link, 12, 2),
            Field::Ip4Length => (Network, 2, 2),
            Field::Ip4Id => (Network, 4, 2),
            Field::Ip4FragOff => (Network, 6, 2),
            Field::Ip4Ttl => (Network, 8, 1),
            Field::Ip4Protocol => (Network, 9, 1),
            Field::Ip4Saddr => (Network, 12, 4),
            Field::Ip4Daddr => (Network, 16, 4),
            Field::Ip6Length => (Network, 4, 2),
            Field::Ip6Nexthdr => (Network, 6, 1),
            Field::Ip6Hoplimit => (Network, 7, 1),
            Field::Ip6Saddr => (Network, 8, 16),
            Field::Ip6Daddr => (Network, 24, 16),
            Field::Sport => (Transport, 0, 2),
            Field::Dport => (Transport, 2, 2),
            Field::TcpFlags => (Transport, 13, 1),
            Field::IcmpType | Field::Icmp6Type => (Transport, 0, 1),
            Field::IcmpCode | Field::Icmp6Code => (Transport, 1, 1),
            other => match place_of(other)? {
                Place::Header(base, offset, length) => return Bytes::of_bits(base, offset, length),
                _ => return None,
            },
        },
        _ => return None,
    };
    Some(Bytes { base, offset, length })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::kernel::KernelTable;
    use super::super::readers::{iptables_save, nft_json};
    use super::*;
    use crate::packet::Family;

    /// How the steps of `expr` read once settled; `told` are header, offset and length.
    fn settled(expr: &str, told: Option<&[(&str, u32, u32)]>) -> String {
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6", "json_schema_version": 1}}}},
            {{"table": {{"family": "ip", "name": "t", "handle": 1}}}},
            {{"chain": {{"family": "ip", "table": "t", "name": "c", "handle": 1}}}},
            {{"rule": {{"family": "ip", "table": "t", "chain": "c", "handle": 2, "expr": []}}}},
            {{"rule": {{"family": "ip", "table": "t", "chain": "c", "handle": 3, "expr": [{expr}]}}}}]}}"#
        );
        let mut tables = nft_json::read(&Arc::from("nft-ruleset.json"), text.as_bytes()).value;
        let kernel = told.map(|told| {
            let one = |(header, offset, length): &(&str, u32, u32)| KernelUnequal {
                rule: 2,
                header: (*header).to_owned(),
                offset: *offset,
                length: *length,
            };
            let unequal = Some(told.iter().map(one).collect());
            let chain = KernelChain { name: "c".to_owned(), rules: 2, unequal, base: None };
            let table = KernelTable { family: "ip".to_owned(), name: "t".to_owned(), ..KernelTable::default() };
            KernelTables { tables: vec![KernelTable { chains: vec![chain], ..table }], ..KernelTables::default() }
        });
        settle(&mut tables, kernel.as_ref());
        let steps = &tables[0].chains[0].rules[1].steps;
        let text = super::super::print::nft::steps(Family::Ipv4, steps);
        // the question is long
        text.split('`').next().unwrap_or_default().to_owned()
    }

    fn unequal(protocol: &str, field: &str, value: u32) -> String {
        format!(
            r#"{{"match": {{"op": "!=", "left": {{"payload": {{"protocol": "{protocol}", "field": "{field}"}}}},
            "right": {value}}}}}"#
        )
    }

    #[test]
    fn what_the_kernel_was_seen_to_compare_counts() {
        let ports = format!("{}, {}", unequal("tcp", "sport", 1), unequal("tcp", "dport", 2));
        assert_eq!(settled(&ports, Some(&[("transport", 0, 4)])), "meta l4proto tcp tcp sport != 1 or tcp dport != 2");
        let apart: &[_] = &[("transport", 0, 2), ("transport", 2, 2)];
        assert_eq!(settled(&ports, Some(apart)), "tcp sport != 1 tcp dport != 2");
        // what does not fit is not believed
        let misfits: [&[(&str, u32, u32)]; 4] =
            [&[("transport", 0, 3)], &[("transport", 4, 4)], &[("network", 0, 4)], &[("", 0, 4)]];
        for told in misfits {
            assert!(settled(&ports, Some(told)).contains("whether neighbouring"), "{told:?}");
        }
    }

    #[test]
    fn without_the_kernel_fields_that_nft_joins_are_in_doubt() {
        let is_doubtful = |tests: &[String]| settled(&tests.join(", "), None).contains("whether neighbouring");
        let field = |protocol: &str, field: &str| unequal(protocol, field, 3);
        assert!(is_doubtful(&[field("udp", "dport"), field("udp", "length")]));
        assert!(is_doubtful(&[field("ip", "ttl"), field("ip", "protocol")]));
        assert!(is_doubtful(&[field("icmp", "type"), field("icmp", "code")]));
        assert!(!is_doubtful(&[field("tcp", "dport"), field("tcp", "sport")]), "nft lists them in order");
        assert!(!is_doubtful(&[field("tcp", "dport"), field("tcp", "sequence")]), "more than four bytes");
        assert!(!is_doubtful(&[field("ip", "saddr"), field("ip", "daddr")]), "more than four bytes");
        assert!(!is_doubtful(&[field("ip", "ttl"), field("tcp", "sport")]), "two headers");
        let network = r#"{"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
            "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}"#;
        assert!(is_doubtful(&[field("ip", "checksum"), network.to_owned()]), "three bytes");
        let longer = network.replace(r#""len": 8"#, r#""len": 24"#);
        assert!(!is_doubtful(&[field("ip", "checksum"), longer]), "five bytes");
    }

    #[test]
    fn saved_rules_of_unknown_variant_are_in_doubt_and_those_of_x_tables_are_not() {
        let rule = "*filter\n:INPUT ACCEPT\n-A INPUT -p tcp -m tcp ! --sport 1 ! --dport 2 -j DROP\nCOMMIT\n";
        for (backend, doubtful) in
            [(Backend::IptablesLegacy, false), (Backend::Iptables, true), (Backend::IptablesNft, true)]
        {
            let source = Arc::from("saved.txt");
            let mut tables = iptables_save::read(&source, rule.as_bytes(), backend, Family::Ipv4).value;
            settle(&mut tables, None);
            let steps = &tables[0].chains[0].rules[0].steps;
            let asks = |step: &Step| matches!(step, Step::Match(Match::Any(_)));
            assert_eq!(steps.iter().any(asks), doubtful, "{backend:?}");
        }
    }
}
