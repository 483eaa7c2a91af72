//! Log lines into deny events, and queries over them, at memory speed.
