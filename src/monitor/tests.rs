use serde_json::json;

use super::deny::{MAX_KINDS, MAX_PORTS, Seen};
use super::look::{Judged, Part, Rules};
use super::*;
use crate::audit::finding::Bites;
use crate::audit::registry::CHECKS;

const HOUR: u64 = 3_600_000;

fn at(steady: u64) -> Moment {
    Moment { wall: 1_800_000_000_000 + i64::try_from(steady).expect("small"), steady }
}

/// A monitor past its time of learning.
fn grown() -> Monitor {
    let mut monitor = Monitor::new(config::Alerts::default(), at(0));
    monitor.first_start -= i64::try_from(2 * HOUR).expect("small");
    monitor
}

fn kind(direction: &str, port: u16) -> Kind {
    Kind {
        source: "felix".to_owned(),
        direction: direction.to_owned(),
        tier: "default".to_owned(),
        policy: "default.hep-external".to_owned(),
        rule: Some(0),
        proto: Some(6),
        port: Some(port),
    }
}

fn denies(kind: Kind, count: u64) -> Event {
    let kinds = vec![(kind.into(), Seen { count, example: "".into() })];
    Event::Logs(Batch { kinds, lines: count, ..Batch::default() })
}

fn looked(felix_rules: u64, change: impl FnOnce(&mut Judged)) -> Event {
    let mut judged = Judged { felix_rules, felix: Some(100), processes: true, ..Judged::default() };
    change(&mut judged);
    let part = Part { digest: felix_rules.to_string(), size: felix_rules, felix: felix_rules, logged: None };
    let parts = [("iptables-legacy ipv4".to_owned(), part)].into();
    Event::Looked(Box::new(Look { parts, judged: Some(judged), took: 7 }))
}

fn raised(actions: &[Action]) -> Vec<&str> {
    actions
        .iter()
        .filter_map(|action| if let Action::Raise(alert) = action { Some(alert.finding.code) } else { None })
        .collect()
}

fn resolved(actions: &[Action]) -> Vec<(&str, &str)> {
    fn one(action: &Action) -> Option<(&str, &str)> {
        let Action::Resolve(alert) = action else { return None };
        Some((alert.finding.code, alert.resolution.as_deref().unwrap_or_default()))
    }
    actions.iter().filter_map(one).collect()
}

#[test]
fn a_new_kind_of_deny_is_raised_once_and_learnt_at_first() {
    let mut young = Monitor::new(config::Alerts::default(), at(0));
    assert_eq!(raised(&young.step(denies(kind("egress", 443), 1), at(10))), [""; 0]);
    assert_eq!(raised(&young.step(denies(kind("egress", 443), 1), at(2 * HOUR))), [""; 0], "learnt");
    let new = young.step(denies(kind("egress", 8443), 3), at(2 * HOUR));
    assert_eq!(raised(&new), ["HG511"]);
    let Action::Raise(alert) = &new[0] else { panic!("{new:?}") };
    assert_eq!(alert.finding.title, "denied for the first time: egress tcp/8443 by default.hep-external rule 0");
    assert_eq!((alert.finding.severity, alert.count), (Severity::Medium, 3));
    assert_eq!(raised(&young.step(denies(kind("egress", 8443), 1), at(2 * HOUR + 1))), [""; 0]);
    let over = young.step(Event::Tick, at(4 * HOUR));
    assert_eq!(resolved(&over), [("HG511", "not seen for an hour")]);
    assert_eq!(raised(&young.step(denies(kind("egress", 8443), 1), at(4 * HOUR))), [""; 0], "still known");
}

