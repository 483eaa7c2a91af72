//! `iptables-save` and `ip6tables-save`, legacy and nft, 1.4 to 1.8.11; also rule files written by hand and pieces of a
//! listing that somebody cut out with grep.
//!
//! What could not be read stays visible to whoever evaluates the table: a table the tool refused to list, the missing end of
//! a file that was cut off, a line that makes no sense become a rule that may do anything ([`Effect::Opaque`], its text a `#`
//! comment), and the table's [`Table::other`] says so with a line that starts with [`UNREAD`].

pub(crate) mod addrtype;
mod builtin;
pub(crate) mod conntrack;
mod draft;
mod extensions;
mod header;
pub(crate) mod matches;
mod open;
mod rule;
mod special;
pub(crate) mod targets;
mod tokens;
pub(crate) mod values;

use std::sync::Arc;

use self::header::Header;
use self::open::OpenTable;
use self::tokens::{Cursor, LineError, Token};
use crate::diagnostic::{Level, Parsed, Remarks, excerpt};
use crate::packet::Family;
use crate::ruleset::{Backend, Counters, Effect, Policy, Rule, Step, Table};

#[cfg(test)]
mod tests;

/// First word of the line in [`Table::other`] that says a table was not, or not wholly, read.
pub const UNREAD: &str = "unread:";

/// Why [`UNREAD`], where the listing was cut off.
pub(crate) const ENDS_EARLY: &str = "the listing ends before COMMIT";

/// Reads a listing. `backend` and `family` are what the caller believes; a header that knows better wins.
#[must_use]
pub fn read(source: &Arc<str>, text: &[u8], backend: Backend, family: Family) -> Parsed<Vec<Table>> {
    let mut reader = Reader {
        input: text,
        source: Arc::clone(source),
        remarks: Remarks::new(source),
        believed: (backend, family),
        backend,
        family,
        tables: Vec::new(),
        open: None,
    };
    reader.run();
    Parsed { value: reader.tables, diagnostics: reader.remarks.finish() }
}

struct Reader<'a> {
    input: &'a [u8],
    source: Arc<str>,
    remarks: Remarks,
    believed: (Backend, Family),
    backend: Backend,
    family: Family,
    tables: Vec<Table>,
    open: Option<OpenTable>,
}

/// A rule command.
enum Command {
    Append,
    Insert,
    NewChain,
    Policy,
}

impl<'a> Reader<'a> {
    fn run(&mut self) {
        let mut cursor = Cursor::new(self.input);
        let mut words: Vec<Token<'a>> = Vec::new();
        loop {
            cursor.skip_blank(true);
            let place = cursor.place();
            match cursor.peek() {
                None => break,
                Some(b'#') => self.comment(cursor.raw_line(), place),
                Some(b'*') => {
                    let line = cursor.raw_line();
                    self.begin(line.get(1..).unwrap_or_default(), place);
                }
                Some(b':') => self.declaration(cursor.raw_line(), place),
                Some(_) => {
                    let start = cursor.offset();
                    let outcome = cursor.words(&mut words);
                    self.line(&mut words, outcome, (start, cursor.offset()), place);
                }
            }
        }
        if let Some(open) = self.open.take() {
            let cut = !open.is_fragment();
            self.close(open, cut.then_some(ENDS_EARLY));
            if cut {
                self.unlisted_tables();
            }
        }
    }

    fn comment(&mut self, line: &[u8], place: (u32, u32)) {
        let text = String::from_utf8_lossy(line);
        if let Some(header) = Header::parse(&text) {
            return self.header(&header, place);
        }
        if let Some(name) = header::incompatible_table(&text) {
            let message = format!(
                "table {} holds native nft rules that this tool cannot list, its rules here are unknown; \
                 list it with: nft -j list ruleset",
                excerpt(name.as_bytes())
            );
            self.remarks.add(Level::Error, place.0, place.1, message);
            let backend = if self.backend == Backend::Iptables { Backend::IptablesNft } else { self.backend };
            self.tables.push(open::unread_table(backend, self.family, name, &self.source, &text, place.0));
        } else if text.contains("tables present, use") {
            let message = format!("{}; what they hold is not in this listing", excerpt(line));
            self.remarks.add(Level::Warning, place.0, place.1, message);
        }
    }

