//! The checks, one a file, by family.

pub mod blindspots;
pub mod exposure;
pub mod integrity;
