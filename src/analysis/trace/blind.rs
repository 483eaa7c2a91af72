//! What a snapshot does not show of the firewall: answers that rest on it are not certain.

use super::{Trace, TraceVerdict, Undecided};
use crate::diagnostic::Level;
use crate::packet::Family;
use crate::snapshot::{FileState, Snapshot};

/// Listings of the firewall of one family.
fn listings(family: Family) -> [&'static str; 4] {
    match family {
        Family::Ipv6 => {
            ["ip6tables-legacy-save.txt", "ip6tables-nft-save.txt", "ip6tables-save.txt", "nft-ruleset.json"]
        }
        _ => ["iptables-legacy-save.txt", "iptables-nft-save.txt", "iptables-save.txt", "nft-ruleset.json"],
    }
}

/// Whether somebody looked for the firewall of `family`, and be it in vain, or it is rendered.
#[must_use]
pub fn is_listed(snapshot: &Snapshot, family: Family) -> bool {
    snapshot.rendered || listings(family).iter().any(|name| snapshot.files.files.contains_key(*name))
}

/// Why the rules for packets of `family` are not all known; empty when they are.
#[must_use]
pub fn blind_spots(snapshot: &Snapshot, family: Family) -> Vec<String> {
    if snapshot.rendered {
        return Vec::new();
    }
    let files = &snapshot.files;
    let mut spots = Vec::new();
    let mut looked = false;
    for name in listings(family) {
        match files.files.get(name) {
            Some(FileState::Present(_)) => {
                looked = true;
                let label = files.label(name);
                let damaged = snapshot.diagnostics.iter().find(|d| d.level == Level::Error && *d.source == *label);
                spots.extend(damaged.map(|diagnostic| format!("not all of the rules could be read: {diagnostic}")));
            }
            Some(FileState::Absent) => looked = true,
            Some(FileState::Unreadable(why)) => {
                looked = true;
                spots.push(format!("{name} could not be read: {why}"));
            }
            None => {}
        }
    }
    if !looked {
        let tools = if family == Family::Ipv6 { "ip6tables-save -c" } else { "iptables-save -c" };
        spots.push(format!("there is no listing of the {family} firewall: add the output of `{tools}`"));
    }
    let fragments = snapshot.ruleset.tables.iter().filter(|table| table.family.sees(family) && &*table.name == "?");
    spots.extend(fragments.map(|table| format!("{} is only a part of a listing", table.source)));
    spots
}

impl Trace {
    /// The same answer when some rules were not seen: nothing is certain any more.
    #[must_use]
    pub fn blinded(mut self, spots: &[String]) -> Self {
        if spots.is_empty() {
            return self;
        }
        if self.certain {
            self.notes.push(format!("the rules that were read say {}", self.verdict.name()));
        }
        self.verdict = TraceVerdict::Unknown;
        self.certain = false;
        self.decided_by = None;
        self.carried_out_by = None;
        self.stopped_by = None;
        self.may = vec![TraceVerdict::Accept, TraceVerdict::Drop, TraceVerdict::Reject];
        let spots = spots.iter().map(|reason| Undecided { rule: None, reason: reason.clone() });
        self.because.extend(spots);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SnapshotFiles;

    fn snapshot(files: &[(&str, FileState)]) -> Snapshot {
        let mut all = SnapshotFiles::default();
        all.files.extend(files.iter().map(|(name, state)| ((*name).to_owned(), state.clone())));
        crate::snapshot::read(all)
    }

    fn spots(files: &[(&str, FileState)], family: Family) -> String {
        blind_spots(&snapshot(files), family).join("; ")
    }

    #[test]
    fn what_was_not_read_is_said_for_the_family_it_belongs_to() {
        let filter = FileState::Present(b"*filter\n:INPUT DROP [0:0]\nCOMMIT\n".to_vec());
        let denied = FileState::Unreadable("permission denied".to_owned());
        let files = [("iptables-legacy-save.txt", filter.clone()), ("ip6tables-nft-save.txt", denied)];
        assert_eq!(spots(&files, Family::Ipv4), "");
        assert_eq!(spots(&files, Family::Ipv6), "ip6tables-nft-save.txt could not be read: permission denied");
        assert!(spots(&[("iptables-save.txt", filter)], Family::Ipv6).contains("no listing of the ipv6 firewall"));
        assert_eq!(spots(&[("nft-ruleset.json", FileState::Absent)], Family::Ipv6), "");
    }

    #[test]
    fn a_part_of_a_listing_is_no_firewall() {
        let grep = FileState::Present(b"-A cali-failsafe-in -p tcp -m tcp --dport 22 -j ACCEPT\n".to_vec());
        assert!(spots(&[("iptables-save.txt", grep)], Family::Ipv4).contains("part of a listing"));
        let cut = FileState::Present(b"{\"nftables\": [".to_vec());
        assert!(spots(&[("nft-ruleset.json", cut)], Family::Ipv4).contains("nft-ruleset.json"));
    }
}
