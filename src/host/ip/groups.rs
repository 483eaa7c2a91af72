//! Reader of `ip -j maddr`: the multicast groups each interface has joined.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::{Reader, text};
use crate::diagnostic::Parsed;

/// Groups by interface.
pub type Groups = BTreeMap<Box<str>, BTreeSet<IpAddr>>;

/// Reads `ip -j maddr`. Link-layer groups are passed over.
#[must_use]
pub fn groups(source: &Arc<str>, listing: &[u8]) -> Parsed<Groups> {
    let mut reader = Reader::new(source, listing);
    let mut found = Groups::new();
    reader.each(|element, _| {
        let name = text(element, "ifname").ok_or("expected an interface with \"ifname\"")?;
        let joined = found.entry(name.into()).or_default();
        for group in element.get("maddr").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            let Some(address) = text(group, "address") else { continue };
            let address =
                address.parse().map_err(|_| format!("expected an address in \"maddr\", found {address:?}"))?;
            joined.insert(address);
        }
        Ok(())
    });
    reader.remarks.with(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_families_and_link_layer_ones_passed_over() {
        let listing = br#"[{"ifindex":1,"ifname":"lo","maddr":[{"family":"inet","address":"224.0.0.1"}]},
            {"ifindex":2,"ifname":"eth0","maddr":[{"link":"33:33:00:00:00:01"},{"family":"inet6","address":"ff02::1"}]},
            {"ifindex":3,"ifname":"eth1","maddr":[{"address":"x"}]}]"#;
        let read = groups(&Arc::from("ip-maddr.json"), listing);
        let all = |name: &str| read.value.get(name).map(|groups| groups.iter().map(ToString::to_string).collect());
        assert_eq!(all("lo"), Some(vec!["224.0.0.1".to_owned()]));
        assert_eq!(all("eth0"), Some(vec!["ff02::1".to_owned()]));
        assert_eq!(read.diagnostics.len(), 1);
    }
}