    fn header(&mut self, header: &Header, place: (u32, u32)) {
        if let Some(backend) = header.backend {
            if self.believed.0 != Backend::Iptables && self.believed.0 != backend {
                let message =
                    format!("expected a listing of {}, found one of {}", self.believed.0.name(), backend.name());
                self.remarks.add(Level::Warning, place.0, place.1, message);
            }
            self.backend = backend;
        } else {
            self.backend = self.believed.0;
        }
        if self.believed.1 != header.family {
            let message = format!("expected rules of {}, found a listing of {}", self.believed.1, header.family);
            self.remarks.add(Level::Warning, place.0, place.1, message);
        }
        self.family = header.family;
    }

    fn begin(&mut self, name: &[u8], place: (u32, u32)) {
        if let Some(open) = self.open.take() {
            let cut = !open.is_fragment();
            self.close(open, cut.then_some("the next table begins before COMMIT"));
        }
        let name = name.trim_ascii();
        if !builtin::is_table(name) {
            let message = format!(
                "expected one of the tables raw, mangle, nat, filter, security, found \"{}\"; its hooks are unknown",
                excerpt(name)
            );
            self.remarks.add(Level::Error, place.0, place.1, message);
        }
        let name = String::from_utf8_lossy(name);
        self.open = Some(OpenTable::new(self.backend, self.family, &name, &self.source, false, place.0));
    }

    /// The open table, or a new fragment.
    fn table(&mut self, place: (u32, u32)) -> &mut OpenTable {
        if self.open.is_none() {
            let message = "this is a piece of a listing: no line says which table it belongs to, chains have no hooks";
            self.remarks.add(Level::Note, place.0, place.1, message);
        }
        self.open.get_or_insert_with(|| OpenTable::new(self.backend, self.family, "?", &self.source, true, place.0))
    }

    /// `:NAME POLICY [packets:bytes]`
    fn declaration(&mut self, line: &[u8], place: (u32, u32)) {
        let mut parts =
            line.get(1..).unwrap_or_default().split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
        let (Some(name), Some(policy)) = (parts.next(), parts.next()) else {
            let message = format!("expected :CHAIN POLICY [packets:bytes], found \"{}\"", excerpt(line));
            self.remarks.add(Level::Error, place.0, place.1, message);
            return self.table(place).blind("a chain declaration is unreadable");
        };
        self.declare(name, policy, place);
    }

    fn declare(&mut self, name: &[u8], policy: &[u8], place: (u32, u32)) {
        let restarts = self.open.as_ref().is_some_and(|open| open.restarts_by_declaration(name));
        if restarts && let Some(open) = self.open.take() {
            self.close(open, None);
        }
        if std::str::from_utf8(name).is_err() {
            let message = "the chain's name is not UTF-8, its bytes are replaced; other names may look the same";
            self.remarks.add(Level::Warning, place.0, place.1, message);
        }
        let known = match policy {
            b"-" => Some(None),
            b"ACCEPT" => Some(Some(Policy::Accept)),
            b"DROP" => Some(Some(Policy::Drop)),
            _ => None,
        };
        let table = self.table(place);
        let chain = table.declare(name, known.flatten(), place.0);
        if known.is_none() {
            table.blind_end(chain, "its policy is unreadable");
            let message = format!("expected the policy ACCEPT, DROP or -, found \"{}\"", excerpt(policy));
            self.remarks.add(Level::Error, place.0, place.1, message);
        } else if policy != b"-" && !table.is_fragment() && !table.is_base(chain) {
            let message = format!("chain {} has a policy, but this table has no such hook", excerpt(name));
            self.remarks.add(Level::Warning, place.0, place.1, message);
        }
    }

