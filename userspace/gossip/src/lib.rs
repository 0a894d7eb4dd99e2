//! Who is there, what each node says of its tasks, and who has applied it: the gossip between the nodes of a cluster.
//!
//! [`Gossip`] is the core: no socket, clock or randomness of its own, driven by datagrams, frames and time that come in
//! as arguments, with effects that go out as [`Action`]s. [`GossipService`] runs it on a UDP and a TCP socket; the
//! rest of the node holds a [`GossipHandle`]. What is known is a [`View`], of which [`View::liveness`] makes what the plan
//! of the data plane needs.
//!
//! ```
//! use essaim_gossip::{Action, Config, Epoch, Gossip, Key, KeyRing, Start};
//! use essaim_model::NodeName;
//! use std::time::Instant;
//!
//! let start = |name: &str, seed| Start {
//!     name: NodeName::new(name).expect("a name"),
//!     last_epoch: Epoch::UNHEARD,
//!     wall_clock_ms: 1_800_000_000_000,
//!     seed: [seed; 32],
//!     keys: KeyRing::new(Key::new([7; 32])),
//!     config: Config::default(),
//! };
//! # #[expect(clippy::disallowed_methods, reason = "the example is its own shell")]
//! let now = Instant::now();
//! let (mut a, mut b) = (Gossip::new(start("a", 1), now), Gossip::new(start("b", 2), now));
//! let peers = [(a.name().clone(), "10.0.0.1:7946".parse()?), (b.name().clone(), "10.0.0.2:7946".parse()?)].into();
//! a.set_peers(&peers, now);
//! b.set_peers(&peers, now);
//! a.handle_timeout(now);
//! while let Some(action) = a.poll_action() {
//!     if let Action::Send { datagram, .. } = action {
//!         b.handle_datagram(&datagram, now)?;
//!     }
//! }
//! assert_eq!(b.view().members[a.name()].epoch, a.epoch());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! **Membership** is SWIM with suspicion; who may be a member comes from the catalog alone, so there is no join list. A
//! node that was never heard of counts as up until it fails its probes. **Facts** travel in streams, one for each owner and
//! scope: the node itself, or one network. A node keeps task facts of the networks it takes part in and of `ingress`.
//! News is pushed at once to a few random members who are interested, and repeated for a few rounds; digests over all that is
//! known, compared with a random member a few times a second, find what was lost; what does not fit datagrams is exchanged
//! over TCP. **Acknowledgement** is of what a data plane has *applied*: an owner that drains a task knows who has not.
//!
//! A node's words are ordered by its [`Epoch`], which grows with every run, and within it by version (facts) and
//! incarnation (life). A run that finds that an earlier one had a greater epoch takes a greater one.
//!
//! # Why not an existing SWIM
//! The crate `foca` was tried first: `cargo bench -p essaim-sim --bench foca` runs it on a simulated network. At 20 % loss it
//! keeps taking the living for dead under every setting that notices a death within three seconds, however many
//! transmissions, helpers and repetitions it is given: a suspicion there is contradicted by gossip only, in a race with each
//! member's own deadline. Here whoever holds a suspicion asks the suspect.
//!
//! # What is trusted
//! Whoever has a key is trusted to follow the protocol; whoever has none can delay or drop datagrams, and replay them to
//! no effect. Input that is not sealed with a key of the ring is dropped and counted ([`DropReason`]).
#![forbid(unsafe_code)]

mod acks;
mod action;
mod caretaker;
mod claim;
mod config;
mod counters;
mod digest;
mod epoch;
mod fact;
mod facts;
#[doc(hidden)]
pub mod fuzz;
mod gossip;
mod membership;
mod push;
mod reply;
mod seal;
mod service;
mod view;
mod wire;

pub use action::Action;
pub use caretaker::Caretaker;
pub use config::Config;
pub use counters::{Counters, DropReason};
pub use epoch::{Epoch, Incarnation, Version};
pub use gossip::{Gossip, OwnTask, Start, TooMuch};
pub use seal::{KEY_LENGTH, Key, KeyRing};
pub use service::{GossipHandle, GossipService, SayError, ServiceError, Sockets, Stopped};
pub use view::{Event, MemberState, MemberView, TaskFact, View, ViewVersion};
