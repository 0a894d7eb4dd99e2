use std::time::Duration;

/// The first, and what is added each time.
const STEP: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_secs(8);

/// How long to wait before the managers are asked again; as Swarm's agent does.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Duration,
}

impl Backoff {
    /// The next wait: a random part of a span that doubles, so that the nodes of a cluster whose leader moved do not come
    /// all at once.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        self.last = (self.last * 2 + STEP).min(LONGEST);
        let nanoseconds = u64::try_from(self.last.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(random % nanoseconds.max(1))
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_random_below_a_span_that_doubles_up_to_eight_seconds() {
        let mut backoff = Backoff::default();
        let spans = [100, 300, 700, 1500, 3100, 6300, 8000, 8000];
        for span in spans {
            let all = Duration::from_millis(span);
            let last = u64::try_from(all.as_nanos()).unwrap() - 1;
            assert_eq!(backoff.next(last), Duration::from_nanos(last));
        }
        assert_eq!(backoff.next(0), Duration::ZERO);
        backoff.reset();
        assert!(backoff.next(u64::MAX) < Duration::from_millis(100));
    }
}
