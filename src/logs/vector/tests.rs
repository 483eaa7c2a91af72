//! All ways to search find the same, each what a search byte by byte does.

use super::*;

/// A text of the pieces that marks are made of.
fn text(random: &mut fastrand::Rng) -> Vec<u8> {
    const PIECES: [&[u8]; 14] = [
        b"\n",
        b"\n{",
        DENY,
        ACTION,
        OUT,
        b" OUT",
        b"deny",
        b"OU",
        b"\"___y",
        b"t___=",
        b"\xff___\xff",
        b"{",
        b"\x00",
        b"xyz",
    ];
    let mut text = Vec::new();
    for _ in 0..random.usize(..60) {
        text.extend_from_slice(PIECES[random.usize(..PIECES.len())]);
        text.extend(std::iter::repeat_n(b'.', random.usize(..9)));
    }
    text
}

fn marks(text: &[u8], sought: Sought, hits: &[Hit]) -> Vec<(Mark, usize, u32)> {
    hits.iter().filter_map(|hit| sought.mark(text, usize(hit.at)).map(|(mark, at)| (mark, at, hit.start))).collect()
}

#[test]
fn each_sweep_finds_what_one_byte_after_the_other_does() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut found = 0;
    for round in 0..6_000 {
        let text = text(&mut random);
        let end = if round % 2 == 0 { text.len() } else { random.usize(..=text.len()) };
        let reports = [Reports::No, Reports::Denies, Reports::All][round % 3];
        let sought = Sought { reports, packets: round % 5 > 0 };
        let mut expected = Vec::new();
        for at in 0..end {
            let start = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            let is = |needle: &[u8], back: usize| at >= back && text[at - back..].starts_with(needle);
            let start = u32::try_from(start).expect("a short text");
            match reports {
                Reports::Denies if is(DENY, 7) => expected.push((Mark::Report, at - 7, start)),
                Reports::All if is(ACTION, 2) => expected.push((Mark::Report, at - 2, start)),
                _ => {}
            }
            if sought.packets && is(OUT, 1) {
                expected.push((Mark::Packet, at - 1, start));
            }
            if is(b"\n{", 0) {
                expected.push((Mark::Other, at + 1, start));
            }
        }
        let lines = text[..end].iter().filter(|byte| **byte == b'\n').count() as u64;
        for vector in all() {
            let mut hits = Vec::new();
            assert_eq!(vector.sweep(&text, end, sought, &mut hits), lines);
            assert!(hits.is_sorted(), "{hits:?}");
            assert_eq!(marks(&text, sought, &hits), expected, "{vector:?} {sought:?}");
        }
        found += expected.len();
    }
    assert!(found > 20_000, "only {found} marks");
}

fn check_finds(with: impl Find, window: &[u8; WINDOW], byte: u8) {
    let place = |from: usize, to: usize| window[from..to].iter().position(|one| *one == byte).map(|at| from + at);
    assert_eq!(with.find(window.first_chunk().expect("64 bytes"), byte), place(0, 64));
    for from in [0, 64, 128, 320] {
        assert_eq!(with.first(window, from, byte), place(from, WINDOW));
    }
}

