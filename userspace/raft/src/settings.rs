use crate::tuning::Tuning;
use crate::types::Timestamp;
use openraft::{Config, ConfigError, SnapshotPolicy};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often the leader says that it lives. An answer that takes longer does not count, so this bounds the round trip
/// between managers, too.
pub const HEARTBEAT: Duration = Duration::from_millis(250);
/// After this long without a quorum's answers the leader takes no proposals, and no manager votes against it before.
pub const LEASE: Duration = Duration::from_millis(900);
/// The least and the most that a manager waits after the lease before it stands for election.
pub const ELECTION: std::ops::Range<Duration> = Duration::from_millis(500)..LEASE;
/// How long a proposal or a read waits (Swarm: 5 s).
pub const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one message to another manager may take (Swarm: 2 s).
pub const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// A manager that answered the leader within this time is reachable.
pub const REACHABLE_WITHIN: Duration = Duration::from_secs(2);
/// The largest proposal (Swarm: 1.5 MiB).
pub const LARGEST_PROPOSAL: usize = 3 << 19;
/// How many proposals may be under way at once; more are refused as overload.
pub const PROPOSALS_UNDER_WAY: usize = 4096;

/// A learner that is further behind does not count as one that keeps up.
const LAG_THRESHOLD: u64 = 20_000;
const INSTALL_TIMEOUT: Duration = Duration::from_mins(1);
/// What a leader that was removed goes on serving, so that the managers learn of it.
const STEP_DOWN_AFTER: Duration = Duration::from_millis(150);

/// What is set for a cluster.
///
/// **Elections.** A follower stands for election after it heard nothing for [`LEASE`] and then for a random part of
/// [`ELECTION`]: 1.4 to 1.8 s. That is five heartbeats at least, so neither a scheduling stall of 200 ms on either
/// side nor a lost heartbeat or two starts an election; and with a tick (51 ms), the rounds of the pre-vote and the
/// vote, and even a split vote (another 0.5 to 0.9 s), a leader that died is replaced within 3 s. Swarm waits 10
/// ticks of 1 s. A heartbeat does not wait for the disk, so a slow one elects nobody. A manager that was cut off asks first whether it would win (pre-vote) and so disturbs nobody when it
/// returns. All of it goes by the monotonic clock: a jump of the wall clock changes nothing.
#[derive(Clone)]
pub struct Settings {
    /// What it begins with of what can be changed while it runs.
    pub tuning: Tuning,
    /// What stamps proposals with the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("tuning", &self.tuning)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tuning: Tuning::default(),
            clock: Arc::new(Timestamp::now),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Settings {
    pub(crate) fn config() -> Result<Config, ConfigError> {
        Config {
            cluster_name: "essaim".to_owned(),
            heartbeat_interval: millis(HEARTBEAT),
            election_timeout_min: millis(ELECTION.start),
            election_timeout_max: millis(ELECTION.end),
            install_snapshot_timeout: millis(INSTALL_TIMEOUT),
            // Both by `Tuning`, which may change while Raft runs.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: LAG_THRESHOLD,
            api_channel_size: Some(PROPOSALS_UNDER_WAY as u64),
            removed_leader_step_down: openraft::StepDownPolicy::After(millis(STEP_DOWN_AFTER)),
            // A leader whose messages arrive but who hears no answers falls silent, so that the others elect.
            quorum_loss_probe_interval: Some(millis(LEASE + ELECTION.end)),
            enable_pre_vote: Some(true),
            // A leader that restarts does not lead on in its old term: the followers may hold entries of that term
            // that it had sent before they were on its own disk, and it would give their indices to other commands.
            enable_leader_restore: Some(false),
            // Followers write while the leader does.
            broadcast_submitted_on_append: Some(true),
            ..Config::default()
        }
        .validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_what_openraft_accepts() {
        let config = Settings::config().unwrap();
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        assert_eq!(config.replication_lag_threshold, 20_000);
    }

    #[test]
    fn a_dead_leader_is_replaced_in_time_and_a_stall_elects_nobody() {
        let split_vote = ELECTION.end;
        let latest = LEASE + ELECTION.end + split_vote;
        assert!(latest + HEARTBEAT < Duration::from_secs(3));
        let stall = Duration::from_millis(200);
        let lost = 2;
        assert!(HEARTBEAT * (lost + 1) + 2 * stall < LEASE + ELECTION.start);
    }
}
