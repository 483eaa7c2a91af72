//! Judgement: findings, the registry of checks, the calendar.

pub mod finding;
