//! Random formulas, built in our diagrams, in biodivine's and as truth tables.

use biodivine_lib_bdd::{Bdd as Oracle, BddValuation, BddVariableSet};
use fastrand::Rng;
use hepguard::space::witness::witness;
use hepguard::space::{Bdd, Set, TooLarge};

/// Variables of small spaces: every assignment can be tried.
const SMALL: u16 = 6;
/// Variables of large ones.
const LARGE: u16 = 40;

/// A formula over both libraries and all assignments at once: bit `i` of `table` is its value for assignment `i`.
#[derive(Clone)]
struct Formula {
    ours: Set,
    theirs: Oracle,
    table: u64,
}

fn columns(variable: u16) -> u64 {
    (0..64u64).filter(|row| row >> variable & 1 == 1).fold(0, |table, row| table | 1 << row)
}

fn formulas(rng: &mut Rng, bdd: &mut Bdd, variables: u16, steps: usize) -> Vec<Formula> {
    let world = BddVariableSet::new_anonymous(variables);
    let mut all: Vec<Formula> = (0..variables)
        .map(|number| Formula {
            ours: bdd.variable(number).expect("room"),
            theirs: world.mk_var(world.variables()[usize::from(number)]),
            table: columns(number.min(63)),
        })
        .collect();
    for _ in 0..steps {
        let [a, b, c] = [(); 3].map(|()| all[rng.usize(..all.len())].clone());
        all.push(match rng.u8(..6) {
            0 => Formula { ours: !a.ours, theirs: a.theirs.not(), table: !a.table },
            1 => Formula {
                ours: bdd.and(a.ours, b.ours).expect("room"),
                theirs: a.theirs.and(&b.theirs),
                table: a.table & b.table,
            },
            2 => Formula {
                ours: bdd.or(a.ours, b.ours).expect("room"),
                theirs: a.theirs.or(&b.theirs),
                table: a.table | b.table,
            },
            3 => Formula {
                ours: bdd.minus(a.ours, b.ours).expect("room"),
                theirs: a.theirs.and_not(&b.theirs),
                table: a.table & !b.table,
            },
            4 => Formula {
                ours: bdd.union([a.ours, b.ours, c.ours]).expect("room"),
                theirs: a.theirs.or(&b.theirs).or(&c.theirs),
                table: a.table | b.table | c.table,
            },
            _ => Formula {
                ours: bdd.choose(a.ours, b.ours, c.ours).expect("room"),
                theirs: a.theirs.and(&b.theirs).or(&a.theirs.not().and(&c.theirs)),
                table: a.table & b.table | !a.table & c.table,
            },
        });
    }
    all
}

#[test]
fn small_formulas_are_their_truth_tables() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let mut bdd = Bdd::new(Bdd::BUDGET);
        let all = formulas(&mut rng, &mut bdd, SMALL, 60);
        for formula in &all {
            for row in 0..64u64 {
                let holds = bdd.contains(formula.ours, |variable| row >> variable & 1 == 1);
                assert_eq!(holds, formula.table >> row & 1 == 1, "seed {seed}");
            }
        }
        for (a, b) in all.iter().zip(all.iter().skip(7)) {
            assert_eq!(a.ours == b.ours, a.table == b.table, "equal sets are equal values, seed {seed}");
            assert_eq!(bdd.is_subset(a.ours, b.ours).expect("room"), a.table & !b.table == 0);
        }
        for formula in &all {
            let group = bdd.group([1, 4]);
            let (some, every) = (bdd.exists(formula.ours, group), bdd.for_all(formula.ours, group));
            let (some, every) = (some.expect("room"), every.expect("room"));
            for row in 0..64u64 {
                let rows = [0, 2, 16, 18].map(|bits| formula.table >> (row & !18 | bits) & 1 == 1);
                let at = |set| bdd.contains(set, |variable| row >> variable & 1 == 1);
                assert_eq!((at(some), at(every)), (rows.contains(&true), !rows.contains(&false)), "seed {seed}");
            }
        }
    }
}

