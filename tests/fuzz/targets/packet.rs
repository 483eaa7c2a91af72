//! Packets as people and scripts write them.

use hepguard::packet::text::{self, PacketSpec};

/// Words of `hepguard trace`, one a line.
pub(super) fn packet_words(input: &[u8]) {
    let all = String::from_utf8_lossy(input);
    let mut lines = all.lines();
    let mut word = || lines.next().unwrap_or_default();
    if let Ok(spec) = PacketSpec::new(word(), word(), word(), word()) {
        let options = PacketSpec {
            iif: text::read_interface(word()).ok(),
            state: text::read_state(word()).ok(),
            mark: text::read_mark(word()).unwrap_or_default(),
            flags: text::read_flags(word()).ok(),
            icmp: text::read_icmp(word()).ok(),
            ..spec
        };
        if let Ok(packet) = options.build() {
            let _ = packet.to_string();
            same(&packet);
        }
    }
    let _ = text::read_hook(word());
}

/// A packet written as JSON reads as the same packet.
fn same(packet: &hepguard::packet::Packet) {
    let line = text::to_json(packet).to_string();
    match text::from_json(line.as_bytes()) {
        Ok(again) => assert_eq!(again.packet, *packet, "{line}"),
        Err(error) => panic!("{line}: {error}"),
    }
}

/// A line of a batch.
pub(super) fn packet_json(input: &[u8]) {
    if let Ok(asked) = text::from_json(input) {
        same(&asked.packet);
    }
}
