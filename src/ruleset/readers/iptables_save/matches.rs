//! Matches into conditions of the model, as the kernel evaluates them (net/netfilter/xt_*.c).

use super::conntrack;
use super::draft::{Arg, Basic, Group};
use super::extensions::Meaning;
use super::special;
use super::tokens::Token;
use super::values::{
    self, Expected, ICMP_NAMES, ICMPV6_NAMES, IcmpName, address_match, all_ones, compare, interval_match,
    masked_address, masked_compare, masked_word, number_range, ports, split_once,
};
use crate::packet::{Family, InterfacePattern, Protocol, TcpFlags};
use crate::ruleset::readers::name_text;
use crate::ruleset::{
    Expr, FibField, FibResult, Field, Interval, Match, OpaqueKind, Operator, SetDirection, interface_interval,
};

/// What a match needs to know of its rule.
pub(crate) struct Context<'w, 'a> {
    /// The rule's words.
    pub(crate) words: &'w [Token<'a>],
    /// IPv4 or IPv6.
    pub(crate) family: Family,
    /// The protocol `-p` asks for, when not negated.
    pub(crate) protocol: Option<Protocol>,
}

/// Why something could not be read: the word, and what was expected there.
pub(crate) struct Trouble {
    /// Index of the word.
    pub(crate) word: usize,
    /// What was expected.
    pub(crate) expected: Expected,
}

impl<'w> Context<'w, '_> {
    /// Bytes of value `index` of `arg`.
    pub(crate) fn value(&self, arg: &Arg, index: usize) -> &'w [u8] {
        let word = arg.values.clone().nth(index).and_then(|word| self.words.get(word));
        word.map_or(&b""[..], |word| &word.text)
    }

    /// The first value through `read`.
    pub(crate) fn read<T>(&self, arg: &Arg, read: impl FnOnce(&'w [u8]) -> Result<T, Expected>) -> Result<T, Trouble> {
        read(self.value(arg, 0)).map_err(|expected| arg.trouble(expected))
    }

    /// Source or destination address of the rule's family.
    pub(crate) fn address_field(&self, source: bool) -> Field {
        match (self.family, source) {
            (Family::Ipv4, true) => Field::Ip4Saddr,
            (Family::Ipv4, false) => Field::Ip4Daddr,
            (_, true) => Field::Ip6Saddr,
            (_, false) => Field::Ip6Daddr,
        }
    }
}

impl Arg {
    /// The trouble with this option's value.
    pub(crate) fn trouble(&self, expected: Expected) -> Trouble {
        Trouble { word: self.values.start, expected }
    }

    fn positive(&self) -> Result<(), Trouble> {
        if self.negate { Err(Trouble { word: self.word, expected: "no ! before this option" }) } else { Ok(()) }
    }
}

/// A basic condition; `None` when it always holds.
pub(crate) fn basic(
    context: &Context<'_, '_>,
    kind: Basic,
    negate: bool,
    value: &[u8],
) -> Result<Option<Match>, Expected> {
    match kind {
        Basic::Source | Basic::Destination => {
            let field = context.address_field(kind == Basic::Source);
            addresses(value, field, negate, context.family)
        }
        Basic::InInterface => Ok(interface(Field::Iifname, negate, value)),
        Basic::OutInterface => Ok(interface(Field::Oifname, negate, value)),
        Basic::Protocol => match protocol(value)? {
            Protocol(0) => Ok(None),
            Protocol(number) => Ok(Some(compare(Expr::Field(Field::L4proto), negate, u128::from(number)))),
        },
        // the flag means "not the first fragment"
        Basic::Fragment if context.family == Family::Ipv4 => {
            let offset = Expr::And(Box::new(Expr::Field(Field::Ip4FragOff)), Box::new(Expr::Number(0x1fff)));
            Ok(Some(compare(offset, !negate, 0)))
        }
        Basic::Fragment => Err("no -f in IPv6 rules"),
    }
}

/// A protocol after `-p`; 0 stands for all.
pub(crate) fn protocol(value: &[u8]) -> Result<Protocol, Expected> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    if text.eq_ignore_ascii_case("all") {
        return Ok(Protocol(0));
    }
    text.parse().map_err(|_| "a protocol's name or number")
}

