//! One test a semantic, on models built by hand.

mod build;
mod conditions;
mod coverage;
mod hostile;
mod masters;
mod path;
mod verdicts;
mod tracking;
