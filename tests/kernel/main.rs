//! The kernel as judge: rulesets are loaded into a private network namespace by the real tools, packets are sent for
//! real, and what the kernel did with each is compared with what the library says.
//!
//! Needs root, `/dev/net/tun`, iproute2, nftables, iptables (legacy and nft), ipset and conntrack. Without them the tests
//! say SKIPPED, or fail when the environment variable `CI` is set. Nothing leaves the namespace, and it vanishes with the
//! thread that made it.
#![expect(clippy::print_stdout, reason = "the figures are what a developer runs these tests for")]

mod bastion;
mod cases;
mod causes;
mod conntrack;
mod conversation_cases;
mod conversation_random;
mod deep_cases;
mod device_cases;
mod diff;
mod dialogue;
mod draw;
mod examine;
mod firewall;
mod found_cases;
mod generate;
mod harness;
mod idle;
mod joined_cases;
mod judge;
mod lab;
mod matrix;
mod netlink;
mod nflog;
mod nft_cases;
mod path;
mod predicted;
mod random;
mod self_check;
#[path = "../common/sets.rs"]
mod sets;
mod tally;
mod tun;
mod wire;
mod xtables;
