//! The format of a segment: a header, then records. Little-endian.
//!
//! | part | bytes |
//! |---|---|
//! | header | `HGSPOOL1`, number of the first record (u64) |
//! | record | length of the payload (u32), CRC-32 over number, length and payload (u32), number (u64), payload |

/// First bytes of a segment.
const MAGIC: &[u8; 8] = b"HGSPOOL1";

/// Length of a segment's header.
pub(super) const HEADER: usize = 16;

/// Length of a record's head.
pub(super) const HEAD: usize = 16;

/// Longest payload.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// The header of a segment whose first record has the number `first`.
pub(super) fn header(first: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(MAGIC);
    out[8..].copy_from_slice(&first.to_le_bytes());
    out
}

/// The number of the first record.
pub(super) fn read_header(bytes: &[u8]) -> Option<u64> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    (magic == MAGIC).then(|| rest.first_chunk::<8>().map(|first| u64::from_le_bytes(*first)))?
}

fn checksum(sequence: u64, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&sequence.to_le_bytes());
    crc.update(&(payload.len() as u64).to_le_bytes());
    crc.update(payload);
    crc.finalize()
}

/// Writes a record. The payload is at most [`MAX_PAYLOAD`] bytes long.
pub(super) fn write(sequence: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(sequence, payload).to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(payload);
}

/// A record found in a segment's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Its number.
    pub(super) sequence: u64,
    /// What it holds.
    pub(super) payload: &'a [u8],
    /// Where the next one starts.
    pub(super) end: usize,
}

/// The record at `at`, if an undamaged one stands there.
pub(super) fn at(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let head = bytes.get(at..at.checked_add(HEAD)?)?;
    let length = u32::from_le_bytes(*head.first_chunk::<4>()?) as usize;
    let crc = u32::from_le_bytes(*head.get(4..)?.first_chunk::<4>()?);
    let sequence = u64::from_le_bytes(*head.get(8..)?.first_chunk::<8>()?);
    if length > MAX_PAYLOAD {
        return None;
    }
    let end = at + HEAD + length;
    let payload = bytes.get(at + HEAD..end)?;
    (checksum(sequence, payload) == crc).then_some(Record { sequence, payload, end })
}

/// The first undamaged record at `from` or behind it whose number is at least `least`. Looks byte by byte where a record is
/// damaged, and believes only a number that this segment can hold.
pub(super) fn next(bytes: &[u8], from: usize, least: u64) -> Option<Record<'_>> {
    let mut place = from;
    while place + HEAD <= bytes.len() {
        match at(bytes, place) {
            Some(record) if record.sequence >= least => return Some(record),
            Some(record) => place = record.end,
            None => place = resync(bytes, place + 1, least)?,
        }
    }
    None
}

/// The next place where an undamaged record stands. A segment holds at most one record for each 16 bytes, so most places
/// fall out by their number before a checksum is made.
fn resync(bytes: &[u8], from: usize, least: u64) -> Option<usize> {
    let first = read_header(bytes)?;
    let most = first.saturating_add((bytes.len() / HEAD) as u64);
    (from..bytes.len().saturating_sub(HEAD - 1)).find(|place| {
        let number =
            bytes.get(place + 8..).and_then(|rest| rest.first_chunk::<8>()).map(|bytes| u64::from_le_bytes(*bytes));
        number.is_some_and(|number| number >= first.min(least) && number <= most) && at(bytes, *place).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(numbers: std::ops::Range<u64>) -> Vec<u8> {
        let mut out = header(numbers.start).to_vec();
        for number in numbers {
            write(number, format!("message {number}").as_bytes(), &mut out);
        }
        out
    }

    fn all(bytes: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        let mut place = HEADER;
        while let Some(record) = next(bytes, place, 0) {
            place = record.end;
            found.push(record.sequence);
        }
        found
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = segment(7..12);
        assert_eq!((read_header(&bytes), all(&bytes)), (Some(7), (7..12).collect()));
        assert_eq!(next(&bytes, HEADER, 10).expect("there").sequence, 10);
    }

    #[test]
    fn a_flipped_bit_costs_the_record_it_is_in_and_no_other() {
        let sound = segment(7..12);
        for place in HEADER..sound.len() {
            for bit in 0..8 {
                let mut bytes = sound.clone();
                bytes[place] ^= 1 << bit;
                let found = all(&bytes);
                assert_eq!(found.len(), 4, "byte {place} bit {bit}: {found:?}");
            }
        }
    }

    #[test]
    fn a_torn_end_is_no_record_and_no_panic() {
        let sound = segment(1..3);
        for length in 0..sound.len() {
            assert!(all(&sound[..length]).len() < 2);
        }
    }
}
