//! Packet sets against what they must equal: truth tables, another library's diagrams, plain lists of numbers, and the trace
//! of each single packet.

mod against_conversation;
mod against_trace;
mod algebra;
mod diff;
mod extension;
#[allow(dead_code, unused_imports, reason = "the kernel's oracle draws native rulesets from it, too")]
#[path = "../kernel/generate/mod.rs"]
mod generate;
mod idle;
mod links;
mod numbers;
mod offload;
#[path = "../common/sets.rs"]
mod sets;