fn addresses(value: &[u8], field: Field, negate: bool, family: Family) -> Result<Option<Match>, Expected> {
    if !value.contains(&b',') {
        return Ok(address_match(field, masked_address(value, family)?, negate, family));
    }
    // a list, which iptables-restore would make several rules of
    let mut intervals = Vec::new();
    for one in value.split(|byte| *byte == b',') {
        let one = masked_address(one, family)?;
        let free = all_ones(family) & !one.mask;
        if free & free.wrapping_add(1) != 0 {
            return Err("prefixes in a list of addresses");
        }
        intervals.push(Interval { low: one.value, high: one.value | free });
    }
    Ok(Some(Match::within(field, negate, intervals)))
}

/// An interface condition. A packet without such an interface has the empty name, which `! -i` matches.
pub(crate) fn interface(field: Field, negate: bool, value: &[u8]) -> Option<Match> {
    let wanted = interface_interval(&InterfacePattern::from_iptables(value));
    if wanted == (Interval { low: 0, high: u128::MAX }) && !negate {
        return None;
    }
    Some(interval_match(field, wanted, negate))
}

/// The conditions of one `-m`.
pub(crate) fn group(context: &Context<'_, '_>, group: &Group) -> Result<Vec<Match>, Trouble> {
    let Some(extension) = group.extension else { return Ok(Vec::new()) };
    debug_assert!(extension.meaning == Meaning::Exact, "opaque matches are not lowered");
    let mut out = Vec::new();
    if let Some(condition) = special::group(context, extension.name, group) {
        return Ok(vec![condition?]);
    }
    match extension.name {
        "comment" => {}
        "conntrack" | "state" => conntrack::lower(context, group, &mut out)?,
        "set" => set(context, group, &mut out)?,
        "addrtype" => super::addrtype::lower(context, group, &mut out)?,
        "owner" => owner(context, group, &mut out)?,
        "rpfilter" => out.push(rpfilter(context, group)?),
        "dscp" | "tos" | "ecn" | "ttl" | "hl" | "length" | "mac" | "pkttype" | "devgroup" | "iprange" => {
            for arg in &group.args {
                out.push(header(context, arg)?);
            }
        }
        "socket" => out.push(Match::Opaque { kind: OpaqueKind::Property, text: super::rule::text_of(context, group) }),
        "mark" | "connmark" => {
            let field = if extension.name == "mark" { Field::Mark } else { Field::CtMark };
            for arg in &group.args {
                let (value, mask) = context.read(arg, masked_word)?;
                out.push(masked_compare(field.clone(), value.into(), mask.into(), u32::MAX.into(), arg.negate));
            }
        }
        _ => {
            for arg in &group.args {
                transport(context, extension.name, arg, &mut out)?;
            }
        }
    }
    Ok(out)
}

/// Protocols a match insists on; empty when any will do.
pub(crate) fn needs(name: &str, family: Family) -> &'static [Protocol] {
    const ESP: Protocol = Protocol(50);
    const AH: Protocol = Protocol(51);
    const IPCOMP: Protocol = Protocol(108);
    match name {
        "tcp" | "tcpmss" | "osf" => &[Protocol::TCP],
        "udp" => &[Protocol::UDP],
        "udplite" => &[Protocol::UDPLITE],
        "sctp" => &[Protocol::SCTP],
        "dccp" => &[Protocol::DCCP],
        "icmp" => &[Protocol::ICMP],
        "icmp6" => &[Protocol::ICMPV6],
        "esp" => &[ESP],
        "ah" if family == Family::Ipv4 => &[AH],
        "ipcomp" => &[IPCOMP],
        "multiport" => &[Protocol::TCP, Protocol::UDP, Protocol::UDPLITE, Protocol::SCTP, Protocol::DCCP],
        _ => &[],
    }
}

