//! Words for people and machines; each part only formats.

pub mod explain;
pub mod failsafe;
pub mod text;