#[test]
fn large_formulas_are_another_librarys() {
    for seed in 0..25 {
        let mut rng = Rng::with_seed(seed);
        let mut bdd = Bdd::new(Bdd::BUDGET);
        let all = formulas(&mut rng, &mut bdd, LARGE, 150);
        let world = BddVariableSet::new_anonymous(LARGE);
        for formula in &all {
            assert_eq!(formula.ours == Set::ALL, formula.theirs.is_true());
            assert_eq!(formula.ours == Set::NONE, formula.theirs.is_false());
            for _ in 0..20 {
                let bits: Vec<bool> = (0..LARGE).map(|_| rng.bool()).collect();
                let ours = bdd.contains(formula.ours, |variable| bits[usize::from(variable)]);
                assert_eq!(ours, formula.theirs.eval_in(&BddValuation::new(bits)), "seed {seed}");
            }
        }
        for (a, b) in all.iter().zip(all.iter().skip(11)) {
            assert_eq!(a.ours == b.ours, a.theirs == b.theirs, "seed {seed}");
        }
        for (a, b) in all.iter().zip(all.iter().skip(11)) {
            let group = bdd.group((0..LARGE).filter(|_| rng.bool()));
            let both = bdd.and(a.ours, b.ours).expect("room");
            assert_eq!(bdd.and_exists(a.ours, b.ours, group), bdd.exists(both, group), "seed {seed}");
        }
        for formula in all.iter().skip(100) {
            let some: Vec<u16> = (0..LARGE).filter(|_| rng.u8(..3) == 0).collect();
            let group = bdd.group(some.clone());
            let ours = bdd.exists(formula.ours, group).expect("room");
            let variables = world.variables();
            let named: Vec<_> = some.iter().map(|number| variables[usize::from(*number)]).collect();
            let theirs = formula.theirs.exists(&named);
            for _ in 0..40 {
                let bits: Vec<bool> = (0..LARGE).map(|_| rng.bool()).collect();
                let held = bdd.contains(ours, |variable| bits[usize::from(variable)]);
                assert_eq!(held, theirs.eval_in(&BddValuation::new(bits)), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_witness_is_in_the_set_and_grants_wishes() {
    let mut rng = Rng::with_seed(3);
    let mut bdd = Bdd::new(Bdd::BUDGET);
    let all = formulas(&mut rng, &mut bdd, LARGE, 200);
    let wish = bdd.variable(2).expect("room");
    for formula in &all {
        let found = witness(&mut bdd, formula.ours, &[wish]).expect("room");
        let Some(found) = found else {
            assert_eq!(formula.ours, Set::NONE);
            continue;
        };
        assert!(bdd.contains(formula.ours, |variable| found.bit(variable)));
        let possible = bdd.and(formula.ours, wish).expect("room") != Set::NONE;
        assert_eq!(found.bit(2), possible, "a wish that can be granted is");
        let again = witness(&mut bdd, formula.ours, &[wish]).expect("room");
        assert_eq!(again, Some(found), "always the same");
    }
}

#[test]
fn the_budget_ends_the_work_and_not_the_program() {
    // a sum of products whose partners stand far apart: each pair doubles the diagram (Bryant 1986, §3)
    let mut bdd = Bdd::new(2_000);
    let mut set = Set::NONE;
    let mut error = None;
    for pair in 0..20 {
        let step = |bdd: &mut Bdd, set| {
            let (left, right) = (bdd.variable(pair)?, bdd.variable(pair + 20)?);
            let both = bdd.and(left, right)?;
            bdd.or(set, both)
        };
        match step(&mut bdd, set) {
            Ok(larger) => set = larger,
            Err(too_large) => error = error.or(Some(too_large)),
        }
    }
    assert_eq!(error, Some(TooLarge { budget: 2_000 }));
    assert!(bdd.nodes() <= 2_000);
    assert_eq!(bdd.and(set, !set), Ok(Set::NONE), "what was built still works");
}

#[test]
fn the_deepest_diagram_fits_a_small_stack() {
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(|| {
        let mut bdd = Bdd::new(Bdd::BUDGET);
        let most = hepguard::space::bdd::MAX_VARIABLES;
        let (mut even, mut odd) = (Set::ALL, Set::ALL);
        for variable in (0..most).rev() {
            let bit = bdd.variable(variable).expect("room");
            let side = if variable % 2 == 0 { &mut even } else { &mut odd };
            *side = bdd.and(*side, bit).expect("room");
        }
        let both = bdd.and(even, odd).expect("room");
        let group = bdd.group((0..most).step_by(2));
        assert_eq!(bdd.exists(both, group), Ok(odd));
        assert_eq!(bdd.choose(even, both, odd).map(|set| set != Set::NONE), Ok(true));
    });
    thread.expect("a thread").join().expect("no overflow");
}
