//! `iptables-save` and `ip6tables-save` text, legacy and nft variants, into tables.