#[test]
fn bytes_are_found_as_one_after_the_other() {
    let mut random = fastrand::Rng::with_seed(13);
    for round in 0..4_000 {
        let choice = b"\"\xa2\x21\x23IT\x00\x80\xff..............................................................";
        // many of them, or few
        let most = if round % 2 == 0 { choice.len() } else { choice.len() * 20 };
        let window: [u8; WINDOW] = std::array::from_fn(|_| choice.get(random.usize(..most)).copied().unwrap_or(b'.'));
        for byte in *choice {
            check_finds(Plain, &window, byte);
            #[cfg(target_arch = "x86_64")]
            if let Some(wide) = x86::Avx2::new() {
                check_finds(wide, &window, byte);
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(wide) = x86::Avx512::new() {
                check_finds(wide, &window, byte);
            }
        }
    }
}

#[test]
fn texts_are_the_same_when_each_byte_is() {
    let mut random = fastrand::Rng::with_seed(15);
    for length in 0..200 {
        // at the very end of a piece of memory
        let text: Box<[u8]> = (0..length).map(|_| random.u8(..)).collect();
        for vector in all() {
            assert!(vector.same(&text, &text.clone()), "{vector:?} {length}");
            assert_eq!(vector.strip(&text, &text.clone()), Some(&[][..]), "{vector:?} {length}");
            for at in 0..length {
                let mut other = text.clone();
                other[at] ^= 1 << random.usize(..8);
                assert!(!vector.same(&text, &other), "{vector:?} {length} {at}");
                assert_eq!(vector.strip(&text, &other[..at]), Some(&text[at..]), "{vector:?} {length} {at}");
                assert_eq!(vector.strip(&text, &other[..=at]), None, "{vector:?} {length} {at}");
                assert!(!vector.same(&text, &text[..at]), "{vector:?} {length} {at}");
            }
        }
    }
}

#[test]
fn a_notice_is_seen_wherever_it_is() {
    let log = b"Aug  4 16:14:12 bastion sshd[12]: Accepted publickey for admin from 10.0.1.10 port 22 gg pp gi p ";
    let other: Vec<u8> = log.iter().copied().cycle().take(NOTICE_WINDOW + 40).collect();
    for vector in all() {
        assert!(!vector.may_hold_notice(&other) && !vector.may_hold_notice(b""), "{vector:?}");
        // too short to tell
        assert!(vector.may_hold_notice(&other[..NOTICE_WINDOW - 1]), "{vector:?}");
        for at in 0..other.len() - NOTICE.len() {
            let mut text = other.clone();
            text[at..at + NOTICE.len()].copy_from_slice(NOTICE);
            if at + NOTICE.len() <= NOTICE_LENGTH {
                assert!(vector.may_hold_notice(&text), "{vector:?} {at}");
            }
        }
    }
}

#[test]
fn packet_lines_end_where_one_byte_after_the_other_says() {
    let mut random = fastrand::Rng::with_seed(14);
    let mut ended = 0;
    for _ in 0..20_000 {
        let mut text: Vec<u8> = (0..300).map(|_| b"SR=C x"[random.usize(..6)]).collect();
        for _ in 0..random.usize(..3) {
            let at = random.usize(..290);
            text[at..at + SOURCE.len()].copy_from_slice(SOURCE);
        }
        text[random.usize(..300)] = b'\n';
        let end = text.iter().position(|byte| *byte == b'\n').expect("a line end");
        let source = text[..end].windows(SOURCE.len()).position(|word| word == SOURCE);
        for vector in all() {
            let found = vector.packet_end(&text);
            assert!(found.is_none_or(|found| found == end && source.is_some()), "{vector:?}");
            // another `SR` in front leaves it to others
            let first = text.windows(2).position(|word| word == b"SR");
            let sure = end < PACKET_LENGTH && source.is_some() && first == source.map(|at| at + 1);
            assert!(found.is_some() || !sure, "{vector:?} {}", String::from_utf8_lossy(&text));
            ended += usize::from(found.is_some());
        }
    }
    assert!(ended > 3_000, "{ended}");
}

#[test]
fn ends_of_words_are_told_as_one_byte_after_the_other() {
    let mut random = fastrand::Rng::with_seed(12);
    let mut whole = 0;
    for round in 0..2_000 {
        // few of the ends, so that a line may be longer than the window, or many
        let choice: &[u8] =
            if round % 2 == 0 { b"\" \\!\n#\xa3\xff\x80\x7fazAZ\x00" } else { b"abcdefghijklmnopqrstuvwxyz#\xa3]\x7f" };
        let mut text: [u8; WINDOW] = std::array::from_fn(|_| choice[random.usize(..choice.len())]);
        for _ in 0..random.usize(..30) {
            text[random.usize(..WINDOW)] = b' ';
        }
        if let Some(byte) = text.get_mut(random.usize(..2 * WINDOW)) {
            *byte = b'\n';
        }
        let end = text.iter().position(|byte| *byte == b'\n');
        let line = end.map_or(&[][..], |end| &text[..=end]);
        let is_end = |byte: u8| byte < 0x23 || byte == b'\\';
        let expected: Vec<usize> = (0..line.len()).filter(|at| is_end(line[*at])).collect();
        for vector in all() {
            let mut ends = Ends::new();
            vector.words(&text, &mut ends);
            if expected.len() > MOST {
                assert_eq!(ends.places(), [0usize; 0]);
            } else {
                assert_eq!(ends.places(), expected, "{vector:?}");
            }
        }
        whole += usize::from((1..=MOST).contains(&expected.len()));
    }
    assert!(whole > 1_000, "only {whole} lines were short enough");
}
