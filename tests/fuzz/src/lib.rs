//! Every decoder of bytes that others wrote, as a fuzz target.
//!
//! A target is a function over bytes that panics where a decoder breaks a promise: not only that it survives, but that
//! what it read lies inside of what it was given, and that what it writes it reads back. [`TARGETS`] lists them; the
//! tests of this crate replay each one's corpus and its regressions, and then a few thousand mutations of both. The
//! program `essaim-fuzz` goes on for as long as it is told, and turns what fails into the smallest regression that still
//! does. The README beside this crate says how to discover, and how to add a target.

mod attempt;
mod decoders;
mod folder;
#[cfg(feature = "libfuzzer")]
pub mod guided;
mod minimise;
mod mutate;
mod random;
mod target;

#[cfg(test)]
mod replay;

pub use attempt::{attempt, quietly};
pub use folder::{Folder, Input};
pub use minimise::minimise;
pub use mutate::Mutator;
pub use random::{Random, seed};
pub use target::{TARGETS, Target};
