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

/// The bytes these characters stand for.
const SHORT_BYTES: usize = SHORT_LENGTH * 6 / 8;

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
        self.stem(rule_text).after("")
    }

    /// For many texts that start alike.
    #[must_use]
    pub fn stem(self, start: &str) -> Stem {
        let mut digest = Sha224::new();
        digest.update(self.0);
        digest.update(start.as_bytes());
        Stem(digest)
    }

    /// What the comment shows of it.
    #[must_use]
    pub fn short(self) -> ShortHash {
        let mut shown = [0; SHORT_BYTES];
        shown.iter_mut().zip(self.0).for_each(|(slot, byte)| *slot = byte);
        ShortHash(shown)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({}…)", self.short())
    }
}

/// A hash chain's state and the start of the next rule's text.
#[derive(Clone, Debug)]
pub struct Stem(Sha224);

impl Stem {
    /// The state after the rule whose text goes on with `rest`.
    #[must_use]
    pub fn after(&self, rest: &str) -> ChainHash {
        let mut digest = self.0.clone();
        digest.update(rest.as_bytes());
        ChainHash(digest.finalize().into())
    }
}

/// The 96 bits that the 16 characters of a comment show.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortHash([u8; SHORT_BYTES]);

impl ShortHash {
    /// The hash in a comment such as `cali:wWFQM43tJU7wwnFZ` (iptables) or `cali:H0S9z2pOh43UL0cc; text` (nft).
    #[must_use]
    pub fn from_comment(comment: &str) -> Option<Self> {
        let rest = comment.strip_prefix(COMMENT_PREFIX)?;
        let text = rest.split_once(';').map_or(rest, |(hash, _)| hash);
        let text: [u8; SHORT_LENGTH] = text.as_bytes().try_into().ok()?;
        let mut shown = [0; SHORT_BYTES];
        for (group, slots) in text.chunks(4).zip(shown.chunks_mut(3)) {
            let mut bits = 0u32;
            for character in group {
                let value = ALPHABET.iter().position(|known| known == character)?;
                bits = (bits << 6) | u32::try_from(value).ok()?;
            }
            slots.iter_mut().zip(bits.to_be_bytes().into_iter().skip(1)).for_each(|(slot, byte)| *slot = byte);
        }
        Some(Self(shown))
    }

    /// The text of an nft comment behind the hash; empty when there is none.
    #[must_use]
    pub fn text_behind(comment: &str) -> &str {
        comment.split_once(';').map_or("", |(_, text)| text.trim_start())
    }
}

impl fmt::Display for ShortHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64(&self.0))
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

/// URL-safe base64 without padding of SHA3-224 of `text`: the raw material of the names of policy groups.
#[must_use]
pub fn sha3_224_base64(text: &str) -> String {
    base64(&super::keccak::sha3_224(text.as_bytes()))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity((bytes.len() * 8).div_ceil(6));
    for group in bytes.chunks(3) {
        let bits =
            group.iter().enumerate().fold(0u32, |bits, (place, byte)| bits | (u32::from(*byte) << (16 - 8 * place)));
        // three bytes are four characters, two are three, one is two
        for place in 0..=group.len() {
            let index = (bits >> (18 - 6 * place)) & 0x3f;
            out.push(ALPHABET.get(index as usize).copied().map_or('A', char::from));
        }
    }
    out
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
    fn sha3_is_fips_202() {
        let mut texts =
            vec![("", "a04DQjZn27c7bhVFTw6xq9RZf5obB44_W1prxw"), ("abc", "5kKCTD-M8krQkjTufTx2b8mjpRaNDJStc7Rv3w")];
        // around one block of 144 bytes
        let long = "x".repeat(145);
        texts.push((&long[..143], "voqz7S4Bum3U5dAVWipR4fCescSk6pWzyNkP1g"));
        texts.push((&long[..144], "dLIGksxp2FvEG19sRohRXpf91zKOwthUx32tjQ"));
        texts.push((&long, "d5OecZ-0yMsDX_b6PunT9pgjbyifslrhL_7TPQ"));
        for (text, hash) in texts {
            assert_eq!(sha3_224_base64(text), hash, "{} bytes", text.len());
        }
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
