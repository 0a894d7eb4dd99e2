//! CPU time: what a noisy neighbour does not change.

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::time::Duration;

/// The CPU that measurements run on: the last one, away from most interrupts.
///
/// # Errors
/// When the system does not say how many there are.
pub fn last() -> anyhow::Result<usize> {
    let cpus = std::thread::available_parallelism()
        .context("failed to count the CPUs")?
        .get();
    Ok(cpus - 1)
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// When the kernel refuses.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .with_context(|| format!("CPU {cpu} has no place in a set"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("failed to move to CPU {cpu}"))
}

/// The CPU time that this thread has used, time in the kernel for it included.
///
/// # Errors
/// When the kernel refuses.
pub fn thread_time() -> anyhow::Result<Duration> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("failed to read the thread's CPU time")?;
    Ok(Duration::from(time))
}

/// The CPU time that a piece of work takes this thread.
///
/// # Errors
/// Those of the work.
pub fn time_of<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Duration)> {
    let before = thread_time()?;
    let result = work()?;
    Ok((result, thread_time()?.saturating_sub(before)))
}

/// Nanoseconds of one of `times`.
pub fn nanos_each(time: Duration, times: u64) -> f64 {
    time.as_secs_f64() * 1e9 / count(times.max(1))
}

/// A count as a float: below 2^52 in every bench.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of packets and bytes, far below 2^52"
)]
pub const fn count(number: u64) -> f64 {
    number as f64
}
