//! Words for people and machines; each part only formats.

pub mod conversation;
pub mod denies;
pub mod audit;
pub mod explain;
pub mod failsafe;
pub mod flows;
pub mod reach;
pub mod text;
pub mod trace;
