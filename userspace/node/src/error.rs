use crate::address::AddressError;
use crate::record::RecordError;
use essaim_ca::{EntropyError, IdentityError, KeyError, LinkError, StoreError, TokenError, TokenFormatError};
use essaim_manager::authority::{RemoveNodeError, UpdateClusterError};
use essaim_manager::{OpenError, UpdateError};
use essaim_raft::{StartError, StorageError};
use essaim_rpc::{CallError, ServerError};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A node cannot do what is asked of it. Where nothing else is said, nothing was changed. The texts that clients know
/// are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It is in a cluster already.
    #[error(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one."
    )]
    AlreadyMember,
    /// It is in none.
    #[error("This node is not part of a swarm")]
    NotMember,
    /// It is in none, so it is no manager either.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again."
    )]
    Inactive,
    /// It is a worker.
    #[error(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run \
         this command on a manager node or promote the current node to a manager."
    )]
    Worker,
    /// It waits for its unlock key.
    #[error(
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to \
         unlock it."
    )]
    Locked,
    /// It waits for no key.
    #[error("swarm is not locked")]
    NotLocked,
    /// It is not the key.
    #[error("swarm could not be unlocked: invalid key provided")]
    WrongUnlockKey,
    /// It is not on its way any more: it was shut down.
    #[error("the node is shut down; open it anew")]
    Closed,
    /// The join token is none, or not one of this cluster's.
    #[error("invalid join token; ask a manager for one with \"swarm join-token\"")]
    Token(#[source] TokenProblem),
    /// No manager is named.
    #[error("at least 1 RemoteAddr is required to join")]
    NoRemote,
    /// A member of the request cannot be as it is.
    #[error("{field} is {found:?}, expected {expected}")]
    Invalid {
        /// The member.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it could be.
        expected: &'static str,
    },
    /// It has its certificate, and is not a member of the consensus yet; it goes on trying.
    #[error(
        "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use \
         the \"docker info\" command to see the current swarm status of your node."
    )]
    JoinTimeout,
    /// No manager has answered; the addresses and why stand in the text.
    #[error("no manager could be asked: {0}; check the addresses, and that TCP port 2377 is open")]
    NoManager(String),
    /// A manager has refused.
    #[error("a manager has refused: {0}; see its log for the reason")]
    Refused(CallError),
    /// The managers that would be left could agree on nothing. The text is Docker's.
    #[error(
        "You are attempting to leave the swarm on a node that is participating as a manager. {0}The only way to \
         restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to \
         suppress this message."
    )]
    Quorum(String),
    /// It is the last manager. The text is Docker's.
    #[error(
        "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last \
         manager erases all current state of the swarm. Use `--force` to ignore this message."
    )]
    LastManager,
    /// An address cannot be used, or none could be chosen.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The port cannot be listened at.
    #[error("cannot listen at {address}; is another program using it?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The node's directory cannot be used.
    #[error("the node's directory cannot be used")]
    Record(#[from] RecordError),
    /// The node's identity cannot be read or saved.
    #[error("the node's identity cannot be read or saved")]
    Store(#[from] StoreError),
    /// What a manager issued cannot be used.
    #[error("the certificate that was issued cannot be used")]
    Identity(#[from] IdentityError),
    /// The log was kept, but the keys that it is sealed with are not there.
    #[error("the log's keys are missing from the key file; restore the whole directory from a copy")]
    NoDataKeys,
    /// No key can be made.
    #[error("no key can be made")]
    Key(#[from] KeyError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The identity cannot be used for links.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The directory of the log cannot be used.
    #[error("{} cannot be used", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: StorageError,
    },
    /// A file of the log is not what was written; it was left as it is, and the manager does not begin with it.
    #[error(
        "{} is damaged and was left as it is; restore the node's whole directory from a copy, or remove this node on \
         another manager, move the directory away, and join again",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: OpenError,
    },
    /// The copy of the store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The consensus did not begin.
    #[error("the consensus did not begin")]
    Start(#[from] StartError),
    /// The state cannot be made that of a new cluster.
    #[error("no new cluster can be made of this node's state")]
    Force(#[from] StorageError),
    /// The port cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// What is asked of the cluster cannot be.
    #[error(transparent)]
    Cluster(#[from] UpdateClusterError),
    /// The cluster is not changed, or that is not known.
    #[error(transparent)]
    Update(#[from] UpdateError<UpdateClusterError>),
    /// The node is not removed, or that is not known.
    #[error(transparent)]
    Remove(#[from] UpdateError<RemoveNodeError>),
}

/// What is wrong with a join token.
#[derive(Debug, thiserror::Error)]
pub enum TokenProblem {
    /// It is none.
    #[error(transparent)]
    Format(#[from] TokenFormatError),
    /// It is for another root than the manager's.
    #[error(transparent)]
    Root(#[from] TokenError),
    /// The manager has refused it.
    #[error("the manager has refused it")]
    Refused,
}
