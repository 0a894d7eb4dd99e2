//! A cluster's gossip, simulated: one seed says all that happens in a run.

mod acks;
mod away;
mod chaos;
mod determinism;
mod failure;
mod keys;
mod partition;
mod restart;
mod scale;
mod spread;
