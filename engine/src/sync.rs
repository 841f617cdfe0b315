//! The atomics that the tally is made of. `tests/loom.rs` puts those of a model checker in their place.

pub(crate) use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

pub(crate) use crossbeam::atomic::AtomicCell as Hand;