fn transport(context: &Context<'_, '_>, module: &str, arg: &Arg, out: &mut Vec<Match>) -> Result<(), Trouble> {
    let colon = |text| ports(text, b':');
    match arg.name {
        "sport" => out.push(interval_match(Field::Sport, context.read(arg, colon)?, arg.negate)),
        "dport" => out.push(interval_match(Field::Dport, context.read(arg, colon)?, arg.negate)),
        "sports" => out.push(Match::within(Field::Sport, arg.negate, port_list(context, arg)?)),
        "dports" => out.push(Match::within(Field::Dport, arg.negate, port_list(context, arg)?)),
        "ports" => {
            let list = port_list(context, arg)?;
            let either =
                [Field::Sport, Field::Dport].map(|field| Match::within(field, arg.negate, list.iter().copied()));
            out.push(if arg.negate { Match::All(either.into()) } else { Match::Any(either.into()) });
        }
        "tcp-flags" => {
            let mask = tcp_flags(context.value(arg, 0)).map_err(|expected| arg.trouble(expected))?;
            let set = tcp_flags(context.value(arg, 1))
                .map_err(|expected| Trouble { word: arg.values.start + 1, expected })?;
            out.push(flags_match(mask, set, arg.negate));
        }
        "syn" => {
            let mask = TcpFlags(TcpFlags::SYN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0 | TcpFlags::FIN.0);
            out.push(flags_match(mask, TcpFlags::SYN, arg.negate));
        }
        "icmp-type" => icmp(context, arg, &Field::IcmpType, Field::IcmpCode, ICMP_NAMES, out)?,
        "icmpv6-type" => icmp(context, arg, &Field::Icmp6Type, Field::Icmp6Code, ICMPV6_NAMES, out)?,
        _ => out.push(match special::option(context, module, arg) {
            Some(condition) => condition?,
            None => super::rule::opaque_option(context, module, arg),
        }),
    }
    Ok(())
}

fn port_list(context: &Context<'_, '_>, arg: &Arg) -> Result<Vec<Interval>, Trouble> {
    let list: Result<Vec<_>, _> =
        context.value(arg, 0).split(|byte| *byte == b',').map(|one| ports(one, b':')).collect();
    list.map_err(|expected| arg.trouble(expected))
}

fn tcp_flags(text: &[u8]) -> Result<TcpFlags, Expected> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or("TCP flags such as SYN,ACK, ALL or NONE")
}

/// `flags & mask == set`.
pub(crate) fn flags_match(mask: TcpFlags, set: TcpFlags, negate: bool) -> Match {
    masked_compare(Field::TcpFlags, set.0.into(), mask.0.into(), u128::MAX, negate)
}

fn icmp(
    context: &Context<'_, '_>,
    arg: &Arg,
    kind: &Field,
    code: Field,
    names: &[IcmpName],
    out: &mut Vec<Match>,
) -> Result<(), Trouble> {
    let value = context.value(arg, 0);
    // type 255 is the kernel's "any", in IPv4 only
    let any = *kind == Field::IcmpType && (value.eq_ignore_ascii_case(b"any") || value == b"255");
    if any || value.starts_with(b"255/") && *kind == Field::IcmpType {
        if arg.negate {
            out.push(Match::Any(Vec::new()));
        }
        return Ok(());
    }
    let (wanted, wanted_code) = context.read(arg, |text| values::icmp(text, names))?;
    let kind = |negate| compare(Expr::Field(kind.clone()), negate, wanted.into());
    match wanted_code {
        None => out.push(kind(arg.negate)),
        Some(wanted) => {
            let both = vec![kind(false), compare(Expr::Field(code), false, wanted.into())];
            let both = Match::All(both);
            out.push(if arg.negate { Match::Not(Box::new(both)) } else { both });
        }
    }
    Ok(())
}

fn set(context: &Context<'_, '_>, group: &Group, out: &mut Vec<Match>) -> Result<(), Trouble> {
    let mut found: Option<(&Arg, Vec<SetDirection>)> = None;
    let mut options = String::new();
    for arg in &group.args {
        match arg.name {
            "match-set" => {
                let directions = directions(context.value(arg, 1)).map_err(|expected| arg.trouble(expected))?;
                found = Some((arg, directions));
            }
            name => {
                let space = if options.is_empty() { "" } else { " " };
                let bang = if arg.negate { "! " } else { "" };
                let value = String::from_utf8_lossy(context.value(arg, 0));
                let gap = if value.is_empty() { "" } else { " " };
                options.push_str(&format!("{space}{bang}--{name}{gap}{value}"));
            }
        }
    }
    let Some((arg, directions)) = found else {
        return Err(Trouble { word: group.spans.first().map_or(0, |span| span.start), expected: "--match-set" });
    };
    out.push(Match::Ipset {
        name: name_text(context.value(arg, 0)).into(),
        directions,
        negate: arg.negate,
        options: (!options.is_empty()).then(|| options.into()),
    });
    Ok(())
}

