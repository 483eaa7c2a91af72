//! What the free text in front of a packet line says about the verdict, in the words firewalls use.

use super::super::event::Action;
use super::Opening;

/// Prefixes and what they say about the verdict: a firewall has few, and reading one takes as long as the rest of its line.
#[derive(Default)]
pub(in crate::logs) struct Prefixes {
    known: Vec<Prefix>,
    oldest: usize,
    /// Length of the uptime with its brackets, where one was met.
    uptime: usize,
    /// The bytes between them, among the first sixteen.
    inner: u128,
}

/// A prefix met before.
struct Prefix {
    /// As written, from the bracket that closes the uptime to `IN=`.
    text: Vec<u8>,
    /// Its first sixteen bytes, zeros behind its end, and which of these it has.
    start: u128,
    mask: u128,
    action: Action,
}

impl Prefix {
    fn new(text: &[u8], action: Action) -> Self {
        let start = text.iter().take(16).rev().fold(0, |start, byte| start << 8 | u128::from(*byte));
        Self { text: text.to_vec(), start, mask: first(text.len()), action }
    }
}

/// Prefixes remembered.
const PREFIXES: usize = 16;

impl Prefixes {
    /// What a line's prefix says.
    pub(in crate::logs) fn action(&mut self, opening: &Opening<'_>) -> Action {
        let Opening { message, raw, in_iface, rest, .. } = opening;
        self.uptime = (message.len() - rest.len()).saturating_sub(1 + in_iface.len() + raw.len());
        self.inner = first(self.uptime.saturating_sub(1)) & !first(1);
        if let Some(known) = self.known.iter().find(|known| known.text == **raw) {
            return known.action;
        }
        let action = action_of(opening.prefix);
        if self.known.len() < PREFIXES {
            self.known.push(Prefix::new(raw, action));
        } else if let Some(place) = self.known.get_mut(self.oldest) {
            *place = Prefix::new(raw, action);
            self.oldest = (self.oldest + 1) % PREFIXES;
        }
        action
    }

    /// The first known prefix that a text begins with.
    #[inline]
    fn find(&self, text: &[u8]) -> Option<&Prefix> {
        let begins = |known: &&Prefix| text.starts_with(&known.text);
        let Some(sixteen) = text.first_chunk() else { return self.known.iter().find(begins) };
        let sixteen = u128::from_le_bytes(*sixteen);
        // mostly the first sixteen bytes tell them apart
        self.known.iter().find(|known| sixteen & known.mask == known.start && begins(known))
    }

    /// What the prefix of a message with ` OUT=` at this place says, and its opening, when the prefix is a known one and all
    /// around it is usual.
    #[inline]
    pub(in crate::logs) fn usual<'a>(&self, message: &'a [u8], out: usize) -> Option<(Action, Opening<'a>)> {
        let (stamp, text) = message.get(..out)?.split_at_checked(self.uptime)?;
        // what is no letter is in no word that tells a verdict
        if self.uptime > 0 {
            let [b'[', .., b']'] = stamp else { return None };
            let near = u128::from_le_bytes(*message.first_chunk()?) & self.inner & LETTERS;
            let far = stamp.get(16..self.uptime - 1).unwrap_or_default();
            if near != 0 || far.iter().any(|byte| byte & 0x40 != 0) {
                return None;
            }
        }
        let Prefix { text: known, action, .. } = self.find(text)?;
        let (raw, in_iface) = text.split_at_checked(known.len())?;
        if in_iface.len() > 15 || has_end(message.get(..out)?, in_iface.len()) {
            return None;
        }
        let prefix = raw.get(..raw.len().checked_sub(3)?)?;
        Some((*action, Opening { message, prefix, uptime: None, raw, in_iface, rest: message.get(out + 1..)? }))
    }
}

/// The bit that all letters have, in sixteen bytes.
const LETTERS: u128 = u128::from_le_bytes([0x40; 16]);

