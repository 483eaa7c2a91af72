//! Rules that change, Felix that ends, logs that fall silent.

use std::collections::{BTreeMap, HashSet};

use super::alert::{Alert, read_finding};
use super::look::{Change, Judged, Look, Part};
use super::{Action, Moment, Monitor, codes, milliseconds, said};

/// Denied packets that must be counted before silence means something.
const SOME: u64 = 10;

/// What is remembered between looks.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) parts: BTreeMap<String, Part>,
    /// Rules of Felix in the kernel, when all of them were last there.
    felix_rules: u64,
    /// Somebody else took rules of Felix away.
    flushed: Option<Flushed>,
    /// Changes since the last look.
    recent: Vec<Change>,
    /// Felix's process, as far as known.
    felix: Option<u32>,
    /// Denies the kernel had counted when the logs last told of one, and when that was (steady clock).
    counted: Option<(u64, u64)>,
    /// Changes in the minute that began then (steady clock).
    minute: (u64, u64),
}

#[derive(Clone, Debug)]
struct Flushed {
    /// Rules that went.
    rules: u64,
    /// Rules that were there before.
    before: u64,
    /// Who it was.
    who: String,
    /// Steady clock.
    since: u64,
}

/// Changes within a minute that are a flood.
const FLOOD: u64 = 600;

/// Changes kept until the next look.
const MAX_RECENT: usize = 64;

impl Monitor {
    pub(super) fn changed(&mut self, change: &Change, now: Moment, actions: &mut Vec<Action>) {
        self.totals.changes += 1;
        let minute = &mut self.firewall.minute;
        if now.steady.saturating_sub(minute.0) >= 60_000 {
            *minute = (now.steady, 0);
        }
        minute.1 += 1;
        let flood = minute.1;
        if flood >= FLOOD {
            self.bring(said::flood(&change.who(), flood), 1, now, actions);
        }
        let recent = &mut self.firewall.recent;
        if recent.len() < MAX_RECENT {
            recent.push(change.clone());
        } else if let Some(last) = recent.last_mut() {
            // of a flood the last stands for the rest
            last.generation = change.generation;
        }
    }

    pub(super) fn felix_ended(&mut self, pid: u32, now: Moment, actions: &mut Vec<Action>) {
        self.firewall.felix = None;
        let rules = self.last.as_ref().map_or(0, |last| last.felix_rules);
        self.bring(said::felix_ended(pid, rules), 1, now, actions);
    }

    pub(super) fn looked(&mut self, look: Look, now: Moment, actions: &mut Vec<Action>) {
        self.end(&said::not_looked("").fingerprint, "a look succeeded", now, actions);
        let changed = self.compare(&look.parts);
        let logged: Vec<u64> = look.parts.values().filter_map(|part| part.logged).collect();
        let counted = (!logged.is_empty()).then(|| logged.iter().fold(0_u64, |sum, one| sum.saturating_add(*one)));
        self.firewall.parts = look.parts;
        let recent = std::mem::take(&mut self.firewall.recent);
        let first = self.last.is_none();
        let Some(judged) = look.judged else {
            self.silence(counted, now, actions);
            return;
        };
        self.totals.audits += 1;
        self.judged_at = Some(now.wall);
        self.flushes(&judged, &recent, now, actions);
        self.felix(&judged, now, actions);
        let raised = self.findings(&judged, now, actions);
        self.silence(judged.logged.or(counted), now, actions);
        if !first && (!changed.is_empty() || !recent.is_empty()) {
            let legacy = changed.iter().filter(|part| !part.starts_with("nf_tables")).count();
            self.totals.changes += u64::try_from(legacy).unwrap_or(0);
            self.tell(words(&changed, &recent, look.took, raised), now, actions);
        }
        // the book has them
        self.last = Some(Judged { findings: Vec::new(), ..judged });
    }

    /// Parts that are not as they were.
    fn compare(&self, parts: &BTreeMap<String, Part>) -> Vec<String> {
        let before = &self.firewall.parts;
        let names: std::collections::BTreeSet<&String> = parts.keys().chain(before.keys()).collect();
        let differs =
            |name: &&&String| parts.get(**name).map(|part| &part.digest) != before.get(**name).map(|part| &part.digest);
        let of = |name: &String| {
            let (old, new) =
                (before.get(name).map_or(0, |part| part.size), parts.get(name).map_or(0, |part| part.size));
            if old == new {
                format!("{name}: {new}, as many as before")
            } else {
                format!("{name}: {old} before, {new} now")
            }
        };
        names.iter().filter(differs).map(|name| of(name)).collect()
    }

