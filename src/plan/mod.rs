//! The dry run of a change: what it cuts, what it only seems to keep, when that is noticed, how to fix it.
//!
//! ```text
//! Snapshot ─┬─ every world (now, new, no-failsafe, felix-restart, reboot) ─┐
//!   Change ─┴─► Snapshot' ─ the same worlds ─────────────────────────────┴─► impact ─► findings, verdict, calendar ─► Plan
//! ```
//! Each protected flow is judged as a whole conversation in each world, before the change and after it.

pub mod change;
pub mod codes;
pub mod difference;
pub mod findings;
pub mod impact;
pub mod offline;
pub mod worlds;

use std::borrow::Cow;

use serde::Serialize;

use crate::analysis::reboot;
use crate::analysis::trace::blind_spots;
use crate::analysis::worlds::after_felix_restart;
use crate::audit;
use crate::audit::calendar::{Entry, calendar};
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::audit::idle::CODES;
use crate::calico::failsafe::{self, FailsafeReport};
use crate::calico::integrity::{self, Integrity};
use crate::calico::predict::{self, Knowledge, Situation, predict};
use crate::packet::Family;
use crate::snapshot::Snapshot;
use difference::Difference;
use impact::{Impact, State};
use worlds::{WorldName, restart_unknown};

/// The answer in a word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing that is protected gets worse.
    Safe,
    /// Something that matters to the answer could not be decided.
    Unknown,
    /// A protected flow is lost, or hangs on one thread from now on.
    Risky,
    /// The way in, or on, is lost.
    Lockout,
}

impl Verdict {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unknown => "unknown",
            Self::Risky => "risky",
            Self::Lockout => "lockout",
        }
    }
}

/// A change, made on a copy.
#[derive(Clone, Debug, Default)]
pub struct Rehearsal {
    /// The parts of the change in words, in order.
    pub parts: Vec<String>,
    /// The host after it, before Felix restarts.
    pub after: Snapshot,
    /// The change restarts Felix.
    pub restarts_felix: bool,
    /// The change ends with a boot.
    pub reboots: bool,
    /// How exactly Felix's rules are rendered from what is known before the change, where the change asked for that.
    pub rendered: Option<predict::Fidelity>,
    /// What went wrong while it was made; may hold any text.
    pub failures: Vec<Failure>,
    /// What of the host could not be copied, so that the answer may be another on the host.
    pub not_copied: Vec<String>,
    /// Remarks on how it was made.
    pub notes: Vec<String>,
}

/// A part of a change that failed when it was made on the copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Which part.
    pub part: String,
    /// How it ended, and the end of what it said.
    pub how: String,
    /// It changed something nevertheless.
    pub partial: bool,
}

/// How far the model of this host is proven.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Fidelity {
    /// Rules of Felix on the host.
    pub rules: usize,
    /// Those that hepguard renders again, from the settings and resources it knows, with the very same hash in the same place.
    pub verified: usize,
    /// Those that stand as Felix wrote them, by their own hashes.
    pub intact: usize,
    /// Chains that are rendered otherwise than they stand.
    pub differing: Vec<String>,
}

impl Fidelity {
    /// What the rules of a host prove of the model.
    #[must_use]
    pub fn of(before: &Snapshot) -> Self {
        let integrity = integrity::check(&before.ruleset);
        if integrity.rules == 0 {
            return Self::default();
        }
        let known = Knowledge::running(&before.files);
        let rendered = predict(&Situation { ruleset: &before.ruleset, host: &before.host, known: &known }, &known);
        Self::from(&integrity, rendered.fidelity)
    }

    fn from(integrity: &Integrity, rendered: predict::Fidelity) -> Self {
        Self {
            rules: integrity.rules,
            verified: rendered.verified,
            intact: integrity.verified,
            differing: rendered.differing,
        }
    }
}

/// Where rules come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// They were listed on the host.
    Listed,
    /// An offline plan: Felix would write them for the policies and settings that are known.
    Rendered,
}

