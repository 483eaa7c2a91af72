//! Felix and policy: settings, failsafe lists, names and hashes, and the proof of what Felix wrote.

pub mod failsafe;
pub mod settings;
pub mod hash;
pub mod integrity;
mod keccak;
pub mod names;
pub mod order;
pub mod predict;
pub mod render;
pub mod resources;
pub mod selector;
pub mod spelling;
mod yaml;
