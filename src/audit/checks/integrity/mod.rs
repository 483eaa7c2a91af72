//! HG3xx: what is in the kernel is not what Felix wrote, or not only that.

pub mod rules_ahead_of_felix;
pub mod stale_chains;
pub mod two_backends_live;
