//! What the plugin needs of the node.

use essaim_objects::{Network, TaskId};
use essaim_protocol::{Attachments, AttachmentsHeld};
use std::future::Future;
use std::net::IpAddr;

/// The node that the plugin is of.
pub trait Host: Send + Sync + 'static {
    /// The cluster's network of a name or identity.
    ///
    /// # Errors
    /// No manager answers, in a sentence.
    fn find(&self, name: &str) -> impl Future<Output = Result<Option<Network>, String>> + Send;

    /// Tells the managers of all containers of this node on the cluster's networks.
    ///
    /// # Errors
    /// No manager answers, in a sentence; what was said may hold.
    fn hold(&self, said: Attachments) -> impl Future<Output = Result<AttachmentsHeld, String>> + Send;

    /// Returns once there is a new session with the managers, who may know of none of the node's containers.
    fn next_session(&self) -> impl Future<Output = ()> + Send;

    /// Waits until the container's end of a link is there for the engine to take, and the node's end works: its name, and
    /// whether its network is internal.
    ///
    /// # Errors
    /// It did not come, in a sentence.
    fn link(&self, task: TaskId, address: IpAddr) -> impl Future<Output = Result<Link, String>> + Send;

    /// The container takes part in its networks from now on.
    fn runs(&self, task: TaskId);

    /// The container takes part in none any more.
    fn ended(&self, task: TaskId);
}

/// A link for the engine to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Nothing leaves its network.
    pub is_internal: bool,
}
