//! HG6xx: more open than intended.

pub mod accept_before_felix;
pub mod block_not_enforced;
pub mod host_unpoliced;
pub mod ipv6_unpoliced;
pub mod published_around;
pub mod uplink_unpoliced;