/// The first of sixteen bytes.
fn first(length: usize) -> u128 {
    let others = u32::try_from(8 * (16 - length.min(16))).unwrap_or(0);
    u128::MAX.checked_shr(others).unwrap_or(0)
}

/// Whether the last bytes of a text, fewer than sixteen, have a blank or an equals sign among them.
#[inline]
fn has_end(text: &[u8], length: usize) -> bool {
    const ONES: u128 = u128::from_le_bytes([1; 16]);
    let last = text.get(text.len().saturating_sub(length)..).unwrap_or_default();
    let Some(sixteen) = text.last_chunk() else { return last.iter().any(|byte| matches!(byte, b' ' | b'=')) };
    // the bytes in front make room for zeros
    let all =
        u128::from_le_bytes(*sixteen) & u128::MAX.checked_shl(8 * u32::try_from(16 - length).unwrap_or(0)).unwrap_or(0);
    let has = |byte: u8| {
        let others = all ^ (ONES * u128::from(byte));
        others.wrapping_sub(ONES) & !others & (ONES << 7) != 0
    };
    has(b' ') | has(b'=')
}

/// What a prefix says about the verdict; [`Action::Log`] when it says nothing.
pub(super) fn action_of(prefix: &[u8]) -> Action {
    let mut found = Action::Log;
    let words = prefix.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    for word in words {
        let word = word.strip_prefix(b"LOGand").unwrap_or(word);
        let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        let action = if is(&["REJECT", "REJECTED"]) {
            Action::Reject
        } else if is(&["DROP", "DROPPED", "DROPS"]) {
            Action::Drop
        } else if is(&["DENY", "DENIED", "BLOCK", "BLOCKED"]) {
            Action::Deny
        } else if is(&["ALLOW", "ALLOWED", "ACCEPT", "ACCEPTED"]) {
            Action::Allow
        } else {
            continue;
        };
        // the last word wins: `calico-drop LOGandACCEPT` was accepted
        found = action;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Packet;
    use super::*;

    fn action(prefix: &str) -> Action {
        Packet { prefix: prefix.as_bytes(), ..Packet::default() }.action()
    }

    #[test]
    fn prefixes_tell_the_verdict_only_in_plain_words() {
        assert_eq!(action("calico-packet"), Action::Log);
        assert_eq!(action("calico-drop"), Action::Drop);
        assert_eq!(action("calico-drop LOGandDROP"), Action::Drop);
        assert_eq!(action("calico-drop LOGandACCEPT"), Action::Allow);
        assert_eq!(action("[UFW BLOCK]"), Action::Deny);
        assert_eq!(action("[UFW LIMIT BLOCK]"), Action::Deny);
        assert_eq!(action("[UFW ALLOW]"), Action::Allow);
        assert_eq!(action("[UFW AUDIT INVALID]"), Action::Log);
        assert_eq!(action("filter_IN_public_REJECT"), Action::Reject);
        assert_eq!(action("STATE_INVALID_DROP"), Action::Drop);
        assert_eq!(action("Shorewall:net-fw:DROP"), Action::Drop);
        assert_eq!(action("dropbox sync"), Action::Log);
        let mut prefixes = Prefixes::default();
        for number in 0..100 {
            for (text, expected) in [("calico-drop", Action::Drop), ("x ALLOW", Action::Allow), ("y", Action::Log)] {
                let message = format!("[ 12.5] {text} {}: IN=eth0 OUT= SRC=1.1.1.1", number % 20);
                let opening = Opening::of(message.as_bytes()).expect("a packet line");
                assert_eq!(prefixes.action(&opening), expected);
                let usual = prefixes.usual(message.as_bytes(), message.find(" OUT=").expect("OUT"));
                assert_eq!(usual.map(|(action, opening)| (action, opening.prefix)), Some((expected, opening.prefix)));
            }
            assert!(prefixes.known.len() <= PREFIXES);
        }
    }
}
