//! Interface names and the patterns rules match them with.

use std::fmt;

/// Longest interface name in bytes (`IFNAMSIZ - 1`).
pub const MAX_INTERFACE_NAME: usize = 15;

/// An interface name or a prefix of names: `eth0`, `cali+` (iptables), `cali*` (nft). Names are bytes, not text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfacePattern {
    name: Box<[u8]>,
    wildcard: bool,
}

impl InterfacePattern {
    /// Exactly this name.
    #[must_use]
    pub fn exact(name: impl AsRef<[u8]>) -> Self {
        Self { name: name.as_ref().into(), wildcard: false }
    }

    /// Every name that starts so; the empty prefix matches all.
    #[must_use]
    pub fn prefix(name: impl AsRef<[u8]>) -> Self {
        Self { name: name.as_ref().into(), wildcard: true }
    }

    /// iptables' spelling: a trailing `+` is a wildcard.
    #[must_use]
    pub fn from_iptables(text: impl AsRef<[u8]>) -> Self {
        match text.as_ref().strip_suffix(b"+") {
            Some(prefix) => Self::prefix(prefix),
            None => Self::exact(text),
        }
    }

    /// nft's spelling: a trailing `*` is a wildcard, `\*` a literal star.
    #[must_use]
    pub fn from_nft(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        if let Some(literal) = text.strip_suffix(br"\*") {
            let mut name = literal.to_vec();
            name.push(b'*');
            return Self::exact(name);
        }
        match text.strip_suffix(b"*") {
            Some(prefix) => Self::prefix(prefix),
            None => Self::exact(text),
        }
    }

    /// Name or prefix, without the wildcard sign.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether it stands for every name that starts with [`Self::name`].
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether `interface` matches.
    #[must_use]
    pub fn matches(&self, interface: &[u8]) -> bool {
        if self.wildcard { interface.starts_with(&self.name) } else { interface == &*self.name }
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.name.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        if self.wildcard { f.write_str("*") } else { Ok(()) }
    }
}

impl fmt::Debug for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings() {
        assert!(InterfacePattern::from_iptables("cali+").matches(b"cali123"));
        assert!(!InterfacePattern::from_iptables("cali").matches(b"cali123"));
        assert!(InterfacePattern::from_iptables("+").matches(b"anything"));
        assert!(InterfacePattern::from_nft(r"eth\*").matches(b"eth*"));
        assert!(!InterfacePattern::from_nft(r"eth\*").matches(b"eth0"));
        assert_eq!(InterfacePattern::prefix("cali").to_string(), "cali*");
        assert_eq!(InterfacePattern::exact(b"a\xff\n").to_string(), "a\\xff\\n");
    }
}
