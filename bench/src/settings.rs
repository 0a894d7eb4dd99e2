//! How long a run takes.

use std::env;

/// Rounds and repeats of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often every case is measured; the cases take turns.
    pub rounds: usize,
    /// Packets of one measurement through `BPF_PROG_TEST_RUN`.
    pub packets: u32,
    /// A smoke run: shows that the bench works, its figures are worth little.
    pub quick: bool,
}

impl Settings {
    /// A smoke run where `BENCH_QUICK` is set or cargo only tests the bench (`--test`), else the real thing.
    pub fn from_environment() -> Self {
        let quick = env::var_os("BENCH_QUICK").is_some_and(|value| value != "0")
            || env::args().any(|arg| arg == "--test");
        if quick {
            Self {
                rounds: 3,
                packets: 100_000,
                quick,
            }
        } else {
            Self {
                rounds: 11,
                packets: 1_000_000,
                quick,
            }
        }
    }
}
