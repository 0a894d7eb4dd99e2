//! What can be tuned, with what breaks at either end.

use std::time::Duration;

/// The pace of a node's gossip. All nodes of a cluster should have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Largest UDP payload in bytes, seal included. Too high and datagrams are fragmented or lost on the path, too
    /// low and facts need more of them. At least [`Config::MIN_DATAGRAM`].
    pub max_datagram: usize,
    /// How often one member is probed, and how long it has to answer, directly or through others. Too low and
    /// slow links cause suspicion, too high and death is noticed late.
    pub probe_interval: Duration,
    /// When a probe that was not answered is repeated, and others are asked to probe too. Should exceed the usual
    /// round trip; too low wastes datagrams, too high leaves fewer tries within the interval.
    pub probe_timeout: Duration,
    /// How many others are asked to probe a member that does not answer.
    pub indirect_probes: usize,
    /// How long a suspected member has to contradict. Too low and loss or a busy machine makes members flap, too
    /// high and the dead keep getting traffic.
    pub suspicion: Duration,
    /// How often a suspected member is asked to contradict.
    pub suspicion_probe_interval: Duration,
    /// To how many random members news is pushed at a time.
    pub fanout: usize,
    /// The least time between two pushes. Too low and a burst of changes is not batched, too high delays news by as
    /// much on each hop.
    pub push_spacing: Duration,
    /// How often news is repeated, to others each time.
    pub push_rounds: u8,
    /// The time between repetitions.
    pub push_interval: Duration,
    /// How often digests are compared with a random member. Bounds how long lost news stays lost.
    pub digest_interval: Duration,
    /// How often an owner asks again those who have not acknowledged.
    pub ack_interval: Duration,
    /// How long an owner remembers what it took back, so that others can be told the difference only. Too low and
    /// members that were cut off for longer need a full exchange, too high costs memory.
    pub removal_memory: Duration,
}

impl Config {
    /// The least [`Config::max_datagram`]: the payload that IPv6 guarantees to carry whole (RFC 8200: 1280 bytes less
    /// the headers of IPv6 and UDP).
    pub const MIN_DATAGRAM: usize = 1_232;

    /// For members on one fast network, where a dead node should be noticed in under a second. Needs round trips
    /// below 40 ms and machines that are never stopped for longer than [`Config::suspicion`].
    pub fn fast() -> Self {
        Self {
            probe_interval: Duration::from_millis(150),
            probe_timeout: Duration::from_millis(50),
            suspicion: Duration::from_millis(450),
            suspicion_probe_interval: Duration::from_millis(40),
            ..Self::default()
        }
    }
}

impl Default for Config {
    /// A dead node is known on every other in under 3 seconds, a fact in well under 200 ms.
    fn default() -> Self {
        Self {
            max_datagram: 1_400,
            probe_interval: Duration::from_millis(400),
            probe_timeout: Duration::from_millis(130),
            indirect_probes: 3,
            suspicion: Duration::from_millis(1_800),
            suspicion_probe_interval: Duration::from_millis(100),
            fanout: 3,
            push_spacing: Duration::from_millis(5),
            push_rounds: 3,
            push_interval: Duration::from_millis(40),
            digest_interval: Duration::from_millis(200),
            ack_interval: Duration::from_millis(60),
            removal_memory: Duration::from_mins(10),
        }
    }
}
