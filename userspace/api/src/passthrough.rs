//! What goes to the node's own Docker Engine.
//!
//! Containers, images, volumes and whatever else is not of the swarm are the engine's; a few routes both have a say in.
//! Nothing of the swarm's ever reaches the engine, whether this node is in a cluster or not.
//!
//! | part | is |
//! |---|---|
//! | [`way`] | which requests are the engine's, and their path there: pure |
//! | [`head`] | which headers go on to the next hop: pure |
//! | [`merge`] | answers of both as one: pure |
//! | [`lines`] | a stream's lines, however it is cut: pure |
//! | [`attach`] | containers on the cluster's networks |
//! | [`docker`] | the engine behind its socket |
//! | [`tunnel`] | a connection after its upgrade |

pub(crate) mod attach;
mod docker;
mod head;
mod lines;
pub(crate) mod merge;
mod tunnel;
mod way;

pub(crate) use docker::{DockerEngine, Unreached, left_out};
pub(crate) use head::came_through_us;
pub(crate) use lines::Lines;
pub(crate) use tunnel::Tunnel;
pub(crate) use way::{is_clean, is_the_engines, without};
