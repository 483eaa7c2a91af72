//! HG1xx: the failsafe lists.

pub mod drift;
pub mod list_off;
pub mod malformed;
pub mod masked;
pub mod missing_in;
pub mod one_family;
pub mod setting_without_effect;
pub mod trimmed;
pub mod unreferenced;

use serde_json::{Map, Value, json};

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding};
use crate::calico::failsafe::{Problem, ProblemKind, When};

/// Findings for the failsafe report's problems of these kinds.
fn from_problems(context: &Context<'_>, check: &Check, kinds: &[ProblemKind]) -> Vec<Finding> {
    let problems = context.failsafe.problems.iter().filter(|problem| kinds.contains(&problem.kind));
    problems.map(|problem| from_problem(check, problem)).collect()
}

fn from_problem(check: &Check, problem: &Problem) -> Finding {
    let mut subject = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            subject.insert(key.to_owned(), value);
        }
    };
    put("problem", json!(problem.kind));
    put("direction", json!(problem.direction));
    put("family", json!(problem.family));
    let entries: Vec<String> = problem.entries.iter().map(ToString::to_string).collect();
    if !entries.is_empty() {
        put("entries", json!(entries));
    }
    if let Some(place) = &problem.place {
        put("file", json!(&*place.file));
    }
    let mut finding = Finding::new(check, Value::Object(subject), &*problem.title)
        .severity(problem.severity.into())
        .bites(bites(problem.bites))
        .fix(&*problem.fix);
    if let Some(place) = &problem.place {
        finding = finding.evidence(place.to_string(), problem.text.clone().unwrap_or_default());
    } else if let Some(text) = &problem.text {
        finding = finding.evidence("kernel", text);
    }
    if problem.certain { finding } else { finding.bounded() }
}

fn bites(when: When) -> Bites {
    match when {
        When::Now => Bites::Now,
        When::Reconnect => Bites::Reconnect,
        When::FelixRestart => Bites::FelixRestart,
        When::Reboot => Bites::Reboot,
    }
}
