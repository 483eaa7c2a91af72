//! One rule: its statements in order, with what the listing leaves unsaid put back.

use super::Reader;
use super::expr::Unknown;
use super::json::{Fields, Json};
use crate::diagnostic::Level;
use crate::packet::Family;
use crate::ruleset::nft_words::{Known, Needs};
use crate::ruleset::{Counters, Effect, Match, OpaqueKind, Rule, Step, print};

/// Reads the statements of one rule.
pub(super) struct RuleReader {
    pub(super) known: Known,
    pub(super) steps: Vec<Step>,
    /// Text of steps that the model keeps less of than the listing has.
    pub(super) texts: Vec<Option<String>>,
    pub(super) counters: Option<Counters>,
    /// What was not understood.
    pub(super) unknown: Vec<Unknown>,
    /// What was understood and deserves a word.
    pub(super) notes: Vec<String>,
    /// What the expressions read since the last step require.
    needs: Vec<Needs>,
    /// Family of the address that is compared with, for keys that do not say theirs.
    pub(super) address: Option<Family>,
}

impl RuleReader {
    pub(super) fn new(family: Family) -> Self {
        Self {
            known: Known::new(family),
            steps: Vec::new(),
            texts: Vec::new(),
            counters: None,
            unknown: Vec::new(),
            notes: Vec::new(),
            needs: Vec::new(),
            address: None,
        }
    }

    /// Notes that the expression being read requires something.
    pub(super) fn need(&mut self, needs: Needs) {
        self.needs.push(needs);
    }

    /// Adds the conditions that were required and are not certain.
    pub(super) fn require(&mut self) {
        for needs in std::mem::take(&mut self.needs) {
            for condition in self.known.missing(needs) {
                self.add(Step::Match(condition), Some(String::new()));
            }
        }
    }

    fn add(&mut self, step: Step, text: Option<String>) {
        if let Step::Match(condition) = &step {
            self.known.observe(condition);
        }
        self.steps.push(step);
        self.texts.push(text);
    }

    /// Adds a step, after the conditions it requires.
    pub(super) fn push(&mut self, step: Step) {
        self.require();
        self.add(step, None);
    }

    /// Adds a step whose listing says more than the model keeps.
    pub(super) fn push_as(&mut self, step: Step, text: String) {
        self.require();
        self.add(step, Some(text));
    }

    /// Adds what a statement that was not understood may do.
    pub(super) fn push_unknown(&mut self, name: &str, body: &Json<'_>, why: Unknown) {
        let text = format!("{{\"{name}\":{body}}}");
        self.unknown.push(why);
        let step = if name == "match" {
            Step::Match(Match::Opaque { kind: OpaqueKind::Stateful, text: text.into() })
        } else {
            Step::Effect(Effect::Opaque(text.into()))
        };
        self.push(step);
    }

    /// The rule's text.
    pub(super) fn text(&self) -> String {
        let texts = |index: usize| self.texts.get(index).and_then(Option::as_deref);
        print::nft::steps_with(self.known.family(), &self.steps, texts)
    }
}

impl<'a> Reader<'a> {
    /// A `rule` object.
    pub(super) fn rule(&mut self, fields: &Fields<'a>) {
        let Some(table) = self.owner(fields, "rule") else { return };
        let Some(chain_name) = fields.text("chain") else {
            self.remarks.add(Level::Error, self.place, "a rule that does not say its chain; what it does is unknown");
            return;
        };
        let family = self.tables.get(table).map_or(Family::Inet, |table| table.family);
        let handle = fields.json("handle").and_then(|json| json.number()).and_then(|n| u64::try_from(n).ok());
        let mut reader = RuleReader::new(family);
        match fields.raw("expr").map(|raw| (raw, serde_json::from_str::<Json<'_>>(raw.get()))) {
            Some((_, Ok(Json::Array(statements)))) => {
                for statement in &statements {
                    reader.statement(statement);
                }
            }
            None => {}
            Some((raw, other)) => {
                let why = match other {
                    Err(error) => error.to_string(),
                    Ok(_) => "expected a list of statements".into(),
                };
                reader.unknown.push(why);
                reader.push(Step::Effect(Effect::Opaque(raw.get().into())));
            }
        }
        self.remark_on(&reader, table, &chain_name, handle);
        self.surface("rule", fields, &["family", "table", "chain", "handle", "comment", "expr", "index"]);
        let comment = fields.text("comment");
        let text = reader.text();
        let text = match &comment {
            Some(comment) if text.is_empty() => format!("comment {}", print::nft::quoted(comment)),
            Some(comment) => format!("{text} comment {}", print::nft::quoted(comment)),
            None => text,
        };
        let rule = Rule {
            steps: reader.steps,
            comments: comment.into_iter().map(|comment| comment.as_ref().into()).collect(),
            counters: reader.counters,
            handle,
            line: self.place.line,
            text: text.into(),
        };
        let Some(index) = self.chain_at(table, &chain_name) else { return };
        let Some(chain) = self.tables.get_mut(table).and_then(|table| table.chains.get_mut(index)) else { return };
        chain.rules.push(rule);
    }

    fn remark_on(&mut self, reader: &RuleReader, table: usize, chain: &str, handle: Option<u64>) {
        if reader.unknown.is_empty() && reader.notes.is_empty() {
            return;
        }
        let Some(owner) = self.tables.get(table) else { return };
        let handle = handle.map(|handle| format!(" handle {handle}")).unwrap_or_default();
        let name = format!("{} {} {chain}{handle}", owner.family.nft_name(), owner.name);
        for why in &reader.unknown {
            self.remarks.add(
                Level::Warning,
                self.place,
                format!(
                    "rule {name}: {why}; packets that reach it are undecided, see `nft -a list chain {} {} {chain}`",
                    owner.family.nft_name(),
                    owner.name
                ),
            );
        }
        for note in &reader.notes {
            self.remarks.add_once(Level::Note, self.place, format!("rule {name}: {note}"));
        }
    }
}
