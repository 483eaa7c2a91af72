//! Towards a SIEM: so far only how events are written; transport and spool come with the daemon.

pub mod encode;
