//! Texts Felix may have written where a live chain does not fit: the places a cause is looked for.
//!
//! In order: what the same chain holds in another table or family, the default failsafe lists, the live rule with one thing
//! changed, two of these at once, and in failsafe chains every port there is. Each guess is checked against a hash, so a
//! wrong one costs time only; how much is up to the `budget`.

use std::collections::{HashMap, HashSet};

use super::budget::Budget;
use super::sequence::Sequence;
use super::{MismatchKind, plain_name};
use crate::calico::hash::{ChainHash, ShortHash};
use crate::calico::render;
use crate::calico::spelling::Spelling;
use crate::packet::Family;
use crate::ruleset::{Backend, Rule};

/// Guesses that are tried two at a time.
const MAX_PAIRED: usize = 64;

/// Names that Felix has changed over time.
const RENAMED: [(&str, &str); 1] = [("network-ip-pools", "all-ipam-pools")];

/// Originals of a live rule that are tried behind a rule thought missing.
const MAX_FOLLOWERS: usize = 400;

/// How many of them are tried at first.
const FEW_FOLLOWERS: usize = 16;

/// How many of them are tried behind every port there is.
const SEARCH_FOLLOWERS: usize = 4;

/// Proven texts remembered for chains of one name.
const MAX_KNOWN: usize = 512;

/// How far the search for a cause goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Effort {
    /// Texts close at hand, and the likeliest spellings of live rules.
    Near,
    /// All spellings of live rules, and two neighbours gone at once.
    Far,
    /// Every port a failsafe entry may have.
    Search,
}

/// What is known to help with guesses.
#[derive(Default)]
pub(super) struct Pool {
    /// Proven texts, without their `-A chain`, by plain chain name and dialect.
    texts: HashMap<(String, bool), Known>,
    /// Felix's static rules by dialect and family, made when first needed.
    statics: HashMap<(bool, Family), render::KnownRules>,
}

/// Texts in the order they were learned.
#[derive(Default)]
struct Known {
    texts: Vec<String>,
    seen: HashSet<String>,
}

impl Pool {
    /// Remembers what a chain proved since the last time.
    pub(super) fn learn(&mut self, sequence: &mut Sequence<'_>) {
        let key = (plain_name(&sequence.name).to_owned(), sequence.backend == Backend::Nft);
        let known = self.texts.entry(key).or_default();
        for text in std::mem::take(&mut sequence.proven) {
            let body = body(&text);
            if known.texts.len() < MAX_KNOWN && known.seen.insert(body.to_owned()) {
                known.texts.push(body.to_owned());
            }
        }
    }
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
    /// What may stand in such a chain, whatever the live rule.
    guesses: Vec<String>,
    live: Option<Spelling>,
    followers: Vec<String>,
}

/// How entries of a failsafe chain are spelled.
struct FailsafeForm {
    /// Before protocol and port matches and behind them: one for each net.
    nets: Vec<String>,
    /// `--destination-ports` first, then what raw has for replies.
    sides: [&'static str; 2],
}

impl Suspects {
    /// `None` when the budget is not enough to list them.
    pub(super) fn new(
        chain: &str,
        backend: Backend,
        family: Family,
        rule: &Rule,
        pool: &mut Pool,
        budget: &mut Budget,
    ) -> Option<Self> {
        let nft = backend == Backend::Nft;
        let plain = plain_name(chain).trim_end_matches("*appends*");
        let known = pool.texts.get(&(plain.to_owned(), nft)).map_or(&[][..], |known| &known.texts);
        let layer = if nft { chain.split_once('-').map_or("?", |(layer, _)| layer) } else { "" };
        let statics = pool.statics.entry((nft, family)).or_insert_with(|| render::known_rules(nft, family));
        let statics = ["raw", "mangle", "nat", "filter", ""]
            .into_iter()
            .find(|known| *known == layer)
            .and_then(|layer| statics.get(&(layer, plain.to_owned())));
        let inbound = plain == "cali-failsafe-in";
        let failsafe = (inbound || plain == "cali-failsafe-out")
            .then(|| FailsafeForm::new(nft, family, inbound, known.iter().map(String::as_str).chain([&*rule.text])));
        let head = if nft { String::new() } else { format!("-A {chain} HASH ") };
        let bodies = known.iter().chain(statics.into_iter().flatten()).cloned();
        let defaults = failsafe.as_ref().map(|form| form.defaults(nft)).unwrap_or_default();
        let guesses: Vec<String> = bodies.chain(defaults).map(|body| format!("{head}{body}")).collect();
        if !budget.take(guesses.len()) || !budget.spell(&rule.text) {
            return None;
        }
        let live = Spelling::of(rule, chain, backend, family);
        let followers = live.as_ref().map(|live| texts(live, budget)).unwrap_or_default();
        Some(Self { head, nft, failsafe, guesses, live, followers })
    }

