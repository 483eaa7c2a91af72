//! What decided on an event or on a group of them, in the words of the one who wrote the policy.

use crate::calico::names::{Authors, Direction, RuleNumber};
use crate::calico::settings::Place;
use crate::logs::event::{Action, Event, Source};

/// What the log tells about a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Where the line is from.
    pub source: Option<Source>,
    /// What happened.
    pub action: Option<Action>,
    /// `ingress`, `egress`, `forward`.
    pub direction: Option<String>,
    /// Tier.
    pub tier: Option<String>,
    /// Policy as logged.
    pub policy: Option<String>,
    /// Index of the rule; -1 for the end of the tier.
    pub rule: Option<i64>,
    /// Prefix of a kernel line.
    pub prefix: Option<String>,
}

impl Decided {
    /// What an event tells.
    #[must_use]
    pub fn of_event(event: &Event<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            source: Some(event.source),
            action: Some(event.action),
            direction: event.direction.map(|direction| direction.name().to_owned()),
            tier: event.tier.as_deref().map(text),
            policy: event.policy.as_deref().map(text),
            rule: event.rule_index.map(i64::from),
            prefix: event.log_prefix.map(text),
        }
    }

    /// Where the rule stands in the policies that are known.
    #[must_use]
    pub fn written(&self, authors: &Authors) -> Option<Place> {
        // a number below 0 is the end of the tier, whose last policy is named
        let number = RuleNumber::OfAll(u32::try_from(self.rule?).ok()?);
        let direction = match self.direction.as_deref()? {
            "ingress" => Direction::In,
            "egress" => Direction::Out,
            _ => return None,
        };
        Some(authors.of_log(self.policy.as_deref()?, self.tier.as_deref()?)?.place_of(direction, number, None))
    }

    /// Whether a Log rule wrote the line, which does not tell the verdict.
    fn is_silent(&self) -> bool {
        self.action == Some(Action::Log)
    }

    /// In words; `None` when the log does not tell.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        if self.source == Some(Source::Kernel) {
            let by = match self.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
                Some(prefix) => format!("logged by a firewall rule with the prefix \"{prefix}\""),
                None => "logged by a firewall rule".to_owned(),
            };
            return Some(match self.is_silent() {
                true => format!("{by}, which does not say what became of it: a later rule decided"),
                false if self.prefix.is_some() => format!("{by}, which says what became of it"),
                false => by,
            });
        }
        let (rule, tier) = (self.rule?, self.tier.as_deref()?);
        Some(match (rule, tier, self.policy.as_deref()) {
            (_, "__PROFILE__", Some(profile)) if profile.ends_with("__NO_MATCH__") => {
                "no policy decided in this direction, and no profile allowed it".to_owned()
            }
            (0.., "__PROFILE__", Some(profile)) => format!("rule {rule} of profile {profile}"),
            (-1, _, policy) => {
                let last = policy.filter(|policy| *policy != "__NO_MATCH__");
                let last = last.map(|policy| format!("; {policy} is only the last policy of that tier here"));
                format!("end of tier {tier}: no rule of any policy in it matched{}", last.unwrap_or_default())
            }
            (0.., _, Some(policy)) => {
                let list = self.direction.as_ref().map(|direction| format!("{direction} ")).unwrap_or_default();
                format!("{list}rule {rule} (counted from 0, as logged) of policy {policy} in tier {tier}")
            }
            _ => format!("something in tier {tier}; the log does not say which rule"),
        })
    }
}