/// `src,dst,…`, at most six.
pub(crate) fn directions(text: &[u8]) -> Result<Vec<SetDirection>, Expected> {
    let direction = |one: &[u8]| match one {
        b"src" => Some(SetDirection::Src),
        b"dst" => Some(SetDirection::Dst),
        _ => None,
    };
    let all: Option<Vec<_>> = text.split(|byte| *byte == b',').take(7).map(direction).collect();
    all.filter(|all| all.len() <= 6).ok_or("src and dst, one a dimension, separated by commas")
}

fn owner(context: &Context<'_, '_>, group: &Group, out: &mut Vec<Match>) -> Result<(), Trouble> {
    let all_groups = group.args.iter().any(|arg| arg.name == "suppl-groups");
    for arg in group.args.iter().filter(|arg| arg.name != "suppl-groups") {
        if matches!(arg.name, "pid-owner" | "sid-owner" | "cmd-owner") {
            // of kernels before 2.6.14
            out.push(super::rule::opaque_option(context, "owner", arg));
            continue;
        }
        let max = u64::from(u32::MAX);
        let (field, range) = match arg.name {
            "uid-owner" => (Field::Skuid, context.read(arg, ids)?),
            "gid-owner" if all_groups => {
                out.push(special::groups(context, arg, context.read(arg, ids)?));
                continue;
            }
            "gid-owner" => (Field::Skgid, context.read(arg, ids)?),
            _ => (Field::Skuid, Interval { low: 0, high: max.into() }),
        };
        let owned = interval_match(field, range, false);
        // the kernel lets packets without a socket pass every negated condition
        out.push(if arg.negate { Match::Not(Box::new(owned)) } else { owned });
    }
    Ok(())
}

/// Users or groups by number; of names only root has the same number everywhere.
fn ids(text: &[u8]) -> Result<Interval, Expected> {
    if text == b"root" {
        return Ok(Interval::single(0));
    }
    number_range(text, b'-', u32::MAX.into()).map_err(|_| "a numeric id or a range of ids (names are not looked up)")
}

/// `-m rpfilter`: a route back to the source, by the incoming interface unless loose.
fn rpfilter(context: &Context<'_, '_>, group: &Group) -> Result<Match, Trouble> {
    let has = |name: &str| group.args.iter().any(|arg| arg.name == name);
    for arg in &group.args {
        arg.positive()?;
    }
    if has("accept-local") && context.family == Family::Ipv6 {
        return Ok(Match::Opaque { kind: OpaqueKind::Property, text: super::rule::text_of(context, group) });
    }
    let back = reverse_path(context.family, has("loose"), has("validmark"), has("invert") && !has("accept-local"));
    Ok(if has("accept-local") { accepting_local(back, has("loose"), has("invert")) } else { back })
}

/// The condition of `-m rpfilter --accept-local` in IPv4: the way back may also end on this host.
pub(crate) fn accepting_local(back: Match, loose: bool, invert: bool) -> Match {
    let lookup = FibField { source: true, mark: false, iif: !loose, oif: false, result: FibResult::Type };
    let either = Match::Any(vec![back, compare(Expr::Fib(lookup), false, 2)]);
    if invert { Match::Not(Box::new(either)) } else { either }
}

/// The condition of `-m rpfilter`. In IPv6 the unspecified source always has a way back.
pub(crate) fn reverse_path(family: Family, loose: bool, mark: bool, invert: bool) -> Match {
    let fib = FibField { source: true, mark, iif: !loose, oif: false, result: FibResult::Present };
    let route = compare(Expr::Fib(fib), false, u128::from(!invert));
    if family == Family::Ipv4 {
        return route;
    }
    let unspecified = compare(Expr::Field(Field::Ip6Saddr), invert, 0);
    let both = vec![unspecified, route];
    if invert { Match::All(both) } else { Match::Any(both) }
}

