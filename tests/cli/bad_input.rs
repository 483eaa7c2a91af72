//! Damaged, missing and closed input.
