//! Conditions of the model as `-m` options: the reader's table backwards.

use super::names;
use crate::packet::{Family, Protocol};
use crate::ruleset::readers::iptables_save::{addrtype, conntrack, matches as reader};
use crate::ruleset::{Expr, FibField, FibResult, Field, Interval, Match, Operator, SetDirection, SetRef};

/// Writes the conditions of one rule.
pub(super) struct Printer<'c> {
    family: Family,
    comments: &'c [Box<str>],
    out: String,
    /// Name of the last `-m`; empty before the first.
    module: &'static str,
    /// Options written since.
    used: Vec<&'static str>,
    /// Rank of the last basic condition.
    basic: u8,
    protocol: Option<Protocol>,
}

/// An option, what follows it, and whether `!` stands in front.
struct Words {
    module: &'static str,
    option: &'static str,
    negate: bool,
    value: String,
}

impl<'c> Printer<'c> {
    /// Nothing written yet.
    pub(super) fn new(family: Family, comments: &'c [Box<str>]) -> Self {
        let (out, used) = (String::new(), Vec::new());
        Self { family, comments, out, module: "", used, basic: 0, protocol: None }
    }

    /// What was written.
    pub(super) fn finish(self) -> String {
        self.out
    }

    /// The rule's comments, when they were not written yet.
    pub(super) fn comments(&mut self) {
        for comment in std::mem::take(&mut self.comments) {
            self.push(&format!("-m comment --comment {}", names::quoted(comment)));
            self.module = "comment";
        }
    }

    fn push(&mut self, words: &str) {
        if !self.out.is_empty() {
            self.out.push(' ');
        }
        self.out.push_str(words);
    }

    /// Writes a condition.
    pub(super) fn condition(&mut self, condition: &Match) -> Option<()> {
        if let Match::Opaque { text, .. } | Match::Xtables { text, .. } = condition {
            self.opaque(text);
            return Some(());
        }
        if let Some((rank, words)) = self.basic(condition)
            && self.basic < rank
            && self.module.is_empty()
        {
            self.basic = rank;
            self.push(&words);
            if let Match::Compare { left: Expr::Field(Field::L4proto), operator: Operator::Eq, right } = condition {
                self.protocol = number(right).and_then(|n| u8::try_from(n).ok()).map(Protocol);
            }
            return Some(());
        }
        self.comments();
        if let Some(others) = self.rest_of_conntrack(condition) {
            for one in others {
                let words = option_of_conntrack(&self.one(one), one)?;
                self.push(&words);
            }
            return Some(());
        }
        let words = self.one(condition)?;
        self.write(&words);
        Some(())
    }

    /// Writes text that stood in the rule as it is.
    pub(super) fn opaque(&mut self, text: &str) {
        // basic conditions that could not be read stay in front
        if !text.starts_with(['-', '!']) || text.starts_with("-m ") || text.starts_with("--") {
            self.comments();
            self.module = "opaque";
        }
        self.push(text);
    }

    fn write(&mut self, words: &Words) {
        let joins = matches!(words.module, "tcp" | "udp" | "udplite" | "sctp" | "dccp" | "iprange" | "ecn" | "owner");
        if !(joins && self.module == words.module && !self.used.contains(&words.option)) {
            self.push(&format!("-m {}", words.module));
            self.module = words.module;
            self.used.clear();
        }
        self.used.push(words.option);
        self.push(&words.text());
    }

