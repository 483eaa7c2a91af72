//! `hepguard watch` and `hepguard status` as they run: a real daemon in a folder, and where root may, a namespace of its own.

#![allow(clippy::print_stdout, reason = "figures for the record")]

mod boot;
mod changes;
mod clock;
mod forward;
mod logs;
mod rig;
mod service;
mod trouble;
