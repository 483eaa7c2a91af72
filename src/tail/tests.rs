use std::io::Write as _;

use super::*;

struct Rig {
    folder: tempfile::TempDir,
    follower: Follower,
    clock: Instant,
    got: Vec<u8>,
    /// Offsets of the lines given, in order.
    offsets: Vec<u64>,
    notices: Vec<Notice>,
}

impl Rig {
    fn new(before: &str, start: Start) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("syslog");
        fs::write(&path, before).expect("written");
        let clock = Instant::now();
        let follower = Follower::open(&path, start, clock).expect("opened");
        Self { folder, follower, clock, got: Vec::new(), offsets: Vec::new(), notices: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = File::options().append(true).create(true).open(self.path(name)).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn poll(&mut self, seconds: u64) -> String {
        self.clock += Duration::from_secs(seconds);
        let mut got = Vec::new();
        let (notices, offsets, clock) = (&mut self.notices, &mut self.offsets, self.clock);
        let mut give = |at: u64, lines: &[u8]| {
            assert_eq!(lines.last(), Some(&b'\n'), "whole lines only");
            let starts = std::iter::once(0)
                .chain(lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end + 1));
            offsets.extend(starts.filter(|start| *start < lines.len()).map(|start| at + bytes(start)));
            got.extend_from_slice(lines);
        };
        self.follower.poll(clock, &mut give, &mut |notice| notices.push(notice)).expect("polled");
        self.got.extend_from_slice(&got);
        String::from_utf8(got).expect("text")
    }
}

#[test]
fn whole_lines_are_given_once_they_are_whole() {
    let mut rig = Rig::new("old\n", Start::End);
    assert_eq!(rig.poll(0), "");
    rig.append("syslog", "one\ntw");
    assert_eq!(rig.poll(0), "one\n");
    rig.append("syslog", "o\nthree\n");
    assert_eq!(rig.poll(0), "two\nthree\n");
    assert_eq!(Rig::new("old\nhalf", Start::Beginning).poll(0), "old\n");
}

#[test]
fn a_line_that_was_half_there_at_the_start_is_nobodys() {
    let mut rig = Rig::new("old\nhalf", Start::End);
    rig.append("syslog", " and the rest\nnew\n");
    assert_eq!(rig.poll(0), "new\n");
}

#[test]
fn a_renamed_file_is_read_to_its_end() {
    let mut rig = Rig::new("", Start::Beginning);
    rig.append("syslog", "1\n2\n");
    fs::rename(rig.path("syslog"), rig.path("syslog.1")).expect("renamed");
    rig.append("syslog.1", "3\n");
    // no new file yet
    assert_eq!(rig.poll(1), "1\n2\n3\n");
    rig.append("syslog", "a\n");
    rig.append("syslog.1", "4\n");
    assert_eq!(rig.poll(1), "4\na\n");
    // the writer was not told yet
    rig.append("syslog.1", "5\n6");
    assert_eq!(rig.poll(4), "5\n");
    assert_eq!(rig.poll(9), "6\n", "what has no end will not get one");
    rig.append("syslog.1", "7\n");
    assert_eq!(rig.poll(0), "", "let go");
    assert_eq!(rig.notices, [Notice::Rotated]);
}

#[test]
fn much_is_given_in_turns_and_in_order() {
    let mut rig = Rig::new("", Start::Beginning);
    let many = |from: usize| -> String { (from..from + 1_100_000).map(|number| format!("{number:09}\n")).collect() };
    rig.append("syslog", &many(0));
    fs::rename(rig.path("syslog"), rig.path("syslog.1")).expect("renamed");
    rig.append("syslog", &many(1_100_000));
    let most = usize::try_from(TURN).expect("small") + BLOCK;
    let mut turns = 0;
    loop {
        let got = rig.poll(0);
        assert!(got.len() <= most, "{} bytes in one turn", got.len());
        turns += 1;
        // a restart at any of these places goes on there
        rig.again();
        if got.is_empty() {
            break;
        }
    }
    assert!(turns >= 4, "{turns} turns");
    assert!(rig.got == (many(0) + &many(1_100_000)).into_bytes(), "each line once, in order");
}