/// A plan: what `hepguard plan` prints (schema `hepguard/plan/v1`).
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// `hepguard/plan/v1`.
    pub schema: &'static str,
    /// The host's name, when the snapshot tells.
    pub host: Option<String>,
    /// The answer.
    pub verdict: Verdict,
    /// The change in words.
    pub change: Vec<String>,
    /// Where the rules before the change come from.
    pub ruleset: Rules,
    /// How far the model is proven.
    pub fidelity: Fidelity,
    /// The inventory, each flow before and after.
    pub protected: Vec<Impact>,
    /// Flows of the inventory that were left out, because there are too many.
    pub left_out: usize,
    /// Packets that are refused or pass from then on, beyond the flows that are protected. [`crate::report::plan::document`]
    /// writes them.
    #[serde(skip)]
    pub difference: Difference,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// Findings by when they bite.
    pub calendar: Vec<Entry>,
    /// What failed while the change was made on the copy.
    pub failures: Vec<Failure>,
    /// What limits the answer.
    pub limits: Vec<String>,
    /// Remarks on how the answer was found.
    pub notes: Vec<String>,
}

impl Plan {
    /// How many flows are in this state.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.protected.iter().filter(|impact| impact.state == state).count()
    }
}

/// Judges a change.
#[must_use]
pub fn plan(before: &Snapshot, rehearsal: &Rehearsal) -> Plan {
    let after = &rehearsal.after;
    let lists = |snapshot: &Snapshot| failsafe::compare(&snapshot.files, &snapshot.ruleset, &snapshot.host);
    let (old, new) = (lists(before), lists(after));
    let last = match rehearsal {
        Rehearsal { reboots: true, .. } => WorldName::Reboot,
        Rehearsal { restarts_felix: true, .. } => WorldName::FelixRestart,
        _ => WorldName::New,
    };
    let boot = rehearsal.reboots.then(|| booted(after, &new));
    let judged = impact::judge((before, &old), (after, &new), last);
    let mut limits = rehearsal.not_copied.clone();
    limits.extend(limits_of(before, after, &new, last));
    limits.extend(boot.iter().flat_map(|boot| &boot.unknown).map(|why| format!("boot: {why}")));
    let mut findings = findings::of_flows(&judged, last);
    findings.extend(findings::of_failures(rehearsal));
    findings.extend(findings::of_limits(&limits));
    findings.extend(brought_by(before, after, rehearsal));
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then_with(|| a.code.cmp(b.code)).then_with(|| a.fingerprint.cmp(&b.fingerprint))
    });
    let mut protected = judged.impacts;
    for impact in &mut protected {
        let own = |finding: &&Finding| findings::is_about(finding, &impact.name);
        impact.finding = findings.iter().find(own).map(|finding| finding.code);
    }
    let rendered = rehearsal.rendered.clone();
    let fidelity = match rendered {
        // rendered rules prove nothing of what is rendered
        _ if before.rendered => Fidelity::default(),
        Some(rendered) => Fidelity::from(&integrity::check(&before.ruleset), rendered),
        None => Fidelity::of(before),
    };
    let meta = &before.meta;
    Plan {
        schema: "hepguard/plan/v1",
        host: meta.host.clone(),
        verdict: verdict(&findings, &protected, &limits),
        change: rehearsal.parts.clone(),
        ruleset: if before.rendered { Rules::Rendered } else { Rules::Listed },
        fidelity,
        protected,
        left_out: judged.left_out,
        difference: match in_force(after, &new, last, boot) {
            Some(after) => Difference::of(before, &after),
            None => Difference::unknown("the rules after the boot are not known"),
        },
        calendar: calendar(&findings),
        findings,
        failures: rehearsal.failures.clone(),
        limits,
        notes: rehearsal.notes.clone(),
    }
}

/// The host once all of the change is in force; `None` when its rules are not known.
fn in_force<'a>(
    after: &'a Snapshot,
    lists: &FailsafeReport,
    last: WorldName,
    boot: Option<reboot::Rehearsal>,
) -> Option<Cow<'a, Snapshot>> {
    let ruleset = match (boot, last) {
        (Some(boot), _) => Some(boot.after_felix?),
        (None, WorldName::FelixRestart) => after_felix_restart(&after.ruleset, lists),
        (None, _) => None,
    };
    Some(match ruleset {
        Some(ruleset) => Cow::Owned(Snapshot { ruleset, ..after.clone() }),
        None => Cow::Borrowed(after),
    })
}

