//! What an effect of a rule makes of a packet's fields.

use super::state::{Ct, State, Value};
use crate::ruleset::Field;

/// Addresses and ports.
fn is_address(field: &Field) -> bool {
    use Field::{Dport, Ip4Daddr, Ip4Saddr, Ip6Daddr, Ip6Saddr, Sport};
    matches!(field, Ip4Saddr | Ip6Saddr | Ip4Daddr | Ip6Daddr | Sport | Dport)
}

/// Gives `field` a new value.
pub(super) fn assign(state: &mut State, field: &Field, value: Value) {
    let flow = &mut state.flow;
    match field {
        Field::CtMark if flow.ct == Ct::Tracked => flow.ct_mark = value.map(|mark| mark & 0xffff_ffff),
        // without a connection there is nothing to mark; labels are added to those there are, and never known
        Field::CtMark => {}
        Field::Other(text) if text.starts_with("ct label") => {}
        Field::Pkttype => flow.pkttype = value,
        other => {
            flow.epoch += 1;
            flow.rewritten |= is_address(other);
            match other {
                Field::Ip4Saddr | Field::Ip6Saddr => flow.src = value,
                Field::Ip4Daddr | Field::Ip6Daddr => flow.dst = value,
                Field::Sport => flow.sport = value,
                Field::Dport => flow.dport = value,
                Field::Ip4Ttl | Field::Ip6Hoplimit => flow.ttl = value,
                Field::Tos => flow.tos = value,
                other => {
                    match (other, flow.tos, value) {
                        (Field::Dscp, Value::Known(tos), Value::Known(dscp)) => {
                            flow.tos = Value::Known(tos & 3 | dscp << 2);
                            return;
                        }
                        (Field::Ecn, Value::Known(tos), Value::Known(ecn)) => {
                            flow.tos = Value::Known(tos & !3 | ecn & 3);
                            return;
                        }
                        _ => {}
                    }
                    flow.assigned.retain(|(field, _)| field != other);
                    flow.assigned.push((other.clone(), value));
                }
            }
        }
    }
}
