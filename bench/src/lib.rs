//! What the benchmarks share: a cluster to measure in, programs and frames, clocks, alternating rounds, and the report
//! with its targets.

pub mod cluster;
pub mod cookie;
pub mod cpu;
pub mod frames;
pub mod live;
pub mod netns;
pub mod node;
pub mod programs;
pub mod report;
pub mod rounds;
pub mod settings;
