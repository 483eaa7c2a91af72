//! Targets into effects and verdicts (net/netfilter/xt_*.c, net/ipv4/netfilter/ipt_*.c).

use super::draft::{Arg, Group};
use super::extensions::Meaning;
use super::matches::{self, Context, Trouble};
use super::rule::{text_of, words_text};
use super::values::{self, Expected, address, all_ones, masked_address, masked_word, split_once};
use crate::packet::Family;
use crate::ruleset::readers::name_text;
use crate::ruleset::{Effect, Expr, Field, Interval, Nat, NatKind, NatTarget, Step, Verdict};

/// The step a known target stands for.
pub(crate) fn lower(context: &Context<'_, '_>, group: &Group) -> Result<Step, Trouble> {
    let text = || text_of(context, group);
    let Some(extension) = group.extension else { return Ok(Step::Verdict(Verdict::Opaque(text()))) };
    if extension.meaning == Meaning::Harmless {
        return Ok(Step::Effect(Effect::Harmless(text())));
    }
    let find = |name: &str| group.args.iter().find(|arg| arg.name == name);
    let verdict = match extension.name {
        "ACCEPT" => Verdict::Accept,
        "DROP" => Verdict::Drop,
        "RETURN" => Verdict::Return,
        "QUEUE" => Verdict::Queue { bypass: false, options: "--queue-num 0".into() },
        "NFQUEUE" => Verdict::Queue {
            bypass: find("queue-bypass").is_some(),
            options: rest_of(context, group, &["queue-bypass"]),
        },
        "REJECT" => Verdict::Reject(reject(context, find("reject-with"))?.into()),
        "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" => Verdict::Nat(nat(context, extension.name, group)?),
        "TPROXY" | "SYNPROXY" | "CLUSTERIP" => Verdict::Opaque(text()),
        _ => return effect(context, extension.name, group).map(Step::Effect),
    };
    Ok(Step::Verdict(verdict))
}

fn effect(context: &Context<'_, '_>, name: &str, group: &Group) -> Result<Effect, Trouble> {
    let text = || text_of(context, group);
    let find = |name: &str| group.args.iter().find(|arg| arg.name == name);
    let unknown = |field| Effect::Set { field, value: Expr::Opaque(text()) };
    Ok(match name {
        "MARK" => mark(context, Field::Mark, group)?.unwrap_or_else(|| Effect::Harmless(text())),
        "CONNMARK" => connmark(context, group)?,
        "LOG" => Effect::Log {
            prefix: string(context, find("log-prefix")),
            group: None,
            options: rest_of(context, group, &["log-prefix"]),
        },
        "NFLOG" => log(context, group, ["nflog-prefix", "nflog-group"], 0)?,
        "ULOG" => log(context, group, ["ulog-prefix", "ulog-nlgroup"], 1)?,
        "NOTRACK" => Effect::NoTrack,
        "CT" if find("notrack").is_some() => Effect::NoTrack,
        "CT" => zone(context, group)?.unwrap_or_else(|| Effect::Harmless(text())),
        "TOS" => tos(context, group)?.unwrap_or_else(|| unknown(Field::Tos)),
        "DSCP" => match group.args.first() {
            Some(arg) if arg.name == "set-dscp" => {
                let value = context.read(arg, values::word)?;
                if value > 63 {
                    return Err(arg.trouble("a DSCP value of 0 to 63"));
                }
                Effect::Set { field: Field::Dscp, value: Expr::Number(value.into()) }
            }
            Some(arg) => {
                let value = context.read(arg, matches::dscp_class)?;
                Effect::Set { field: Field::Dscp, value: Expr::Number(value.into()) }
            }
            None => unknown(Field::Dscp),
        },
        "TTL" | "HL" => {
            let field = if name == "TTL" { Field::Ip4Ttl } else { Field::Ip6Hoplimit };
            match find("ttl-set").or_else(|| find("hl-set")) {
                Some(arg) => Effect::Set { field, value: Expr::Number(context.read(arg, values::word)?.into()) },
                None => unknown(field),
            }
        }
        "SET" => set(context, group)?,
        "HMARK" => unknown(Field::Mark),
        // what later rules find among the options is not known
        "TCPMSS" | "TCPOPTSTRIP" => unknown(Field::Other("TCP options".into())),
        "ECN" => match (find("ecn-ip-ect"), group.args.len()) {
            (Some(_), 1) => unknown(Field::Ecn),
            (None, _) => unknown(Field::TcpFlags),
            (Some(_), _) => Effect::Opaque(text()),
        },
        _ => Effect::Opaque(text()),
    })
}

