//! Placeholder of the crate; see its tests.
