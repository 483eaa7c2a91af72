//! hepguard guards the way in: it reads what a Linux host's firewall really does, proves what Calico's Felix wrote, and
//! says what a change would cut before it is made.
//!
//! Data flows one way. Raw text of standard tools ([`snapshot`]) is read into one model of the firewall ([`ruleset`]), of
//! Calico ([`calico`]) and of the host ([`host`]); [`analysis`] answers questions about packets, one or all at once
//! ([`space`]); [`audit`] turns answers into findings, [`lint`] does so for policy files alone; [`report`] only formats. Log lines join as
//! deny events ([`logs`]). What of all this is an alert, as time goes by, [`monitor`] decides; [`watch`] is the daemon around it.
//!
//! The **core** rooms do no I/O; the **edge** ([`system`], [`collect`], [`cli`]) does effects and holds no decisions.
//! A room imports only rooms above it in this list; `tests/architecture.rs` checks that.

// core is free of effects (clippy.toml lists them); its unit tests may read fixtures
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

// core, from the ground up
pub mod diagnostic;
pub mod files;
pub mod packet;
pub mod ruleset;
pub mod host;
pub mod calico;
pub mod config;
pub mod logs;
pub mod space;
pub mod snapshot;
pub mod demo;
pub mod analysis;
pub mod audit;
pub mod lint;
pub mod plan;
pub mod monitor;
pub mod report;

// edge
#[allow(clippy::disallowed_methods, reason = "effects live here")]
pub mod system;
#[allow(clippy::disallowed_methods, reason = "effects live here")]
pub mod collect;
#[allow(clippy::disallowed_methods, reason = "effects live here")]
pub mod tail;
#[allow(clippy::disallowed_methods, reason = "effects live here")]
pub mod scratch;
#[allow(clippy::disallowed_methods, reason = "effects live here")]
pub mod forward;
#[allow(clippy::disallowed_methods, reason = "effects live here")]
pub mod watch;
#[allow(clippy::disallowed_methods, reason = "effects live here")]
pub mod cli;
