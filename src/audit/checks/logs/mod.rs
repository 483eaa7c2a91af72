//! HG5xx: what the logs say, and what is written to them.

pub mod unlimited_log;
