//! Containers that are not the cluster's on networks that are: what `docker run --network` asks for.

use essaim_objects::{NetworkId, TaskId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a node's Docker Engine calls the driver of its networks that stand for the cluster's: the name of the plugin's
/// socket.
pub const DRIVER: &str = "essaim";
/// The option of such a network that says which of the cluster's it stands for, by its identity.
pub const NETWORK_OPTION: &str = "essaim.network";
/// The option of an attachment that says what its interface is called: essaim's part of the node makes it where the
/// container is, and leaves nothing of it to an engine.
pub const INTERFACE_OPTION: &str = "essaim.interface";
/// The option of such an attachment that says that the container's default route leads there, where it is `true`.
pub const DEFAULT_ROUTE_OPTION: &str = "essaim.default-route";

/// Asks for a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindNetwork {
    /// Its name, its identity, or the beginning of that.
    pub name: String,
}

/// All of a node's containers on networks of the cluster. One that it does not name is there no more: what that held is
/// free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachments {
    /// Them.
    pub containers: Vec<AttachedContainer>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedContainer {
    /// Drawn by the node: its task among the managers'.
    pub task: TaskId,
    /// What its engine calls it, once that is known.
    pub container: Option<String>,
    /// Its networks.
    pub networks: Vec<ContainerNetwork>,
    /// Whether it takes part in them; else addresses are only kept for it.
    pub is_joined: bool,
}

/// A network of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerNetwork {
    /// The network.
    pub network: NetworkId,
    /// The addresses that it has or wants, at most one of a family; none where they are to be chosen, which is for the
    /// only network of a new container.
    pub addresses: Vec<IpAddr>,
    /// What it is called there.
    pub names: Vec<String>,
    /// The interface that the node's data plane makes in the container's namespace, by the name that this has from the
    /// node's daemon; none where a container engine moves it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<ContainerInterface>,
}

/// A container's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInterface {
    /// Its name.
    pub name: String,
    /// Whether the container's default route leads through it.
    pub is_default: bool,
}

/// What the node's containers have now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentsHeld {
    /// Their places on networks.
    pub places: Vec<Place>,
    /// Those that have none, and why. All others do.
    pub refused: Vec<RefusedContainer>,
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Whose.
    pub task: TaskId,
    /// Where.
    pub network: NetworkId,
    /// With the lengths of their subnets' prefixes.
    pub addresses: Vec<IpNet>,
}

/// A container that takes part in nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedContainer {
    /// Which.
    pub task: TaskId,
    /// Why.
    pub why: String,
}