#[test]
fn a_new_file_that_cannot_be_opened_is_told() {
    let mut rig = Rig::new("1\n", Start::Beginning);
    assert_eq!(rig.poll(0), "1\n");
    assert_eq!(rig.follower.refused(), None);
    fs::rename(rig.path("syslog"), rig.path("syslog.1")).expect("renamed");
    fs::create_dir(rig.path("syslog")).expect("made");
    rig.append("syslog.1", "2\n");
    assert_eq!(rig.poll(1), "2\n", "the old one is read on");
    assert!(rig.follower.refused().is_some_and(|why| why.contains("no regular file")));
    fs::remove_dir(rig.path("syslog")).expect("removed");
    rig.append("syslog", "3\n");
    assert_eq!(rig.poll(1), "3\n");
    assert_eq!(rig.follower.refused(), None);
}

#[test]
fn two_rotations_between_two_looks() {
    let mut rig = Rig::new("1\n", Start::Beginning);
    assert_eq!(rig.poll(0), "1\n");
    rig.append("syslog", "2\n");
    fs::rename(rig.path("syslog"), rig.path("syslog.1")).expect("renamed");
    rig.append("syslog", "3\n");
    assert_eq!(rig.poll(0), "2\n3\n");
    fs::rename(rig.path("syslog.1"), rig.path("syslog.2")).expect("renamed");
    fs::rename(rig.path("syslog"), rig.path("syslog.1")).expect("renamed");
    rig.append("syslog", "4\n");
    assert_eq!(rig.poll(0), "4\n");
    assert_eq!(rig.notices, [Notice::Rotated, Notice::Rotated]);
}

#[test]
fn a_file_that_came_and_went_between_two_looks_is_read() {
    let mut rig = Rig::new("1\n", Start::Beginning);
    assert_eq!(rig.poll(0), "1\n");
    rig.append("syslog", "2\n");
    // another log, whose name begins alike
    rig.append("syslog-ng.log", "no\n");
    for number in 3..6 {
        fs::rename(rig.path("syslog"), rig.path(&format!("syslog-2026080{number}"))).expect("renamed");
        std::thread::sleep(Duration::from_millis(20));
        rig.append("syslog", &format!("{number}\n"));
        rig.append("syslog-ng.log", "no\n");
    }
    assert_eq!(rig.poll(0), "2\n3\n4\n5\n");
    rig.append("syslog", "6\n");
    assert_eq!(rig.poll(0), "6\n");
    // nor is it taken for one after a restart
    rig.append("syslog", "7\n");
    fs::rename(rig.path("syslog"), rig.path("syslog-20260806")).expect("renamed");
    std::thread::sleep(Duration::from_millis(20));
    rig.append("syslog-ng.log", "no\n");
    rig.append("syslog", "8\n");
    rig.again();
    assert_eq!(rig.poll(0), "7\n8\n");
}

#[test]
fn what_a_truncation_left_unread_is_found_in_the_copy() {
    let mut rig = Rig::new("one\n", Start::Beginning);
    assert_eq!(rig.poll(0), "one\n");
    rig.append("syslog", "two\nthree\n");
    fs::copy(rig.path("syslog"), rig.path("syslog.1")).expect("copied");
    File::options().write(true).truncate(true).open(rig.path("syslog")).expect("truncated");
    rig.append("syslog", "four\n");
    assert_eq!(rig.poll(0), "two\nthree\nfour\n");
    assert_eq!(rig.notices, [Notice::TruncatedAndFound]);
}

#[test]
fn a_truncated_file_that_has_grown_beyond_the_place_is_noticed_too() {
    let mut rig = Rig::new("one\n", Start::Beginning);
    rig.poll(0);
    File::options().write(true).truncate(true).open(rig.path("syslog")).expect("truncated");
    rig.append("syslog", "much longer than before\n");
    assert_eq!(rig.poll(0), "much longer than before\n");
    assert_eq!(rig.notices, [Notice::TruncatedAndLost], "there is no copy");
}

#[test]
fn holes_and_giants_do_not_fill_memory() {
    let mut rig = Rig::new("", Start::Beginning);
    let file = File::options().write(true).open(rig.path("syslog")).expect("opened");
    file.write_all_at(b"after the hole\n", 3 << 20).expect("written");
    let got = rig.poll(0);
    assert!(got.trim_start_matches('\0').ends_with("after the hole\n"), "{}", got.len());
    assert!(got.len() <= BLOCK + 20, "{}", got.len());
    rig.append("syslog", &"x".repeat(1 << 20));
    let got = rig.poll(0);
    assert_eq!(got.len(), LINE_LIMIT + 1);
    rig.append("syslog", "\nnext\n");
    assert_eq!(rig.poll(0), "next\n");
    assert!(rig.follower.current.held.is_empty());
}

