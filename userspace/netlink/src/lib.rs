//! The kernel's links of a node: VXLAN device, veths, addresses, routes, neighbours, namespaces, firewall rules.
//!
//! [`LinkReconciler`] brings them to what a [`essaim_model::DesiredState`] says, through rtnetlink (and `nft`), and says
//! what the data plane must know of them. What is to be done is decided by [`plan_links`], which is pure; all that is
//! made has a deterministic name and an owner mark, so a crash leaves nothing that the next start does not adopt or
//! remove:
//!
//! | object | mark |
//! |---|---|
//! | link | group `0xe55a` from its first moment, then the alias `essaim:NODE` or `essaim:NODE:TASK@NETWORK` |
//! | route | protocol `0xe5` |
//! | security association | request id `0xe55a` |
//! | security policy | mark `0xe5000000` of mask `0xff000000`, outbound |
//! | firewall rule | a comment `essaim-DIGEST`, in the table `inet essaim` or the chain `DOCKER-USER` |
#![forbid(unsafe_code)]

mod apply;
mod capability;
mod changes;
mod clean;
mod error;
mod facts;
mod firewall;
mod handover;
mod message;
mod netns;
mod netns_name;
mod nft;
mod nft_generation;
mod observe;
mod observed;
mod op;
mod ownership;
mod plan;
mod reconciler;
mod removal;
mod session;
mod sysctl;
mod xfrm;

#[cfg(test)]
mod fixture;

pub use changes::Changes;
pub use error::{LinkProblem, NetlinkError, NetnsError};
pub use firewall::{DockerUserRules, Family, MarkedRule, ObservedFirewall, Ruleset};
pub use netns::{NAMED_NETNS, NetnsRef, in_netns, netns_cookie, netns_path};
pub use netns_name::{NetnsNameError, hold_netns, is_netns, remove_netns};
pub use observe::link_of;
pub use observed::{
    Certainty, LinkKind, ObservedLink, ObservedLinks, ObservedNeighbour, ObservedNetns, Route, VxlanSettings,
};
pub use op::{LinkAction, LinkOp, LinkSettings, Place, VethPeer};
pub use ownership::{NODE_LINK, NODE_PEER_LINK, VXLAN_LINK, attachment_link, handover_link};
pub use plan::{LinkPlan, plan_links};
pub use reconciler::{HostOptions, IpsecOutcome, LinkOutcome, LinkReconciler};
pub use sysctl::Sysctl;
pub use xfrm::require_esp;
