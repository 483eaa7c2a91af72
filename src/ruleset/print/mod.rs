//! Canonical text of the model: `parse(print(x)) == x`.

pub mod iptables;
pub mod nft;