#[test]
fn nothing_is_lost_while_a_writer_rotates_by_rename() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    fs::write(&path, "").expect("written");
    let mut follower = Follower::open(&path, Start::Beginning, Instant::now()).expect("opened");
    let looks = AtomicUsize::new(0);
    let (written, got) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut file = File::options().append(true).open(&path).expect("opened");
            for number in 0..20_000 {
                if number % 2_000 == 1_000 {
                    fs::rename(&path, folder.path().join(format!("log.{number}"))).expect("renamed");
                    File::create(&path).expect("created");
                }
                if number % 2_000 == 1_500 {
                    // as a daemon does when it is told
                    file = File::options().append(true).open(&path).expect("opened");
                }
                if number % 500 == 0 {
                    // the file in between is not renamed before it was seen
                    let seen = looks.load(Ordering::Acquire) + 2;
                    while looks.load(Ordering::Acquire) < seen {
                        std::thread::yield_now();
                    }
                }
                file.write_all(format!("line {number}\n").as_bytes()).expect("written");
            }
        });
        let mut got = Vec::new();
        let mut quiet = 0;
        while quiet < 50 {
            let ended = writer.is_finished();
            let mut give = |_, lines: &[u8]| got.extend_from_slice(lines);
            let grew = follower.poll(Instant::now(), &mut give, &mut |_| {}).expect("polled");
            looks.fetch_add(1, Ordering::AcqRel);
            quiet = if grew || !ended { 0 } else { quiet + 1 };
        }
        writer.join().expect("the writer ends");
        (20_000, String::from_utf8(got).expect("text"))
    });
    let mut numbers: Vec<u32> = got.lines().map(|line| line["line ".len()..].parse().expect("a number")).collect();
    numbers.sort_unstable();
    let missing: Vec<u32> = (0..written).filter(|number| numbers.binary_search(number).is_err()).take(5).collect();
    assert!(missing.is_empty() && numbers.len() == 20_000, "{} lines, missing {missing:?}", numbers.len());
}

impl Rig {
    /// As after a crash: only what was written down is left.
    fn again(&mut self) {
        let places = serde_json::to_string(&self.follower.places()).expect("JSON");
        let places: Places = serde_json::from_str(&places).expect("JSON");
        self.follower = Follower::resume(&self.path("syslog"), &places, self.clock).expect("resumed");
    }

    fn pack(&self, from: &str, to: &str) {
        let file = File::create(self.path(to)).expect("created");
        let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        packer.write_all(&fs::read(self.path(from)).expect("read")).expect("packed");
        packer.finish().expect("packed");
        fs::remove_file(self.path(from)).expect("removed");
    }
}

#[test]
fn a_restart_goes_on_behind_the_last_whole_line() {
    let mut rig = Rig::new("1\n2\nhal", Start::Beginning);
    assert_eq!(rig.poll(0), "1\n2\n");
    rig.again();
    rig.append("syslog", "f\n3\n");
    assert_eq!(rig.poll(0), "half\n3\n");
    rig.again();
    assert_eq!(rig.poll(0), "");
    assert_eq!(rig.notices, []);
}

#[test]
fn what_was_rotated_while_nobody_followed_is_read() {
    let mut rig = Rig::new("1\n", Start::Beginning);
    assert_eq!(rig.poll(0), "1\n");
    rig.append("syslog", "2\n");
    for number in 3..5 {
        fs::rename(rig.path("syslog"), rig.path(&format!("syslog-2026080{number}"))).expect("renamed");
        std::thread::sleep(Duration::from_millis(20));
        rig.append("syslog", &format!("{number}\n"));
    }
    rig.again();
    assert_eq!(rig.poll(0), "2\n3\n4\n");
    assert_eq!(rig.notices, [Notice::Rotated]);
    rig.again();
    assert_eq!(rig.poll(0), "", "each once");
}

