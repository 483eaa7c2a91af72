//! The hash chain Felix writes into the comment of each of its rules.
//!
//! The seed is SHA-224 of the chain's name; each rule's hash is SHA-224 of the hash before it and the rule's own text.
//! The comment (`cali:` and 16 characters of URL-safe base64) shows the first 96 of its 224 bits, so a comment proves a
//! text, but never gives the hash the next rule needs: only the text does. The text is Felix's own spelling, before
//! iptables or nft normalised it:
//!
//! * iptables: `-A <chain> HASH [-m comment --comment "…"]… <matches> <action>`, with the literal word `HASH`;
//! * nft: the rule as sent, without comment.
//!
//! Rules that Felix appends to a kernel chain (FORWARD) have a chain of their own, see [`appends`].

use std::fmt;

use sha2::{Digest, Sha224, Sha256};

/// Every comment with a rule hash starts so.
pub const COMMENT_PREFIX: &str = "cali:";

/// Characters of a hash that a comment shows.
pub const SHORT_LENGTH: usize = 16;

/// State of a hash chain: the hash of the last rule, or of the chain's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainHash([u8; 28]);

impl ChainHash {
    /// The state before the first rule of `chain`.
    #[must_use]
    pub fn of_chain(chain: &str) -> Self {
        Self(Sha224::digest(chain.as_bytes()).into())
    }

    /// The state after a rule with this text.
    #[must_use]
    pub fn after(self, rule_text: &str) -> Self {
        let mut digest = Sha224::new();
        digest.update(self.0);
        digest.update(rule_text.as_bytes());
        Self(digest.finalize().into())
    }

    /// What the comment shows of it.
    #[must_use]
    pub fn short(self) -> ShortHash {
        let mut text = [0; SHORT_LENGTH];
        base64_into(&self.0, &mut text);
        ShortHash(text)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({}…)", self.short())
    }
}

/// The 16 characters of a comment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortHash([u8; SHORT_LENGTH]);

impl ShortHash {
    /// The hash in a comment such as `cali:wWFQM43tJU7wwnFZ` (iptables) or `cali:H0S9z2pOh43UL0cc; text` (nft).
    #[must_use]
    pub fn from_comment(comment: &str) -> Option<Self> {
        let rest = comment.strip_prefix(COMMENT_PREFIX)?;
        let text = rest.split_once(';').map_or(rest, |(hash, _)| hash);
        let bytes: [u8; SHORT_LENGTH] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| ALPHABET.contains(byte)).then_some(Self(bytes))
    }

    /// The text of an nft comment behind the hash; empty when there is none.
    #[must_use]
    pub fn text_behind(comment: &str) -> &str {
        comment.split_once(';').map_or("", |(_, text)| text.trim_start())
    }
}

impl fmt::Display for ShortHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

impl fmt::Debug for ShortHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortHash({self})")
    }
}

impl serde::Serialize for ShortHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name under which Felix hashes the rules it appends to kernel chain `chain`; also the name inside their texts.
#[must_use]
pub fn appends(chain: &str) -> String {
    format!("{chain}*appends*")
}

/// URL-safe base64 without padding of SHA-256 of `text`: the raw material of shortened names.
#[must_use]
pub fn sha256_base64(text: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    base64(&digest)
}

/// URL-safe base64 without padding of SHA-224 of `text`: the raw material of IP set names.
#[must_use]
pub fn sha224_base64(text: &str) -> String {
    let digest: [u8; 28] = Sha224::digest(text.as_bytes()).into();
    base64(&digest)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(bytes: &[u8]) -> String {
    let mut out = vec![0; (bytes.len() * 8).div_ceil(6)];
    base64_into(bytes, &mut out);
    out.into_iter().map(char::from).collect()
}

/// Fills `out` with as many characters as fit.
fn base64_into(bytes: &[u8], out: &mut [u8]) {
    for (group, slots) in bytes.chunks(3).zip(out.chunks_mut(4)) {
        let bits =
            group.iter().enumerate().fold(0u32, |bits, (place, byte)| bits | (u32::from(*byte) << (16 - 8 * place)));
        for (place, slot) in slots.iter_mut().enumerate() {
            let index = (bits >> (18 - 6 * place)) & 0x3f;
            *slot = ALPHABET.get(index as usize).copied().unwrap_or(b'A');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(chain: &str, texts: &[&str]) -> Vec<String> {
        let mut state = ChainHash::of_chain(chain);
        texts
            .iter()
            .map(|text| {
                state = state.after(text);
                state.short().to_string()
            })
            .collect()
    }

    #[test]
    fn base64_is_rfc_4648_url_safe() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn hook_rules_hash_as_in_a_real_dump() {
        for (chain, target, hash) in [
            ("INPUT", "cali-INPUT", "Cz_u1IQiXIMmKD4c"),
            ("OUTPUT", "cali-OUTPUT", "tVnHkvAo15HuiPy0"),
            ("PREROUTING", "cali-PREROUTING", "6gwbT8clXdHdC1b1"),
            ("POSTROUTING", "cali-POSTROUTING", "O3lYWMrLQYEMJtB5"),
            ("POSTROUTING*appends*", "cali-POSTROUTING", "0i8pjzKKPyA34aQD"),
            ("FORWARD", "cali-FORWARD", "wUHhoiAYhphO9Mso"),
        ] {
            assert_eq!(hashes(chain, &[&format!("-A {chain} HASH --jump {target}")]), [hash], "{chain}");
        }
    }

    #[test]
    fn appended_forward_rules_use_the_pseudo_chain() {
        let chain = appends("FORWARD");
        let first = format!(
            "-A {chain} HASH -m comment --comment \"Policy explicitly accepted packet.\" \
             -m mark --mark 0x10000/0x10000 --jump ACCEPT"
        );
        let second = format!("-A {chain} HASH --jump MARK --set-mark 0x10000/0x10000");
        assert_eq!(hashes(&chain, &[&first, &second]), ["S93hcgKJrXEqnTfs", "mp77cMpurHhyjLrM"]);
    }

    #[test]
    fn nft_rules_hash_without_comment() {
        assert_eq!(hashes("filter-INPUT", &["counter jump filter-cali-INPUT"]), ["H0S9z2pOh43UL0cc"]);
        let vxlan =
            "meta l4proto 17 udp dport { 4789 } ip saddr @cali40all-vxlan-net fib daddr type local counter accept";
        assert_eq!(hashes("filter-cali-INPUT", &[vxlan]), ["Gtn781KKHXqD1ZWy"]);
    }

    #[test]
    fn comments_of_both_dialects() {
        let hash = ShortHash::from_comment("cali:wWFQM43tJU7wwnFZ").expect("iptables comment");
        assert_eq!(ShortHash::from_comment("cali:wWFQM43tJU7wwnFZ; Start of tier x"), Some(hash));
        assert_eq!(ShortHash::from_comment("cali:wWFQM43tJU7wwnFZ;"), Some(hash));
        for bad in ["cali:wWFQM43tJU7wwnF", "cali:wWFQM43tJU7wwnFZZ", "cali:wWFQM43tJU7wwnF!", "Cali:wWFQM43tJU7wwnFZ"]
        {
            assert_eq!(ShortHash::from_comment(bad), None, "{bad}");
        }
        assert_eq!(ShortHash::text_behind("cali:wWFQM43tJU7wwnFZ; Start of tier x"), "Start of tier x");
    }
}
