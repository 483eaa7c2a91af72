//! Tools that a test calls and that need not be there.

use std::process::{Command, Stdio};

/// Whether all of them are there. Without one a test, or a part of it, says so, and fails where everything must be there.
pub(crate) fn have(tools: &[&str]) -> bool {
    let missing = tools.iter().find(|tool| {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
        !found.is_ok_and(|status| status.success())
    });
    if let Some(tool) = missing {
        assert!(std::env::var_os("CI").is_none(), "{tool} is not installed: tests/run installs it");
        eprintln!("SKIPPED: {tool} is not installed");
    }
    missing.is_none()
}