/// Which connections a packet can belong to: `-j CT --zone N`; `None` for what leaves that alone (helpers, events, timeouts).
fn zone(context: &Context<'_, '_>, group: &Group) -> Result<Option<Effect>, Trouble> {
    let Some(arg) = group.args.iter().find(|arg| arg.name.starts_with("zone")) else { return Ok(None) };
    let number = values::number(context.value(arg, 0)).filter(|zone| *zone <= u16::MAX.into());
    let value = match number {
        Some(zone) if arg.name == "zone" && group.args.len() == 1 => Expr::Number(zone.into()),
        // by mark, or another one for each direction
        _ => Expr::Opaque(text_of(context, group)),
    };
    Ok(Some(Effect::Set { field: Field::CtZone, value }))
}

fn string(context: &Context<'_, '_>, arg: Option<&Arg>) -> Option<Box<str>> {
    arg.map(|arg| String::from_utf8_lossy(context.value(arg, 0)).into())
}

/// The options of a target that the model has no words for, as they stand.
fn rest_of(context: &Context<'_, '_>, group: &Group, known: &[&str]) -> Box<str> {
    let rest = group.args.iter().filter(|arg| !known.contains(&arg.name));
    let spans: Vec<_> = rest.map(|arg| arg.word..arg.values.end).collect();
    words_text(context.words, &spans).into()
}

fn log(context: &Context<'_, '_>, group: &Group, names: [&str; 2], default: u16) -> Result<Effect, Trouble> {
    let find = |name: &str| group.args.iter().find(|arg| arg.name == name);
    let [prefix, number] = names.map(find);
    let options = rest_of(context, group, &names);
    let group = match number {
        None => default,
        Some(arg) => context.read(arg, |text| {
            values::number(text).and_then(|n| u16::try_from(n).ok()).ok_or("a netlink group of 0 to 65535")
        })?,
    };
    Ok(Effect::Log { prefix: string(context, prefix), group: Some(group), options })
}

/// How the sender is told, in iptables' words for ICMP and nft's for TCP.
fn reject<'a>(context: &Context<'_, '_>, how: Option<&Arg>) -> Result<&'a str, Trouble> {
    const IPV4: [(&str, &str); 7] = [
        ("icmp-port-unreachable", "port-unreach"),
        ("icmp-net-unreachable", "net-unreach"),
        ("icmp-host-unreachable", "host-unreach"),
        ("icmp-proto-unreachable", "proto-unreach"),
        ("icmp-net-prohibited", "net-prohib"),
        ("icmp-host-prohibited", "host-prohib"),
        ("icmp-admin-prohibited", "admin-prohib"),
    ];
    const IPV6: [(&str, &str); 6] = [
        ("icmp6-port-unreachable", "port-unreach"),
        ("icmp6-no-route", "no-route"),
        ("icmp6-adm-prohibited", "adm-prohibited"),
        ("icmp6-addr-unreachable", "addr-unreach"),
        ("icmp6-policy-fail", "policy-fail"),
        ("icmp6-reject-route", "reject-route"),
    ];
    let known: &[(&str, &str)] = if context.family == Family::Ipv4 { &IPV4 } else { &IPV6 };
    let Some(how) = how else { return Ok(if context.family == Family::Ipv4 { IPV4[0].0 } else { IPV6[0].0 }) };
    let wanted = context.value(how, 0);
    if wanted == b"tcp-reset" || wanted == b"tcp-rst" {
        return Ok("tcp reset");
    }
    let found = known.iter().find(|(name, alias)| name.as_bytes() == wanted || alias.as_bytes() == wanted);
    found
        .map(|(name, _)| *name)
        .ok_or_else(|| how.trouble("a way to reject, such as icmp-port-unreachable or tcp-reset"))
}

/// `field = (field & !mask) ^ value`; a plain number when nothing of the old value stays.
pub(crate) fn assign(field: Field, value: u32, mask: u32) -> Effect {
    let number = |n: u32| Box::new(Expr::Number(n.into()));
    let value = if mask == u32::MAX {
        Expr::Number(value.into())
    } else {
        let kept = Expr::And(Box::new(Expr::Field(field.clone())), number(!mask));
        Expr::Xor(Box::new(kept), number(value))
    };
    Effect::Set { field, value }
}

