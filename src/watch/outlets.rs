//! Where alerts go on this host: the journal with fields of their own (or standard error), the message of the day, every
//! terminal, a file of figures. Each failure is told to the caller, which makes a finding of it.

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::state::replace;
use crate::audit::finding::Severity;
use crate::diagnostic::printable;
use crate::forward::encode::journal::field;
use crate::monitor::alert::Alert;

/// Where journald takes entries.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// What kind of message it is, for ever (`MESSAGE_ID`).
const RAISED: &str = "6f1d0a5be3f34ec19f2f6b1a0d7c5501";
const RESOLVED: &str = "6f1d0a5be3f34ec19f2f6b1a0d7c5502";
const REMINDED: &str = "6f1d0a5be3f34ec19f2f6b1a0d7c5503";
const CHANGED: &str = "6f1d0a5be3f34ec19f2f6b1a0d7c5504";

/// What happened to an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Raised,
    Resolved,
    Reminded,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Raised => "alert",
            Self::Resolved => "resolved",
            Self::Reminded => "bites soon",
        }
    }
}

/// The journal, or standard error where it is not there.
pub(super) struct Journal {
    socket: Option<UnixDatagram>,
    /// Standard error is the journal's, so that lines may begin with their priority.
    priorities: bool,
}

impl Journal {
    pub(super) fn open() -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(JOURNAL)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let supervised = std::env::var_os("NOTIFY_SOCKET").is_some();
        // by hand, on a terminal, people want to read it
        let socket = socket.ok().filter(|_| supervised);
        Self { socket, priorities: std::env::var_os("JOURNAL_STREAM").is_some() }
    }

    /// One alert.
    pub(super) fn alert(&self, what: What, alert: &Alert) {
        let finding = &alert.finding;
        let tail = match (what, &alert.resolution, &finding.bites_at) {
            (What::Resolved, Some(how), _) => format!(" ({how})"),
            (What::Reminded, _, Some(at)) => format!(" (at {at})"),
            _ => String::new(),
        };
        let line = format!(
            "{}: {} {} {}: {}{tail}",
            what.word(),
            finding.code,
            finding.severity.name(),
            finding.name,
            finding.title
        );
        let id = match what {
            What::Raised => RAISED,
            What::Resolved => RESOLVED,
            What::Reminded => REMINDED,
        };
        let count = alert.count.to_string();
        let fields = [
            ("MESSAGE_ID", id),
            ("HEPGUARD_CODE", finding.code),
            ("HEPGUARD_NAME", finding.name),
            ("HEPGUARD_SEVERITY", finding.severity.name()),
            ("HEPGUARD_FINGERPRINT", &finding.fingerprint),
            ("HEPGUARD_STATE", if what == What::Resolved { "resolved" } else { "open" }),
            ("HEPGUARD_BITES", finding.bites.name()),
            ("HEPGUARD_BITES_AT", finding.bites_at.as_deref().unwrap_or_default()),
            ("HEPGUARD_COUNT", &count),
            ("HEPGUARD_SUBJECT", &finding.subject.to_string()),
            ("HEPGUARD_FIX", &finding.fix),
        ];
        let priority = if what == What::Resolved { 5 } else { priority(finding.severity) };
        self.line(priority, &line, &fields);
    }

    /// A line that is no alert.
    pub(super) fn tell(&self, text: &str) {
        self.line(6, text, &[("MESSAGE_ID", CHANGED)]);
    }

    fn line(&self, priority: u8, text: &str, fields: &[(&str, &str)]) {
        let text = printable(text);
        if let Some(socket) = &self.socket {
            let mut entry = Vec::new();
            field(&mut entry, "MESSAGE", text.as_bytes());
            field(&mut entry, "PRIORITY", priority.to_string().as_bytes());
            field(&mut entry, "SYSLOG_IDENTIFIER", b"hepguard");
            for (key, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
                field(&mut entry, key, value.as_bytes());
            }
            if socket.send(&entry).is_ok() {
                return;
            }
        }
        let mark = if self.priorities { format!("<{priority}>") } else { "hepguard: ".to_owned() };
        // whoever closed standard error does not want to hear
        let _ = writeln!(io::stderr(), "{mark}{text}");
    }
}

fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}

/// A few lines for people who log in; nothing when all is well.
pub(super) fn motd(path: &Path, open: &[(Severity, usize)], worst: &[&Alert]) -> io::Result<()> {
    let mut text = String::new();
    let words: Vec<String> = open
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(severity, count)| format!("{count} {}", severity.name()))
        .collect();
    if !words.is_empty() {
        text = format!("hepguard: {} (`hepguard status`)\n", words.join(", "));
        for alert in worst.iter().take(3) {
            text.push_str(&format!("  {} {}\n", alert.finding.code, printable(&alert.finding.title)));
        }
    }
    replace(path, text.as_bytes(), 0o644, false)
}

/// Writes to every terminal; the child is waited for later.
pub(super) fn wall(alert: &Alert) -> io::Result<Child> {
    let text = format!("hepguard: {} {}", alert.finding.code, printable(&alert.finding.title));
    let mut child = Command::new("wall").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_the_day_is_empty_when_all_is_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("motd");
        motd(&path, &[(Severity::High, 2), (Severity::Low, 0)], &[]).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "hepguard: 2 high (`hepguard status`)\n");
        motd(&path, &[(Severity::High, 0)], &[]).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "");
    }
}
