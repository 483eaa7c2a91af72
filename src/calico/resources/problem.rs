//! What is wrong with a resource, and where.

use std::fmt;
use std::sync::Arc;

use crate::calico::settings::Place;
use crate::diagnostic::{Diagnostic, Level};

/// The kinds of problem a reader sees in one resource by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProblemKind {
    /// A document that is not YAML or JSON.
    Malformed,
    /// A document or list item that is no resource: no kind, no name.
    NotAResource,
    /// A kind that is not of Calico's policy model.
    OtherKind,
    /// The same resource again in one set of files.
    Duplicate,
    /// A field that the kind does not have.
    UnknownField,
    /// A value of another type than the field's.
    WrongType,
    /// A value that the field does not take.
    BadValue,
    /// A field that must be there.
    Missing,
    /// The right word in the wrong case (`allow`, `ingress`, `tcp`).
    LetterCase,
    /// A selector that does not parse.
    Selector,
    /// `global()` where it is not allowed.
    GlobalSelector,
    /// A port or range that is none.
    Port,
    /// A range written with `-`: Calico takes it for the name of a port.
    DashedPort,
    /// A range without quotes, which some YAML readers take for a number of base 60.
    UnquotedPort,
    /// Ports in a rule whose protocol has none.
    PortsWithoutProtocol,
    /// A net that is none.
    Net,
    /// A net with host bits, or an address without length, in a rule.
    LooseNet,
    /// Nets of both families in one rule.
    MixedFamilies,
    /// Every address in `notNets`.
    NotEverything,
    /// ICMP fields that do not go with the protocol.
    Icmp,
    /// `doNotTrack`, `preDNAT` and `applyOnForward` that do not go together.
    Layers,
    /// `domains` where they do nothing, or not a domain.
    Domains,
    /// `services` that do not go with the rest of the rule.
    Services,
    /// A name that the tier of the policy does not allow.
    TierName,
    /// A label or its value that Kubernetes does not take.
    Label,
    /// A number of entries or characters above the API's limit.
    TooMany,
    /// A `StagedGlobalNetworkPolicy` whose action and content do not go together.
    StagedContent,
    /// A host endpoint that names neither interface nor addresses.
    NoInterface,
    /// `http` in a rule for hosts.
    Http,
}

/// One problem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// File and line.
    pub place: Place,
    /// Column in characters, 1-based; 0 when unknown.
    pub column: u32,
    /// The resource, `GlobalNetworkPolicy security.ssh`; empty when it could not be told.
    pub resource: String,
    /// The field, `spec.ingress[0].source.nets[1]`; empty for the whole document.
    pub field: String,
    /// What was found and what was expected; lower case, no full stop.
    pub message: String,
    /// What to do.
    pub fix: String,
    /// The API server or Felix refuses the whole resource for it: it does not take effect.
    pub refused: bool,
}

impl Problem {
    /// As a remark on the input.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let level = match self.kind {
            ProblemKind::Malformed | ProblemKind::NotAResource => Level::Error,
            ProblemKind::OtherKind => Level::Note,
            _ if self.refused => Level::Error,
            _ => Level::Warning,
        };
        Diagnostic::new(level, &self.place.file, self.place.line, self.column, self.text())
    }

    /// Resource, field and message in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut parts: Vec<&str> = vec![&self.resource, &self.field, &self.message];
        parts.retain(|part| !part.is_empty());
        let mut text = parts.join(": ");
        if !self.fix.is_empty() {
            text.push_str("; ");
            text.push_str(&self.fix);
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic().fmt(f)
    }
}

/// Most problems kept for one file.
const MAX_PROBLEMS: usize = 500;

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) found: Vec<Problem>,
    /// How many more there were.
    pub(super) left_out: usize,
}

impl Problems {
    pub(super) fn add(&mut self, problem: Problem) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    /// All of them; the last one says how many were left out.
    pub(super) fn finish(mut self, file: &Arc<str>) -> Vec<Problem> {
        if self.left_out > 0 {
            self.found.push(Problem {
                kind: ProblemKind::Malformed,
                place: Place { file: Arc::clone(file), line: 0 },
                column: 0,
                resource: String::new(),
                field: String::new(),
                message: format!("{} more problems were left out", self.left_out),
                fix: "mend those above and run it again".to_owned(),
                refused: false,
            });
        }
        self.found
    }
}
