//! `ipset save` into sets.