    /// What happened between the proven hash `before` and the live rule with `hash` in its comment: the rule was edited
    /// (then its original text) or one before it is gone (then that one's). Tries what `effort` adds to the one below it.
    pub(super) fn cause(
        &self,
        effort: Effort,
        before: ChainHash,
        hash: ShortHash,
        budget: &mut Budget,
    ) -> Option<(MismatchKind, String)> {
        let edited = |text| (MismatchKind::Edited, text);
        let gone = |text| (MismatchKind::Missing, text);
        let few = self.followers.get(..FEW_FOLLOWERS).unwrap_or(&self.followers);
        match effort {
            Effort::Near => {
                let changed = self.live.as_ref().map(|live| one_change(live, budget)).unwrap_or_default();
                let was = |next: ChainHash| next.short() == hash;
                first(self.guesses.iter().chain(&changed), before, 1, budget, was)
                    .map(edited)
                    .or_else(|| self.leads(&changed, before, hash, few, budget).map(gone))
            }
            Effort::Far => {
                let changed = self.live.as_ref().map(|live| one_change(live, budget)).unwrap_or_default();
                let more = self.followers.get(few.len()..).unwrap_or_default();
                self.leads(&changed, before, hash, more, budget)
                    .or_else(|| self.two_gone(before, hash, budget))
                    .map(gone)
            }
            Effort::Search => {
                let form = self.failsafe.as_ref()?;
                let was = |next: ChainHash| next.short() == hash;
                if let Some(text) = self.any_failsafe(form, &form.nets, before, 1, budget, was) {
                    return Some(edited(text));
                }
                // among all ports only entries of the chain's own form, and followers of that form, can be afforded
                let spelled = |text: &&String| form.spells(self.nft, body(text));
                let followers: Vec<&String> = self.followers.iter().filter(spelled).take(SEARCH_FOLLOWERS).collect();
                let leads = |next: ChainHash| followers.iter().any(|text| next.after(text).short() == hash);
                let nets = form.nets.get(..1)?;
                self.any_failsafe(form, nets, before, 1 + followers.len(), budget, leads).map(gone)
            }
        }
    }

    /// A rule that is gone, and one of `followers` behind it.
    fn leads(
        &self,
        changed: &[String],
        before: ChainHash,
        hash: ShortHash,
        followers: &[String],
        budget: &mut Budget,
    ) -> Option<String> {
        if followers.is_empty() {
            return None;
        }
        let leads = |next: ChainHash| followers.iter().any(|text| next.after(text).short() == hash);
        first(self.guesses.iter().chain(changed), before, 1 + followers.len(), budget, leads)
    }

    /// The first of two neighbours that are both gone.
    fn two_gone(&self, before: ChainHash, hash: ShortHash, budget: &mut Budget) -> Option<String> {
        let guesses = self.guesses.get(..MAX_PAIRED).unwrap_or(&self.guesses);
        let followers = self.followers.get(..FEW_FOLLOWERS).unwrap_or(&self.followers);
        let leads = |gone: ChainHash| {
            guesses.iter().any(|second| {
                let gone = gone.after(second);
                followers.iter().any(|next| gone.after(next).short() == hash)
            })
        };
        first(guesses.iter(), before, 1 + guesses.len() * (1 + followers.len()), budget, leads)
    }

    /// Every protocol and port with these nets, in the chain's own form; each costs so many `hashes`.
    fn any_failsafe(
        &self,
        form: &FailsafeForm,
        nets: &[String],
        before: ChainHash,
        hashes: usize,
        budget: &mut Budget,
        accept: impl Fn(ChainHash) -> bool,
    ) -> Option<String> {
        for side in form.sides {
            for net in nets {
                for protocol in ["tcp", "udp"] {
                    if !budget.take(hashes << 16) {
                        return None;
                    }
                    let (start, behind) = form.around_port(self.nft, protocol, side, net);
                    let start = format!("{}{start}", self.head);
                    let stem = before.stem(&start);
                    let fits = |port: &u16| accept(stem.after(&format!("{port}{behind}")));
                    if let Some(port) = (0..=u16::MAX).find(fits) {
                        return Some(format!("{start}{port}{behind}"));
                    }
                }
            }
        }
        None
    }
}

/// The first of `guesses` whose hash `accept` takes, as far as the budget lasts at so many `hashes` each.
fn first<'a>(
    guesses: impl Iterator<Item = &'a String>,
    before: ChainHash,
    hashes: usize,
    budget: &mut Budget,
    accept: impl Fn(ChainHash) -> bool,
) -> Option<String> {
    for text in guesses {
        if !budget.try_text(text, hashes) {
            return None;
        }
        if accept(before.after(text)) {
            return Some(text.clone());
        }
    }
    None
}

/// The likeliest texts of a live rule.
fn texts(live: &Spelling, budget: &mut Budget) -> Vec<String> {
    let mut texts = Vec::new();
    budget.find(live, MAX_FOLLOWERS, |text| {
        texts.push(text.to_owned());
        false
    });
    texts
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

/// The live rule with its action replaced, under its sets' other names, or without one of its parts.
fn one_change(live: &Spelling, budget: &mut Budget) -> Vec<String> {
    let nft = live.head.is_empty();
    let actions: &[&str] = if nft {
        &["counter accept", "counter drop", "counter return", "counter reject"]
    } else {
        &["--jump ACCEPT", "--jump DROP", "--jump RETURN", "--jump REJECT"]
    };
    let actions = actions.iter().map(|action| (*action).to_owned()).collect();
    let mut changed = texts(&Spelling { actions, ..live.clone() }, budget);
    for (one, other) in RENAMED.into_iter().flat_map(|(new, old)| [(new, old), (old, new)]) {
        let mut renamed = live.clone();
        for spelling in renamed.parts.iter_mut().flat_map(|part| &mut part.spellings) {
            *spelling = spelling.replace(one, other);
        }
        if renamed != *live {
            changed.extend(texts(&renamed, budget));
        }
    }
    for index in 0..live.parts.len() {
        // parts are copied for each of them
        if !budget.take(1 + live.parts.len()) {
            break;
        }
        let mut shorter = live.clone();
        shorter.parts.remove(index);
        changed.extend(texts(&shorter, budget));
    }
    changed
}
