//! Names of peers, from what this host itself was told or resolved. Nothing here asks the network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

/// Names kept at most.
const MAX_NAMES: usize = 100_000;

/// Aliases followed for one name.
const MAX_ALIASES: usize = 8;

/// A name and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: String,
    /// The file that gives it.
    pub source: String,
}

/// Names by address; the first source that knows one counts.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<IpAddr, Name>);

/// One line of the file in which Felix keeps what it learned of DNS answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mapping {
    #[serde(rename = "LHS")]
    left: String,
    #[serde(rename = "RHS")]
    right: String,
    #[serde(default)]
    r#type: String,
}

impl Names {
    /// Takes what `/etc/hosts` says: the first name of a line is the canonical one.
    pub fn hosts(&mut self, text: &str, source: &str) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            if let (Some(address), Some(name)) = (words.next().and_then(|word| word.parse().ok()), words.next()) {
                self.put(address, name, source);
            }
        }
    }

    /// Takes Felix's file of DNS answers (`DNSCacheFile`): a line with the format's version, then a JSON object a line, of
    /// aliases (`name`) and addresses (`ip`). Where several names have one address, the least in order is taken.
    pub fn felix_cache(&mut self, text: &str, source: &str) {
        let read = text.lines().filter_map(|line| serde_json::from_str::<Mapping>(line).ok());
        let (addresses, aliases): (Vec<_>, Vec<_>) = read.take(MAX_NAMES).partition(|mapping| mapping.r#type == "ip");
        // from the canonical name back to the one that was asked for
        let asked: BTreeMap<&str, &str> =
            aliases.iter().rev().map(|alias| (alias.right.as_str(), alias.left.as_str())).collect();
        let mut found: Vec<(IpAddr, &str)> = Vec::new();
        for mapping in &addresses {
            let Ok(address) = mapping.right.parse::<IpAddr>() else { continue };
            let mut name = mapping.left.as_str();
            for _ in 0..MAX_ALIASES {
                match asked.get(name) {
                    Some(alias) => name = alias,
                    None => break,
                }
            }
            found.push((address, name));
        }
        found.sort_unstable();
        for (address, name) in found {
            self.put(address, name, source);
        }
    }

    /// Takes one name.
    pub fn put(&mut self, address: IpAddr, name: &str, source: &str) {
        let name = name.trim_end_matches('.');
        if !name.is_empty() && name.len() <= 253 && self.0.len() < MAX_NAMES {
            let name = || Name { name: name.to_owned(), source: source.to_owned() };
            self.0.entry(address).or_insert_with(name);
        }
    }

    /// The name of an address.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<&Name> {
        self.0.get(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_were_asked_for() {
        let mut names = Names::default();
        names.hosts("10.0.0.1 db.example db # ten\n::1 localhost\nbad line\n10.0.0.2\n", "etc/hosts");
        let cache = "1\n{\"LHS\":\"www.example.org\",\"RHS\":\"cdn.example.net\",\"Expiry\":\"x\",\"Type\":\"name\"}\n\
                     {\"LHS\":\"cdn.example.net\",\"RHS\":\"192.0.2.7\",\"Expiry\":\"x\",\"Type\":\"ip\"}\n\
                     {\"LHS\":\"loop.a\",\"RHS\":\"loop.b\",\"Type\":\"name\"}\n{\"LHS\":\"loop.b\",\"RHS\":\"loop.a\",\"Type\":\"name\"}\n\
                     {\"LHS\":\"loop.a\",\"RHS\":\"192.0.2.8\",\"Type\":\"ip\"}\n{\"LHS\":\"other\",\"RHS\":\"10.0.0.1\",\"Type\":\"ip\"}\n{cut\n";
        names.felix_cache(cache, "dns-cache");
        let of = |text: &str| names.of(text.parse().expect("an address")).map(|name| name.name.as_str());
        assert_eq!(of("10.0.0.1"), Some("db.example"));
        assert_eq!(of("::1"), Some("localhost"));
        assert_eq!(of("192.0.2.7"), Some("www.example.org"));
        assert!(of("192.0.2.8").is_some_and(|name| name.starts_with("loop.")));
        assert_eq!(of("10.0.0.2"), None);
    }
}
