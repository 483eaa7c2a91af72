//! The program as its users call it: exit codes, what it says on bad input, what it leaves alone on a live host.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod bad_input;
mod lab;
mod lies;
mod live;
mod saving;
