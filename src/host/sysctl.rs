//! Reader of `sysctl -a` text: `net.ipv4.ip_forward = 1`, one a line.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::{Level, Parsed, Remarks};

/// Reads `name = value` lines; names with slashes become dotted. The last of several lines of one name holds.
#[must_use]
pub fn read(source: &Arc<str>, text: &[u8]) -> Parsed<BTreeMap<String, String>> {
    let mut remarks = Remarks::new(source);
    let mut found = BTreeMap::new();
    for (number, line) in (1_u32..).zip(text.split(|byte| *byte == b'\n')) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                found.insert(dotted(name.trim()), value.trim().to_owned());
            }
            // sysctl's own complaints, caught when standard error was mixed in
            _ => remarks.add(
                Level::Warning,
                number,
                1,
                "expected 'name = value' as 'sysctl -a' prints it; line not used",
            ),
        }
    }
    remarks.with(found)
}

/// `net/ipv4/conf/eth0.1/rp_filter` is the slashed form: there dots belong to names and stay as slashes, as sysctl prints.
fn dotted(name: &str) -> String {
    let slashed = name.find(['/', '.']).is_some_and(|at| name.get(at..=at) == Some("/"));
    if !slashed {
        return name.to_owned();
    }
    name.chars()
        .map(|c| {
            if c == '/' {
                '.'
            } else if c == '.' {
                '/'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_and_comments() {
        let text = b"# made by hand\nnet.ipv4.ip_forward = 1\nnet/ipv4/conf/eth0.1/rp_filter=2\nnet.core.x =\nodd\n";
        let read = read(&Arc::from("sysctl.txt"), text);
        assert_eq!(read.value.get("net.ipv4.ip_forward").map(String::as_str), Some("1"));
        assert_eq!(read.value.get("net.ipv4.conf.eth0/1.rp_filter").map(String::as_str), Some("2"));
        assert_eq!(read.value.get("net.core.x").map(String::as_str), Some(""));
        assert_eq!(read.diagnostics.iter().map(|d| d.line).collect::<Vec<_>>(), [5]);
    }
}
