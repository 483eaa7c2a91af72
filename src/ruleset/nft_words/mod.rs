//! nft's vocabulary: which words of a listing name which [`Field`], of what kind its values are, and what a rule that names
//! it silently requires. The reader and the printer share it.

pub(crate) mod kind;
pub(crate) mod known;
pub(crate) mod names;
pub(crate) mod place;
mod table;

use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) use kind::Kind;
pub(crate) use known::Known;

use super::{Expr, FibResult, Field, PayloadBase};

/// What a listing leaves unsaid when it names a field (nft drops conditions it can derive).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
    /// This upper-layer protocol.
    Protocol(u8),
    /// IPv4 and ICMP.
    Icmp,
    /// IPv6 and ICMPv6.
    Icmpv6,
    /// IPv4 and IGMP.
    Igmp,
    /// An Ethernet device.
    Ethernet,
    /// An Ethernet device and a VLAN tag.
    Vlan,
}

/// One field as listings name it.
#[derive(Debug)]
pub(crate) struct Word {
    /// Kind of expression in JSON: payload protocol, `meta`, `ct`, `ct original`, `rt`, `socket`, …
    pub(crate) group: &'static str,
    /// Field or key in JSON.
    pub(crate) name: &'static str,
    /// The model's field; `None` for [`Field::Other`] with the text form.
    field: Option<Field>,
    /// Text form where it is not `group name`.
    text: Option<&'static str>,
    /// Kind of its values.
    pub(crate) kind: Kind,
    /// What naming it requires.
    pub(crate) needs: Needs,
}

impl Word {
    /// nft's text for it.
    pub(crate) fn text(&self) -> String {
        self.text.map_or_else(|| format!("{} {}", self.group, self.name), str::to_owned)
    }

    /// The model's field.
    pub(crate) fn field(&self) -> Field {
        self.field.clone().unwrap_or_else(|| Field::Other(self.text().into()))
    }
}

/// The word for `name` in `group`.
pub(crate) fn word(group: &str, name: &str) -> Option<&'static Word> {
    static INDEX: LazyLock<HashMap<(&'static str, &'static str), &'static Word>> =
        LazyLock::new(|| table::WORDS.iter().map(|word| ((word.group, word.name), word)).collect());
    let index: &HashMap<(&str, &str), &'static Word> = &INDEX;
    index.get(&(group, name)).copied()
}

/// Every word, in order of preference for printing.
#[cfg(test)]
pub(crate) fn words() -> impl Iterator<Item = &'static Word> {
    table::WORDS.iter()
}

/// The first word for `field`.
pub(crate) fn word_of(field: &Field) -> Option<&'static Word> {
    static INDEX: LazyLock<HashMap<Field, &'static Word>> = LazyLock::new(|| {
        let mut index = HashMap::new();
        for word in table::WORDS {
            index.entry(word.field()).or_insert(word);
        }
        index
    });
    INDEX.get(field).copied()
}

/// Kind of the values of `field`; a plain number where nothing is known.
pub(crate) fn kind_of_field(field: &Field) -> Kind {
    match (word_of(field), field) {
        (Some(word), _) => word.kind,
        (None, Field::Other(text)) => kind_of_other(text),
        _ => Kind::Integer(128),
    }
}

/// Kind of the values of a field that is only known by its text.
fn kind_of_other(text: &str) -> Kind {
    let ends = |all: [&str; 2]| all.iter().any(|end| text.ends_with(end));
    match text.split(' ').next() {
        _ if asks_presence(text) => Kind::Names(&names::BOOLEAN),
        Some("osf") => Kind::Text,
        Some("srh") if text.starts_with("srh sid") => Kind::Ipv6,
        Some("tcp") if text == "tcp option mptcp subtype" => Kind::Names(&names::MPTCP_SUBTYPE),
        Some("ipsec" | "tunnel") if ends(["ip saddr", "ip daddr"]) => Kind::Ipv4,
        Some("ipsec" | "tunnel") if ends(["ip6 saddr", "ip6 daddr"]) => Kind::Ipv6,
        _ => Kind::Integer(128),
    }
}

/// Whether the text of an [`Field::Other`] asks whether a header or option is there at all.
fn asks_presence(text: &str) -> bool {
    let words = text.split(' ').count();
    (text.starts_with("exthdr ") && words == 2)
        || (["tcp option ", "sctp chunk ", "dccp option ", "ip option "].iter().any(|start| text.starts_with(start))
            && words == 3
            && !text.contains('@'))
}

/// Kind of the values of a key of one dimension.
pub(crate) fn kind_of(expr: &Expr) -> Kind {
    match expr {
        Expr::Field(field) => kind_of_field(field),
        Expr::And(left, _) | Expr::Or(left, _) | Expr::Xor(left, _) | Expr::Shl(left, _) | Expr::Shr(left, _) => {
            kind_of(left)
        }
        Expr::Fib(fib) => match fib.result {
            FibResult::Type => Kind::Names(&names::FIB_TYPE),
            FibResult::Oif => Kind::Index,
            FibResult::Oifname => Kind::Interface,
            FibResult::Present => Kind::Names(&names::BOOLEAN),
        },
        Expr::Payload { base: PayloadBase::Transport, offset: 0 | 16, length: 16 } => Kind::Port,
        Expr::Payload { length, .. } => Kind::Hex(*length),
        Expr::Number(_) | Expr::Concat(_) | Expr::Map { .. } | Expr::Opaque(_) => Kind::Integer(128),
    }
}

/// Kinds of all dimensions of a key.
pub(crate) fn kinds_of(expr: &Expr) -> Vec<Kind> {
    match expr {
        Expr::Concat(parts) => parts.iter().map(kind_of).collect(),
        _ => vec![kind_of(expr)],
    }
}

/// Kind of a data type of named sets (`ipv4_addr`, `inet_service`, …).
pub(crate) fn kind_of_type(name: &str) -> Option<Kind> {
    table::TYPES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}
