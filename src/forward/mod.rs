//! Towards a SIEM: messages are written in its form ([`encode`]), kept on the disk until the receiver has them ([`spool`]),
//! and sent ([`transport`], [`sender`]).
//!
//! A message is delivered at least once. What had to be dropped, for want of room or because the disk lost it, is told to the
//! receiver by number.

mod aside;
#[deny(clippy::disallowed_methods)]
pub mod encode;
#[deny(clippy::disallowed_methods)]
pub mod frame;
mod pace;
pub mod spool;
#[deny(clippy::disallowed_methods)]
pub mod sum;
pub mod sender;
pub mod settings;
pub mod transport;