#[test]
fn a_scan_fills_no_memory() {
    let mut monitor = grown();
    let mut loud = 0;
    for port in 1..20_000 {
        loud += raised(&monitor.step(denies(kind("ingress", port), 1), at(u64::from(port)))).len();
    }
    assert_eq!(monitor.kinds.len(), MAX_PORTS + 1);
    assert!(loud <= MAX_PORTS + 2, "{loud}");
    for policy in 0..6000 {
        let kind = Kind { policy: format!("p{policy}"), ..kind("egress", 1) };
        monitor.step(denies(kind, 1), at(100_000 + policy));
    }
    assert_eq!(monitor.kinds.len(), MAX_KINDS);
    assert_eq!(monitor.book.sorted().len(), alert::MAX_ALERTS);
    assert!(monitor.kinds.given_up > 0 && monitor.book.given_up > 0);
    assert_eq!(monitor.totals.denies, 19_999 + 6000);
}

#[test]
fn a_deny_on_a_failsafe_port_is_graded_by_the_lists_of_the_kernel() {
    let mut monitor = grown();
    monitor.step(
        looked(50, |judged| {
            judged.failsafe_in = vec!["tcp:22".to_owned(), "tcp:10.0.0.0/8:5473".to_owned()];
            judged.failsafe_out = vec!["udp:53".to_owned()];
        }),
        at(0),
    );
    assert_eq!(raised(&monitor.step(denies(kind("ingress", 22), 1), at(1))), ["HG510"]);
    let others = [kind("egress", 22), kind("ingress", 53), kind("ingress", 5473)];
    for other in others {
        assert_eq!(raised(&monitor.step(denies(other, 1), at(2))), ["HG511"]);
    }
    let udp = Kind { proto: Some(17), ..kind("egress", 53) };
    assert_eq!(raised(&monitor.step(denies(udp, 1), at(3))), ["HG510"]);
}

#[test]
fn bursts_are_counted_by_the_minute() {
    let mut monitor = grown();
    monitor.step(denies(kind("ingress", 80), 999), at(0));
    assert_eq!(raised(&monitor.step(denies(kind("ingress", 80), 1), at(59_000))), ["HG512"]);
    let mut slow = grown();
    slow.step(denies(kind("ingress", 80), 999), at(0));
    assert_eq!(raised(&slow.step(denies(kind("ingress", 80), 999), at(60_000))), [""; 0]);
}

#[test]
fn a_flush_by_somebody_else_is_named_and_its_repair_timed() {
    let mut monitor = grown();
    monitor.step(looked(200, |_| {}), at(0));
    let tables = [("ip filter".to_owned(), Rules { deleted: 200, felix_deleted: 200, ..Rules::default() })].into();
    let change = Change { pid: Some(7), process: Some("nft".to_owned()), tables, ..Change::default() };
    monitor.step(Event::Changed(change), at(1000));
    let actions = monitor.step(looked(0, |_| {}), at(1100));
    assert_eq!(raised(&actions), ["HG520"]);
    let title = monitor.book.open().next().expect("open").finding.title.clone();
    assert_eq!(title, "nft (pid 7) took away 200 of 200 rules of Felix; Felix has not put them back yet");
    assert!(actions.iter().any(|action| matches!(action, Action::LookIn(_))), "{actions:?}");
    // not in time: worse
    let late = monitor.step(Event::Tick, at(40_000));
    assert_eq!(raised(&late), ["HG520"]);
    assert_eq!(monitor.book.open().next().map(|alert| alert.finding.severity), Some(Severity::Critical));
    let back = monitor.step(looked(199, |_| {}), at(41_100));
    assert_eq!(resolved(&back), [("HG520", "Felix put its rules back after 40 s")]);
}

#[test]
fn what_felix_does_itself_is_no_flush() {
    for (process, parent) in [("calico-felix", None), ("iptables-nft-re", Some((100, "calico-felix".to_owned())))] {
        let mut monitor = grown();
        monitor.step(looked(200, |_| {}), at(0));
        let tables = [("ip filter".to_owned(), Rules { deleted: 30, felix_deleted: 30, ..Rules::default() })].into();
        let change = Change { pid: Some(101), process: Some(process.to_owned()), parent, tables, ..Change::default() };
        monitor.step(Event::Changed(change.clone()), at(1));
        assert_eq!(raised(&monitor.step(looked(170, |_| {}), at(2))), [""; 0]);
        // the same by a stranger
        monitor.step(
            Event::Changed(Change { pid: Some(9), process: Some("nft".to_owned()), parent: None, ..change }),
            at(3),
        );
        assert_eq!(raised(&monitor.step(looked(140, |_| {}), at(4))), ["HG520"]);
    }
    // legacy: nobody tells who, so only a great loss counts
    let mut legacy = grown();
    legacy.step(looked(200, |_| {}), at(0));
    assert_eq!(raised(&legacy.step(looked(150, |_| {}), at(1))), [""; 0]);
    assert_eq!(raised(&legacy.step(looked(10, |_| {}), at(2))), ["HG520"]);
}

