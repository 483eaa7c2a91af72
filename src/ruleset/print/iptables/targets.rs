//! Effects and verdicts of the model as `-j` and `-g`.

use super::names;
use crate::packet::Family;
use crate::ruleset::readers::iptables_save::targets::{Shift, assign, assign_tos, copy};
use crate::ruleset::{Effect, Expr, Field, Interval, Match, Nat, NatKind, NatTarget, Verdict};

/// Whether `effect` is something the match before it does as well (`-m socket --restore-skmark`).
pub(super) fn is_part_of(effect: &Effect, before: &Match) -> bool {
    match (effect, before) {
        (Effect::Set { field: Field::Mark, value: Expr::Opaque(text) }, Match::Opaque { text: opaque, .. }) => {
            text == opaque
        }
        _ => false,
    }
}

/// A target that lets the packet go on.
pub(super) fn effect(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Set { value: Expr::Opaque(text), .. } => target_text(text)?,
        Effect::Set { field: Field::CtZone, value } => format!("-j CT --zone {}", number(value)?),
        Effect::Set { field: Field::Dscp, value } => format!("-j DSCP --set-dscp {:#04x}", number(value)?),
        Effect::Set { field: Field::Ip4Ttl, value } => format!("-j TTL --ttl-set {}", number(value)?),
        Effect::Set { field: Field::Ip6Hoplimit, value } => format!("-j HL --hl-set {}", number(value)?),
        Effect::Set { field: Field::Tos, value } => {
            let (new, mask) = assignment(&Field::Tos, value, 0xff)?;
            let (new, mask) = (u8::try_from(new).ok()?, u8::try_from(mask).ok()?);
            (assign_tos(new, mask) == *effect).then(|| format!("-j TOS --set-tos {new:#04x}/{mask:#04x}"))?
        }
        Effect::Set { field: field @ (Field::Mark | Field::CtMark), value } => mark(effect, field, value)?,
        Effect::Set { .. } | Effect::Count => return None,
        Effect::NoTrack => "-j CT --notrack".into(),
        Effect::Log { prefix, group, options } => {
            let (target, option) = if group.is_some() { ("NFLOG", "nflog-prefix") } else { ("LOG", "log-prefix") };
            let mut text = format!("-j {target}");
            if let Some(prefix) = prefix {
                text.push_str(&format!(" --{option} {}", names::quoted(prefix)));
            }
            if let Some(group) = group {
                text.push_str(&format!(" --nflog-group {group}"));
            }
            with(text, options)
        }
        Effect::Offload(_) => return None,
        Effect::UpdateSet { text, .. } | Effect::Harmless(text) | Effect::Opaque(text) => target_text(text)?,
    })
}

/// A target that ends the rule.
pub(super) fn verdict(family: Family, verdict: &Verdict) -> Option<String> {
    Some(match verdict {
        Verdict::Accept => "-j ACCEPT".into(),
        Verdict::Drop => "-j DROP".into(),
        Verdict::Return => "-j RETURN".into(),
        Verdict::Reject(how) if &**how == "tcp reset" => "-j REJECT --reject-with tcp-reset".into(),
        Verdict::Reject(how) => format!("-j REJECT --reject-with {how}"),
        Verdict::Jump(chain) => format!("-j {}", names::chain(chain)?),
        Verdict::Goto(chain) => format!("-g {}", names::chain(chain)?),
        Verdict::Queue { bypass, options } => {
            let text = with("-j NFQUEUE".into(), options);
            if *bypass { text + " --queue-bypass" } else { text }
        }
        Verdict::Nat(one) => nat(family, one)?,
        Verdict::Opaque(text) => target_text(text)?,
        Verdict::Continue => return None,
    })
}

/// `text` and what else the rule says.
fn with(text: String, options: &str) -> String {
    // a range of ports and where it starts to count from are one word
    let gap = if options.is_empty() || options.starts_with('/') { "" } else { " " };
    text + gap + options
}

/// Text that was a target when it was read.
fn target_text(text: &str) -> Option<String> {
    (text.starts_with("-j ") || text.starts_with("-g ") || text.starts_with("! -j ")).then(|| text.to_owned())
}

fn number(expr: &Expr) -> Option<u128> {
    if let Expr::Number(number) = expr { Some(*number) } else { None }
}

/// `(field & !mask) ^ value`: value and mask.
fn assignment(field: &Field, value: &Expr, full: u128) -> Option<(u128, u128)> {
    match value {
        Expr::Number(value) => Some((*value, full)),
        Expr::Xor(kept, value) => {
            let (of, kept) = masked(kept)?;
            (of == field).then_some((number(value)?, full & !kept))
        }
        _ => None,
    }
}

