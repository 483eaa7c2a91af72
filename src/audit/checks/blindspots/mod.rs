//! HG9xx: what the audit could not see.

pub mod bpf_programs;
pub mod listings_disagree;
pub mod mixed_table;
pub mod rules_changing;
pub mod rules_not_judged;
pub mod rules_withheld;
pub mod ruleset_not_listed;
pub mod set_not_listed;
pub mod undecidable_rules;
pub mod unreadable_input;
