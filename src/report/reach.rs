//! `hepguard reach` for people and machines.

use serde::Serialize;

use super::text::{Style, Tone, count};
use super::trace::{Place, place, short, told, words};
use crate::analysis::reach::conversation::Question;
use crate::analysis::reach::peers::{Answer, Cause, Doubt, Part};
use crate::calico::names::Meanings;
use crate::packet::{Family, Prefix};
use crate::ruleset::RuleRef;
use crate::space::TooLarge;
use crate::space::describe::Listing;

/// The schema of [`line()`], as shipped.
pub const SCHEMA: &str = include_str!("schemas/reach.v1.json");

/// Prefixes of one list in a text; `-v` shows all.
const SHOWN: usize = 24;

/// An answer for one family, in every world.
#[derive(Debug)]
pub struct Told {
    /// The family.
    pub family: Family,
    /// What was asked.
    pub question: Question,
    /// Only these peers.
    pub from: Option<Prefix>,
    /// The worlds, `now` first.
    pub worlds: Vec<World>,
    /// Why the world after a restart of Felix is not among them, where it could be.
    pub restart: Option<&'static str>,
    /// Whether the kernel's settings (sysctl) were read.
    pub settings: bool,
    /// Why the rules are not all known; empty when they are.
    pub blind: Vec<String>,
}

/// An answer in one world.
#[derive(Clone, Debug)]
pub struct World {
    /// Its name: `now`, `no-failsafe`, `felix-restart`.
    pub name: &'static str,
    /// The answer, or why there is none.
    pub answer: Result<Answer, TooLarge>,
}

impl Told {
    /// Whether everything needed was readable and every peer is decided, now.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        let now = self.worlds.first().and_then(|world| world.answer.as_ref().ok());
        self.blind.is_empty()
            && now.is_some_and(|answer| {
                answer.all.unknown.is_empty() && answer.parts.iter().all(|part| part.unknown.is_empty())
            })
    }

    fn service(&self) -> String {
        let Question { protocol, port, .. } = self.question;
        port.map_or_else(|| protocol.to_string(), |port| format!("{protocol}/{port}"))
    }

    /// What the kernel may refuse whatever the rules say, and the sets do not know.
    fn not_judged(&self) -> Vec<&'static str> {
        let mut all = match self.family {
            Family::Ipv4 => vec!["forwarding", "TTL"],
            _ => vec!["forwarding", "hop limit", "extension headers"],
        };
        if !self.settings && self.family == Family::Ipv4 {
            all.push("rp_filter (sysctl.txt was not read: taken to be off)");
        }
        all.extend(self.restart);
        all
    }

    fn direction(&self) -> &'static str {
        if self.question.outgoing { "out" } else { "in" }
    }
}

#[derive(Serialize)]
struct Document<'t> {
    schema: &'static str,
    family: Family,
    direction: &'static str,
    proto: String,
    port: Option<u16>,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(flatten)]
    lists: Lists<'t>,
    parts: Vec<PartJson<'t>>,
    worlds: Vec<WorldJson<'t>>,
    aside: Vec<String>,
    not_judged: Vec<&'static str>,
}

/// The three lists; `left_out` counts prefixes past the limit of a list.
#[derive(Serialize)]
struct Lists<'t> {
    allowed: Vec<String>,
    denied: Vec<String>,
    unknown: Vec<Unknown<'t>>,
    left_out: u64,
}

#[derive(Serialize)]
struct Unknown<'t> {
    cidrs: Vec<String>,
    because: Vec<Reason<'t>>,
}

#[derive(Serialize)]
struct Reason<'t> {
    rule: Option<Place<'t>>,
    reason: std::borrow::Cow<'t, str>,
}

#[derive(Serialize)]
struct PartJson<'t> {
    interfaces: &'t [String],
    addresses: &'t [std::net::IpAddr],
    #[serde(flatten)]
    lists: Lists<'t>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<CauseJson<'t>>,
}

#[derive(Serialize)]
struct CauseJson<'t> {
    packet: &'static str,
    admitted: bool,
    decided_by: Option<Place<'t>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'t str>,
    cidrs: Vec<String>,
}

#[derive(Serialize)]
struct WorldJson<'t> {
    world: &'static str,
    #[serde(flatten)]
    lists: Lists<'t>,
}

fn cidrs(list: &Listing<Prefix>) -> Vec<String> {
    list.items.iter().map(ToString::to_string).collect()
}

fn lists<'t, 'r: 't>(meanings: &Meanings<'r>, part: &'t Part) -> Lists<'t> {
    let doubts = part.unknown.iter();
    let all = doubts.clone().map(|doubt| &doubt.peers).chain([&part.allowed, &part.denied]);
    let left_out = all.map(Listing::left_out).fold(0u128, u128::saturating_add);
    Lists {
        allowed: cidrs(&part.allowed),
        denied: cidrs(&part.denied),
        unknown: doubts.map(|doubt| unknown(meanings, doubt)).collect(),
        left_out: u64::try_from(left_out).unwrap_or(u64::MAX),
    }
}