/// `field & mask`, the mask all ones when there is none.
fn masked(expr: &Expr) -> Option<(&Field, u128)> {
    match expr {
        Expr::Field(field) => Some((field, u32::MAX.into())),
        Expr::And(field, mask) => match (&**field, &**mask) {
            (Expr::Field(field), Expr::Number(mask)) => Some((field, *mask)),
            _ => None,
        },
        _ => None,
    }
}

fn mark(effect: &Effect, field: &Field, value: &Expr) -> Option<String> {
    let target = if *field == Field::Mark { "MARK" } else { "CONNMARK" };
    if let Some((value, mask)) = assignment(field, value, u32::MAX.into()) {
        let (value, mask) = (u32::try_from(value).ok()?, u32::try_from(mask).ok()?);
        let text = format!("-j {target} --set-xmark {value:#x}/{mask:#x}");
        return (assign(field.clone(), value, mask) == *effect).then_some(text);
    }
    if let (Some((shift, value)), Field::CtMark) = (shifted(value), field)
        && let Some((value, mask)) = assignment(field, value, u32::MAX.into())
    {
        // only the connection's own mark is shifted whole
        return Some(format!("-j CONNMARK --set-xmark {value:#x}/{mask:#x} {}", words_of(shift)));
    }
    // a copy of the other mark
    let (new, kept) = match value {
        Expr::Xor(kept, new) => (&**new, masked(kept).filter(|kept| kept.0 == field)?.1),
        new => (new, 0),
    };
    let (shift, new) = match shifted(new) {
        Some((shift, new)) => (Some(shift), new),
        None => (None, new),
    };
    let (from, from_mask) = masked(new)?;
    let (from_mask, to_mask) = (u32::try_from(from_mask).ok()?, !u32::try_from(kept).ok()?);
    if copy((from.clone(), from_mask), shift, (field.clone(), to_mask)) != *effect {
        return None;
    }
    let text = match (from, field) {
        (Field::Mark, Field::CtMark) => {
            format!("-j CONNMARK --save-mark --nfmask {from_mask:#x} --ctmask {to_mask:#x}")
        }
        (Field::CtMark, Field::Mark) => {
            format!("-j CONNMARK --restore-mark --nfmask {to_mask:#x} --ctmask {from_mask:#x}")
        }
        _ => return None,
    };
    Some(match shift {
        Some(shift) => format!("{text} {}", words_of(shift)),
        None => text,
    })
}

/// A shift by a number, and what is shifted.
fn shifted(value: &Expr) -> Option<(Shift, &Expr)> {
    let (left, inner, bits) = match value {
        Expr::Shl(inner, bits) => (true, inner, bits),
        Expr::Shr(inner, bits) => (false, inner, bits),
        _ => return None,
    };
    let bits = u8::try_from(number(bits)?).ok().filter(|bits| *bits < 32)?;
    Some((Shift { left, bits }, inner))
}

fn words_of(shift: Shift) -> String {
    format!("--{}-shift-mark {}", if shift.left { "left" } else { "right" }, shift.bits)
}

fn nat(family: Family, nat: &Nat) -> Option<String> {
    let range = |target: &Option<NatTarget>| match target {
        None => Some(None),
        Some(NatTarget::Range(range)) => Some(Some(*range)),
        Some(NatTarget::Expr(_)) => None,
    };
    let (address, port) = (range(&nat.address)?, range(&nat.port)?);
    let ports = port.map(|port| names::range(port, '-'));
    let text = match (nat.kind, address) {
        (NatKind::Masquerade | NatKind::Redirect, None) => {
            let target = if nat.kind == NatKind::Masquerade { "MASQUERADE" } else { "REDIRECT" };
            ports.map_or_else(|| format!("-j {target}"), |ports| format!("-j {target} --to-ports {ports}"))
        }
        (NatKind::Netmap, Some(network)) => format!("-j NETMAP --to {}", names::prefix(network, family)?),
        (NatKind::Dnat, address) => format!("-j DNAT --to-destination {}", destination(family, address, ports)?),
        (NatKind::Snat, address) => format!("-j SNAT --to-source {}", destination(family, address, ports)?),
        _ => return None,
    };
    Some(with(text, &nat.options))
}

fn destination(family: Family, address: Option<Interval>, ports: Option<String>) -> Option<String> {
    let address = match address {
        None => None,
        Some(one) if one.low == one.high => Some(names::address(one.low, family)?),
        Some(range) => Some(names::address_range(range, family)?),
    };
    match (address, ports) {
        (None, None) => None,
        (None, Some(ports)) => Some(format!(":{ports}")),
        (Some(address), None) => Some(address),
        (Some(address), Some(ports)) if family == Family::Ipv4 => Some(format!("{address}:{ports}")),
        (Some(address), Some(ports)) => Some(format!("[{address}]:{ports}")),
    }
}
