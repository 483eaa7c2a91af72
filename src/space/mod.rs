//! Sets of packets, as decision diagrams: what a rule matches for *all* packets at once.
//!
//! From the ground up
//! - [`bdd`]: diagrams ([`Set`] in a [`Bdd`]); equal sets are equal values. Operations give [`TooLarge`] when the node budget
//!   is used up, never a hang; two managers know nothing of each other's sets.
//! - [`ranges`]: numbers in intervals, large address sets in one pass.
//! - [`layout`]: which variable is which bit of the packet, in which order; interfaces as classes.
//! - [`mod@line`]: addresses by the classes rules cut their line into, where that says all.
//! - [`header`]: the packets as rules see them at one place; rewriting changes the header, never the set.
//! - [`encode`]: a rule's condition for a header, as the packets for which it certainly and possibly holds.
//! - [`partition`]: numbers that a set treats alike, as classes.
//! - [`cover`]: a set as few products of fields.
//! - [`witness`]: one packet of a set. [`describe`]: a set in the fewest prefixes.
//!
//! Everything is deterministic: the same input gives the same nodes, lists and witnesses.

pub mod bdd;
pub mod cover;
pub mod describe;
pub mod encode;
pub mod header;
pub mod layout;
pub mod line;
pub mod partition;
pub(crate) mod quick;
pub mod ranges;
pub mod witness;

pub use bdd::{Bdd, Built, Group, Set, TooLarge};
pub use layout::{Dimension, Interfaces, Layout, Order, address_width};