fn unknown<'t, 'r: 't>(meanings: &Meanings<'r>, doubt: &'t Doubt) -> Unknown<'t> {
    let because = doubt.because.iter().map(|(rule, reason)| Reason {
        rule: rule.and_then(|rule| place(meanings, rule, true)),
        reason: reason.into(),
    });
    Unknown { cidrs: cidrs(&doubt.peers), because: because.collect() }
}

/// Everybody, because nobody knows: the rules were not all read, or the sets are too large.
fn all_unknown<'t>(family: Family, from: Option<Prefix>, reasons: Vec<String>) -> Lists<'t> {
    let because = reasons.into_iter().map(|reason| Reason { rule: None, reason: reason.into() }).collect();
    let everybody = from.unwrap_or(Prefix::any(family)).to_string();
    let unknown = vec![Unknown { cidrs: vec![everybody], because }];
    Lists { allowed: Vec::new(), denied: Vec::new(), unknown, left_out: 0 }
}

/// The answer as one line of JSON (`hepguard/reach/v1`).
#[must_use]
pub fn line<'t, 'r: 't>(meanings: &Meanings<'r>, told: &'t Told) -> String {
    let nobody_knows = |reasons: Vec<String>| all_unknown(told.family, told.from, reasons);
    let lists_of = |world: &'t World| match &world.answer {
        _ if !told.blind.is_empty() => nobody_knows(told.blind.clone()),
        Ok(answer) => lists(meanings, &answer.all),
        Err(too_large) => nobody_knows(vec![too_large.to_string()]),
    };
    let Some(now) = told.worlds.first() else { return String::new() };
    let parts = match &now.answer {
        Ok(answer) if told.blind.is_empty() => answer.parts.as_slice(),
        _ => &[],
    };
    let document = Document {
        schema: "hepguard/reach/v1",
        family: told.family,
        direction: told.direction(),
        proto: told.question.protocol.to_string(),
        port: told.question.port,
        state: told.question.state.to_string(),
        from: told.from.map(|prefix| prefix.to_string()),
        lists: lists_of(now),
        parts: parts.iter().map(|part| part_json(meanings, part)).collect(),
        worlds: told.worlds.iter().map(|world| WorldJson { world: world.name, lists: lists_of(world) }).collect(),
        aside: now.answer.as_ref().map(|answer| cidrs(&answer.aside)).unwrap_or_default(),
        not_judged: told.not_judged(),
    };
    super::json_text(&document)
}

fn part_json<'t, 'r: 't>(meanings: &Meanings<'r>, part: &'t Part) -> PartJson<'t> {
    let cause = |cause: &'t Cause| {
        let decided_by = cause.decision.and_then(|decision| place(meanings, decision.rule, true));
        let kernel = cause.kernel.as_deref();
        CauseJson { packet: cause.packet, admitted: cause.admitted, decided_by, kernel, cidrs: cidrs(&cause.peers) }
    };
    PartJson {
        interfaces: &part.interfaces,
        addresses: &part.addresses,
        lists: lists(meanings, part),
        causes: part.causes.iter().map(cause).collect(),
    }
}

/// The answer for people.
#[must_use]
pub fn text(meanings: &Meanings<'_>, told: &Told, style: Style, verbose: bool) -> String {
    let state = if told.question.state == crate::packet::CtState::NEW { "" } else { ", sessions that exist" };
    let from = told.from.map(|prefix| format!(", peers in {prefix}")).unwrap_or_default();
    let title = format!("reach {} {} ({}{state}{from})", told.direction(), told.service(), told.family);
    let mut out = format!("{}\n", style.paint(Tone::Strong, &title));
    let mut shown = Shown { out: &mut out, meanings, style, limit: if verbose { usize::MAX } else { SHOWN } };
    let first = told.worlds.first();
    if !told.blind.is_empty() {
        shown.label(Tone::Warn, "unknown", "everybody: not all rules could be read");
        for spot in &told.blind {
            shown.because(None, spot);
        }
        shown.out.push_str(&style.wrap("  ", "the rules that were read say:"));
    }
    let now = match first.map(|world| &world.answer) {
        Some(Ok(answer)) => answer,
        Some(Err(too_large)) => {
            shown.label(Tone::Warn, "unknown", &format!("everybody: {too_large}"));
            return out;
        }
        None => return out,
    };
    if now.parts.is_empty() {
        shown.label(Tone::Warn, "nobody", "no interface of this host leads to such peers");
    }
    for part in &now.parts {
        shown.part(part);
    }
    for world in told.worlds.iter().skip(1) {
        let Ok(answer) = &world.answer else { continue };
        let title = match world.name {
            "no-failsafe" => "without Felix's failsafes",
            "felix-restart" => "after the next restart of Felix",
            other => other,
        };
        if same(&answer.all, &now.all) {
            shown.out.push_str(&style.wrap(&format!("{title}: "), "the same"));
        } else {
            shown.out.push_str(&format!("{}\n", style.paint(Tone::Strong, title)));
            for part in &answer.parts {
                shown.part(part);
            }
        }
    }
    if now.aside.total > 0 {
        let aside = shown.peers(&now.aside);
        shown.out.push_str(&style.wrap("no peers, though lists run across them: ", &aside));
    }
    let kernel = told.not_judged().join(", ");
    shown.out.push_str(&style.wrap("judged by rules and source checks; not judged: ", &kernel));
    out
}

