use crate::leader::Outcome as Proposed;
use crate::links::{Links, RAFT, RaftLinks};
use crate::machine::{Applied, Notice, Outcome, Past, StoreMachine, Teller};
use crate::seal::Sealed;
use bytes::Bytes;
use essaim_ca::{LinkError, LiveIdentity, Role, Sealer};
use essaim_objects::ClusterSpec;
use essaim_raft::{
    Disk, LeaderAddress, NodeId, ProposeError, RaftHandle, Settings, StartError, Started, Tuning,
};
use essaim_rpc::{Admission, CallError, Client, Code, Methods, chain};
use essaim_store::{EncodeError, NotAllocated, Transaction, View, allocate};
use rustls::time_provider::TimeProvider;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, timeout_at};

/// The method that takes a transaction to the leader.
const PROPOSE: &str = "Propose";
/// The method that asks the leader how far the log is.
const BARRIER: &str = "Barrier";

/// How long a change may take, elections included. Swarm: 5 s and twice the election timeout.
const WITHIN: Duration = Duration::from_secs(10);
/// How long to wait before a leader is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often a change is decided anew because others came between.
const ATTEMPTS: usize = 20;

/// Why a leader was not waited for.
const LOST: &str = "the leader was lost before it answered";

/// What a manager's copy of the store is made of.
pub struct Parts {
    /// This manager, in Raft.
    pub node: NodeId,
    /// Where its log and snapshots lie.
    pub disk: Arc<dyn Disk>,
    /// What they are sealed with.
    pub sealer: Arc<Sealer>,
    /// Who it is on its links.
    pub identity: Arc<LiveIdentity>,
    /// What certificates are checked by.
    pub time: Arc<dyn TimeProvider>,
    /// Raft's settings.
    pub settings: Settings,
}

