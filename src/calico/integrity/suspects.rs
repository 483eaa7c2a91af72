//! Texts Felix may have written where a live chain does not fit: the places a cause is looked for.
//!
//! In order: what the same chain holds in another table or family, the default failsafe lists, the live rule with one thing
//! changed, and in failsafe chains every port there is. Each guess is checked against a hash, so a wrong one costs time only.

use std::collections::HashMap;

use super::sequence::Sequence;
use super::{MismatchKind, plain_name};
use crate::calico::hash::{ChainHash, ShortHash};
use crate::calico::render;
use crate::calico::spelling::Spelling;
use crate::packet::Family;
use crate::ruleset::{Backend, Rule};

/// Guesses close at hand for a whole ruleset; with [`SEARCH`] it keeps a ruleset full of broken chains from taking minutes.
const NEAR: usize = 2_000_000;

/// Guesses of the search among all ports, for a whole ruleset: enough for one chain of unusual entries.
const SEARCH: usize = 3_200_000;

/// Guesses that are tried two at a time.
const MAX_PAIRED: usize = 64;

/// Names that Felix has changed over time.
const RENAMED: [(&str, &str); 1] = [("network-ip-pools", "all-ipam-pools")];

/// Originals of a live rule that are tried behind a rule thought missing.
const MAX_FOLLOWERS: usize = 400;

/// What is known to help with guesses.
pub(super) struct Pool {
    /// Proven texts, without their `-A chain`, by plain chain name and dialect.
    texts: HashMap<(String, bool), Vec<String>>,
    near: usize,
    search: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self { texts: HashMap::new(), near: NEAR, search: SEARCH }
    }
}

impl Pool {
    /// Remembers what a chain proved.
    pub(super) fn learn(&mut self, sequence: &Sequence<'_>) {
        let key = (plain_name(&sequence.name).to_owned(), sequence.backend == Backend::Nft);
        let known = self.texts.entry(key).or_default();
        for text in sequence.live.iter().filter_map(|live| live.proven.as_deref()) {
            let body = body(text);
            if known.len() < 512 && !known.iter().any(|other| other == body) {
                known.push(body.to_owned());
            }
        }
    }
}

/// Takes `guesses` out of a budget, if there are that many.
fn spend(budget: &mut usize, guesses: usize) -> bool {
    let left = budget.checked_sub(guesses);
    *budget = left.unwrap_or(*budget);
    left.is_some()
}

/// A rule's text behind `-A chain HASH`.
fn body(text: &str) -> &str {
    text.strip_prefix("-A ").and_then(|rest| rest.split_once(" HASH")).map_or(text, |(_, body)| body.trim_start())
}

/// Guesses for one place of one chain.
pub(super) struct Suspects {
    /// `-A chain HASH ` or nothing.
    head: String,
    nft: bool,
    failsafe: Option<FailsafeForm>,
    siblings: Vec<String>,
    live: Option<Spelling>,
}

/// How entries of a failsafe chain are spelled.
struct FailsafeForm {
    /// Before protocol and port matches and behind them: one for each net.
    nets: Vec<String>,
    /// `--destination-ports` first, then what raw has for replies.
    sides: [&'static str; 2],
}

impl Suspects {
    pub(super) fn new(chain: &str, backend: Backend, family: Family, rule: &Rule, pool: &Pool) -> Self {
        let nft = backend == Backend::Nft;
        let plain = plain_name(chain).trim_end_matches("*appends*");
        let mut siblings = pool.texts.get(&(plain.to_owned(), nft)).cloned().unwrap_or_default();
        let known = siblings.len();
        let layer = chain.split_once('-').map(|(layer, _)| layer).filter(|_| nft);
        let statics = if nft && layer.is_none() { Vec::new() } else { render::known_rules(plain, layer, family) };
        siblings.extend(statics);
        let live = Spelling::of(rule, chain, backend, family);
        let inbound = plain == "cali-failsafe-in";
        let failsafe = (inbound || plain == "cali-failsafe-out").then(|| {
            FailsafeForm::new(
                nft,
                family,
                inbound,
                siblings.iter().take(known).map(String::as_str).chain([&*rule.text]),
            )
        });
        let head = if nft { String::new() } else { format!("-A {chain} HASH ") };
        Self { head, nft, failsafe, siblings, live }
    }

