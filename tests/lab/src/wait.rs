//! Waiting for a condition, never for a time.

use anyhow::Context as _;
use std::env;
use std::time::{Duration, Instant};

/// How many times as slow this machine is as those that deadlines are made for: an emulated one says so.
const SLOWNESS: &str = "ESSAIM_LAB_SLOWNESS";

/// Between two looks at a condition; stretched as deadlines are, since a slow machine is slow to look, too.
const POLL: Duration = Duration::from_millis(20);

/// A deadline of a machine as fast as most, as one of this machine.
///
/// # Errors
/// When `ESSAIM_LAB_SLOWNESS` is set and no whole number from 1 to 1000.
pub fn patience(deadline: Duration) -> anyhow::Result<Duration> {
    Ok(deadline * factor(env::var(SLOWNESS).ok().as_deref())?)
}

fn factor(said: Option<&str>) -> anyhow::Result<u32> {
    let Some(said) = said else { return Ok(1) };
    let number = said.parse().ok().filter(|number| (1..=1000).contains(number));
    number.with_context(|| format!("{SLOWNESS} is {said:?}, expected a whole number from 1 to 1000"))
}

/// Looks at a condition until it holds, and hands out what it found. The deadline is stretched by [`patience`].
///
/// # Errors
/// When the deadline passes: `what` was waited for, with the last reason why it does not hold.
pub fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (start, deadline, poll) = (Instant::now(), patience(deadline)?, patience(POLL)?);
    loop {
        match condition() {
            Ok(found) => return Ok(found),
            Err(error) if start.elapsed() >= deadline => {
                return Err(error).with_context(|| format!("waited {deadline:?} in vain: {what}"));
            }
            Err(_) => pause(poll),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where a condition that sends no event is polled"
)]
fn pause(poll: Duration) {
    std::thread::sleep(poll);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_handed_out_once_the_condition_holds() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(5), "third look", || {
            looks += 1;
            anyhow::ensure!(looks == 3, "look {looks}");
            Ok(looks)
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn slowness_is_a_whole_number_or_an_error() {
        assert_eq!(factor(None).unwrap(), 1);
        assert_eq!(factor(Some("10")).unwrap(), 10);
        for wrong in ["", "0", "-1", "1.5", "1001", "fast"] {
            let text = factor(Some(wrong)).unwrap_err().to_string();
            assert!(text.contains(SLOWNESS) && text.contains(wrong), "{text}");
        }
    }

    #[test]
    fn deadline_tells_what_and_why() {
        let result: anyhow::Result<()> =
            eventually(Duration::ZERO, "the moon", || anyhow::bail!("no rocket"));
        let text = format!("{:#}", result.unwrap_err());
        assert!(text.contains("the moon") && text.contains("no rocket"), "{text}");
    }
}
