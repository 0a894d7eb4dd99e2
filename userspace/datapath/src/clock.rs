//! The kernel's tick: flow tables count in jiffies.

use crate::programs::Programs;
use crate::{DatapathError, RunInput, SkbContext};
use nix::poll::{PollTimeout, poll};
use std::time::{Duration, Instant};

/// The rates that kernels are built with (`CONFIG_HZ`).
const RATES: [u32; 4] = [100, 250, 300, 1000];
/// For how long ticks are counted, in milliseconds: long enough to tell 250 from 300. On a virtual machine that had to wait
/// for its processor ticks come late and many at once; then a longer count is made.
const SPANS_MS: [u16; 3] = [60, 240, 960];
/// How far a count may be off because its ends fall between ticks.
const OFF_BY: u128 = 2;
/// One more for so many microseconds, in which 250 and 300 come to differ by more than twice as much.
const ONE_MORE: u128 = 50_000;

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
    let mut counted = (0, Duration::ZERO);
    for span in SPANS_MS {
        counted = count(programs, span)?;
        if let Some(rate) = rate(counted.0, counted.1) {
            return Ok(rate);
        }
    }
    let (ticks, elapsed) = counted;
    Err(DatapathError::TickRate {
        ticks,
        micros: elapsed.as_micros(),
    })
}

/// Ticks in so many milliseconds or a little more, and how long that was.
fn count(programs: &Programs, span: u16) -> Result<(u32, Duration), DatapathError> {
    let (start, first) = (Instant::now(), jiffies(programs)?);
    while start.elapsed() < Duration::from_millis(u64::from(span)) {
        // An interruption only shortens one of the waits.
        let _interrupted = poll(&mut [], PollTimeout::from(span));
    }
    let ticks = jiffies(programs)?.wrapping_sub(first);
    Ok((ticks, start.elapsed()))
}

/// The rate that a count is nearest to.
fn rate(ticks: u32, elapsed: Duration) -> Option<u32> {
    let expected = |rate: u32| elapsed.as_micros() * u128::from(rate) / 1_000_000;
    let off = |rate: u32| expected(rate).abs_diff(u128::from(ticks));
    RATES
        .into_iter()
        .min_by_key(|rate| off(*rate))
        .filter(|rate| off(*rate) <= OFF_BY.max(elapsed.as_micros() / ONE_MORE))
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
        // Seen on an emulated machine of 250 ticks a second: six came at once.
        assert_eq!(rate(22, Duration::from_micros(64_375)), None);
        assert_eq!((rate_of(66, 240), rate_of(246, 960)), (None, Some(250)));
        assert_eq!(
            (rate_of(240 + 24, 960), rate_of(288 - 19, 960)),
            (None, Some(300))
        );
    }
}