    /// What happened between the proven hash `before` and the live rule with `hash` in its comment: the rule was edited
    /// (then its original text) or one before it is gone (then that one's).
    pub(super) fn cause(&self, before: ChainHash, hash: ShortHash, pool: &mut Pool) -> Option<(MismatchKind, String)> {
        let mut followers = Vec::new();
        if let Some(live) = &self.live {
            live.find(|text| {
                followers.push(text.to_owned());
                followers.len() >= MAX_FOLLOWERS
            });
        }
        let mut was = |text: &str| before.after(text).short() == hash;
        let leads = |text: &str, followers: &[String]| {
            let gone = before.after(text);
            followers.iter().any(|next| gone.after(next).short() == hash)
        };
        if let Some(text) = self.near(pool, &mut was) {
            return Some((MismatchKind::Edited, text));
        }
        if let Some(text) = self.near(pool, &mut |text| leads(text, &followers)) {
            return Some((MismatchKind::Missing, text));
        }
        if let Some(text) = self.two_gone(before, hash, &followers, pool) {
            return Some((MismatchKind::Missing, text));
        }
        if let Some(text) = self.any_failsafe(pool, &mut was) {
            return Some((MismatchKind::Edited, text));
        }
        // among all ports only followers in the very form of a failsafe rule can be afforded
        let form = self.failsafe.as_ref()?;
        followers.retain(|text| form.spells(self.nft, body(text)));
        let text = self.any_failsafe(pool, &mut |text| leads(text, &followers))?;
        Some((MismatchKind::Missing, text))
    }

    /// The first of two neighbours that are both gone.
    fn two_gone(&self, before: ChainHash, hash: ShortHash, followers: &[String], pool: &mut Pool) -> Option<String> {
        let guesses: Vec<String> = self.guesses().into_iter().take(MAX_PAIRED).collect();
        let followers = followers.get(..followers.len().min(MAX_PAIRED / 4))?;
        if !spend(&mut pool.near, guesses.len() * guesses.len() * (1 + followers.len())) {
            return None;
        }
        let leads = |first: &&String| {
            let gone = before.after(first);
            guesses.iter().any(|second| {
                let gone = gone.after(second);
                followers.iter().any(|next| gone.after(next).short() == hash)
            })
        };
        guesses.iter().find(leads).cloned()
    }

    /// What may stand in such a chain, whatever the live rule.
    fn guesses(&self) -> Vec<String> {
        let mut guesses: Vec<String> = self.siblings.iter().map(|body| format!("{}{body}", self.head)).collect();
        if let Some(form) = &self.failsafe {
            guesses.extend(form.defaults(self.nft).into_iter().map(|body| format!("{}{body}", self.head)));
        }
        guesses
    }

    /// Texts that are close at hand.
    fn near(&self, pool: &mut Pool, accept: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        let mut guesses = self.guesses();
        guesses.extend(self.live.as_ref().map(one_change).unwrap_or_default());
        if !spend(&mut pool.near, guesses.len()) {
            return None;
        }
        guesses.into_iter().find(|text| accept(text))
    }

