//! What the daemon costs while nothing happens: a program of its own, because the tests of `tests/watch` run the host's firewall
//! tools, and those are hints that something may have changed.

#![allow(clippy::print_stdout, reason = "figures for the record")]

mod idle;
#[allow(dead_code, reason = "the other tests of the daemon use the rest")]
#[path = "../watch/rig.rs"]
mod rig;
