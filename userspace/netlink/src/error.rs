//! What can go wrong with the links of a node, and what to do about it.

use essaim_model::AttachmentKey;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Why the links of a node could not be observed or made.
///
/// What was done before the error stays; the next reconciliation goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The process may not change links. Nothing was changed.
    #[error(
        "{capability} is missing: the links of a node cannot be changed without it; run essaim as root or grant the capability"
    )]
    CapabilityMissing {
        /// The capability.
        capability: &'static str,
    },
    /// An uplink that does not exist. Nothing was changed.
    #[error("uplink {uplink} does not exist; the links of this node are {existing}; name one of them")]
    UplinkNotFound {
        /// The name that was given.
        uplink: String,
        /// The links that exist.
        existing: String,
    },
    /// An uplink without an Ethernet address. Nothing was changed.
    #[error("uplink {uplink} is no Ethernet interface; name one that is")]
    UplinkNotEthernet {
        /// The name that was given.
        uplink: String,
    },
    /// More uplinks than the programs tell apart. Nothing was changed.
    #[error(
        "{found} uplinks were given, at most {most} are supported; name those that carry VXLAN and clients"
    )]
    TooManyUplinks {
        /// How many were given.
        found: usize,
        /// The most that are supported.
        most: usize,
    },
    /// The node does not have the address that the catalog gives it. Nothing was changed.
    #[error(
        "the underlay address {vtep} of node {node} is on no link of this machine, which has {existing}; configure it, or correct the node's address in the catalog"
    )]
    VtepNotConfigured {
        /// The node.
        node: String,
        /// The address that is missing.
        vtep: IpAddr,
        /// The addresses that exist.
        existing: String,
    },
    /// Something else receives VXLAN at this port. The VXLAN device may exist, down.
    #[error(
        "UDP port {port} is in use by {holder}: essaim's VXLAN device cannot have it; stop the other user, or set another VXLAN port for the cluster in the catalog"
    )]
    VxlanPortInUse {
        /// The port.
        port: u16,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// A link that essaim did not make has a name that essaim needs. It is left alone.
    #[error(
        "link {link} was not made by this node's essaim: found {found}, expected {expected}; rename or remove it"
    )]
    ForeignLink {
        /// The name.
        link: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The kernel cannot encrypt. Nothing was changed.
    #[error(
        "this kernel has no ESP (CONFIG_INET_ESP, AES-GCM): this node takes no part in encrypted networks; load the module esp4 (esp6 for IPv6), boot a kernel that has it, or keep tasks of encrypted networks off this node"
    )]
    NoEsp,
    /// The kernel refused a request.
    #[error("failed to {what}")]
    Request {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// The kernel sent something that cannot be read; what was observed is incomplete and was not acted upon.
    #[error("failed to {what}: the netlink connection broke off")]
    Disconnected {
        /// What was asked for.
        what: String,
    },
    /// No netlink socket could be opened.
    #[error("failed to open a netlink socket")]
    Socket {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A kernel parameter could not be set.
    #[error("failed to set {} to {value}", path.display())]
    Sysctl {
        /// Its file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `nft` could not be run.
    #[error("failed to run nft; install the package nftables")]
    NftMissing {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `nft` refused. The rules are as they were.
    #[error("nft refused to {what}: {stderr}")]
    Nft {
        /// What it was asked for.
        what: String,
        /// What it printed.
        stderr: String,
    },
    /// A link that was there a moment ago is not there any more; the next reconciliation makes it again.
    #[error("link {link} went away while it was being set up")]
    LinkVanished {
        /// The name.
        link: String,
    },
    /// A thread of the reconciler is gone: a bug.
    #[error("the thread {name} ended early (a bug): see the log for its last words")]
    ThreadGone {
        /// Which.
        name: &'static str,
    },
}

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// It is not there.
    #[error("network namespace {} does not exist; create it, or correct the task's netns in the catalog", path.display())]
    Missing {
        /// Its file.
        path: PathBuf,
    },
    /// Its file is there, but cannot be opened.
    #[error("failed to open network namespace {}", path.display())]
    Open {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no network namespace (any more, or yet).
    #[error("failed to enter network namespace {}: is it one?", path.display())]
    Enter {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread could be started for it.
    #[error("failed to start a thread for network namespace {}", path.display())]
    Thread {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What ran inside panicked: a bug.
    #[error("the thread in network namespace {} panicked (a bug): see the log for its last words", path.display())]
    Panicked {
        /// Its file.
        path: PathBuf,
    },
    /// The kernel does not tell the cookie.
    #[error("failed to read the cookie of network namespace {} (SO_NETNS_COOKIE; Linux 5.14 or newer)", path.display())]
    Cookie {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with one part of the node while the others go on; it is tried again at the next reconciliation.
#[derive(Debug, thiserror::Error)]
pub enum LinkProblem {
    /// The endpoint of a task could not be made, or made whole.
    #[error("endpoint {attachment} is not up")]
    Attachment {
        /// The endpoint.
        attachment: AttachmentKey,
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// A task runs in the node's own network namespace, where it has no endpoint.
    #[error(
        "endpoint {attachment} is not up: {netns} is the network namespace of the node itself; give the task one of its own"
    )]
    NodeNetns {
        /// The endpoint.
        attachment: AttachmentKey,
        /// The namespace.
        netns: String,
    },
    /// The firewall rules could not be read or set.
    #[error("the firewall rules are not up to date: tasks may not reach the world")]
    Firewall {
        /// Why.
        #[source]
        source: NetlinkError,
    },
}

impl LinkProblem {
    /// The endpoint that is concerned, where it is one.
    pub const fn attachment(&self) -> Option<&AttachmentKey> {
        match self {
            Self::Attachment { attachment, .. } | Self::NodeNetns { attachment, .. } => Some(attachment),
            Self::Firewall { .. } => None,
        }
    }
}
