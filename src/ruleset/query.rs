//! Small questions about the model that several rooms ask.

use super::{Backend, Data, Effect, Expr, Match, Rule, SetRef, Step, Table, Verdict, asks_counters};
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

    /// Names of the chains a rule of it may call, those in verdict maps included.
    #[must_use]
    pub fn chains_called<'t>(&'t self, rule: &'t Rule) -> Vec<&'t str> {
        let mut names = Vec::new();
        let mut add = |verdict: &'t Verdict| {
            if let Verdict::Jump(name) | Verdict::Goto(name) = verdict {
                names.push(&**name);
            }
        };
        for step in &rule.steps {
            let map = match step {
                Step::Verdict(verdict) => {
                    add(verdict);
                    continue;
                }
                Step::Vmap { map, .. } => map,
                _ => continue,
            };
            let elements = match map {
                SetRef::Anonymous(elements) => Some(&**elements),
                SetRef::Named(name) => self.set(name).map(|set| &set.elements),
            };
            let Some(elements) = elements else { continue };
            let data = (0..elements.len()).filter_map(|at| elements.data(at)).chain(elements.catch_all());
            data.for_each(|data| {
                if let Data::Verdict(verdict) = data {
                    add(verdict);
                }
            });
        }
        names
    }
}

impl Rule {
    /// Whether the listing withholds what the rule asks: nft's JSON gives only the name of an xtables match or target, and
    /// hides comments. With the save listing beside it nothing is withheld.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        let xt = |text: &str| text.starts_with("xt ");
        self.steps.iter().any(|step| match step {
            Step::Match(Match::Opaque { text, .. })
            | Step::Effect(Effect::Opaque(text) | Effect::Harmless(text))
            | Step::Verdict(Verdict::Opaque(text)) => xt(text),
            _ => false,
        })
    }

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
        Match::Xtables { .. } => {}
        Match::Lookup { left, .. } => opaque_in_expr(left, parts),
        Match::Ipset { options, .. } => parts.extend(options.as_deref().filter(|options| asks_counters(Some(options)))),
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

/// A rule's text without the `-m comment --comment "…"` parts: those are told in words beside it.
#[must_use]
pub fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("-m comment --comment ") {
        let (head, tail) = rest.split_at(at);
        let value = tail.trim_start_matches("-m comment --comment ");
        let length = match value.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.bytes().position(|byte| {
                    let ends = byte == b'"' && !escaped;
                    escaped = byte == b'\\' && !escaped;
                    ends
                });
                end.map_or(value.len(), |end| end + 2)
            }
            None => value.find(' ').unwrap_or(value.len()),
        };
        out.push_str(head);
        rest = value.get(length..).unwrap_or_default().trim_start_matches(' ');
    }
    out.push_str(rest);
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_cut_out_whole() {
        let text = r#"-A c -p tcp -m comment --comment "cali:x" -m comment --comment "a \" -j ACCEPT" -j DROP"#;
        assert_eq!(without_comments(text), "-A c -p tcp -j DROP");
        assert_eq!(without_comments("-A c -m comment --comment plain -j DROP"), "-A c -j DROP");
        assert_eq!(without_comments("-A c -m comment --comment \"never closed"), "-A c");
        assert_eq!(without_comments("-A c -j DROP"), "-A c -j DROP");
    }
}
