//! What the plugin needs of the node.

use essaim_objects::{Network, TaskId};
use essaim_protocol::{Attachments, AttachmentsHeld, CniRefusal};
use ipnet::IpNet;
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

    /// The container takes part in none any more. A name that its namespace was given is gone.
    fn ended(&self, task: TaskId);

    /// What this start of the machine is called, as none other is.
    fn boot(&self) -> String;

    /// What a network namespace is known by while it lasts, whatever file it is opened by.
    ///
    /// # Errors
    /// There is none, or it is the node's own.
    fn namespace(&self, path: &str) -> Result<String, CniRefusal>;

    /// Gives the namespace of a container the name by which the data plane looks for it.
    ///
    /// # Errors
    /// The system refuses.
    fn name_namespace(&self, task: TaskId, path: &str) -> Result<(), CniRefusal>;

    /// What the kernel has under this name in a network namespace.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn look(
        &self,
        path: &str,
        link: &str,
    ) -> impl Future<Output = Result<Option<SeenLink>, CniRefusal>> + Send;

    /// Waits until the container's endpoint with this address is in the container's namespace, works, and names are
    /// answered there.
    ///
    /// # Errors
    /// It did not come, in a sentence.
    fn attached(&self, task: TaskId, address: IpAddr) -> impl Future<Output = Result<(), String>> + Send;

    /// The node's end of the link of the container's endpoint with this address, by its name, where the data plane is to have
    /// it.
    fn node_link(&self, task: TaskId, address: IpAddr) -> Option<String>;

    /// Waits, not without end, until the node has no link of this name.
    fn gone(&self, link: &str) -> impl Future<Output = ()> + Send;
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLink {
    /// Its Ethernet address, as text.
    pub mac: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is turned on.
    pub is_up: bool,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// A link for the engine to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Nothing leaves its network.
    pub is_internal: bool,
}