    /// The second half of a match on state and more, whose first half was just written.
    fn rest_of_conntrack<'m>(&self, condition: &'m Match) -> Option<&'m [Match]> {
        let Match::Any(both) = condition else { return None };
        let [untracked, Match::All(others)] = &both[..] else { return None };
        let first = self.module == "conntrack" && self.used == ["ctstate"];
        (first && *untracked == conntrack::without_connection()).then_some(others)
    }

    /// `-s`, `-d`, `-i`, `-o`, `-p`, `-f` and their order.
    fn basic(&self, condition: &Match) -> Option<(u8, String)> {
        let bang = |negate: bool| if negate { "! " } else { "" };
        if let Some((field, interval, negate)) = one_interval(condition) {
            let (rank, option, value) = match field {
                Field::Ip4Saddr | Field::Ip6Saddr => (1, "-s", names::prefix(interval, self.width_of(field)?)?),
                Field::Ip4Daddr | Field::Ip6Daddr => (2, "-d", names::prefix(interval, self.width_of(field)?)?),
                Field::Iifname => (3, "-i", names::interface(interval)?),
                Field::Oifname => (4, "-o", names::interface(interval)?),
                Field::L4proto if interval.low == interval.high => {
                    (5, "-p", Protocol(u8::try_from(interval.low).ok().filter(|n| *n > 0)?).to_string())
                }
                _ => return None,
            };
            return Some((rank, format!("{}{option} {value}", bang(negate))));
        }
        // the tool takes no list behind !
        if let Match::Lookup { left: Expr::Field(field), negate: false, set: SetRef::Anonymous(elements) } = condition {
            let (rank, option) = match field {
                Field::Ip4Saddr | Field::Ip6Saddr => (1, "-s"),
                Field::Ip4Daddr | Field::Ip6Daddr => (2, "-d"),
                _ => return None,
            };
            let family = self.width_of(field)?;
            let list: Option<Vec<String>> = elements.keys().map(|key| names::prefix(*key.first()?, family)).collect();
            return Some((rank, format!("{option} {}", list?.join(","))));
        }
        let (field, mask, value, negate) = masked(condition)?;
        let option = match field {
            Field::Ip4FragOff if mask == 0x1fff && value == 0 => return Some((6, format!("{}-f", bang(!negate)))),
            Field::Ip4Saddr | Field::Ip6Saddr => (1, "-s"),
            Field::Ip4Daddr | Field::Ip6Daddr => (2, "-d"),
            _ => return None,
        };
        let family = self.width_of(field)?;
        let text = format!("{}/{}", names::address(value, family)?, names::address(mask, family)?);
        Some((option.0, format!("{}{} {text}", bang(negate), option.1)))
    }

    /// The printer's family, when the field is one of it.
    fn width_of(&self, field: &Field) -> Option<Family> {
        let ipv4 = matches!(
            field,
            Field::Ip4Saddr
                | Field::Ip4Daddr
                | Field::CtOrigSaddr4
                | Field::CtOrigDaddr4
                | Field::CtReplySaddr4
                | Field::CtReplyDaddr4
        );
        (ipv4 == (self.family == Family::Ipv4)).then_some(self.family)
    }

    fn one(&self, condition: &Match) -> Option<Words> {
        self.field(condition)
            .or_else(|| self.ports(condition))
            .or_else(|| self.by_mask(condition))
            .or_else(|| state(condition))
            .or_else(|| owner(condition))
            .or_else(|| icmp(condition))
            .or_else(|| ipset(condition))
            .or_else(|| self.route(condition))
    }

    /// The module `-p` stands for.
    fn transport(&self) -> Option<&'static str> {
        match self.protocol? {
            Protocol::TCP => Some("tcp"),
            Protocol::UDP => Some("udp"),
            Protocol::UDPLITE => Some("udplite"),
            Protocol::SCTP => Some("sctp"),
            Protocol::DCCP => Some("dccp"),
            _ => None,
        }
    }

    /// Conditions that a field has one value or lies in one interval.
    fn field(&self, condition: &Match) -> Option<Words> {
        if let Match::Compare { left: Expr::Field(field), operator, right } = condition
            && let Operator::Lt | Operator::Gt = operator
        {
            let less = *operator == Operator::Lt;
            let (module, option) = match (field, less) {
                (Field::Ip4Ttl, true) => ("ttl", "ttl-lt"),
                (Field::Ip4Ttl, false) => ("ttl", "ttl-gt"),
                (Field::Ip6Hoplimit, true) => ("hl", "hl-lt"),
                (Field::Ip6Hoplimit, false) => ("hl", "hl-gt"),
                _ => return None,
            };
            return Some(Words { module, option, negate: false, value: number(right)?.to_string() });
        }
        let (field, interval, negate) = one_interval(condition)?;
        let single = (interval.low == interval.high).then_some(interval.low);
        let looked_up = matches!(condition, Match::Lookup { .. });
        let (module, option, value) = match field {
            Field::Ip4Saddr | Field::Ip6Saddr => {
                ("iprange", "src-range", names::address_range(interval, self.width_of(field)?)?)
            }
            Field::Ip4Daddr | Field::Ip6Daddr => {
                ("iprange", "dst-range", names::address_range(interval, self.width_of(field)?)?)
            }
            // one port looked up in a set comes from multiport
            Field::Sport if single.is_none() || !looked_up => (self.transport()?, "sport", names::range(interval, ':')),
            Field::Dport if single.is_none() || !looked_up => (self.transport()?, "dport", names::range(interval, ':')),
            Field::IcmpType => ("icmp", "icmp-type", single?.to_string()),
            Field::Icmp6Type => ("icmp6", "icmpv6-type", single?.to_string()),
            Field::Mark => ("mark", "mark", format!("{:#x}", single?)),
            Field::CtMark => ("connmark", "mark", format!("{:#x}", single?)),
            Field::Ip4Ttl => ("ttl", "ttl-eq", single?.to_string()),
            Field::Ip6Hoplimit => ("hl", "hl-eq", single?.to_string()),
            Field::Dscp => ("dscp", "dscp", format!("{:#04x}", single?)),
            Field::Tos => ("tos", "tos", format!("{:#04x}/0xff", single?)),
            Field::Ecn => ("ecn", "ecn-ip-ect", single?.to_string()),
            Field::Length => ("length", "length", names::range(interval, ':')),
            Field::EtherSaddr => ("mac", "mac-source", names::mac(single?)),
            Field::Pkttype => {
                let words = ["unicast", "broadcast", "multicast", "otherhost"];
                ("pkttype", "pkt-type", (*words.get(usize::try_from(single?).ok()?)?).to_owned())
            }
            Field::Iifgroup => ("devgroup", "src-group", format!("{:#x}", single?)),
            Field::Oifgroup => ("devgroup", "dst-group", format!("{:#x}", single?)),
            Field::Skuid if !negate && (interval.low, interval.high) == (0, u32::MAX.into()) => {
                ("owner", "socket-exists", String::new())
            }
            Field::Skuid if !negate => ("owner", "uid-owner", names::range(interval, '-')),
            Field::Skgid if !negate => ("owner", "gid-owner", names::range(interval, '-')),
            _ => return self.connection(field, interval, negate),
        };
        Some(Words { module, option, negate, value })
    }

    /// Conditions on the connection's addresses and ports.
    fn connection(&self, field: &Field, interval: Interval, negate: bool) -> Option<Words> {
        let module = "conntrack";
        let single = (interval.low == interval.high).then_some(interval.low);
        if let Some((option, ..)) = conntrack::ADDRESSES.iter().find(|one| one.1 == *field || one.2 == *field) {
            return Some(Words { module, option, negate, value: names::prefix(interval, self.width_of(field)?)? });
        }
        if let Some((option, _)) = conntrack::PORTS.iter().find(|one| one.1 == *field) {
            return Some(Words { module, option, negate, value: names::range(interval, ':') });
        }
        if *field == Field::CtExpiration {
            return Some(Words { module, option: "ctexpire", negate, value: names::range(interval, ':') });
        }
        match (field, single?, negate) {
            (Field::CtOrigProto, protocol, _) => {
                Some(Words { module, option: "ctproto", negate, value: protocol.to_string() })
            }
            (Field::CtDirection, 0, false) => Some(Words { module, option: "ctdir", negate, value: "ORIGINAL".into() }),
            (Field::CtDirection, 1, false) => Some(Words { module, option: "ctdir", negate, value: "REPLY".into() }),
            _ => None,
        }
    }

    /// multiport.
    fn ports(&self, condition: &Match) -> Option<Words> {
        let (first, both) = match condition {
            Match::Any(both) | Match::All(both) => match &both[..] {
                [first, second] => (first, Some((second, matches!(condition, Match::All(_))))),
                _ => return None,
            },
            single => (single, None),
        };
        let Match::Lookup { left: Expr::Field(field), negate, set: SetRef::Anonymous(elements) } = first else {
            return None;
        };
        let option = match (field, both) {
            (Field::Sport, None) => "sports",
            (Field::Dport, None) => "dports",
            (Field::Sport, Some((second, all))) => {
                let twin = Match::Lookup {
                    left: Expr::Field(Field::Dport),
                    negate: *negate,
                    set: SetRef::Anonymous(elements.clone()),
                };
                if *second != twin || all != *negate {
                    return None;
                }
                "ports"
            }
            _ => return None,
        };
        let list: Option<Vec<String>> = elements.keys().map(|key| Some(names::range(*key.first()?, ':'))).collect();
        let list = list.filter(|list| !list.is_empty())?;
        self.transport()?;
        Some(Words { module: "multiport", option, negate: *negate, value: list.join(",") })
    }

    /// Conditions with a mask.
    fn by_mask(&self, condition: &Match) -> Option<Words> {
        let (field, mask, value, negate) = masked(condition)?;
        let (module, option, text) = match field {
            Field::Mark => ("mark", "mark", format!("{value:#x}/{mask:#x}")),
            Field::CtMark => ("connmark", "mark", format!("{value:#x}/{mask:#x}")),
            Field::Tos => ("tos", "tos", format!("{value:#04x}/{mask:#04x}")),
            Field::Iifgroup => ("devgroup", "src-group", format!("{value:#x}/{mask:#x}")),
            Field::Oifgroup => ("devgroup", "dst-group", format!("{value:#x}/{mask:#x}")),
            Field::TcpFlags if (mask, value) == (64, 64) => ("ecn", "ecn-tcp-ece", String::new()),
            Field::TcpFlags if (mask, value) == (128, 128) => ("ecn", "ecn-tcp-cwr", String::new()),
            Field::TcpFlags => {
                let text = format!("{} {}", names::tcp_flags(mask)?, names::tcp_flags(value)?);
                ("tcp", "tcp-flags", text)
            }
            _ => {
                let option = conntrack::ADDRESSES.iter().find(|one| one.1 == *field || one.2 == *field)?.0;
                let family = self.width_of(field)?;
                let text = format!("{}/{}", names::address(value, family)?, names::address(mask, family)?);
                ("conntrack", option, text)
            }
        };
        Some(Words { module, option, negate, value: text })
    }

    /// addrtype and rpfilter.
    fn route(&self, condition: &Match) -> Option<Words> {
        for bits in 0..8u8 {
            let (loose, mark, invert) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let local =
                || reader::accepting_local(reader::reverse_path(self.family, loose, mark, false), loose, invert);
            let accepts_local = self.family == Family::Ipv4 && local() == *condition;
            if accepts_local || reader::reverse_path(self.family, loose, mark, invert) == *condition {
                let local = (accepts_local, " --accept-local");
                let flags = [(loose, " --loose"), (mark, " --validmark"), local, (invert, " --invert")];
                let text: String = flags.iter().filter(|(on, _)| *on).map(|(_, text)| *text).collect();
                return Some(Words { module: "rpfilter", option: "", negate: false, value: text.trim().to_owned() });
            }
        }
        let (lookup, types, negate) = address_types(condition, self.family)?;
        let names: Option<Vec<&str>> =
            types.iter().map(|kind| addrtype::TYPES.iter().find(|one| one.1 == *kind).map(|one| one.0)).collect();
        let option = if lookup.source { "src-type" } else { "dst-type" };
        let mut value = names?.join(",");
        for (on, text) in [(lookup.iif, " --limit-iface-in"), (lookup.oif, " --limit-iface-out")] {
            if on {
                value.push_str(text);
            }
        }
        Some(Words { module: "addrtype", option, negate, value })
    }
}

