//! Replays the corpora of the fuzz targets: no fuzzer needed, every input within a bound of time and memory.
//!
//! An input that once showed a fault stays in its corpus, so this is also the test that the fault is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

#[path = "fuzz/memory.rs"]
mod memory;
#[path = "fuzz/targets/mod.rs"]
mod targets;

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting::new();

/// For one input, in a debug build on a busy machine; a hang takes for ever.
const TIME: Duration = Duration::from_secs(60);

/// Bytes for one input on top of itself. Inputs are of a few kilobytes.
const BYTES: usize = 256 << 20;

/// All corpora together, so that the repository stays small.
const CORPORA: u64 = 1 << 20;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// What stands for an input that is not in any corpus: empty, zeros, one byte, no UTF-8.
const PLAIN: [&[u8]; 5] = [b"", b"\0\0\0\0", b"\n", b"\xff\xfe\x80", b"==== "];

#[test]
#[expect(clippy::print_stdout, reason = "what a test took is worth a line")]
fn every_input_stays_within_its_bounds() {
    let (tell, told) = mpsc::channel();
    let worker = thread::Builder::new().stack_size(8 << 20).spawn(move || {
        for target in targets::ALL {
            let inputs = corpus(target.name)
                .into_iter()
                .map(|path| (path.display().to_string(), fs::read(path).expect("readable")));
            let plain = PLAIN.iter().map(|input| (format!("{input:?}"), input.to_vec()));
            for (name, input) in inputs.chain(plain) {
                let name = format!("{}: {name}", target.name);
                tell.send((name.clone(), None)).expect("somebody listens");
                let start = Instant::now();
                let ((), bytes) = MEMORY.peak_of(|| (target.run)(&input));
                tell.send((name, Some((start.elapsed(), bytes)))).expect("somebody listens");
            }
        }
    });
    let worker = worker.expect("a thread");
    let (mut now, mut inputs, mut slowest, mut largest) = (String::new(), 0, (Duration::ZERO, String::new()), 0);
    loop {
        match told.recv_timeout(TIME) {
            Ok((name, None)) => now = name,
            Ok((name, Some((time, bytes)))) => {
                assert!(time < TIME, "{name} took {time:?}");
                assert!(bytes < BYTES, "{name} took {bytes} bytes");
                slowest = slowest.max((time, name));
                (largest, inputs) = (largest.max(bytes), inputs + 1);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{now} does not end within {TIME:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    if worker.join().is_err() {
        panic!("{now} panics; see above");
    }
    println!("{inputs} inputs; the slowest took {slowest:?}, the largest {largest} bytes");
    assert!(inputs > 10 * targets::ALL.len(), "the corpora are there");
}

#[test]
fn corpora_belong_to_targets_and_stay_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut total = 0;
    for folder in fs::read_dir(&root).expect("the corpora") {
        let name = folder.expect("an entry").file_name().into_string().expect("a plain name");
        assert!(targets::ALL.iter().any(|target| target.name == name), "corpus {name} has no target");
        total += corpus(&name).iter().map(|path| path.metadata().expect("a file").len()).sum::<u64>();
    }
    assert!(total < CORPORA, "{total} bytes of corpora; minimise them (tests/fuzz/README.md)");
}