#[test]
fn felix_ends_and_runs_again() {
    let mut monitor = grown();
    monitor.step(looked(60, |_| {}), at(0));
    let ended = monitor.step(Event::FelixEnded(100), at(5));
    assert_eq!(raised(&ended), ["HG521"]);
    let still = monitor.step(looked(60, |judged| judged.felix = None), at(6));
    assert_eq!(resolved(&still), []);
    let again = monitor.step(looked(60, |judged| judged.felix = Some(300)), at(9000));
    assert_eq!(resolved(&again), [("HG521", "Felix runs again (pid 300)")]);
}

#[test]
fn findings_of_the_audit_live_as_long_as_they_are_found() {
    let check = CHECKS.iter().find(|check| check.code == "HG201").expect("known");
    let lost = Finding::new(check, json!({"port": 22}), "SSH is refused").bites(Bites::Reconnect).fix("admit it");
    let lost = serde_json::to_value(&lost).expect("JSON");
    let mut monitor = grown();
    monitor.step(looked(1, |_| {}), at(0));
    let with = |judged: &mut Judged| judged.findings = vec![lost.clone(), json!({"code": "HG000"}), json!(3)];
    let actions = monitor.step(looked(2, with), at(1));
    assert_eq!(raised(&actions), ["HG201"]);
    let told =
        actions.iter().find_map(|action| if let Action::Tell(text) = action { Some(text.as_str()) } else { None });
    let expected = "the firewall changed: iptables-legacy ipv4: 1 before, 2 now; judged in 7 ms: 1 raised, 0 resolved";
    assert_eq!(told, Some(expected));
    assert_eq!(raised(&monitor.step(looked(2, with), at(2))), [""; 0], "known");
    // blind: may still be there
    let blind = |judged: &mut Judged| judged.unreadable = vec!["ipset-save.txt".to_owned()];
    assert_eq!(resolved(&monitor.step(looked(2, blind), at(3))), []);
    let gone = monitor.step(looked(2, |_| {}), at(4));
    assert_eq!(resolved(&gone), [("HG201", "the audit does not find it any more")]);
    // it comes back with its first sight
    monitor.step(looked(2, with), at(9));
    let alert = monitor.book.open().next().expect("open");
    assert_eq!((alert.first_seen, alert.last_seen, alert.count), (at(1).wall, at(9).wall, 3));
}

#[test]
fn what_bites_soon_is_told_once() {
    let check = CHECKS.iter().find(|check| check.code == "HG201").expect("known");
    let mut lost = Finding::new(check, json!({}), "the lease cannot be renewed").bites(Bites::Renewal);
    lost.bites_at = Some("2027-01-15T09:00:00Z".to_owned());
    let bites = 1_800_003_600_000_i64;
    let lost = serde_json::to_value(&lost).expect("JSON");
    let mut monitor = grown();
    monitor.step(looked(1, |judged| judged.findings = vec![lost]), at(0));
    assert_eq!(monitor.next_bite(at(0).wall).map(|(at, _)| at), Some(bites));
    let reminders = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::Remind(_))).count();
    assert_eq!(reminders(&monitor.step(Event::Tick, at(HOUR - 1_000_000))), 0);
    assert_eq!(reminders(&monitor.step(Event::Tick, at(HOUR - 800_000))), 1);
    assert_eq!(reminders(&monitor.step(Event::Tick, at(HOUR - 700_000))), 0);
}