fn mark(context: &Context<'_, '_>, field: Field, group: &Group) -> Result<Option<Effect>, Trouble> {
    let Some(arg) = group.args.iter().find(|arg| arg.name.ends_with("-mark") || arg.name == "set-xmark") else {
        return Ok(None);
    };
    let plain = || context.read(arg, values::word);
    Ok(Some(match arg.name {
        "set-xmark" => {
            let (value, mask) = context.read(arg, masked_word)?;
            assign(field, value, mask)
        }
        "set-mark" => {
            // bits of the value are set whether or not the mask has them
            let (value, mask) = context.read(arg, masked_word)?;
            assign(field, value, value | mask)
        }
        "and-mark" => assign(field, 0, !plain()?),
        "or-mark" => plain().map(|bits| assign(field, bits, bits))?,
        "xor-mark" => assign(field, plain()?, 0),
        _ => return Ok(None),
    }))
}

fn connmark(context: &Context<'_, '_>, group: &Group) -> Result<Effect, Trouble> {
    let find = |name: &str| group.args.iter().find(|arg| arg.name == name);
    let (save, restore) = (find("save-mark").is_some(), find("restore-mark").is_some());
    if save && restore {
        return Ok(Effect::Set { field: Field::Mark, value: Expr::Opaque(text_of(context, group)) });
    }
    let shift = match find("left-shift-mark").or_else(|| find("right-shift-mark")) {
        None => None,
        Some(arg) => {
            let bits = context.read(arg, |text| values::number(text).filter(|n| *n < 32).ok_or("0 to 31 bits"))?;
            Some(Shift { left: arg.name == "left-shift-mark", bits: u8::try_from(bits).unwrap_or(0) })
        }
    };
    if !save && !restore {
        let set = mark(context, Field::CtMark, group)?.ok_or(Trouble {
            word: group.name.unwrap_or(0),
            expected: "--set-xmark, --save-mark or --restore-mark behind CONNMARK",
        })?;
        // here the new mark itself is shifted
        return Ok(match (set, shift) {
            (Effect::Set { field, value }, Some(shift)) => Effect::Set { field, value: shift.of(value) },
            (set, _) => set,
        });
    }
    let mask = |name: &str| match find(name).or_else(|| find("mask")) {
        Some(arg) => context.read(arg, values::word),
        None => Ok(u32::MAX),
    };
    let (packet, connection) = (mask("nfmask")?, mask("ctmask")?);
    Ok(if save {
        copy((Field::Mark, packet), shift, (Field::CtMark, connection))
    } else {
        copy((Field::CtMark, connection), shift, (Field::Mark, packet))
    })
}

/// CONNMARK's shift.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shift {
    /// To the left.
    pub(crate) left: bool,
    /// 0 to 31.
    pub(crate) bits: u8,
}

impl Shift {
    fn of(self, value: Expr) -> Expr {
        let (value, bits) = (Box::new(value), Box::new(Expr::Number(self.bits.into())));
        if self.left { Expr::Shl(value, bits) } else { Expr::Shr(value, bits) }
    }
}

/// `to = (to & !to_mask) ^ (from & from_mask)`, the latter shifted.
pub(crate) fn copy((from, from_mask): (Field, u32), shift: Option<Shift>, (to, to_mask): (Field, u32)) -> Effect {
    let and = |field: Field, mask: u32| Expr::And(Box::new(Expr::Field(field)), Box::new(Expr::Number(mask.into())));
    let new = if from_mask == u32::MAX { Expr::Field(from) } else { and(from, from_mask) };
    let new = match shift {
        Some(shift) => shift.of(new),
        None => new,
    };
    let value = if to_mask == u32::MAX { new } else { Expr::Xor(Box::new(and(to.clone(), !to_mask)), Box::new(new)) };
    Effect::Set { field: to, value }
}

fn tos(context: &Context<'_, '_>, group: &Group) -> Result<Option<Effect>, Trouble> {
    let Some(arg) = group.args.first() else { return Ok(None) };
    let byte = |text: &[u8]| values::number(text).and_then(|n| u8::try_from(n).ok()).ok_or("a TOS value of 0 to 255");
    let plain = || context.read(arg, byte);
    let (value, mask) = match arg.name {
        "set-tos" => context.read(arg, matches::tos)?,
        "and-tos" => (0, !plain()?),
        "or-tos" => plain().map(|bits| (bits, bits))?,
        _ => (plain()?, 0),
    };
    Ok(Some(assign_tos(value, mask)))
}

/// `tos = (tos & !mask) ^ value`.
pub(crate) fn assign_tos(value: u8, mask: u8) -> Effect {
    let number = |n: u8| Box::new(Expr::Number(n.into()));
    let value = if mask == 0xff {
        Expr::Number(value.into())
    } else {
        Expr::Xor(Box::new(Expr::And(Box::new(Expr::Field(Field::Tos)), number(!mask))), number(value))
    };
    Effect::Set { field: Field::Tos, value }
}

