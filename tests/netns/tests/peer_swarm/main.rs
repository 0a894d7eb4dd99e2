//! What clients see of a cluster, of Docker's own Swarm and of Essaim side by side: one scenario, typed with the same docker
//! CLI, with the engines of Debian's `docker.io` on both sides. `tests/vm/peers` runs it; `docs/peer-comparison.md` has what
//! was found.
//!
//! Swarm needs IPVS, so that this is run by name, in the VM (tests/vm). A lab takes minutes under software emulation: all is
//! tried on one. What Swarm does is only told; what Essaim promises must hold.

mod asked;
mod held;
mod moves;
mod stage;

use anyhow::{Context as _, ensure};
use stage::{Stage, System};
use std::time::{Duration, Instant, SystemTime};

/// What was seen of one behaviour.
pub(crate) struct Seen {
    /// In words and figures.
    pub(crate) text: String,
    /// Whether it is as Essaim promises.
    pub(crate) holds: bool,
}

impl Seen {
    pub(crate) fn new(holds: bool, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            holds,
        }
    }
}

/// When something was done to the cluster.
#[derive(Clone, Copy)]
pub(crate) struct Moment(SystemTime);

impl Moment {
    pub(crate) fn now() -> Self {
        Self(SystemTime::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed().unwrap_or_default()
    }

    /// How long after it something was that a client saw so long after it had begun, in seconds.
    pub(crate) fn until(self, began_unix_ms: u64, at_ms: u64) -> f64 {
        let seen = Duration::from_millis(began_unix_ms + at_ms).as_secs_f64();
        let moment = self.0.duration_since(SystemTime::UNIX_EPOCH);
        seen - moment.unwrap_or_default().as_secs_f64()
    }
}

/// A behaviour, and how it is looked at.
type Look = fn(&Stage) -> anyhow::Result<Seen>;

/// All of them, in order: each leaves the cluster as the next one needs it.
const LOOKS: &[(&str, Look)] = &[
    ("TCP port, through a node with a task", asked::tcp_with_a_task),
    (
        "TCP port, through a node without a task",
        asked::tcp_without_a_task,
    ),
    ("TCP port, at a node's IPv6 address", asked::tcp_over_ipv6),
    ("UDP port, through a node with a task", asked::udp_with_a_task),
    (
        "UDP port, through a node without a task",
        asked::udp_without_a_task,
    ),
    ("VIP, asked by a container", asked::vip),
    ("`ping VIP` in a container", asked::ping),
    ("MTU of a container's interface; of the underlay 1500", asked::mtu),
    (
        "ten UDP datagrams of 1460 bytes, through a node without a task",
        asked::datagrams_too_large,
    ),
    ("port of a service without tasks", asked::port_without_tasks),
    ("VIP of a service without tasks", asked::vip_without_tasks),
    ("drain of a node under load, with open connections", moves::drain),
    (
        "rolling update under load, start-first, with a health check",
        moves::update,
    ),
    ("scaling from 2 to 4 tasks and to 1 under load", moves::scale),
    ("a node loses its power under load", moves::loss),
    (
        "TCP port, at a node's IPv6 address, of a service on a network with `--ipv6`",
        asked::tcp_over_ipv6_of_both_families,
    ),
];

fn look(system: System) -> anyhow::Result<()> {
    let began = Instant::now();
    let stage = Stage::new(system)?;
    println!("{system:?}: up after {} s", began.elapsed().as_secs());
    let mut wrong = Vec::new();
    for (behaviour, look) in LOOKS {
        let found = look(&stage).with_context(|| format!("{system:?}: {behaviour}"));
        let seen = match found {
            Ok(seen) => seen,
            // Of the other system that is a finding, too.
            Err(error) => Seen::new(false, format!("not to be seen: {error:#}")),
        };
        println!("| {behaviour} | {system:?} | {} |", seen.text.replace('\n', " "));
        if !seen.holds {
            wrong.push(format!("{behaviour}: {}", seen.text));
        }
    }
    println!("{system:?}: ended after {} s", began.elapsed().as_secs());
    ensure!(
        system == System::Swarm || wrong.is_empty(),
        "{}",
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn swarm_as_clients_see_it() -> anyhow::Result<()> {
    look(System::Swarm)
}

#[test]
fn essaim_as_clients_see_it() -> anyhow::Result<()> {
    look(System::Essaim)
}
