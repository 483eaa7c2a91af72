//! Log lines into deny events, and queries over them, at memory speed.
//!
//! A line is taken apart in two steps: what stands around it ([`header`], JSON included), then what it says ([`felix`],
//! [`kernel`], [`flowlog`]); [`mod@line`] does both. [`scan`] finds the few lines worth that in large blocks of text, [`query`]
//! says which events are wanted, [`tally`] counts them by key, [`histogram`] by time, [`gather`] both.
//! Lines that a container's runtime cut are put together first (`partial`); a report or packet line that says what another has
//! said is only counted ([`memo`]). What is searched for in all bytes, and has a form for each kind of processor, is in
//! `vector`.
//!
//! Everything is bytes: logs hold invalid UTF-8, NUL bytes and escape sequences, and none of them ends a run.

pub mod event;
pub mod felix;
pub mod flowlog;
pub mod gather;
mod groups;
pub mod header;
mod heads;
pub mod histogram;
mod index;
mod json;
pub mod kernel;
pub mod line;
pub mod memo;
pub mod moment;
mod partial;
pub mod query;
pub mod scan;
mod sift;
mod skim;
pub mod tally;
pub mod time;
mod usual;
mod vector;
