//! Questions about packets, answered from the model: which path a packet takes, what the rules do to it.

pub mod conversation;
pub mod denied;
pub mod devices;
pub mod diff;
pub mod flows;
pub mod matrix;
pub mod offload;
pub mod path;
pub mod reach;
pub mod reboot;
pub mod recommend;
pub mod route;
pub mod rules;
pub mod trace;
pub mod worlds;
