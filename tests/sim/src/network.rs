//! The network between the nodes.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use std::collections::BTreeSet;
use std::time::Duration;

/// How datagrams and streams fare.
#[derive(Clone, Debug)]
pub struct Network {
    /// The share of datagrams that is lost.
    pub loss: f64,
    /// The share of datagrams that arrives twice.
    pub duplication: f64,
    /// The least time on the way.
    pub latency: Duration,
    /// How much longer it may take; more than the time between two datagrams reorders them.
    pub jitter: Duration,
    /// The pairs that cannot reach each other, the lesser first.
    pub(crate) cut: BTreeSet<(usize, usize)>,
}

impl Network {
    /// A good local network: 0.2 to 1 ms, nothing lost.
    pub fn quiet() -> Self {
        Self {
            loss: 0.0,
            duplication: 0.0,
            latency: Duration::from_micros(200),
            jitter: Duration::from_micros(800),
            cut: BTreeSet::new(),
        }
    }

    /// 0.2 to 15 ms, with this share lost and 2 % duplicated.
    pub fn lossy(loss: f64) -> Self {
        Self {
            loss,
            duplication: 0.02,
            jitter: Duration::from_millis(15),
            ..Self::quiet()
        }
    }

    pub(crate) fn connects(&self, one: usize, other: usize) -> bool {
        one == other || !self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// After which times a datagram arrives: never, once or twice.
    pub(crate) fn deliveries(&self, random: &mut StdRng) -> Vec<Duration> {
        if random.random_bool(self.loss) {
            return Vec::new();
        }
        let copies = if random.random_bool(self.duplication) {
            2
        } else {
            1
        };
        (0..copies).map(|_| self.delay(random)).collect()
    }

    /// After which time a stream's next frame arrives: what is lost is sent again, 200 ms later.
    pub(crate) fn stream_delay(&self, random: &mut StdRng) -> Duration {
        // A handshake and the frame.
        let mut delay = self.delay(random) * 3;
        while random.random_bool(self.loss) {
            delay += Duration::from_millis(200);
        }
        delay
    }

    fn delay(&self, random: &mut impl Rng) -> Duration {
        self.latency + self.jitter.mul_f64(random.random())
    }
}
