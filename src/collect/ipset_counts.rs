//! Members that `ipset save` shows against the numbers in `ipset list -t`.

use std::collections::HashMap;

/// A set of which the save shows fewer members than there are; members of sets with a timeout come and go.
pub(super) fn lacking(saved: &[u8], headers: &[u8]) -> Option<String> {
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    // members of one set come together
    let mut run: (&[u8], usize) = (&[], 0);
    for line in saved.split(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"create ").map(first_word) {
            counts.entry(name).or_default();
        } else if let Some(name) = line.strip_prefix(b"add ").map(first_word) {
            if run.0 != name {
                *counts.entry(run.0).or_default() += run.1;
                run = (name, 0);
            }
            run.1 += 1;
        }
    }
    *counts.entry(run.0).or_default() += run.1;
    let mut set: &[u8] = &[];
    let mut changes = false;
    for line in headers.split(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"Name: ") {
            (set, changes) = (name, false);
        } else if let Some(header) = line.strip_prefix(b"Header: ") {
            changes = memchr::memmem::find(header, b"timeout ").is_some();
        } else if let Some(number) = line.strip_prefix(b"Number of entries: ") {
            let told: usize = std::str::from_utf8(number).ok()?.trim().parse().ok()?;
            let shown = counts.get(set).copied();
            if shown.is_none() || (!changes && shown.is_some_and(|shown| shown != told)) {
                let (name, shown) = (String::from_utf8_lossy(set), shown.unwrap_or(0));
                return Some(format!("'ipset save' shows {shown} of the {told} members of {name}"));
            }
        }
    }
    None
}

fn first_word(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::lacking;

    const HEADERS: &[u8] = b"Name: a\nType: hash:ip\nHeader: family inet hashsize 1024\nNumber of entries: 2\n\n\
        Name: b\nType: hash:ip\nHeader: family inet timeout 60\nNumber of entries: 9\n";

    #[test]
    fn a_save_must_show_every_member_that_does_not_expire() {
        let save = |text: &str| lacking(text.as_bytes(), HEADERS);
        let whole = "create a hash:ip family inet\nadd a 10.0.0.1\nadd a 10.0.0.2\ncreate b hash:ip timeout 60\n";
        assert_eq!(save(whole), None);
        let cut = whole.replace("add a 10.0.0.2\n", "");
        assert_eq!(save(&cut).as_deref(), Some("'ipset save' shows 1 of the 2 members of a"));
        let gone = whole.replace("create b hash:ip timeout 60\n", "");
        assert_eq!(save(&gone).as_deref(), Some("'ipset save' shows 0 of the 9 members of b"));
        assert_eq!(lacking(b"", b""), None);
    }
}
