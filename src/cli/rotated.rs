//! The older files of a log, as logrotate names them: `syslog.1`, `syslog.2.gz`, `messages-20260821.xz`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const ENDS: [&str; 4] = [".gz", ".xz", ".zst", ".bz2"];

/// Order of an older file of a log; smaller is older. `None` when the name is not one logrotate gives.
fn age(base: &str, name: &str) -> Option<(u8, i128)> {
    let rest = name.strip_prefix(base)?;
    let rest = ENDS.iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if let Some(number) = rest.strip_prefix('.') {
        // a higher number is older
        return number.parse::<u32>().ok().map(|number| (1, -i128::from(number)));
    }
    let date = rest.strip_prefix('-').filter(|date| date.len() >= 8 && date.len() <= 20 && digits(date))?;
    // 20260821, 20260821-1755, a second count since 1970: as one number they sort alike within one scheme
    date.replace('-', "").parse().ok().map(|date: i128| (0, date))
}

/// A log with its older files in front of it, oldest first, each file once even when it is renamed meanwhile.
pub(super) fn with_older(path: &Path) -> Vec<PathBuf> {
    let found = || {
        let base = path.file_name()?.to_str()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let mut older: Vec<_> = fs::read_dir(folder)
            .ok()?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((age(base, entry.file_name().to_str()?)?, entry.path()))
            })
            .collect();
        older.sort();
        Some(older.into_iter().map(|(_, path)| path).collect::<Vec<_>>())
    };
    let mut seen = BTreeSet::new();
    let mut paths = found().unwrap_or_default();
    paths.push(path.to_owned());
    paths.retain(|path| fs::metadata(path).map_or(true, |meta| seen.insert((meta.dev(), meta.ino()))));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_files_come_oldest_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = [
            "syslog",
            "syslog.1",
            "syslog.10.gz",
            "syslog.2.gz",
            "syslog.old",
            "syslog.1.gz.tmp",
            "syslogs.1",
            "syslog-20260801.xz",
            "syslog-20260708",
        ];
        for name in names {
            fs::write(folder.path().join(name), name).expect("written");
        }
        let found = with_older(&folder.path().join("syslog"));
        let found: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        let expected = ["syslog-20260708", "syslog-20260801.xz", "syslog.10.gz", "syslog.2.gz", "syslog.1", "syslog"];
        assert_eq!(found, expected);
        assert_eq!(with_older(Path::new("/nowhere/syslog")), [PathBuf::from("/nowhere/syslog")]);
    }

    #[test]
    fn a_file_under_two_names_is_read_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("syslog");
        fs::write(&path, "x").expect("written");
        fs::hard_link(&path, folder.path().join("syslog.1")).expect("linked");
        assert_eq!(with_older(&path).len(), 1);
    }
}
