//! Waiting for a condition, never for a time.

use anyhow::Context as _;
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// Looks at a condition until it holds, and hands out what it found.
///
/// # Errors
/// When the deadline passes: `what` was waited for, with the last reason why it does not hold.
pub fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(found) => return Ok(found),
            Err(error) if start.elapsed() >= deadline => {
                return Err(error).with_context(|| format!("waited {deadline:?} in vain: {what}"));
            }
            Err(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where a condition that sends no event is polled"
)]
fn pause() {
    std::thread::sleep(POLL);
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
    fn deadline_tells_what_and_why() {
        let result: anyhow::Result<()> =
            eventually(Duration::ZERO, "the moon", || anyhow::bail!("no rocket"));
        let text = format!("{:#}", result.unwrap_err());
        assert!(text.contains("the moon") && text.contains("no rocket"), "{text}");
    }
}