fn same(one: &Part, other: &Part) -> bool {
    let peers = |part: &Part| part.unknown.iter().map(|doubt| doubt.peers.clone()).collect::<Vec<_>>();
    one.allowed == other.allowed && one.denied == other.denied && peers(one) == peers(other)
}

/// At most `limit` prefixes in words, of `total`; those of one address as the address.
pub(super) fn prefixes(items: &[Prefix], total: u128, limit: usize) -> String {
    let shown = items.iter().take(limit).map(|prefix| match prefix.is_host() {
        true => prefix.address().to_string(),
        false => prefix.to_string(),
    });
    let mut words = shown.collect::<Vec<_>>();
    let more = total.saturating_sub(words.len() as u128);
    if more > 0 {
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        words.push(format!("and {}", count(more, "more prefix").replace("prefixs", "prefixes")));
    }
    words.join(", ")
}

/// Writes parts of the answer.
struct Shown<'o, 'r> {
    out: &'o mut String,
    meanings: &'o Meanings<'r>,
    style: Style,
    limit: usize,
}

impl Shown<'_, '_> {
    /// `  allowed  …` with the list hanging below.
    fn label(&mut self, tone: Tone, label: &str, text: &str) {
        let mut line = self.style.wrap(&format!("  {label:8} "), text);
        // the colour goes on after wrapping, which counts characters
        line.replace_range(2..2 + label.len(), &self.style.paint(tone, label));
        self.out.push_str(&line);
    }

    fn part(&mut self, part: &Part) {
        let mut place = Vec::new();
        if !part.interfaces.is_empty() {
            place.push(format!("over {}", part.interfaces.join(", ")));
        }
        if !part.addresses.is_empty() {
            let all: Vec<String> = part.addresses.iter().map(ToString::to_string).collect();
            place.push(format!("at {}", all.join(", ")));
        }
        if !place.is_empty() {
            self.out.push_str(&self.style.wrap("  ", &format!("{}:", place.join(" "))));
        }
        // the shorter list says it all
        let open = !part.unknown.is_empty();
        let rest = if open { "everybody else who is not unknown" } else { "everybody else" };
        let (allowed, denied) = (&part.allowed, &part.denied);
        let (allowed, denied) = match (allowed.total, denied.total) {
            (0, 0) => (None, None),
            (0, _) => (None, Some(if open { rest.to_owned() } else { self.peers(denied) })),
            (_, 0) => (Some(if open { rest.to_owned() } else { self.peers(allowed) }), None),
            (few, many) if few <= many => (Some(self.peers(allowed)), Some(rest.to_owned())),
            _ => (Some(rest.to_owned()), Some(self.peers(denied))),
        };
        if let Some(allowed) = allowed {
            self.label(Tone::Good, "allowed", &allowed);
        }
        if let Some(denied) = denied {
            self.label(Tone::Bad, "denied", &denied);
        }
        for doubt in &part.unknown {
            let peers = self.peers(&doubt.peers);
            self.label(Tone::Warn, "unknown", &peers);
            for (rule, reason) in &doubt.because {
                self.because(*rule, reason);
            }
        }
        for cause in &part.causes {
            self.cause(cause);
        }
    }

    fn because(&mut self, rule: Option<RuleRef>, reason: &str) {
        let at = rule.map(|rule| format!("{}: ", words(self.meanings.ruleset(), rule))).unwrap_or_default();
        self.out.push_str(&self.style.wrap("           because ", &format!("{at}{reason}")));
    }

    fn cause(&mut self, cause: &Cause) {
        let verb = if cause.admitted { "let through" } else { "stopped" };
        let ruleset = self.meanings.ruleset();
        let by = match (&cause.kernel, cause.decision) {
            (Some(why), _) => format!("by the kernel, not the firewall: {why}"),
            (None, None) => "no rule stands in the way".to_owned(),
            (None, Some(decision)) => {
                let at = words(ruleset, decision.rule);
                let meant = told(self.meanings, decision.rule)
                    .or_else(|| ruleset.rule(decision.rule).map(short))
                    .unwrap_or_else(|| "policy of the chain".to_owned());
                format!("{meant} [{at}]")
            }
        };
        let peers = self.peers(&cause.peers);
        self.out.push_str(&self.style.wrap("    ", &format!("{} {verb}: {by}", cause.packet)));
        self.out.push_str(&self.style.wrap("      for ", &peers));
    }

    fn peers(&self, list: &Listing<Prefix>) -> String {
        prefixes(&list.items, list.total, self.limit)
    }
}
