//! The checks, one a file, by family.

pub mod access;
pub mod blindspots;
pub mod exposure;
pub mod failsafe;
pub mod idle;
pub mod integrity;
pub mod logs;
pub mod reboot;