/// Conditions on one header field or fact each.
fn header(context: &Context<'_, '_>, arg: &Arg) -> Result<Match, Trouble> {
    let number =
        |max: u64| context.read(arg, |text| values::number(text).filter(|n| *n <= max).ok_or("a smaller number"));
    let ordered = |field: Field, operator: Operator| -> Result<Match, Trouble> {
        arg.positive()?;
        Ok(Match::Compare { left: Expr::Field(field), operator, right: Expr::Number(number(255)?.into()) })
    };
    Ok(match arg.name {
        "ttl-eq" => compare(Expr::Field(Field::Ip4Ttl), arg.negate, number(255)?.into()),
        "ttl-lt" => ordered(Field::Ip4Ttl, Operator::Lt)?,
        "ttl-gt" => ordered(Field::Ip4Ttl, Operator::Gt)?,
        "hl-eq" => compare(Expr::Field(Field::Ip6Hoplimit), arg.negate, number(255)?.into()),
        "hl-lt" => ordered(Field::Ip6Hoplimit, Operator::Lt)?,
        "hl-gt" => ordered(Field::Ip6Hoplimit, Operator::Gt)?,
        "dscp" => compare(Expr::Field(Field::Dscp), arg.negate, number(63)?.into()),
        "dscp-class" => compare(Expr::Field(Field::Dscp), arg.negate, context.read(arg, dscp_class)?.into()),
        "tos" => {
            let (value, mask) = context.read(arg, tos)?;
            masked_compare(Field::Tos, value.into(), mask.into(), 0xff, arg.negate)
        }
        "ecn-ip-ect" => compare(Expr::Field(Field::Ecn), arg.negate, number(3)?.into()),
        "ecn-tcp-cwr" => flags_match(TcpFlags(128), TcpFlags(128), arg.negate),
        "ecn-tcp-ece" => flags_match(TcpFlags(64), TcpFlags(64), arg.negate),
        "length" => {
            interval_match(Field::Length, context.read(arg, |text| number_range(text, b':', 65535))?, arg.negate)
        }
        "mac-source" => compare(Expr::Field(Field::EtherSaddr), arg.negate, context.read(arg, values::mac)?),
        "pkt-type" => compare(Expr::Field(Field::Pkttype), arg.negate, context.read(arg, packet_type)?),
        "src-group" | "dst-group" => {
            let field = if arg.name == "src-group" { Field::Iifgroup } else { Field::Oifgroup };
            let (value, mask) = context.read(arg, masked_word)?;
            masked_compare(field, value.into(), mask.into(), u32::MAX.into(), arg.negate)
        }
        _ => {
            let field = context.address_field(arg.name == "src-range");
            interval_match(field, context.read(arg, |text| values::address_range(text, context.family))?, arg.negate)
        }
    })
}

/// `value`, `value/mask` or a symbolic name.
pub(crate) fn tos(text: &[u8]) -> Result<(u8, u8), Expected> {
    let byte = |n: u32| u8::try_from(n).map_err(|_| "a TOS value of 0 to 255");
    let named = [
        ("minimize-delay", 16),
        ("maximize-throughput", 8),
        ("maximize-reliability", 4),
        ("minimize-cost", 2),
        ("normal-service", 0),
    ];
    if let Some((_, value)) = named.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(text)) {
        return Ok((*value, 0x3f));
    }
    match split_once(text, b'/') {
        Some((value, mask)) => Ok((byte(values::word(value)?)?, byte(values::word(mask)?)?)),
        None => Ok((byte(values::word(text)?)?, 0xff)),
    }
}

/// DiffServ class names (RFC 2474, 2597, 3246).
pub(crate) fn dscp_class(text: &[u8]) -> Result<u8, Expected> {
    const EXPECTED: Expected = "a DSCP class: BE, EF, CS0 to CS7, AF11 to AF43";
    let upper = text.to_ascii_uppercase();
    let digit = |byte: u8, max: u8| byte.checked_sub(b'0').filter(|n| *n <= max).ok_or(EXPECTED);
    match upper.as_slice() {
        b"BE" | b"DF" => Ok(0),
        b"EF" => Ok(46),
        [b'C', b'S', class] => Ok(digit(*class, 7)? * 8),
        [b'A', b'F', class @ b'1'..=b'4', drop @ b'1'..=b'3'] => Ok(digit(*class, 4)? * 8 + digit(*drop, 3)? * 2),
        _ => Err(EXPECTED),
    }
}

fn packet_type(text: &[u8]) -> Result<u128, Expected> {
    match text {
        b"unicast" | b"host" => Ok(0),
        b"broadcast" => Ok(1),
        b"multicast" => Ok(2),
        b"otherhost" => Ok(3),
        _ => Err("unicast, broadcast, multicast or otherhost"),
    }
}
