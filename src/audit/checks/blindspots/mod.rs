//! HG9xx: what the audit could not see.

pub mod bpf_programs;
pub mod rules_withheld;
pub mod ruleset_not_listed;
pub mod undecidable_rules;
pub mod unreadable_input;
