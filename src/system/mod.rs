//! The outside world: run a command, read a file, list, now.
