//! HG2xx: access lost, or lost at the next connection.

pub mod flow_denied;
pub mod flow_undecided;
pub mod session_not_readmitted;