#[test]
fn what_was_packed_or_copied_meanwhile_is_found() {
    let mut rig = Rig::new("1\n", Start::Beginning);
    rig.poll(0);
    rig.append("syslog", "2\n");
    fs::rename(rig.path("syslog"), rig.path("syslog.2")).expect("renamed");
    rig.pack("syslog.2", "syslog.2.gz");
    std::thread::sleep(Duration::from_millis(20));
    rig.append("syslog.1", "3\n");
    std::thread::sleep(Duration::from_millis(20));
    rig.append("syslog", "4\n");
    rig.again();
    assert_eq!(rig.poll(0), "2\n3\n4\n");
    rig.append("syslog", "5\n");
    fs::copy(rig.path("syslog"), rig.path("syslog.copy")).expect("copied");
    fs::rename(rig.path("syslog.copy"), rig.path("syslog.9")).expect("renamed");
    File::options().write(true).truncate(true).open(rig.path("syslog")).expect("truncated");
    rig.append("syslog", "6\n");
    rig.again();
    assert_eq!(rig.poll(0), "5\n6\n");
    assert!(!rig.notices.contains(&Notice::TruncatedAndLost), "{:?}", rig.notices);
}

#[test]
fn a_new_file_with_an_old_number_is_new_and_what_is_gone_is_said() {
    let mut rig = Rig::new("one\ntwo\n", Start::Beginning);
    rig.poll(0);
    // the inode stays, the content does not
    File::options().write(true).truncate(true).open(rig.path("syslog")).expect("truncated");
    rig.append("syslog", "other\nthree\nfour\n");
    rig.again();
    assert_eq!(rig.poll(0), "other\nthree\nfour\n");
    assert_eq!(rig.notices, [Notice::TruncatedAndLost]);
    let nonsense =
        Places { current: Place { offset: u64::MAX, head: "zz".to_owned(), ..Place::default() }, old: Vec::new() };
    let mut follower = Follower::resume(&rig.path("syslog"), &nonsense, rig.clock).expect("resumed");
    let mut got = Vec::new();
    follower.poll(rig.clock, &mut |_, text| got.extend_from_slice(text), &mut |_| {}).expect("polled");
    assert_eq!(got, b"other\nthree\nfour\n");
}

#[test]
fn a_restart_at_any_byte_gives_each_line_once() {
    let text: String = (0..60).map(|number| format!("line {number} {}\n", "x".repeat(number % 7))).collect();
    for cut in 0..text.len() {
        let mut rig = Rig::new(&text[..cut], Start::Beginning);
        let before = rig.poll(0);
        if cut % 3 == 0 {
            fs::rename(rig.path("syslog"), rig.path("syslog.1")).expect("renamed");
            rig.append("syslog.1", &text[cut..]);
            rig.append("syslog", "end\n");
        } else {
            rig.append("syslog", &text[cut..]);
            rig.append("syslog", "end\n");
        }
        rig.again();
        assert_eq!(before + &rig.poll(0), format!("{text}end\n"), "cut at {cut}");
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1));
        let mut wanted: Vec<u64> = starts.map(bytes).collect();
        if cut % 3 == 0 {
            *wanted.last_mut().expect("the end") = 0;
        }
        assert_eq!(rig.offsets, wanted, "cut at {cut}");
    }
}

#[test]
fn offsets_are_those_of_the_file_whatever_became_of_it() {
    let giant = "x".repeat(3 * LINE_LIMIT);
    let text = format!("one\n{giant}\ntwo\n{}three\n", "some line\n".repeat(40_000));
    let wanted: Vec<u64> = text
        .match_indices('\n')
        .map(|(end, _)| bytes(text[..end].rfind('\n').map_or(0, |before| before + 1)))
        .collect();
    for packed in [false, true] {
        let mut rig = Rig::new("", Start::Beginning);
        rig.append("syslog", "one\n");
        rig.poll(0);
        rig.append("syslog", &text[4..]);
        fs::rename(rig.path("syslog"), rig.path("syslog.2")).expect("renamed");
        if packed {
            rig.pack("syslog.2", "syslog.2.gz");
        }
        rig.append("syslog", "");
        rig.again();
        rig.poll(0);
        assert_eq!(rig.offsets.len(), wanted.len(), "packed: {packed}");
        assert!(rig.offsets == wanted, "packed: {packed}");
    }
}
