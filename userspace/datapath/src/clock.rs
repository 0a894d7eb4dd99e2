//! The kernel's tick: flow tables count in jiffies.

use crate::programs::Programs;
use crate::{DatapathError, RunInput, SkbContext};
use nix::poll::{PollTimeout, poll};
use std::time::{Duration, Instant};

/// The rates that kernels are built with (`CONFIG_HZ`).
const RATES: [u32; 4] = [100, 250, 300, 1000];
/// Long enough to tell 250 from 300.
const SPAN_MS: u8 = 60;
/// How far a count may be off because its ends fall between ticks.
const OFF_BY: u32 = 2;

/// The low 32 bits of jiffies.
///
/// # Errors
/// Where the kernel refuses to run the program that reads them.
pub(crate) fn jiffies(programs: &Programs) -> Result<u32, DatapathError> {
    let input = RunInput::Skb {
        packet: &[0; 64],
        context: SkbContext::default(),
    };
    programs
        .run("clock_probe", &input, 1)
        .map(|output| output.verdict)
}

/// Learns how many ticks a second has, by counting them for a moment.
///
/// # Errors
/// Where the count fits no rate that kernels are built with.
pub(crate) fn tick_rate(programs: &Programs) -> Result<u32, DatapathError> {
    // The first run warms up what would otherwise be counted.
    jiffies(programs)?;
    let (start, first) = (Instant::now(), jiffies(programs)?);
    while start.elapsed() < Duration::from_millis(u64::from(SPAN_MS)) {
        // An interruption only shortens one of the waits.
        let _interrupted = poll(&mut [], PollTimeout::from(SPAN_MS));
    }
    let ticks = jiffies(programs)?.wrapping_sub(first);
    let elapsed = start.elapsed();
    rate(ticks, elapsed).ok_or(DatapathError::TickRate {
        ticks,
        micros: elapsed.as_micros(),
    })
}

/// The rate that a count is nearest to.
fn rate(ticks: u32, elapsed: Duration) -> Option<u32> {
    let expected = |rate: u32| elapsed.as_micros() * u128::from(rate) / 1_000_000;
    let off = |rate: u32| expected(rate).abs_diff(u128::from(ticks));
    RATES
        .into_iter()
        .min_by_key(|rate| off(*rate))
        .filter(|rate| off(*rate) <= u128::from(OFF_BY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_is_off_by_one_gives_the_rate() {
        let rate_of = |ticks, millis| rate(ticks, Duration::from_millis(millis));
        for (ticks, expected) in [
            (5, 100),
            (7, 100),
            (14, 250),
            (16, 250),
            (17, 300),
            (19, 300),
            (59, 1000),
        ] {
            assert_eq!(rate_of(ticks, 60), Some(expected), "{ticks}");
        }
        assert_eq!(rate_of(75, 75), Some(1000));
        assert_eq!(rate_of(40, 60), None);
    }
}