    /// Every protocol and port, in the chain's own form.
    fn any_failsafe(&self, pool: &mut Pool, accept: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        let form = self.failsafe.as_ref()?;
        for side in form.sides {
            for net in &form.nets {
                for protocol in ["tcp", "udp"] {
                    if !spend(&mut pool.search, 1 << 16) {
                        return None;
                    }
                    let found = self.any_port(&form.around_port(self.nft, protocol, side, net), accept);
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        None
    }

    fn any_port(&self, (before, behind): &(String, String), accept: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        use std::fmt::Write as _;
        let start = format!("{}{before}", self.head);
        let mut text = start.clone();
        for port in 0..=u16::MAX {
            text.truncate(start.len());
            // writing to a String cannot fail
            let _ = write!(text, "{port}");
            text.push_str(behind);
            if accept(&text) {
                return Some(text);
            }
        }
        None
    }
}

impl FailsafeForm {
    /// The nets to try are those that rules of the chain show, and those a rule does not show.
    fn new<'a>(nft: bool, family: Family, inbound: bool, texts: impl Iterator<Item = &'a str>) -> Self {
        let any = if family == Family::Ipv6 { "::/0" } else { "0.0.0.0/0" };
        let side = match (nft, inbound, family == Family::Ipv6) {
            (false, true, _) => "--source",
            (false, false, _) => "--destination",
            (true, true, false) => "ip saddr",
            (true, false, false) => "ip daddr",
            (true, true, true) => "ip6 saddr",
            (true, false, true) => "ip6 daddr",
        };
        let short = if inbound { "-s" } else { "-d" };
        let mut nets: Vec<String> = Vec::new();
        for text in texts {
            let net =
                [side, short].iter().find_map(|option| text.split_once(&format!("{option} "))).map(|(_, rest)| rest);
            if let Some(net) = net.and_then(|rest| rest.split_ascii_whitespace().next()) {
                let net = format!("{side} {net}");
                if nets.len() < 4 && !nets.contains(&net) {
                    nets.push(net);
                }
            }
        }
        nets.extend([String::new(), format!("{side} {any}")]);
        let sides = if nft { ["dport", "sport"] } else { ["--destination-ports", "--source-ports"] };
        Self { nets, sides }
    }

    /// An entry's text before and behind its port.
    fn around_port(&self, nft: bool, protocol: &str, side: &str, net: &str) -> (String, String) {
        let gap = if net.is_empty() { "" } else { " " };
        if nft {
            (format!("meta l4proto {protocol} {protocol} {side} {{ "), format!(" }}{gap}{net} counter accept"))
        } else {
            (format!("-p {protocol} -m multiport {side} "), format!("{gap}{net} --jump ACCEPT"))
        }
    }

    /// Entries of the default lists, in and out.
    fn defaults(&self, nft: bool) -> Vec<String> {
        let mut bodies = Vec::new();
        for net in &self.nets {
            for side in self.sides {
                for (protocol, port) in
                    [("udp", 53), ("udp", 67), ("udp", 68)].into_iter().chain(DEFAULT_TCP.map(|port| ("tcp", port)))
                {
                    let (before, behind) = self.around_port(nft, protocol, side, net);
                    bodies.push(format!("{before}{port}{behind}"));
                }
            }
        }
        bodies
    }

    /// Whether `body` is spelled as Felix spells failsafe rules.
    fn spells(&self, nft: bool, body: &str) -> bool {
        let start = if nft { "meta l4proto " } else { "-p " };
        let Some(rest) = body.strip_prefix(start) else { return false };
        let Some(rest) = rest.strip_prefix("tcp ").or_else(|| rest.strip_prefix("udp ")) else { return false };
        if nft { rest.contains("port { ") } else { rest.starts_with("-m multiport ") }
    }
}

const DEFAULT_TCP: [u16; 8] = [22, 179, 2379, 2380, 5473, 6443, 6666, 6667];

/// The live rule with its action replaced, or without one of its parts.
fn one_change(live: &Spelling) -> Vec<String> {
    let mut changed = Vec::new();
    let nft = live.head.is_empty();
    let actions: &[&str] = if nft {
        &["counter accept", "counter drop", "counter return", "counter reject"]
    } else {
        &["--jump ACCEPT", "--jump DROP", "--jump RETURN", "--jump REJECT"]
    };
    let mut collect = |spelling: &Spelling| {
        let mut left = MAX_FOLLOWERS;
        spelling.find(|text| {
            changed.push(text.to_owned());
            left -= 1;
            left == 0
        });
    };
    collect(&Spelling { actions: actions.iter().map(|action| (*action).to_owned()).collect(), ..live.clone() });
    for (one, other) in RENAMED.into_iter().flat_map(|(new, old)| [(new, old), (old, new)]) {
        let mut renamed = live.clone();
        for spelling in renamed.parts.iter_mut().flat_map(|part| &mut part.spellings) {
            *spelling = spelling.replace(one, other);
        }
        if renamed != *live {
            collect(&renamed);
        }
    }
    for index in 0..live.parts.len() {
        let mut shorter = live.clone();
        shorter.parts.remove(index);
        collect(&shorter);
    }
    changed
}
