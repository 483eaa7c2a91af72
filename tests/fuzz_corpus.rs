//! Replays the corpora of the fuzz targets: no fuzzer needed, every input within a bound of time and memory.
//!
//! An input that once showed a fault stays in its corpus, so this is also the test that the fault is gone. Inputs made of those
//! by chance follow, for a second a target.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
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

/// Memory is counted for the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

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
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Bytes that readers trip over.
const HARD: [&[u8]; 16] = [
    b"\0",
    b"\xff",
    b"\n",
    b"\"",
    b"{",
    b"[",
    b"-1",
    b"0",
    b"4294967296",
    b"18446744073709551616",
    b"0x",
    b"!",
    b"/129",
    b"::",
    b"\n==== ",
    b" ",
];

/// One of `inputs` with a few changes: lines and words moved, doubled, lost or taken from another one, bytes turned.
fn mutated(rng: &mut fastrand::Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let pick = |rng: &mut fastrand::Rng| inputs[rng.usize(..inputs.len())].clone();
    let mut input = pick(rng);
    for _ in 0..rng.usize(1..6) {
        let separator = if rng.bool() { b'\n' } else { b' ' };
        let mut parts: Vec<Vec<u8>> = input.split(|byte| *byte == separator).map(<[u8]>::to_vec).collect();
        let (at, other) = (rng.usize(..parts.len()), rng.usize(..parts.len()));
        match rng.u8(..7) {
            0 => parts.swap(at, other),
            1 => drop(parts.remove(at)),
            2 => parts.insert(at, parts[other].clone()),
            3 => {
                let others = pick(rng);
                let others: Vec<&[u8]> = others.split(|byte| *byte == separator).collect();
                parts[at] = others[rng.usize(..others.len())].to_vec();
            }
            4 => parts[at] = HARD[rng.usize(..HARD.len())].to_vec(),
            5 => {
                let part = &mut parts[at];
                let place = rng.usize(..=part.len());
                part.splice(place..place, HARD[rng.usize(..HARD.len())].iter().copied());
            }
            _ => {
                if let Some(byte) = rng.choice(parts[at].iter_mut()) {
                    *byte ^= 1 << rng.u8(..8);
                }
            }
        }
        input = parts.join(&separator);
        input.truncate(16 << 10);
    }
    input
}

/// A fuzzer without coverage, for machines that cannot build the other one: `HEPGUARD_FUZZ_SECONDS` for each target,
/// `HEPGUARD_FUZZ_TARGETS` (names with blanks between), `HEPGUARD_FUZZ_SEEDS` (what `tests/fuzz/seeds` wrote), all optional.
#[test]
#[expect(clippy::print_stdout, reason = "what a test took is worth a line")]
fn mutated_inputs_do_no_harm() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let setting = |name: &str| std::env::var(format!("HEPGUARD_FUZZ_{name}")).ok();
    let seconds: u64 = setting("SECONDS").map_or(1, |text| text.parse().expect("HEPGUARD_FUZZ_SECONDS: a number"));
    let wanted = setting("TARGETS");
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for target in targets::ALL {
        if wanted.as_ref().is_some_and(|names| !names.split(' ').any(|name| name == target.name)) {
            continue;
        }
        let seeds = setting("SEEDS").map(|folder| Path::new(&folder).join("seeds").join(target.name));
        let seeds = seeds.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let paths = corpus(target.name).into_iter().chain(seeds.map(|entry| entry.expect("an entry").path()));
        let inputs: Vec<Vec<u8>> = paths.map(|path| fs::read(path).expect("readable")).collect();
        let mut rng = fastrand::Rng::with_seed(setting("SEED").map_or(1, |text| text.parse().expect("a number")));
        let (begun, until) = (Instant::now(), Duration::from_secs(seconds));
        let (mut count, mut slowest) = (0, Duration::ZERO);
        let kept = tmp.join(format!("mutated-{}", target.name));
        while begun.elapsed() < until {
            let input = mutated(&mut rng, &inputs);
            // there when the target does not come back
            fs::write(&kept, &input).expect("a file");
            let start = Instant::now();
            let ((), bytes) = MEMORY.peak_of(|| (target.run)(&input));
            let took = start.elapsed();
            assert!(took < TIME && bytes < BYTES, "{}: {took:?}, {bytes} bytes", kept.display());
            (count, slowest) = (count + 1, slowest.max(took));
        }
        fs::remove_file(&kept).expect("it is there");
        println!("{}: {count} inputs in {:.0} s, the slowest {slowest:?}", target.name, begun.elapsed().as_secs_f64());
    }
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
