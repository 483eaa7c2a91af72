//! What the daemon itself finds, in words.

use serde_json::json;

use super::deny::{Kind, Seen};
use super::{Trouble, codes, finding};
use crate::audit::finding::{Finding, Severity};
use crate::diagnostic::printable;

fn about(kind: &Kind) -> serde_json::Value {
    json!({
        "source": kind.source, "direction": kind.direction, "tier": kind.tier, "policy": kind.policy, "rule": kind.rule,
        "proto": kind.proto, "port": kind.port,
    })
}

fn example(finding: Finding, seen: &Seen) -> Finding {
    if seen.example.is_empty() { finding } else { finding.evidence("log", &*seen.example) }
}

/// `denies` for one kind.
fn query(kind: &Kind) -> String {
    let mut words = "hepguard denies --rotated".to_owned();
    if !kind.direction.is_empty() {
        words.push_str(&format!(" --direction {}", kind.direction));
    }
    if let Some(port) = kind.port.filter(|_| matches!(kind.proto, Some(6 | 17 | 33 | 132 | 136))) {
        words.push_str(&format!(" --dst-port {port}"));
    }
    words
}

/// A deny on a port of the failsafe list.
pub(super) fn failsafe_denied(kind: &Kind, seen: &Seen, entry: &str) -> Finding {
    let title = format!("{} is denied although {entry} is on the failsafe list", kind.words());
    let fix = format!(
        "compare the lists with `hepguard failsafe`, and see who is denied with `{} --failsafe true`; both only read",
        query(kind)
    );
    example(finding(&codes::failsafe_denied::CHECK, about(kind), title), seen).fix(fix)
}

/// A kind of deny never seen before.
pub(super) fn new_kind(kind: &Kind, seen: &Seen) -> Finding {
    // what the host itself sends is something that worked or was meant to
    let severity = if kind.direction == "egress" { Severity::Medium } else { Severity::Low };
    let title = format!("denied for the first time: {}", kind.words());
    let fix = format!(
        "see who it is with `{} --suggest`, which also names the smallest rule that would admit it",
        query(kind)
    );
    example(finding(&codes::new_deny::CHECK, about(kind), title), seen).severity(severity).fix(fix)
}

/// Many denies of one kind.
pub(super) fn burst(kind: &Kind, seen: &Seen, minute: u64) -> Finding {
    let title = format!("{minute} denies within a minute: {}", kind.words());
    let fix = format!("see who it is with `{} --histogram --group-by src_ip`", query(kind));
    example(finding(&codes::deny_burst::CHECK, about(kind), title), seen).fix(fix)
}

/// The kernel counts, the logs are silent.
pub(super) fn silent(counted: u64, minutes: u64) -> Finding {
    let title = format!(
        "the kernel counted {counted} packets in rules that log denies, and no log told of one for {minutes} min"
    );
    finding(&codes::log_silent::CHECK, json!({"logs": "silent"}), title).fix(
        "check that the logger runs (`systemctl status rsyslog systemd-journald`), that the disk has room (`df /var/log`), and \
         that logs.files of the configuration names where it writes",
    )
}

/// Somebody else took Felix's rules away.
pub(super) fn flushed(who: &str, rules: u64, before: u64, late: bool) -> Finding {
    let (severity, state) = if late {
        (Severity::Critical, "Felix has not put them back")
    } else {
        (Severity::High, "Felix has not put them back yet")
    };
    let title = format!("{who} took away {rules} of {before} rules of Felix; {state}");
    finding(&codes::rules_flushed::CHECK, json!({"felix": "flushed"}), title).severity(severity).fix(
        "Felix restores them at its next refresh (IptablesRefreshInterval, 90 s by default) or at once after \
         `systemctl restart calico-felix`, which is safe over SSH when `hepguard failsafe` shows no removed entry; then stop the \
         other tool from flushing tables",
    )
}

/// Felix's process ended.
pub(super) fn felix_ended(pid: u32, rules: u64) -> Finding {
    let title = format!("Felix (pid {pid}) ended; its {rules} rules stay in the kernel as they were");
    finding(&codes::felix_ended::CHECK, json!({"felix": "ended"}), title).fix(
        "see why with `journalctl -u calico-felix -n 50` (a malformed failsafe entry is a usual reason, see HG106), and compare \
         `hepguard failsafe` before it starts again: at its start it takes the lists that are on disk now",
    )
}

/// A look at the host failed.
pub(super) fn not_looked(why: &str) -> Finding {
    let title = format!("the firewall could not be looked at: {}", printable(why));
    finding(&codes::not_looked::CHECK, json!({"look": "failed"}), title)
        .fix("run `hepguard audit -v` as root to see what fails; until then changes are not judged")
}

/// The wall clock jumped by so many milliseconds.
pub(super) fn clock_jumped(jump: i64) -> Finding {
    let way = if jump > 0 { "forward" } else { "back" };
    let title = format!("the clock was set {way} by {} s", jump.unsigned_abs() / 1000);
    finding(&codes::clock_jumped::CHECK, json!({"clock": way}), title).fix(
        "check the time source (`timedatectl`, `chronyc tracking`); times of log lines and leases around it are off",
    )
}

/// So many changes within a minute, the last by this process.
pub(super) fn flood(who: &str, changes: u64) -> Finding {
    let title = format!("nf_tables changed {changes} times within a minute, the last time by {who}");
    finding(&codes::change_flood::CHECK, json!({"changes": "flood"}), title)
        .fix("see who changes rules with `nft monitor`; two tools that undo each other's work look like this")
}

/// Trouble of the daemon itself.
pub(super) fn trouble(kind: Trouble, subject: &str, why: &str) -> Finding {
    let (check, name, fix) = match kind {
        Trouble::Log => (
            &codes::log_unreadable::CHECK,
            "log",
            "check that the file is there and that group adm may read it (`ls -l`); it is tried again by itself",
        ),
        Trouble::Lost => (
            &codes::lines_lost::CHECK,
            "lost",
            "rotate by rename and a signal to the logger instead of copytruncate, and keep a few old files",
        ),
        Trouble::Outlet if subject.starts_with("forward") => (
            &codes::outlet_failed::CHECK,
            "outlet",
            "try the way with `hepguard forward test`; messages wait in the queues on the disk and are sent by themselves",
        ),
        Trouble::Outlet => (
            &codes::outlet_failed::CHECK,
            "outlet",
            "check the folder and its disk (`df`, `ls -ld`); it is tried again by itself",
        ),
        Trouble::Notices => (
            &codes::notices_missing::CHECK,
            "notices",
            "give the unit CAP_NET_ADMIN and what its comments name; until then changes are found by comparing",
        ),
        Trouble::Configuration => (
            &codes::configuration_refused::CHECK,
            "configuration",
            "correct it, check with `hepguard config check`, then `systemctl reload hepguard`",
        ),
    };
    let title = format!("{}: {}", printable(subject), printable(why));
    finding(check, json!({ name: subject }), title).fix(fix)
}
