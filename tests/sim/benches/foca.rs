//! What the crate `foca` does on such a network: 25 nodes that know each other, 0.2 to 3 ms a datagram, a share of them lost,
//! nobody dies; then one does. It is why this project has a SWIM of its own.
//!
//! A node that is told down must take a new identity: each `rejoin` is a living node that was taken for dead.

use foca::{
    AccumulatingRuntime, Config, Foca, Identity, Member, OwnedNotification, PeriodicParams, PostcardCodec,
    State, Timer,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

const NODES: usize = 25;
const MINUTES: u64 = 10;

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Node {
    number: usize,
    run: u32,
}

impl Identity for Node {
    type Addr = usize;

    fn renew(&self) -> Option<Self> {
        let run = self.run + 1;
        Some(Self { run, ..*self })
    }

    fn addr(&self) -> usize {
        self.number
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self.run > other.run
    }
}

enum Occurrence {
    Datagram(Vec<u8>),
    Timer(Timer<Node>),
}

struct Pace {
    probe_period_ms: u64,
    probe_rtt_ms: u64,
    suspicion_ms: u64,
    gossip_ms: u64,
    gossip_to: usize,
    transmissions: u8,
    helpers: usize,
}

fn config(pace: &Pace) -> Option<Config> {
    let every = |millis, members| {
        let num_members = NonZeroUsize::new(members)?;
        let frequency = Duration::from_millis(millis);
        Some(PeriodicParams {
            frequency,
            num_members,
        })
    };
    Some(Config {
        probe_period: Duration::from_millis(pace.probe_period_ms),
        probe_rtt: Duration::from_millis(pace.probe_rtt_ms),
        num_indirect_probes: NonZeroUsize::new(pace.helpers)?,
        max_transmissions: NonZeroU8::new(pace.transmissions)?,
        suspect_to_down_after: Duration::from_millis(pace.suspicion_ms),
        notify_down_members: true,
        periodic_announce_to_down_members: every(1_000, 2),
        periodic_gossip: every(pace.gossip_ms, pace.gossip_to),
        ..Config::simple()
    })
}

/// How many times a living node was taken for dead, and how long the slowest took to be told of a death.
fn run(config: &Config, loss: f64) -> (usize, Option<Duration>) {
    let mut random = StdRng::seed_from_u64(7);
    let mut queue: BTreeMap<(Duration, u64), (usize, Occurrence)> = BTreeMap::new();
    let (mut sequence, mut now) = (0, Duration::ZERO);
    let (mut rejoins, mut told, mut slowest) = (0, 0, None);
    let death = Duration::from_mins(MINUTES);
    let end = death + Duration::from_secs(10);
    let identity = |number| Node { number, run: 1 };
    let mut runtime = AccumulatingRuntime::new();
    let mut nodes: Vec<_> = (0..NODES)
        .map(|number| {
            Foca::new(
                identity(number),
                config.clone(),
                StdRng::seed_from_u64(number as u64),
                PostcardCodec,
            )
        })
        .collect();
    for (number, node) in nodes.iter_mut().enumerate() {
        let others = (0..NODES).filter(|other| *other != number);
        let others = others.map(|other| Member::new(identity(other), 0, State::Alive));
        let _ = node.apply_many(others, false, &mut runtime);
        while runtime.to_send().is_some() || runtime.to_notify().is_some() {}
        while let Some((after, timer)) = runtime.to_schedule() {
            sequence += 1;
            let at = after.mul_f64(random.random());
            queue.insert((at, sequence), (number, Occurrence::Timer(timer)));
        }
    }
    while let Some(((at, _), (number, occurrence))) = queue.pop_first().filter(|((at, _), _)| *at < end) {
        now = at.max(now);
        if number == NODES - 1 && now >= death {
            continue;
        }
        let _ = match occurrence {
            Occurrence::Datagram(data) => nodes[number].handle_data(&data, &mut runtime),
            Occurrence::Timer(timer) => nodes[number].handle_timer(timer, &mut runtime),
        };
        while let Some((to, data)) = runtime.to_send() {
            if !random.random_bool(loss) {
                sequence += 1;
                let at = now + Duration::from_micros(random.random_range(200..3_000));
                queue.insert((at, sequence), (to.number, Occurrence::Datagram(data.to_vec())));
            }
        }
        while let Some((after, timer)) = runtime.to_schedule() {
            sequence += 1;
            queue.insert((now + after, sequence), (number, Occurrence::Timer(timer)));
        }
        while let Some(notification) = runtime.to_notify() {
            match notification {
                OwnedNotification::Rejoin(_) => rejoins += 1,
                OwnedNotification::MemberDown(down) if down.number == NODES - 1 && now >= death => {
                    told += 1;
                    slowest = Some(now.saturating_sub(death));
                }
                _ => {}
            }
        }
    }
    (rejoins, slowest.filter(|_| told >= NODES - 1))
}

fn main() {
    let mut out = std::io::stdout();
    let _ = writeln!(
        out,
        "{NODES} nodes for {MINUTES} min; period/rtt/suspicion/gossip ms, to, transmissions, helpers"
    );
    for (pace, losses) in [
        ((500, 200, 1_500, 200, 3, 10, 3), &[0.0, 0.05, 0.2][..]),
        ((500, 200, 1_500, 100, 5, 20, 3), &[0.2]),
        ((500, 200, 1_800, 50, 5, 40, 3), &[0.2]),
        ((500, 150, 1_500, 50, 5, 40, 5), &[0.2]),
        ((500, 240, 1_500, 50, 5, 60, 8), &[0.2]),
        ((700, 200, 2_000, 50, 5, 40, 8), &[0.2]),
    ] {
        let (probe_period_ms, probe_rtt_ms, suspicion_ms, gossip_ms, gossip_to, transmissions, helpers) =
            pace;
        let config = config(&Pace {
            probe_period_ms,
            probe_rtt_ms,
            suspicion_ms,
            gossip_ms,
            gossip_to,
            transmissions,
            helpers,
        });
        for (config, loss) in config
            .iter()
            .flat_map(|config| losses.iter().map(move |loss| (config, *loss)))
        {
            let (rejoins, slowest) = run(config, loss);
            let _ = writeln!(
                out,
                "{pace:?} loss {loss:4}: {rejoins} rejoins, death told to all after {slowest:?}"
            );
        }
    }
}
