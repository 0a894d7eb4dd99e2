use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the histogram's buckets, in microseconds; above the last one there is one more bucket.
pub const BUCKETS_US: [u64; 17] = [
    100, 250, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];

/// How long commits took, counted by many tasks.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    counts: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latencies {
    pub(crate) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        Histogram {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
        }
    }
}

/// How many commits took how long, from proposal to the answer of the state machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell in each bucket of [`BUCKETS_US`]; the last one holds those above.
    pub counts: [u64; BUCKETS_US.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Histogram {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A bound that at least this share of them does not exceed; `None` when there are none, or when it lies above
    /// the last bound.
    pub fn at_most(&self, share: f64) -> Option<Duration> {
        let mut seen = 0_u64;
        for (count, bound) in self.counts.iter().zip(BUCKETS_US) {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "a share of counts far below 2^52")]
            if seen > 0 && seen as f64 >= self.count() as f64 * share {
                return Some(Duration::from_micros(bound));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_in_the_first_bucket_that_holds_it() {
        let latencies = Latencies::default();
        for micros in [0, 100, 101, 1_000, 5_000_000, 5_000_001, u64::from(u32::MAX)] {
            latencies.record(Duration::from_micros(micros));
        }
        let read = latencies.read();
        let mut expected = [0; BUCKETS_US.len() + 1];
        expected[0] = 2;
        expected[1] = 1;
        expected[3] = 1;
        expected[16] = 1;
        expected[17] = 2;
        assert_eq!(read.counts, expected);
        assert_eq!(read.count(), 7);
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let latencies = Latencies::default();
        assert_eq!(latencies.read().at_most(0.5), None);
        for micros in 1..=1_000 {
            latencies.record(Duration::from_micros(micros));
        }
        assert_eq!(latencies.read().at_most(0.5), Some(Duration::from_micros(500)));
        assert_eq!(latencies.read().at_most(0.99), Some(Duration::from_millis(1)));
        latencies.record(Duration::from_mins(1));
        assert_eq!(latencies.read().at_most(1.0), None);
    }
}
