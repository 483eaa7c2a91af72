//! Canonical text of the model: `parse(print(x)) == x`.

pub mod nft;