/// The copy cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot be opened")]
pub struct OpenError(#[from] StartError);

impl OpenError {
    /// The file that is not what was written, where that is why.
    pub fn damaged(&self) -> Option<&str> {
        match &self.0 {
            StartError::Storage(error) => error.damaged(),
            StartError::AlreadyInitialised | StartError::Stopped(_) => None,
        }
    }
}

/// A change was not made, or it is not known whether it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// The decision: what was asked makes no sense as things are.
    #[error(transparent)]
    Refused(E),
    /// Something that the change needs is not to be had; nothing is done.
    #[error(transparent)]
    NotAllocated(NotAllocated),
    /// The transaction is too large; nothing is done.
    #[error("the change is too large for one transaction")]
    TooLarge(#[source] Arc<EncodeError>),
    /// It does not go with what is there, however often it is decided; nothing is done.
    #[error("{0}")]
    Conflict(String),
    /// There is no leader, or none that can be reached; nothing is done.
    #[error("no manager leads the cluster: {0}")]
    NoLeader(String),
    /// It is not known whether the change was made: read before trying again.
    #[error("it is not known whether the change was made: {0}")]
    Unknown(String),
}

/// Nothing can be read that is known to be the newest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no manager leads the cluster: {0}")]
pub struct NoLeader(String);

/// Where a transaction stands after the leader has tried it.
#[derive(Debug, Serialize, Deserialize)]
struct Decided {
    index: u64,
    outcome: Outcome,
}

/// Why a transaction was not tried, or perhaps was.
#[derive(Debug)]
enum Failure {
    /// It is not in the log.
    NotTried(String),
    /// It may be.
    Unknown(String),
}

/// This manager's copy of the store. Clones are the same copy.
#[derive(Clone)]
pub struct Replica {
    raft: RaftHandle<StoreMachine>,
    applied: watch::Receiver<Applied>,
    teller: Teller,
    links: Arc<Links>,
}

impl Replica {
    /// Opens the copy with what lies on the disk.
    ///
    /// # Errors
    /// [`OpenError`]: the disk's content cannot be used, and why. Nothing was changed.
    pub async fn open(parts: Parts) -> Result<Self, OpenError> {
        let Parts {
            node,
            disk,
            sealer,
            identity,
            time,
            settings,
        } = parts;
        let (state, applied, teller) = StoreMachine::new();
        let links = Links::new(identity, time);
        let raft = RaftHandle::start(Started {
            node,
            disk,
            seal: Arc::new(Sealed(sealer)),
            transport: Arc::new(RaftLinks(links.clone())),
            state,
            settings,
        });
        Ok(Self {
            raft: raft.await?,
            applied,
            teller,
            links,
        })
    }

    /// Raft itself: its members, its status, how it begins and ends.
    pub const fn raft(&self) -> &RaftHandle<StoreMachine> {
        &self.raft
    }

    /// Connections to the other managers.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Adds what managers call each other for.
    #[must_use]
    pub fn methods(&self, methods: Methods) -> Methods {
        let managers = Admission::Members(Role::Manager);
        let (raft, leader, barrier) = (self.raft.clone(), self.clone(), self.clone());
        methods
            .one(RAFT, managers, move |_, message| {
                let raft = raft.clone();
                async move { Ok(Bytes::from(raft.receive(&message).await)) }
            })
            .one(PROPOSE, managers, move |_, message| {
                let leader = leader.clone();
                async move { leader.propose_for_another(message).await }
            })
            .one(BARRIER, managers, move |_, _| {
                let barrier = barrier.clone();
                async move {
                    let index = barrier.raft.read_barrier().await;
                    let index = index.map_err(|error| CallError::new(Code::Unavailable, error))?;
                    Ok(Bytes::copy_from_slice(&index.to_be_bytes()))
                }
            })
    }

    /// What the copy holds now, which may be a little behind.
    pub fn view(&self) -> View {
        self.applied.borrow().view.clone()
    }

    /// What the log does from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.teller.listen()
    }

    /// What the log did last to all but tasks and the cluster, the oldest first, and what it does from then on.
    pub fn notices_with_past(&self) -> (Vec<Past>, broadcast::Receiver<Notice>) {
        self.teller.listen_with_past()
    }

    /// Goes by what the cluster's spec says of snapshots, where the store holds a cluster.
    pub fn tune(&self) {
        if let Some(cluster) = self.view().cluster() {
            self.raft.tune(tuning_of(&cluster.spec));
        }
    }

    /// A client of another manager's port.
    pub(crate) fn client(&self, address: &str) -> Result<Client, LinkError> {
        self.links.to(address)
    }

    /// Puts a transaction into the log, if this manager leads; returns when its copy holds it.
    pub(crate) async fn propose_here(&self, command: Vec<u8>) -> Proposed {
        match self.raft.propose(command).await {
            Ok(committed) => match decided(committed.index, &committed.response) {
                Ok(Decided {
                    outcome: Outcome::Applied,
                    ..
                }) => Proposed::Applied,
                Ok(Decided {
                    outcome: Outcome::Conflict(why),
                    ..
                }) => {
                    tracing::debug!(why, "a decision came too late; it is made again");
                    Proposed::Conflict
                }
                Err(_) => Proposed::Unknown,
            },
            Err(
                ProposeError::NotLeader { .. } | ProposeError::Overloaded | ProposeError::TooLarge { .. },
            ) => Proposed::NotTried,
            Err(
                ProposeError::TimedOut | ProposeError::LeaderChanged { .. } | ProposeError::Stopped { .. },
            ) => Proposed::Unknown,
        }
    }

    /// What is there, with everything that was committed anywhere before the call.
    ///
    /// # Errors
    /// [`NoLeader`].
    pub async fn read(&self) -> Result<View, NoLeader> {
        let view = self.read_within(Instant::now() + WITHIN).await;
        view.map_err(NoLeader)
    }

    async fn read_within(&self, deadline: Instant) -> Result<View, String> {
        loop {
            let why = match self.raft.read_barrier().await {
                Ok(_) => return Ok(self.view()),
                Err(ProposeError::NotLeader { leader: Some(leader) }) => match self.barrier_at(&leader).await
                {
                    Ok(index) => return self.view_past(index, deadline).await,
                    Err(error) => error.message,
                },
                Err(error) => chain(&error),
            };
            if Instant::now() + LOOK_AGAIN > deadline {
                return Err(why);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn barrier_at(&self, leader: &LeaderAddress) -> Result<u64, CallError> {
        let client = self
            .links
            .to(&leader.member.address)
            .map_err(|error| unusable(&error))?;
        let answer = tokio::select! {
            answer = client.call(BARRIER, Bytes::new(), WITHIN) => answer?,
            () = self.lost(leader.id) => return Err(CallError::new(Code::Unavailable, LOST)),
        };
        let index = <[u8; 8]>::try_from(&answer[..]);
        let malformed = |_| CallError::new(Code::Internal, "the leader's answer is no index");
        index.map(u64::from_be_bytes).map_err(malformed)
    }

    /// Waits until this manager knows that another leads, or nobody: one that lost its power does not answer, and nothing
    /// ends the connection to it for long.
    async fn lost(&self, leader: NodeId) {
        let mut status = self.raft.watch();
        let is_lost = status
            .wait_for(|status| status.leader != Some(leader))
            .await
            .is_ok();
        if !is_lost {
            std::future::pending::<()>().await;
        }
    }

    /// Changes the store: `decide` says how, by what is there; an empty transaction changes nothing. It may be called more
    /// than once, and a refusal counts only where it is by all that was committed before the call. Returns when this copy
    /// holds the change, with what it holds then.
    ///
    /// # Errors
    /// [`UpdateError`], whose variants say whether something may have been done.
    pub async fn update<E>(
        &self,
        mut decide: impl FnMut(&View) -> Result<Transaction, E>,
    ) -> Result<View, UpdateError<E>> {
        let deadline = Instant::now() + WITHIN;
        // As the copy is, which may be behind; if that will not do, as it was anywhere when the call began.
        let (mut view, mut is_current) = (self.view(), false);
        for attempts_left in (0..ATTEMPTS).rev() {
            let change = decided_by(&view, &mut decide);
            let transaction = match change {
                Ok(transaction) => transaction,
                Err(error) if is_current => return Err(error),
                Err(_) => {
                    (view, is_current) = (
                        self.read_within(deadline).await.map_err(UpdateError::NoLeader)?,
                        true,
                    );
                    continue;
                }
            };
            if transaction.changes.is_empty() {
                return Ok(view);
            }
            let command = transaction.encode();
            let command = command.map_err(|error| UpdateError::TooLarge(Arc::new(error)))?;
            let Decided { index, outcome } = match self.propose(command, deadline).await {
                Ok(decided) => decided,
                Err(Failure::NotTried(why)) => return Err(UpdateError::NoLeader(why)),
                Err(Failure::Unknown(why)) => return Err(UpdateError::Unknown(why)),
            };
            view = self
                .view_at(index, deadline)
                .await
                .map_err(UpdateError::Unknown)?;
            is_current = true;
            match outcome {
                Outcome::Applied => return Ok(view),
                Outcome::Conflict(why) if attempts_left == 0 => return Err(UpdateError::Conflict(why)),
                Outcome::Conflict(_) => {}
            }
        }
        Err(UpdateError::Conflict("nothing was tried".to_owned()))
    }

    /// Has the leader try a transaction.
    async fn propose(&self, command: Vec<u8>, deadline: Instant) -> Result<Decided, Failure> {
        loop {
            let why = match self.raft.propose(command.clone()).await {
                Ok(committed) => return decided(committed.index, &committed.response),
                Err(ProposeError::NotLeader { leader: Some(leader) }) => {
                    match self.propose_at(&leader, &command).await {
                        Err(Failure::NotTried(why)) => why,
                        other => return other,
                    }
                }
                Err(error @ (ProposeError::NotLeader { leader: None } | ProposeError::Overloaded)) => {
                    chain(&error)
                }
                Err(error @ ProposeError::TooLarge { .. }) => return Err(Failure::NotTried(chain(&error))),
                Err(
                    error @ (ProposeError::TimedOut
                    | ProposeError::LeaderChanged { .. }
                    | ProposeError::Stopped { .. }),
                ) => return Err(Failure::Unknown(chain(&error))),
            };
            if Instant::now() + LOOK_AGAIN > deadline {
                return Err(Failure::NotTried(why));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn propose_at(&self, leader: &LeaderAddress, command: &[u8]) -> Result<Decided, Failure> {
        let client = self.links.to(&leader.member.address);
        let client = client.map_err(|error| Failure::NotTried(chain(&error)))?;
        if self.raft.status().leader != Some(leader.id) {
            return Err(Failure::NotTried(LOST.to_owned()));
        }
        let answer = tokio::select! {
            answer = client.call(PROPOSE, Bytes::copy_from_slice(command), WITHIN) => answer,
            () = self.lost(leader.id) => return Err(Failure::Unknown(LOST.to_owned())),
        };
        match answer {
            Ok(answer) => {
                serde_json::from_slice(&answer).map_err(|error| Failure::Unknown(error.to_string()))
            }
            // Said by the leader before it tried.
            Err(error) if error.code == Code::FailedPrecondition => Err(Failure::NotTried(error.message)),
            Err(error) => Err(Failure::Unknown(error.message)),
        }
    }

    /// As the leader, for a manager that is not.
    async fn propose_for_another(&self, command: Bytes) -> Result<Bytes, CallError> {
        let committed = self.raft.propose(command.into()).await.map_err(|error| {
            let code = match error {
                ProposeError::NotLeader { .. } | ProposeError::Overloaded | ProposeError::TooLarge { .. } => {
                    Code::FailedPrecondition
                }
                ProposeError::TimedOut
                | ProposeError::LeaderChanged { .. }
                | ProposeError::Stopped { .. } => Code::Unavailable,
            };
            CallError::new(code, chain(&error))
        })?;
        let decided = decided(committed.index, &committed.response);
        let decided =
            decided.map_err(|_| CallError::new(Code::Internal, "the store's answer cannot be read"))?;
        let answer = serde_json::to_vec(&decided).map_err(|error| CallError::new(Code::Internal, error))?;
        Ok(answer.into())
    }

    /// What this copy holds once it has taken in the log up to `index`, which may be no transaction but an entry of
    /// Raft's own.
    async fn view_past(&self, index: u64, deadline: Instant) -> Result<View, String> {
        let mut status = self.raft.watch();
        let passed = status.wait_for(|status| status.applied >= Some(index) || status.failure.is_some());
        match timeout_at(deadline, passed).await {
            Ok(Ok(status)) if status.failure.is_none() => Ok(self.view()),
            Ok(_) => Err("this manager's copy of the store is closed".to_owned()),
            Err(_) => Err(format!("this manager's copy has not reached entry {index}")),
        }
    }

    /// What this copy holds once it has taken in the transaction at `index`.
    async fn view_at(&self, index: u64, deadline: Instant) -> Result<View, String> {
        let mut applied = self.applied.clone();
        let reached = timeout_at(deadline, applied.wait_for(|applied| applied.index >= index)).await;
        match reached {
            Ok(Ok(applied)) => Ok(applied.view.clone()),
            Ok(Err(_)) => Err("this manager's copy of the store is closed".to_owned()),
            Err(_) => Err(format!("this manager's copy has not reached entry {index}")),
        }
    }

    /// Closes the copy; what was not decided may be or not.
    pub async fn close(&self) {
        self.raft.shutdown().await;
    }
}

/// What is said of snapshots; Swarm's defaults where nothing is.
fn tuning_of(spec: &ClusterSpec) -> Tuning {
    let asked = spec.raft.clone().unwrap_or_default();
    let default = Tuning::default();
    let unless_zero = |value: Option<u64>, default| value.filter(|it| *it != 0).unwrap_or(default);
    Tuning {
        snapshot_interval: unless_zero(asked.snapshot_interval, default.snapshot_interval),
        entries_kept: unless_zero(asked.log_entries_for_slow_followers, default.entries_kept),
        snapshots_kept: asked.keep_old_snapshots.unwrap_or(default.snapshots_kept),
    }
}

/// The transaction that a decision comes to, completed.
fn decided_by<E>(
    view: &View,
    decide: &mut impl FnMut(&View) -> Result<Transaction, E>,
) -> Result<Transaction, UpdateError<E>> {
    let mut transaction = decide(view).map_err(UpdateError::Refused)?;
    allocate(view, &mut transaction).map_err(UpdateError::NotAllocated)?;
    Ok(transaction)
}

fn decided(index: u64, response: &[u8]) -> Result<Decided, Failure> {
    let outcome = serde_json::from_slice(response).map_err(|error| Failure::Unknown(error.to_string()))?;
    Ok(Decided { index, outcome })
}

fn unusable(error: &LinkError) -> CallError {
    CallError::new(Code::FailedPrecondition, chain(error))
}