    /// Any line that does not start with `#`, `*` or `:`.
    fn line(
        &mut self,
        words: &mut Vec<Token<'a>>,
        outcome: Result<(), LineError>,
        span: (usize, usize),
        place: (u32, u32),
    ) {
        let counters = match words.first() {
            Some(first) if first.raw.starts_with(b"[") => Some(bracketed_counters(first.raw)),
            _ => None,
        };
        let first = usize::from(counters.is_some());
        let command = words.get(first).map_or(&b""[..], |word| word.raw);
        if command == b"COMMIT" && outcome.is_ok() && words.len() == first + 1 {
            match self.open.take() {
                Some(open) => self.close(open, None),
                None => self.remarks.add(Level::Warning, place.0, place.1, "COMMIT without a table, nothing to end"),
            }
            return;
        }
        if self.is_cut_off(span.1) {
            return;
        }
        let what = match command {
            b"-A" | b"--append" => Some(Command::Append),
            b"-I" | b"--insert" => Some(Command::Insert),
            b"-N" | b"--new-chain" => Some(Command::NewChain),
            b"-P" | b"--policy" => Some(Command::Policy),
            b"-Z" | b"--zero" => return,
            _ => None,
        };
        let chain = words.get(first + 1).map(|word| word.text.to_vec());
        let (Some(what), Some(chain)) = (what, chain) else {
            let line = self.input.get(span.0..span.1).unwrap_or_default();
            let message =
                format!("expected -A CHAIN …, :CHAIN …, *TABLE or COMMIT, found \"{}\"", excerpt(line.trim_ascii()));
            self.remarks.add(Level::Error, place.0, place.1, message);
            if let Some(open) = &mut self.open {
                open.blind("a line is unreadable");
            }
            return;
        };
        match what {
            Command::NewChain => self.declare(&chain, b"-", place),
            Command::Policy => {
                let policy = words.get(first + 2).map_or(Vec::new(), |word| word.text.to_vec());
                self.declare(&chain, &policy, place);
            }
            Command::Append | Command::Insert => {
                if outcome.is_ok() && counters == Some(None) {
                    self.remarks.add(Level::Warning, place.0, place.1, "expected counters as [packets:bytes]");
                }
                let insert = matches!(what, Command::Insert);
                let rule = match outcome {
                    Ok(()) => self.rule(words, first, &chain, insert, place),
                    Err(error) => Some((self.unreadable_rule(error, span, place), 0)),
                };
                let Some((mut rule, at)) = rule else { return };
                rule.counters = counters.flatten().or(rule.counters);
                rule.line = place.0;
                self.add(&chain, rule, insert.then_some(at), place);
            }
        }
    }

    /// Whether a line of a table ends with the input instead of a newline: any word may be the start of a longer one. It is
    /// left to the unknown rules that stand for the rest of the table.
    fn is_cut_off(&self, end: usize) -> bool {
        let in_table = self.open.as_ref().is_some_and(|open| !open.is_fragment());
        in_table && end >= self.input.len() && !self.input.ends_with(b"\n")
    }

    /// The rule, and for `-I` its number from 0.
    fn rule(
        &mut self,
        words: &mut Vec<Token<'a>>,
        first: usize,
        chain: &[u8],
        insert: bool,
        place: (u32, u32),
    ) -> Option<(Rule, usize)> {
        let restarts = self.open.as_ref().is_some_and(|open| open.restarts_by_rule(chain));
        if restarts && let Some(open) = self.open.take() {
            self.close(open, None);
        }
        self.table(place);
        let text = match (words.get(first), words.last()) {
            (Some(from), Some(to)) => self.input.get(from.start..to.start + to.raw.len()).unwrap_or_default(),
            _ => &[],
        };
        let mut next = first + 2;
        let mut at = 0;
        let number = words.get(next).and_then(|word| values::number(word.raw)).filter(|_| insert);
        if let Some(number) = number {
            at = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
            next += 1;
        }
        let open = self.open.as_ref()?;
        let surroundings = rule::Surroundings {
            family: self.family,
            chain: &|name| open.chain_name(name),
            fragment: open.is_fragment(),
        };
        let mut rule = rule::read(words, next, &surroundings, &mut self.remarks)?;
        if rule.text.is_empty() {
            rule.text = String::from_utf8_lossy(text).into();
        }
        Some((rule, at))
    }

