//! What an audit costs, step by step, for bastions of growing size. `cargo bench --bench audit`.

mod bastion;

use divan::{AllocProfiler, Bencher};
use hepguard::audit::audit;
use hepguard::calico::{failsafe, integrity};
use hepguard::snapshot::read;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// Rules and members.
const SIZES: [(usize, usize); 5] =
    [(1_000, 1_000), (10_000, 1_000), (10_000, 100_000), (50_000, 100_000), (10_000, 1_000_000)];

fn main() {
    divan::main();
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn reading(bencher: Bencher<'_, '_>, (rules, members): (usize, usize)) {
    let files = bastion::snapshot_files(rules, members);
    bencher.with_inputs(|| files.clone()).bench_local_values(read);
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn proving(bencher: Bencher<'_, '_>, (rules, members): (usize, usize)) {
    let snapshot = read(bastion::snapshot_files(rules, members));
    let proof = integrity::check(&snapshot.ruleset);
    assert!(proof.rules > rules / 2 && proof.verified == proof.rules, "the rules must be Felix's own");
    bencher.bench_local(|| integrity::check(&snapshot.ruleset));
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn comparing_failsafes(bencher: Bencher<'_, '_>, (rules, members): (usize, usize)) {
    let snapshot = read(bastion::snapshot_files(rules, members));
    bencher.bench_local(|| failsafe::compare(&snapshot.files, &snapshot.ruleset, &snapshot.host));
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn whole_audit(bencher: Bencher<'_, '_>, (rules, members): (usize, usize)) {
    let snapshot = read(bastion::snapshot_files(rules, members));
    bencher.bench_local(|| audit(&snapshot));
}
