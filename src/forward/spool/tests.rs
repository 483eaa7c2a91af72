use super::*;

fn small() -> Limits {
    Limits { max_bytes: 4096, segment_bytes: 512, keep_bytes: 1024, keep_free: 0 }
}

fn open(folder: &Path) -> Spool {
    Spool::open(folder, small()).expect("opened").0
}

fn put(spool: &mut Spool, count: u64) {
    for _ in 0..count {
        let _ = spool.put(|sequence| format!("message {sequence}").into_bytes());
    }
}

/// Everything there is to read: messages by number, checked against their text, and gaps.
fn read(spool: &mut Spool) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut messages, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let items = spool.read(7, 1 << 20);
        if items.is_empty() {
            return (messages, gaps);
        }
        for item in items {
            match item {
                Item::Message { sequence, payload } => {
                    assert_eq!(payload, format!("message {sequence}").into_bytes());
                    messages.push(sequence);
                }
                Item::Gap { from, to } => gaps.push((from, to)),
            }
        }
    }
}

#[test]
fn messages_come_out_in_order_and_stay_until_they_are_delivered() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = open(dir.path());
    put(&mut spool, 10);
    assert!(spool.read(9, 99).is_empty(), "not before the disk has them");
    spool.flush().expect("written");
    assert_eq!(read(&mut spool), ((1..=10).collect(), vec![]));
    spool.ack(4);
    spool.rewind();
    assert_eq!(read(&mut spool).0, (5..=10).collect::<Vec<_>>());
    drop(spool);
    let mut spool = open(dir.path());
    put(&mut spool, 2);
    spool.flush().expect("written");
    assert_eq!(read(&mut spool), ((5..=12).collect(), vec![]));
    assert_eq!(spool.status().waiting, 8);
}

#[test]
fn what_has_no_room_is_a_gap_exact_by_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = open(dir.path());
    for _ in 0..100 {
        put(&mut spool, 5);
        spool.flush().expect("written");
        let on_disk: u64 =
            fs::read_dir(dir.path()).expect("there").map(|e| e.expect("e").metadata().expect("m").len()).sum();
        assert!(on_disk <= small().max_bytes + 512, "{on_disk}");
    }
    let (messages, gaps) = read(&mut spool);
    let [(from, to)] = gaps[..] else { panic!("one gap: {gaps:?}") };
    assert_eq!((from, messages[0], messages.last()), (1, to + 1, Some(&500)));
    assert_eq!(messages.len() as u64 + to, 500);
}

#[test]
fn delivered_messages_stay_for_a_replay_within_bounds() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = open(dir.path());
    for _ in 0..50 {
        put(&mut spool, 5);
        spool.flush().expect("written");
        let (messages, gaps) = read(&mut spool);
        assert_eq!((messages.len(), gaps.len()), (5, 0));
        spool.ack(*messages.last().expect("five"));
    }
    let mut numbers = Vec::new();
    let count = kept(dir.path(), 0, |sequence, _| {
        numbers.push(sequence);
        Ok(())
    });
    assert_eq!(count.expect("read"), numbers.len() as u64);
    assert_eq!(numbers.last(), Some(&250));
    assert!(numbers.len() > 20 && spool.status().bytes < 2048, "{} {}", numbers.len(), spool.status().bytes);
}

#[test]
fn a_second_process_is_turned_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let _first = open(dir.path());
    let error = Spool::open(dir.path(), small()).err().expect("held");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(peek(dir.path()).map_or(9, |status| status.last), 0);
}

/// Whatever the power cut left of the last write: nothing that was flushed before is lost, no number is given twice.
#[test]
fn a_cut_at_any_byte_of_the_last_write_costs_only_what_was_not_flushed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (before, after);
    {
        let mut spool = open(dir.path());
        put(&mut spool, 3);
        spool.flush().expect("written");
        before = fs::read(dir.path().join("00000000000000000001.seg")).expect("there");
        let state = fs::read(dir.path().join("state")).expect("there");
        put(&mut spool, 3);
        spool.flush().expect("written");
        after = fs::read(dir.path().join("00000000000000000001.seg")).expect("there");
        drop(spool);
        fs::write(dir.path().join("state"), state).expect("written");
    }
    let state = fs::read(dir.path().join("state")).expect("there");
    for length in before.len()..=after.len() {
        for file in fs::read_dir(dir.path()).expect("there") {
            fs::remove_file(file.expect("an entry").path()).expect("removed");
        }
        fs::write(dir.path().join("state"), &state).expect("written");
        fs::write(dir.path().join("00000000000000000001.seg"), &after[..length]).expect("written");
        let mut spool = open(dir.path());
        let (old, gaps) = read(&mut spool);
        assert!(gaps.is_empty() && old.len() >= 3, "{length}: {old:?} {gaps:?}");
        put(&mut spool, 2);
        spool.flush().expect("written");
        let (new, gaps) = read(&mut spool);
        assert_eq!((new, gaps), (vec![old.len() as u64 + 1, old.len() as u64 + 2], vec![]), "{length}");
    }
}

/// Each byte of each file in turn: the queue opens, and every message is either read or inside a gap.
#[test]
fn bit_flips_anywhere_are_told_by_number() {
    let dir = tempfile::tempdir().expect("a folder");
    {
        let mut spool = open(dir.path());
        for _ in 0..8 {
            put(&mut spool, 4);
            spool.flush().expect("written");
        }
        let _ = read(&mut spool);
        spool.ack(2);
    }
    let sound: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(dir.path())
        .expect("there")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), fs::read(path).expect("read")))
        .collect();
    assert!(sound.len() > 3, "several segments");
    let mut lost = 0;
    for (path, bytes) in &sound {
        for place in (0..bytes.len()).step_by(3) {
            for (path, bytes) in &sound {
                fs::write(path, bytes).expect("written");
            }
            let mut bad = bytes.clone();
            bad[place] ^= 0x40;
            fs::write(path, &bad).expect("written");
            let mut spool = open(dir.path());
            put(&mut spool, 1);
            spool.flush().expect("written");
            let (messages, gaps) = read(&mut spool);
            let missing: u64 = gaps.iter().map(|(from, to)| to - from + 1).sum();
            let start = if missing + messages.len() as u64 == 33 { 1 } else { 3 };
            assert_eq!(missing + messages.len() as u64, 34 - start, "{} byte {place}: {gaps:?}", path.display());
            lost += missing;
            drop(spool);
            for entry in fs::read_dir(dir.path()).expect("there") {
                fs::remove_file(entry.expect("an entry").path()).expect("removed");
            }
        }
    }
    assert!(lost > 0, "some flips hit messages");
}

#[test]
fn a_full_disk_loses_the_oldest_and_says_how_many() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("spool");
    let mut spool = Spool::open(&folder, Limits { max_bytes: 1 << 20, ..small() }).expect("opened").0;
    put(&mut spool, 20);
    spool.flush().expect("written");
    // the folder goes away under it: as bad as a disk that takes nothing more
    fs::remove_dir_all(&folder).expect("removed");
    spool.writer = None;
    put(&mut spool, 5);
    assert!(spool.flush().is_err());
    assert_eq!(spool.status().unkept, 5);
    fs::create_dir(&folder).expect("made");
    spool.segments.clear();
    put(&mut spool, 2);
    spool.flush().expect("written again");
    assert_eq!(read(&mut spool), (vec![26, 27], vec![(1, 25)]));
}
