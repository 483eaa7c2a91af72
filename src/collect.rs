//! The live host into snapshot files.
