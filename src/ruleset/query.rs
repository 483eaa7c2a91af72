//! Small questions about the model that several rooms ask.

use super::{Backend, Effect, Expr, Match, Rule, Step, Table, Verdict};
use crate::packet::Family;

impl Table {
    /// How people name it: `iptables-legacy ipv6 filter`, `nft inet firewalld`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {} {}", self.backend.name(), self.family, self.name)
    }

    /// The command that lists it.
    #[must_use]
    pub fn save_command(&self) -> &'static str {
        match (self.backend, self.family) {
            (Backend::IptablesLegacy, Family::Ipv6) => "ip6tables-legacy-save",
            (Backend::IptablesLegacy, _) => "iptables-legacy-save",
            (Backend::IptablesNft, Family::Ipv6) => "ip6tables-nft-save",
            (Backend::IptablesNft, _) => "iptables-nft-save",
            (Backend::Iptables, Family::Ipv6) => "ip6tables-save",
            (Backend::Iptables, _) => "iptables-save",
            (Backend::Nft, _) => "nft list table",
        }
    }
}

impl Rule {
    /// The chain it jumps or goes to.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.steps.iter().find_map(|step| match step {
            Step::Verdict(Verdict::Jump(name) | Verdict::Goto(name)) => Some(&**name),
            _ => None,
        })
    }

    /// Texts of the parts that hepguard does not understand or cannot decide from packets alone.
    #[must_use]
    pub fn opaque_parts(&self) -> Vec<&str> {
        let mut parts = Vec::new();
        for step in &self.steps {
            match step {
                Step::Match(condition) => opaque_in_match(condition, &mut parts),
                Step::Effect(Effect::Opaque(text)) | Step::Verdict(Verdict::Opaque(text)) => parts.push(&**text),
                Step::Effect(Effect::Set { value, .. }) => opaque_in_expr(value, &mut parts),
                Step::Vmap { key, .. } => opaque_in_expr(key, &mut parts),
                Step::Effect(_) | Step::Verdict(_) => {}
            }
        }
        parts
    }
}

fn opaque_in_match<'a>(condition: &'a Match, parts: &mut Vec<&'a str>) {
    match condition {
        Match::Opaque { text, .. } => parts.push(text),
        Match::Any(all) | Match::All(all) => all.iter().for_each(|inner| opaque_in_match(inner, parts)),
        Match::Not(inner) => opaque_in_match(inner, parts),
        Match::Compare { left, right, .. } => {
            opaque_in_expr(left, parts);
            opaque_in_expr(right, parts);
        }
        Match::Lookup { left, .. } => opaque_in_expr(left, parts),
        Match::Ipset { options, .. } => parts.extend(options.as_deref()),
    }
}

fn opaque_in_expr<'a>(expr: &'a Expr, parts: &mut Vec<&'a str>) {
    match expr {
        Expr::Opaque(text) => parts.push(text),
        Expr::Concat(all) => all.iter().for_each(|inner| opaque_in_expr(inner, parts)),
        Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
            opaque_in_expr(a, parts);
            opaque_in_expr(b, parts);
        }
        Expr::Map { key, .. } => opaque_in_expr(key, parts),
        Expr::Field(_) | Expr::Number(_) | Expr::Fib(_) | Expr::Payload { .. } => {}
    }
}