    /// Rules of Felix that somebody else took away, and whether they are back.
    fn flushes(&mut self, judged: &Judged, recent: &[Change], now: Moment, actions: &mut Vec<Action>) {
        let before = self.firewall.felix_rules;
        let there = judged.felix_rules;
        let foreign = recent
            .iter()
            .filter(|change| change.felix_lost() > 0 && !self.is_felix(change))
            .max_by_key(|change| change.felix_lost());
        // Felix replaces rules in one step; a host without half of them is not its work
        let many = before > 0 && there < before / 2;
        if let Some(flushed) = self.firewall.flushed.clone() {
            if there >= flushed.before.saturating_sub(flushed.before / 10) {
                let seconds = now.steady.saturating_sub(flushed.since) / 1000;
                let how = format!("Felix put its rules back after {seconds} s");
                self.end(
                    &said::flushed(&flushed.who, flushed.rules, flushed.before, false).fingerprint,
                    &how,
                    now,
                    actions,
                );
                self.firewall.flushed = None;
            }
        } else if many || foreign.is_some_and(|change| before > 0 && there < before && change.felix_lost() > 0) {
            let who = foreign.map_or_else(|| "somebody".to_owned(), Change::who);
            let flushed = Flushed { rules: before.saturating_sub(there), before, who, since: now.steady };
            self.bring(said::flushed(&flushed.who, flushed.rules, before, false), 1, now, actions);
            self.firewall.flushed = Some(flushed);
        }
        if let Some(flushed) = &self.firewall.flushed {
            let given = u64::try_from(milliseconds(self.settings.repair)).unwrap_or(0);
            match given.saturating_sub(now.steady.saturating_sub(flushed.since)) {
                0 => self.watch_repair(now, actions),
                rest => actions.push(Action::LookIn(rest.saturating_add(50))),
            }
        }
        if self.firewall.flushed.is_none() {
            self.firewall.felix_rules = there;
        }
    }

    /// Felix was given time to repair; look again, and say when it is over.
    pub(super) fn watch_repair(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(flushed) = self.firewall.flushed.clone() else { return };
        let given = u64::try_from(milliseconds(self.settings.repair)).unwrap_or(0);
        if now.steady.saturating_sub(flushed.since) >= given {
            self.bring(said::flushed(&flushed.who, flushed.rules, flushed.before, true), 0, now, actions);
        }
    }

    /// Whether a change was made by Felix or a tool it started.
    fn is_felix(&self, change: &Change) -> bool {
        let named = |name: &str| name.contains("felix") || name.starts_with("calico-node");
        let own = |pid: u32| self.firewall.felix == Some(pid);
        change.pid.is_some_and(own)
            || change.process.as_deref().is_some_and(named)
            || change.parent.as_ref().is_some_and(|(pid, name)| own(*pid) || named(name))
    }

    fn felix(&mut self, judged: &Judged, now: Moment, actions: &mut Vec<Action>) {
        if let Some(pid) = judged.felix {
            self.firewall.felix = Some(pid);
            let ended: Vec<String> = self.open_with(codes::felix_ended::CHECK.code);
            for fingerprint in ended {
                self.end(&fingerprint, &format!("Felix runs again (pid {pid})"), now, actions);
            }
        }
    }

    fn open_with(&self, code: &str) -> Vec<String> {
        let of = |alert: &&Alert| alert.finding.code == code;
        self.book.open().filter(of).map(|alert| alert.finding.fingerprint.clone()).collect()
    }

    /// What the audit found: new findings are raised, those that are gone are over. Says how many were raised and ended.
    fn findings(&mut self, judged: &Judged, now: Moment, actions: &mut Vec<Action>) -> (usize, usize) {
        let before = actions.len();
        let mut found = HashSet::new();
        for finding in judged.findings.iter().filter_map(read_finding) {
            found.insert(finding.fingerprint.clone());
            self.bring(finding, 1, now, actions);
        }
        let raised = actions.len() - before;
        // what cannot be seen may still be there
        if judged.unreadable.is_empty() {
            let own = |code: &str| codes::find(code).is_some();
            let gone = |alert: &&Alert| !own(alert.finding.code) && !found.contains(&alert.finding.fingerprint);
            let gone: Vec<String> = self.book.open().filter(gone).map(|a| a.finding.fingerprint.clone()).collect();
            for fingerprint in gone {
                self.end(&fingerprint, "the audit does not find it any more", now, actions);
            }
        }
        (raised, actions.len() - before - raised)
    }

    /// A deny was read in the logs.
    pub(super) fn heard(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.firewall.counted = None;
        self.end(&said::silent(0, 0).fingerprint, "the logs tell of denies again", now, actions);
    }

    /// The kernel counts denies and the logs tell of none.
    fn silence(&mut self, counted: Option<u64>, now: Moment, actions: &mut Vec<Action>) {
        let Some(counted) = counted else { return };
        let (base, since) = *self.firewall.counted.get_or_insert((counted, now.steady));
        if counted < base {
            // counters were reset, or rules were made anew
            self.firewall.counted = Some((counted, now.steady));
            return;
        }
        let waited = now.steady.saturating_sub(since);
        let patience = u64::try_from(milliseconds(self.settings.silence)).unwrap_or(u64::MAX);
        if counted - base >= SOME && waited >= patience {
            self.bring(said::silent(counted - base, waited / 60_000), 0, now, actions);
        }
    }
}

/// `the firewall changed: …`
fn words(changed: &[String], recent: &[Change], took: u64, (raised, ended): (usize, usize)) -> String {
    let mut words = Vec::new();
    for change in recent.iter().rev().take(3).rev() {
        words.push(format!("nf_tables by {}: {}", change.who(), change.what()));
    }
    if recent.len() > 3 {
        words.push(format!("{} more changes of nf_tables", recent.len() - 3));
    }
    words.extend(changed.iter().filter(|part| recent.is_empty() || !part.starts_with("nf_tables")).cloned());
    let verdict = match (raised, ended) {
        (0, 0) => "no finding came or went".to_owned(),
        _ => format!("{raised} raised, {ended} resolved"),
    };
    format!("the firewall changed: {}; judged in {took} ms: {verdict}", words.join("; "))
}