/// The boot of the host after the change.
fn booted(after: &Snapshot, lists: &FailsafeReport) -> reboot::Rehearsal {
    let restarted = after_felix_restart(&after.ruleset, lists);
    reboot::rehearse(after, restarted.as_ref())
}

/// What keeps the answer from being whole: rules that were not read, worlds that cannot be told.
fn limits_of(before: &Snapshot, after: &Snapshot, new: &FailsafeReport, last: WorldName) -> Vec<String> {
    let mut limits: Vec<String> = Vec::new();
    for snapshot in [before, after] {
        for family in [Family::Ipv4, Family::Ipv6] {
            for spot in blind_spots(snapshot, family) {
                if !limits.contains(&spot) {
                    limits.push(spot);
                }
            }
        }
    }
    let restarts = matches!(last, WorldName::FelixRestart | WorldName::Reboot);
    if let Some(why) = restart_unknown(new).filter(|_| restarts) {
        limits.push(format!("what Felix programs when it restarts is not known: {why}"));
    }
    limits
}

/// Findings of the audit that the change brings. Those about flows, rules and listings are the plan's own business.
fn brought_by(before: &Snapshot, after: &Snapshot, rehearsal: &Rehearsal) -> Vec<Finding> {
    let same = before.files == after.files;
    if same && !rehearsal.reboots {
        return Vec::new();
    }
    // what waits for a boot comes with it; the flows that it cuts are told by themselves
    let at_boot = |finding: &Finding| {
        let boot = finding.code.starts_with("HG7") && finding.code != "HG705";
        rehearsal.reboots && boot && finding.severity >= Severity::Medium
    };
    let asked = |code: &str| ["HG1", "HG6", "HG7"].iter().any(|family| code.starts_with(family));
    let told = |finding: &Finding| {
        let drift = rehearsal.restarts_felix && ["HG105", "HG108"].contains(&finding.code);
        finding.severity >= Severity::Medium && asked(finding.code) && finding.code != "HG104" && !drift
    };
    // rules that do the same are as idle as they were, and to see that again is most of an audit's work
    let same_rules = before.ruleset.acts_as(&after.ruleset, |_| true, |_| true);
    let wanted = |check: &Check| asked(check.code) && !(same_rules && CODES.contains(&check.code));
    let findings = |snapshot| audit::findings_of(&Context::new(snapshot), wanted);
    let known = if same { Vec::new() } else { findings(before) };
    let new = |finding: &Finding| !same && told(finding) && !known.iter().any(|one| covers(one, finding));
    findings(after).into_iter().filter(|finding| at_boot(finding) || new(finding)).collect()
}

/// Whether what `new` says was so before the change, by what `old` says: the same trouble with the same entries or more,
/// wherever it is written.
fn covers(old: &Finding, new: &Finding) -> bool {
    if old.fingerprint == new.fingerprint {
        return true;
    }
    let parts = |finding: &Finding| {
        let mut subject = finding.subject.as_object().cloned().unwrap_or_default();
        subject.remove("file");
        (subject.remove("entries"), subject)
    };
    let ((old_entries, old_rest), (new_entries, new_rest)) = (parts(old), parts(new));
    let all = |entries: Option<serde_json::Value>| match entries {
        Some(serde_json::Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let old_entries = all(old_entries);
    (old.code, old_rest) == (new.code, new_rest) && all(new_entries).iter().all(|entry| old_entries.contains(entry))
}

fn verdict(findings: &[Finding], protected: &[Impact], limits: &[String]) -> Verdict {
    let lost = |finding: &&Finding| finding.code == codes::flow_lost::CHECK.code;
    if findings.iter().filter(lost).any(|finding| finding.severity == Severity::Critical) {
        return Verdict::Lockout;
    }
    let risk = |finding: &&Finding| finding.severity >= Severity::Medium && !codes::is_about_limits(finding.code);
    if findings.iter().any(|finding| risk(&finding)) {
        return Verdict::Risky;
    }
    let open = protected.iter().any(|impact| impact.state == State::Unknown);
    if open || !limits.is_empty() { Verdict::Unknown } else { Verdict::Safe }
}
