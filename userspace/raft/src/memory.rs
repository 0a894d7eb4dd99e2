//! A disk and a network in memory, with the faults of real ones, for simulations.
//!
//! Both draw their faults from a seed. With a `current_thread` runtime, paused time and
//! [`seed_this_thread`](crate::seed_this_thread) a run follows from its seeds alone, as far as the state machine and
//! the test do.

mod disk;
mod network;

pub use disk::{DiskFaults, MemoryDisk};
pub use network::{Faults, MemoryNetwork, Receive};

use crate::runtime::split_mix;

/// A small generator, so that a fault is drawn the same way on every platform.
#[derive(Clone, Debug)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        split_mix(self.0)
    }

    /// Below `bound`, or 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }
}
