//! The worlds a flow is judged in, by name, and what of them cannot be told.

use serde::Serialize;

use crate::calico::failsafe::{Direction, FAMILIES, FailsafeReport, ListState};

/// A world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorldName {
    /// Established sessions, as they are.
    Now,
    /// A fresh connection.
    New,
    /// A fresh connection by policy alone: the failsafe lists are empty.
    NoFailsafe,
    /// A fresh connection once Felix has restarted with what is on disk.
    FelixRestart,
    /// A fresh connection as the host boots, before Felix is in sync.
    RebootBeforeFelix,
    /// A fresh connection after a boot, with Felix in sync.
    Reboot,
}

impl WorldName {
    /// In the order they come.
    pub const ALL: [Self; 6] =
        [Self::Now, Self::New, Self::NoFailsafe, Self::FelixRestart, Self::RebootBeforeFelix, Self::Reboot];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::New => "new",
            Self::NoFailsafe => "no-failsafe",
            Self::FelixRestart => "felix-restart",
            Self::RebootBeforeFelix => "reboot-before-felix",
            Self::Reboot => "reboot",
        }
    }
}

/// Why it cannot be told what a restart of Felix programs; `None` when it can, or Felix programs no failsafe lists here.
#[must_use]
pub fn restart_unknown(report: &FailsafeReport) -> Option<String> {
    let programmed = |direction| {
        let report = report.direction(direction);
        FAMILIES.iter().any(|family| report.deciding(*family).next().is_some())
    };
    let unknown = |direction: &Direction| report.direction(*direction).disk.state == ListState::Unknown;
    let direction = Direction::ALL.into_iter().filter(|direction| programmed(*direction)).find(unknown)?;
    Some(format!("the {direction} failsafe list on disk is not known"))
}
