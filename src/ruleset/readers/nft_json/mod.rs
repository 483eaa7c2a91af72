//! `nft -j list ruleset` into tables.