    fn unreadable_rule(&mut self, error: LineError, span: (usize, usize), place: (u32, u32)) -> Rule {
        let (place, message) = match error {
            LineError::OpenQuote(open) => (open, "this quote never closes; everything behind it is lost".to_owned()),
            LineError::TooManyWords => {
                (place, format!("a rule of more than {} words, kept as unknown", tokens::MAX_WORDS))
            }
        };
        self.remarks.add(Level::Error, place.0, place.1, message);
        self.table(place);
        let line = self.input.get(span.0..span.1).unwrap_or_default().trim_ascii();
        let effect = Effect::Opaque(excerpt(line).into());
        Rule { steps: vec![Step::Effect(effect)], text: String::from_utf8_lossy(line).into(), ..Rule::default() }
    }

    fn add(&mut self, chain: &[u8], rule: Rule, at: Option<usize>, place: (u32, u32)) {
        let table = self.table(place);
        let (index, undeclared) = table.chain_for_rule(chain, place.0);
        let based = table.is_base(index);
        let fragment = table.is_fragment();
        table.add(index, rule, at);
        if !undeclared || fragment {
            return;
        }
        if based {
            let message = format!("chain {} is not declared, its policy is taken as ACCEPT", excerpt(chain));
            self.remarks.add(Level::Warning, place.0, place.1, message);
        } else {
            let message = format!("chain {} is not declared; iptables-restore would refuse this", excerpt(chain));
            self.remarks.add(Level::Error, place.0, place.1, message);
        }
    }

    fn close(&mut self, mut open: OpenTable, cut_short: Option<&str>) {
        if let Some(reason) = cut_short {
            let message = format!("{reason}: rules of table {} are missing from here on, save it again", open.name());
            self.remarks.add(Level::Error, open.line(), 1, message);
            open.cut_short(reason);
        }
        let table = open.finish();
        let twin = |known: &&mut Table| {
            known.backend == table.backend && known.family == table.family && known.name == table.name
        };
        if &*table.name != "?"
            && let Some(known) = self.tables.iter_mut().find(twin)
        {
            let what = format!("table {} is listed twice", table.name);
            let line = table.chains.first().map_or(0, |chain| chain.line);
            // of one backend only one can be loaded; of an unknown backend they may be a legacy and an nft table
            if table.backend == Backend::Iptables {
                self.remarks.add(Level::Warning, line, 1, format!("{what}, taken as tables of two backends"));
            } else {
                self.remarks.add(Level::Warning, line, 1, format!("{what}, the later one counts"));
                *known = table;
                return;
            }
        }
        self.tables.push(table);
    }

    /// After a cut the tables that did not appear may exist all the same.
    fn unlisted_tables(&mut self) {
        for name in builtin::TABLES {
            let listed =
                |table: &Table| &*table.name == name && table.backend == self.backend && table.family == self.family;
            if !self.tables.iter().any(listed) {
                let text = "# the listing was cut off before this table";
                self.tables.push(open::unread_table(self.backend, self.family, name, &self.source, text, 0));
            }
        }
    }
}

/// `[packets:bytes]`
fn bracketed_counters(text: &[u8]) -> Option<Counters> {
    let inner = text.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (packets, bytes) = values::split_once(inner, b':')?;
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    Some(Counters { packets: number(packets)?, bytes: number(bytes)? })
}