#[test]
fn silence_of_the_logs_is_noticed_by_the_kernels_counters() {
    let mut monitor = grown();
    let counted = |packets| looked(1, move |judged| judged.logged = Some(packets));
    monitor.step(counted(100), at(0));
    assert_eq!(raised(&monitor.step(counted(150), at(300_000))), [""; 0], "not for long enough");
    assert_eq!(raised(&monitor.step(counted(160), at(600_000))), ["HG513"]);
    let heard = monitor.step(denies(kind("ingress", 99), 1), at(600_500));
    assert_eq!(resolved(&heard), [("HG513", "the logs tell of denies again")]);
    // counters that begin anew are no silence
    monitor.step(counted(500), at(601_000));
    assert_eq!(raised(&monitor.step(counted(3), at(2 * HOUR))), [""; 0]);
    assert_eq!(raised(&monitor.step(counted(12), at(4 * HOUR))), [""; 0], "too few");
    assert_eq!(raised(&monitor.step(counted(13), at(5 * HOUR))), ["HG513"]);
}

#[test]
fn a_clock_that_jumps_is_told() {
    let mut monitor = grown();
    monitor.step(Event::Tick, at(0));
    let jumped = Moment { wall: at(1000).wall - 7_200_000, steady: 1000 };
    let actions = monitor.step(Event::Tick, jumped);
    assert_eq!(raised(&actions), ["HG523"]);
    assert_eq!(raised(&monitor.step(Event::Tick, Moment { wall: jumped.wall + 500, steady: 1500 })), [""; 0]);
}

#[test]
fn troubles_come_and_go() {
    let mut monitor = grown();
    let trouble =
        |why: &str| Event::Trouble { kind: Trouble::Log, subject: "/var/log/syslog".to_owned(), why: why.to_owned() };
    assert_eq!(raised(&monitor.step(trouble("permission denied"), at(0))), ["HG514"]);
    assert_eq!(raised(&monitor.step(trouble("is not there"), at(1))), [""; 0]);
    let mended = monitor.step(Event::Mended { kind: Trouble::Log, subject: "/var/log/syslog".to_owned() }, at(2));
    assert_eq!(resolved(&mended), [("HG514", "works again")]);
    assert_eq!(raised(&monitor.step(Event::NotLooked("timeout".to_owned()), at(3))), ["HG522"]);
    assert_eq!(resolved(&monitor.step(looked(1, |_| {}), at(4))), [("HG522", "a look succeeded")]);
}

#[test]
fn a_flood_of_changes_is_one_alert() {
    let mut monitor = grown();
    let change = Change { pid: Some(1), process: Some("nft".to_owned()), ..Change::default() };
    let all: Vec<Action> =
        (0..10_000).flat_map(|number| monitor.step(Event::Changed(change.clone()), at(number * 6))).collect();
    assert_eq!(raised(&all), ["HG527"]);
    assert_eq!(monitor.totals.changes, 10_000);
}

#[test]
fn what_is_written_reads_back() {
    let mut monitor = grown();
    monitor.step(denies(kind("egress", 443), 5), at(1));
    monitor.step(looked(60, |_| {}), at(2));
    monitor.step(Event::FelixEnded(100), at(3));
    monitor.step(looked(61, |_| {}), at(4));
    let written = |monitor: &Monitor| serde_json::to_value(monitor.written()).expect("JSON");
    let text = written(&monitor).to_string();
    let mut again = Monitor::new(config::Alerts::default(), at(99));
    again.restore(&serde_json::from_str(&text).expect("JSON"));
    assert_eq!(written(&again), written(&monitor));
    assert_eq!((again.totals, again.first_start), (monitor.totals, monitor.first_start));
    assert_eq!(raised(&again.step(denies(kind("egress", 443), 1), at(100))), [""; 0], "known from before");
    // what is no state of ours changes nothing
    for odd in [json!(null), json!([]), json!({"alerts": 3, "kinds": {"a": 1}, "totals": "x", "changes": [1]})] {
        Monitor::new(config::Alerts::default(), at(0)).restore(&odd);
    }
}
