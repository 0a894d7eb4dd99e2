use crate::{Certificate, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// How far before the moment of issue a certificate begins, so that a node whose clock is behind by less accepts it.
pub const BACKDATE: Duration = HOUR;

/// How long a root lives: 20 years of 365 days, as Swarm's.
pub const ROOT_LIFE: Duration = DAY.saturating_mul(20 * 365);

/// How long a root that is given has to live on: a year, as for Swarm.
pub const LEAST_ROOT_LIFE: Duration = DAY.saturating_mul(365);

/// How long after its end a certificate still serves to ask for the next one, and for nothing else.
pub const RENEWAL_GRACE: Duration = DAY.saturating_mul(7);

/// A life of node certificates that is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node certificates cannot live {} s, expected from {} s (an hour) to {} s (20 years)",
    found.as_secs(),
    NodeLife::LEAST.as_secs(),
    ROOT_LIFE.as_secs()
)]
pub struct LifeError {
    found: Duration,
}

/// How long node certificates live from the moment of issue; 90 days.
///
/// Too short, nodes that are off for a while have to join anew, and managers spend their time on renewals; too long, a
/// stolen key serves for as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Duration", into = "Duration")]
pub struct NodeLife(Duration);

impl NodeLife {
    const LEAST: Duration = HOUR;

    /// Checks the duration; part seconds are cut off.
    ///
    /// # Errors
    /// It is less than an hour, or more than a root lives.
    pub fn new(life: Duration) -> Result<Self, LifeError> {
        if life < Self::LEAST || life > ROOT_LIFE {
            return Err(LifeError { found: life });
        }
        Ok(Self(Duration::from_secs(life.as_secs())))
    }

    /// The duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for NodeLife {
    fn default() -> Self {
        Self(DAY.saturating_mul(90))
    }
}

impl TryFrom<Duration> for NodeLife {
    type Error = LifeError;

    fn try_from(life: Duration) -> Result<Self, LifeError> {
        Self::new(life)
    }
}

impl From<NodeLife> for Duration {
    fn from(life: NodeLife) -> Self {
        life.0
    }
}

/// When a certificate is to be renewed: at a random point from 50 to 80 % of its life, so that the nodes of a cluster do
/// not all come at once. `random` is any number, evenly distributed.
///
/// The life begins at the moment of issue, not at the backdated beginning: else a certificate for an hour would have
/// half of its life behind it from the start.
pub fn renewal_moment(certificate: &Certificate, random: u64) -> Timestamp {
    let issued = certificate
        .not_before()
        .after(BACKDATE)
        .min(certificate.not_after());
    let life = certificate.not_after().since(issued).as_secs();
    let (from, to) = (life / 2, life / 5 * 4);
    issued.after(Duration::from_secs(from + random % (to.saturating_sub(from) + 1)))
}

/// How long to wait after renewals that failed: 5 s, doubled each time up to an hour, of which the second half is random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenewalBackoff {
    failures: u32,
}

impl RenewalBackoff {
    const FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = HOUR;

    /// Takes note of a failure, and says how long to wait. `random` is any number, evenly distributed.
    pub fn failed(&mut self, random: u64) -> Duration {
        let full = Self::FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let full = full.min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = u64::try_from(full.as_millis() / 2).unwrap_or(u64::MAX / 2);
        Duration::from_millis(half + random % (half + 1))
    }

    /// Takes note of a success: the next failure waits for the shortest time again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Seeded, cluster_of, issue};
    use crate::{Role, RootCa};
    use proptest::prelude::*;

    #[test]
    fn lives_out_of_bounds_are_refused() {
        let second = Duration::from_secs(1);
        assert!(NodeLife::new(HOUR.saturating_sub(second)).is_err());
        assert!(NodeLife::new(ROOT_LIFE + second).is_err());
        assert_eq!(NodeLife::new(HOUR).map(NodeLife::duration), Ok(HOUR));
        assert_eq!(NodeLife::default().duration().as_secs(), 2_160 * 3_600);
        assert!(serde_json::from_str::<NodeLife>("{\"secs\":60,\"nanos\":0}").is_err());
    }

    #[test]
    fn failures_wait_from_five_seconds_to_an_hour() {
        let mut backoff = RenewalBackoff::default();
        let longest: Vec<_> = (0..13)
            .map(|_| {
                let mut other = backoff;
                let shortest = other.failed(0);
                let half = backoff.failed(0).as_millis();
                assert_eq!(shortest.as_millis(), half);
                half * 2 / 1_000
            })
            .collect();
        assert_eq!(
            longest,
            [
                5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600, 3_600
            ]
        );
        backoff.succeeded();
        assert_eq!(backoff.failed(2_500), Duration::from_secs(5));
        let mut always = RenewalBackoff { failures: u32::MAX };
        assert!(always.failed(u64::MAX) <= HOUR);
    }

    #[test]
    fn the_earliest_and_the_latest_renewal_are_at_50_and_80_percent() {
        let mut entropy = Seeded::new(1);
        let ca = RootCa::create(NOW, &mut entropy).unwrap();
        let cluster = cluster_of(&mut entropy);
        let life = NodeLife::new(HOUR).unwrap();
        let certificate = issue(&ca, &cluster, Role::Worker, life, NOW, &mut entropy)
            .certificate()
            .clone();
        assert_eq!(renewal_moment(&certificate, 0), NOW.after(HOUR / 2));
        assert_eq!(
            renewal_moment(&certificate, 1_080),
            NOW.after(Duration::from_mins(48))
        );
        assert_eq!(renewal_moment(&certificate, 1_081), NOW.after(HOUR / 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn renewals_fall_within_50_to_80_percent(hours in 1..2_160_u64, random: u64) {
            let mut entropy = Seeded::new(1);
            let ca = RootCa::create(NOW, &mut entropy).unwrap();
            let cluster = cluster_of(&mut entropy);
            let life = NodeLife::new(Duration::from_hours(hours)).unwrap();
            let issued = issue(&ca, &cluster, Role::Worker, life, NOW, &mut entropy);
            let moment = renewal_moment(issued.certificate(), random);
            prop_assert!(moment >= NOW.after(life.duration() / 2), "{moment}");
            prop_assert!(moment <= NOW.after(life.duration() / 5 * 4), "{moment}");
        }
    }
}
