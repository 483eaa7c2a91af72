//! From the outside world to the raw files of a snapshot: a saved folder or a single file.

pub mod saved;

pub use saved::{CollectError, MAX_FILE, saved};