fn set(context: &Context<'_, '_>, group: &Group) -> Result<Effect, Trouble> {
    let find = |name: &str| group.args.iter().find(|arg| arg.name == name);
    let text = text_of(context, group);
    if find("map-set").is_some() {
        // the entry's own mark replaces the packet's
        let field = if find("map-mark").is_some() { Field::Mark } else { Field::Priority };
        return Ok(Effect::Set { field, value: Expr::Opaque(text) });
    }
    match find("add-set").or_else(|| find("del-set")) {
        Some(arg) => Ok(Effect::UpdateSet { set: name_text(context.value(arg, 0)).into(), change: None, text }),
        None => Err(Trouble { word: group.name.unwrap_or(0), expected: "--add-set or --del-set behind SET" }),
    }
}

fn nat(context: &Context<'_, '_>, name: &str, group: &Group) -> Result<Nat, Trouble> {
    let mut targets = group.args.iter().filter(|arg| arg.name.starts_with("to"));
    let target = targets.next();
    if let Some(second) = targets.next() {
        return Err(second.trouble("one target; kernels since 2.6.11 know no second"));
    }
    let kind = match name {
        "DNAT" => NatKind::Dnat,
        "SNAT" => NatKind::Snat,
        "MASQUERADE" => NatKind::Masquerade,
        "REDIRECT" => NatKind::Redirect,
        _ => NatKind::Netmap,
    };
    let rest = rest_of(context, group, &["to", "to-ports", "to-destination", "to-source"]);
    // where a range of ports starts to count from belongs to the range
    let base = target.map(|target| context.value(target, 0)).and_then(|text| split_once(text, b'/'));
    let options = match base.filter(|_| name == "DNAT") {
        Some((_, base)) => format!("/{} {rest}", String::from_utf8_lossy(base)).trim_end().into(),
        None => rest,
    };
    let Some(target) = target else {
        return match kind {
            NatKind::Masquerade | NatKind::Redirect => Ok(Nat { kind, address: None, port: None, options }),
            _ => Err(Trouble { word: group.name.unwrap_or(0), expected: "an address behind this target" }),
        };
    };
    let (address, port) = match kind {
        NatKind::Masquerade | NatKind::Redirect => {
            (None, Some(context.read(target, |text| values::ports(text, b'-'))?))
        }
        NatKind::Netmap => (Some(context.read(target, |text| network(text, context.family))?), None),
        _ => context.read(target, |text| address_and_port(text, context.family))?,
    };
    Ok(Nat { kind, address: address.map(NatTarget::Range), port: port.map(NatTarget::Range), options })
}

fn network(text: &[u8], family: Family) -> Result<Interval, Expected> {
    let wanted = masked_address(text, family)?;
    let free = all_ones(family) & !wanted.mask;
    if free & free.wrapping_add(1) == 0 {
        Ok(Interval { low: wanted.value, high: wanted.value | free })
    } else {
        Err("a prefix")
    }
}

/// `[address[-address]][:port[-port[/base]]]`, IPv6 addresses with a port in brackets.
fn address_and_port(text: &[u8], family: Family) -> Result<(Option<Interval>, Option<Interval>), Expected> {
    let range = |text: &[u8]| -> Result<Interval, Expected> {
        let unbracket =
            |one: &[u8]| one.strip_prefix(b"[").and_then(|one| one.strip_suffix(b"]")).unwrap_or(one).to_vec();
        let (low, high) = split_once(text, b'-').unwrap_or((text, text));
        let range = Interval { low: address(&unbracket(low), family)?, high: address(&unbracket(high), family)? };
        if range.low <= range.high { Ok(range) } else { Err("a range of addresses, low first") }
    };
    let port = |text: &[u8]| values::ports(split_once(text, b'/').map_or(text, |(ports, _)| ports), b'-');
    let split = if family == Family::Ipv4 || text.starts_with(b":") && !text.starts_with(b"::") {
        memchr::memrchr(b':', text)
    } else {
        memchr::memrchr(b']', text).map(|at| at + 1).filter(|at| text.get(*at) == Some(&b':'))
    };
    let Some(split) = split else { return Ok((Some(range(text)?), None)) };
    let (before, after) = (text.get(..split).unwrap_or_default(), text.get(split + 1..).unwrap_or_default());
    let whole = before.strip_prefix(b"[").and_then(|one| one.strip_suffix(b"]")).filter(|one| !one.contains(&b']'));
    let address = match (before, whole) {
        (b"", _) => None,
        (_, Some(inside)) => Some(range(inside)?),
        (before, None) => Some(range(before)?),
    };
    Ok((address, Some(port(after)?)))
}