impl Words {
    fn text(&self) -> String {
        let bang = if self.negate { "! " } else { "" };
        match (self.option, &*self.value) {
            ("", value) => value.to_owned(),
            (option, "") => format!("{bang}--{option}"),
            (option, value) => format!("{bang}--{option} {value}"),
        }
    }
}

fn option_of_conntrack(words: &Option<Words>, condition: &Match) -> Option<String> {
    match (words, condition) {
        (Some(words), _) if words.module == "conntrack" => Some(words.text()),
        (None, Match::Opaque { text, .. } | Match::Xtables { text, .. }) => {
            text.strip_prefix("-m conntrack ").map(str::to_owned)
        }
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<u128> {
    if let Expr::Number(number) = expr { Some(*number) } else { None }
}

/// `field == value`, `field != value`, or a look-up of one interval.
fn one_interval(condition: &Match) -> Option<(&Field, Interval, bool)> {
    match condition {
        Match::Compare { left: Expr::Field(field), operator: operator @ (Operator::Eq | Operator::Ne), right } => {
            Some((field, Interval::single(number(right)?), *operator == Operator::Ne))
        }
        Match::Lookup { left: Expr::Field(field), negate, set: SetRef::Anonymous(elements) } => {
            let mut keys = elements.keys();
            match (keys.next(), keys.next()) {
                (Some([one]), None) => Some((field, *one, *negate)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `field & mask == value`, or `!=`: field, mask, value, negated.
fn masked(condition: &Match) -> Option<(&Field, u128, u128, bool)> {
    let Match::Compare { left: Expr::And(field, mask), operator, right } = condition else { return None };
    let (Expr::Field(field), Expr::Number(mask)) = (&**field, &**mask) else { return None };
    let negate = match operator {
        Operator::Eq => false,
        Operator::Ne => true,
        _ => return None,
    };
    Some((field, *mask, number(right)?, negate))
}

/// `--ctstate`, `--ctstatus`.
fn state(condition: &Match) -> Option<Words> {
    let (inner, inverted) = match condition {
        Match::Not(inner) => (&**inner, true),
        other => (other, false),
    };
    let (state, status, negate) = match inner {
        Match::Any(both) => match &both[..] {
            [state, status] => {
                let (state, status) = (bits(state)?, bits(status)?);
                let proper = state.0 == Field::CtState && status.0 == Field::CtStatus && !state.2 && !status.2;
                proper.then_some((state.1, status.1, inverted))?
            }
            _ => return None,
        },
        other => {
            let (field, mask, none) = bits(other)?;
            match field {
                Field::CtState if !inverted => (mask, 0, none),
                // SNAT and DNAT read as states; their negation lets untracked packets pass
                Field::CtStatus if !none && names::states(0, mask).is_some() => (0, mask, inverted),
                Field::CtStatus if !inverted => {
                    let value = names::statuses(mask)?;
                    return Some(Words { module: "conntrack", option: "ctstatus", negate: none, value });
                }
                _ => return None,
            }
        }
    };
    Some(Words { module: "conntrack", option: "ctstate", negate, value: names::states(state, status)? })
}

fn bits(condition: &Match) -> Option<(Field, u128, bool)> {
    match condition {
        Match::Compare {
            left: Expr::Field(field),
            operator: operator @ (Operator::AnyBit | Operator::NoBit),
            right,
        } => Some((field.clone(), number(right)?, *operator == Operator::NoBit)),
        _ => None,
    }
}

/// Negated owners.
fn owner(condition: &Match) -> Option<Words> {
    let Match::Not(inner) = condition else { return None };
    let (field, interval, false) = one_interval(inner)? else { return None };
    let (option, value) = match field {
        Field::Skuid if (interval.low, interval.high) == (0, u32::MAX.into()) => ("socket-exists", String::new()),
        Field::Skuid => ("uid-owner", names::range(interval, '-')),
        Field::Skgid => ("gid-owner", names::range(interval, '-')),
        _ => return None,
    };
    Some(Words { module: "owner", option, negate: true, value })
}

/// ICMP types with a code, and "never".
fn icmp(condition: &Match) -> Option<Words> {
    let (inner, negate) = match condition {
        Match::Any(none) if none.is_empty() => {
            return Some(Words { module: "icmp", option: "icmp-type", negate: true, value: "any".into() });
        }
        Match::Not(inner) => (&**inner, true),
        other => (other, false),
    };
    let Match::All(both) = inner else { return None };
    let [kind, code] = &both[..] else { return None };
    let ((kind_field, kind, false), (code_field, code, false)) = (one_interval(kind)?, one_interval(code)?) else {
        return None;
    };
    let (module, option) = match (kind_field, code_field) {
        (Field::IcmpType, Field::IcmpCode) => ("icmp", "icmp-type"),
        (Field::Icmp6Type, Field::Icmp6Code) => ("icmp6", "icmpv6-type"),
        _ => return None,
    };
    let single = kind.low == kind.high && code.low == code.high;
    single.then(|| Words { module, option, negate, value: format!("{}/{}", kind.low, code.low) })
}

fn ipset(condition: &Match) -> Option<Words> {
    let Match::Ipset { name, directions, negate, options } = condition else { return None };
    let word = |direction: &SetDirection| match direction {
        SetDirection::Src => "src",
        SetDirection::Dst => "dst",
    };
    let directions: Vec<&str> = directions.iter().map(word).collect();
    let mut value = format!("{name} {}", directions.join(","));
    if let Some(options) = options {
        value.push(' ');
        value.push_str(options);
    }
    Some(Words { module: "set", option: "match-set", negate: *negate, value })
}

/// Which address types a condition asks for: of IPv4 a look-up, of IPv6 whatever the reader makes of some types.
fn address_types(condition: &Match, family: Family) -> Option<(FibField, Vec<u8>, bool)> {
    if family == Family::Ipv4 {
        return match condition {
            Match::Compare { left: Expr::Fib(fib), operator, right } if fib.result == FibResult::Type => {
                let kind = u8::try_from(number(right)?).ok()?;
                let negate = match operator {
                    Operator::Eq => false,
                    Operator::Ne => true,
                    _ => return None,
                };
                Some((*fib, vec![kind], negate))
            }
            Match::Lookup { left: Expr::Fib(fib), negate, set: SetRef::Anonymous(elements) }
                if fib.result == FibResult::Type =>
            {
                let kinds: Option<Vec<u8>> = elements.keys().map(|key| u8::try_from(key.first()?.low).ok()).collect();
                Some((*fib, kinds?, *negate))
            }
            _ => None,
        };
    }
    const KINDS: [u8; 6] = [0, 1, 2, 4, 5, 7];
    for chosen in 1..64u8 {
        let types: Vec<u8> =
            KINDS.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 != 0).map(|(_, kind)| *kind).collect();
        for bits in 0..16u8 {
            let (source, iif, oif, negate) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0, bits & 8 != 0);
            let lookup = FibField { source, mark: false, iif, oif, result: FibResult::Type };
            if addrtype::ipv6(lookup, &types, negate).as_ref() == Some(condition) {
                return Some((lookup, types, negate));
            }
        }
    }
    None
}
