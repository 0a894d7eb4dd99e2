//! Membership, liveness facts and their acknowledgement between the nodes of a cluster.
#![forbid(unsafe_code)]

mod acks;
mod action;
mod claim;
mod config;
mod counters;
mod digest;
mod epoch;
mod fact;
mod facts;
mod gossip;
mod membership;
mod push;
mod reply;
mod seal;
mod service;
mod view;
mod wire;

pub use action::Action;
pub use config::Config;
pub use counters::{Counters, DropReason};
pub use epoch::{Epoch, Incarnation, Version};
pub use gossip::{Gossip, OwnTask, Start, TooMuch};
pub use seal::{KEY_LENGTH, Key, KeyRing};
pub use service::{GossipHandle, GossipService, SayError, ServiceError, Sockets, Stopped};
pub use view::{Event, MemberState, MemberView, TaskFact, View, ViewVersion};
