//! SHA3-224 (FIPS 202), which Felix names groups of policies with. Speed does not matter here.

/// Bytes taken in before each permutation: 1600 bits less twice the length of the hash.
const RATE: usize = 144;

const ROUNDS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// The hash of `bytes`.
pub(super) fn sha3_224(bytes: &[u8]) -> [u8; 28] {
    // domain bits 01, then the padding 1 0* 1
    let mut padded = bytes.to_vec();
    padded.push(0x06);
    padded.resize(padded.len().next_multiple_of(RATE), 0);
    if let Some(last) = padded.last_mut() {
        *last |= 0x80;
    }
    let mut state = [0u64; 25];
    for block in padded.chunks(RATE) {
        for (lane, word) in state.iter_mut().zip(block.chunks_exact(8)) {
            *lane ^= word.iter().rev().fold(0, |lane, byte| (lane << 8) | u64::from(*byte));
        }
        permute(&mut state);
    }
    let mut hash = [0; 28];
    let bytes = state.iter().flat_map(|lane| lane.to_le_bytes());
    hash.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
    hash
}

/// Keccak-f[1600]; lane (x, y) is `state[x + 5 * y]`.
fn permute(state: &mut [u64; 25]) {
    for constant in ROUNDS {
        // theta
        let mut parity = [0u64; 5];
        for (place, lane) in state.iter().enumerate() {
            parity[place % 5] ^= lane;
        }
        for (place, lane) in state.iter_mut().enumerate() {
            *lane ^= parity[(place + 4) % 5] ^ parity[(place + 1) % 5].rotate_left(1);
        }
        // rho and pi
        let (mut x, mut y, mut lane) = (1, 0, state[1]);
        for step in 0..24u32 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            let turned = lane.rotate_left((step + 1) * (step + 2) / 2 % 64);
            lane = std::mem::replace(&mut state[x + 5 * y], turned);
        }
        // chi
        for row in state.chunks_exact_mut(5) {
            let old = [row[0], row[1], row[2], row[3], row[4]];
            for (x, lane) in row.iter_mut().enumerate() {
                *lane = old[x] ^ (!old[(x + 1) % 5] & old[(x + 2) % 5]);
            }
        }
        // iota
        state[0] ^= constant;
    }
}
