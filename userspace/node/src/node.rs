use crate::error::NodeError;
use crate::keeper;
use crate::local::{Local, LocalState, Told};
use crate::member::Member;
use crate::options::NodeOptions;
use crate::record::{Phase, Record, StateFiles};
use essaim_ca::{
    Certificate, Found, Identity, IdentityStore, KeyFileError, LiveIdentity, StoreError, SystemEntropy,
    Timestamp, UnlockKey,
};
use essaim_manager::Replica;
use essaim_manager::authority::{self, Rotate};
use essaim_objects::{ClusterSpec, NodeId, TlsInfo, Version};
use essaim_protocol::ManagerAddress;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Notify, watch};

/// A node. Clones are the same node; with the last one everything ends as if the process were killed.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

/// What the node is doing.
pub(crate) enum State {
    /// It is in no cluster.
    Inactive,
    /// It waits for the unlock key.
    Locked(Box<Record>),
    /// It is in one.
    Member(Box<Member>),
    /// It was shut down.
    Closed,
}

/// What can be had while the state is worked on.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) replica: Option<Replica>,
    pub(crate) identity: Option<Arc<LiveIdentity>>,
}

/// What the managers have told since it was last looked at.
#[derive(Default)]
pub(crate) struct Heard {
    /// The newest object of the node.
    pub(crate) node: Option<Arc<essaim_objects::Node>>,
    pub(crate) managers: Option<Vec<ManagerAddress>>,
    /// The certificate is to be renewed, whatever its age.
    pub(crate) renew: bool,
    /// The node was removed from the cluster.
    pub(crate) removed: bool,
}

pub(crate) struct Inner {
    pub(crate) options: NodeOptions,
    pub(crate) files: StateFiles,
    pub(crate) local: watch::Sender<Local>,
    pub(crate) state: tokio::sync::Mutex<State>,
    pub(crate) shared: RwLock<Shared>,
    heard: Mutex<Heard>,
    pub(crate) wake: Arc<Notify>,
}

impl fmt::Debug for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Node")
            .field("local", &self.local())
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Opens the node with what its directory says: in no cluster, a worker, a manager, or locked. What a crash has
    /// interrupted is undone or done to its end first.
    ///
    /// # Errors
    /// The directory cannot be used; what it holds is what it was.
    pub async fn open(options: NodeOptions) -> Result<Self, NodeError> {
        let files = StateFiles::open(&options.directory)?;
        let record = files.load()?;
        let (local, _) = watch::channel(Local::default());
        let inner = Arc::new(Inner {
            options,
            files,
            local,
            state: tokio::sync::Mutex::new(State::Inactive),
            shared: RwLock::default(),
            heard: Mutex::default(),
            wake: Arc::new(Notify::new()),
        });
        match record {
            None => {}
            Some(record) => match record.phase {
                Phase::Entering | Phase::Leaving => {
                    tracing::info!("what was interrupted is removed: the node is in no cluster");
                    inner.files.clear()?;
                }
                Phase::Member | Phase::ForcingNewCluster(_) => {
                    let mut state = inner.state.lock().await;
                    *state = inner.resume(record, None).await?;
                    inner.publish(&mut state);
                }
            },
        }
        Ok(Self { inner })
    }

    /// What the node is.
    pub fn local(&self) -> Local {
        self.inner.local.borrow().clone()
    }

    /// The same as it changes.
    pub fn watch(&self) -> watch::Receiver<Local> {
        self.inner.local.subscribe()
    }

    /// A manager's copy of the store.
    pub fn replica(&self) -> Option<Replica> {
        self.inner.shared().replica.clone()
    }

    /// Who the node is on its links, and whom it trusts.
    pub fn identity(&self) -> Option<Arc<LiveIdentity>> {
        self.inner.shared().identity.clone()
    }

    /// What the node reports of its certificate, for its description.
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.identity()
            .map(|identity| authority::report(&identity.current()))
    }

    /// Takes in what the managers have told it.
    pub fn learn(&self, what: Told) {
        let mut heard = self.inner.heard();
        match what {
            Told::Node(node) => {
                let is_older = heard
                    .node
                    .as_ref()
                    .is_some_and(|known| known.version > node.version);
                if !is_older {
                    heard.node = Some(node);
                }
            }
            Told::Managers(managers) => heard.managers = Some(managers),
            Told::TrustRoots(roots) => {
                let trusted = self
                    .identity()
                    .map(|identity| identity.current().trust().to_pem());
                heard.renew |= trusted.is_some_and(|trusted| trusted != roots);
            }
            Told::Refused => heard.renew = true,
            Told::Removed => heard.removed = true,
        }
        drop(heard);
        self.inner.wake.notify_one();
    }

    /// Changes what is asked of the cluster; `version` is the one that the client has read. This manager's own keys are
    /// encrypted as asked before it answers, those of the others soon after.
    ///
    /// # Errors
    /// [`NodeError::Update`], or this node is no manager that is unlocked: nothing is changed. Where its own keys cannot
    /// be written, the cluster is changed all the same, and the keys are tried again.
    pub async fn update_swarm(
        &self,
        version: Version,
        spec: &ClusterSpec,
        rotate: Rotate,
    ) -> Result<(), NodeError> {
        let replica = self.managed().await?;
        let now = self.inner.now();
        let updated = replica
            .update(|view| authority::update_cluster(view, version, spec, rotate, now, &mut SystemEntropy));
        updated.await?;
        // A manager that cannot read what it has just written, since its leader is gone, learns it later.
        if let Ok(view) = replica.read().await
            && let State::Member(member) = &mut *self.inner.state.lock().await
        {
            member.follow_unlock_key(&view).await?;
        }
        Ok(())
    }

    /// Removes a node from the cluster.
    ///
    /// # Errors
    /// [`NodeError::Remove`], or this node is no manager that is unlocked.
    pub async fn remove_node(&self, id: NodeId, force: bool) -> Result<(), NodeError> {
        let replica = self.managed().await?;
        let now = self.inner.now();
        let removed = replica.update(|view| authority::remove_node(view, id, force, now));
        removed.await?;
        Ok(())
    }

    /// The key that managers are unlocked with; `None` while autolock is off.
    ///
    /// # Errors
    /// This node is no manager that is unlocked, or nothing can be read.
    pub async fn unlock_key(&self) -> Result<Option<String>, NodeError> {
        let replica = self.managed().await?;
        let view = replica.read().await;
        let view = view.map_err(|error| NodeError::NoManager(error.to_string()))?;
        let key = authority::unlock_key(&view)?;
        Ok(key.map(|key| key.reveal()))
    }

    /// Unlocks the node.
    ///
    /// # Errors
    /// It is not locked, the key is not its own, or it cannot be opened.
    pub async fn unlock(&self, key: &str) -> Result<(), NodeError> {
        let mut state = self.inner.state.lock().await;
        let State::Locked(record) = &*state else {
            return Err(match *state {
                State::Closed => NodeError::Closed,
                State::Inactive => NodeError::NotMember,
                State::Locked(_) | State::Member(_) => NodeError::NotLocked,
            });
        };
        let key: UnlockKey = key.trim().parse().map_err(|_| NodeError::WrongUnlockKey)?;
        let record = Record::clone(record);
        let resumed = self.inner.resume(record, Some(key)).await;
        *state = match resumed {
            Err(NodeError::Store(StoreError::Keys(KeyFileError::WrongUnlockKey))) => {
                return Err(NodeError::WrongUnlockKey);
            }
            other => other?,
        };
        self.inner.publish(&mut state);
        Ok(())
    }

    /// Ends the node's work; its directory stays what it is.
    pub async fn shutdown(&self) {
        let mut state = self.inner.state.lock().await;
        if let State::Member(member) = std::mem::replace(&mut *state, State::Closed) {
            self.inner.forget_shared();
            member.close().await;
        }
    }

    /// The copy of the store, where the node is a manager.
    async fn managed(&self) -> Result<Replica, NodeError> {
        if let Some(replica) = self.replica() {
            return Ok(replica);
        }
        Err(match &*self.inner.state.lock().await {
            State::Inactive => NodeError::Inactive,
            State::Locked(_) => NodeError::Locked,
            State::Member(_) => NodeError::Worker,
            State::Closed => NodeError::Closed,
        })
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.options.time.current_time();
        now.map_or(Timestamp::from_unix(0), Timestamp::from)
    }

    pub(crate) fn shared(&self) -> std::sync::RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget_shared(&self) {
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = Shared::default();
        *self.heard() = Heard::default();
    }

    /// The member that the directory holds.
    async fn resume(
        self: &Arc<Self>,
        mut record: Record,
        unlock: Option<UnlockKey>,
    ) -> Result<State, NodeError> {
        let opened = IdentityStore::open(self.files.certificates()?, unlock);
        let (store, found) = match opened {
            Ok(opened) => opened,
            Err(StoreError::Keys(KeyFileError::Locked)) => return Ok(State::Locked(Box::new(record))),
            Err(error) => return Err(error.into()),
        };
        let Some(identity) = store.identity().filter(|_| found == Found::Identity) else {
            return Err(StoreError::Missing(essaim_ca::KEY_FILE).into());
        };
        let live = LiveIdentity::new(identity.clone())?;
        if let Phase::ForcingNewCluster(number) = record.phase {
            self.force(
                &mut record,
                store.data_keys().ok_or(NodeError::NoDataKeys)?,
                number,
            )
            .await?;
        }
        let mut member = Member::new(record, store, live, self.now());
        member.tidy(self)?;
        if member.is_manager() {
            member.open_manager(self).await?;
        }
        Ok(self.begin(member))
    }

    /// Sees to a member from now on.
    pub(crate) fn begin(self: &Arc<Self>, mut member: Member) -> State {
        member.keeper = Some(keeper::start(self));
        State::Member(Box::new(member))
    }

    /// Says what the node is.
    pub(crate) fn publish(&self, state: &mut State) {
        let local = match state {
            State::Inactive => Local::default(),
            State::Closed => return,
            State::Locked(record) => Local {
                state: LocalState::Locked,
                error: Some(NodeError::Locked.to_string()),
                ..of_record(record)
            },
            State::Member(member) => {
                let shared = Shared {
                    replica: member.manager.as_ref().map(|manager| manager.replica.clone()),
                    identity: Some(member.live.clone()),
                };
                *self.shared.write().unwrap_or_else(PoisonError::into_inner) = shared;
                let identity: Identity = member.live.current();
                Local {
                    state: member.local_state(self.now()),
                    role: Some(identity.peer().role),
                    error: member.trouble.clone(),
                    ..of_record(&member.record)
                }
            }
        };
        self.local.send_if_modified(|was| {
            let differs = *was != local;
            if differs {
                tracing::info!(state = local.state.as_str(), role = ?local.role, "the node");
                *was = local;
            }
            differs
        });
    }

    /// In no cluster, with nothing left.
    pub(crate) fn become_inactive(&self, state: &mut State) -> Result<(), NodeError> {
        self.forget_shared();
        *state = State::Inactive;
        let cleared = self.files.clear();
        self.publish(state);
        Ok(cleared?)
    }
}

fn of_record(record: &Record) -> Local {
    Local {
        state: LocalState::Pending,
        node: record.node,
        cluster: record.cluster,
        role: None,
        address: Some(record.advertise.ip()),
        data_path: record.data_path,
        managers: record.managers.clone(),
        error: None,
    }
}

/// What was issued, with its key.
pub(crate) fn identity_of(
    key: essaim_ca::PrivateKey,
    issued: &essaim_protocol::IssuedCertificate,
) -> Result<Identity, NodeError> {
    let chain = Certificate::all_from_pem(&issued.chain).map_err(essaim_ca::IdentityError::from)?;
    let trust = essaim_ca::TrustBundle::from_pem(&issued.trust).map_err(essaim_ca::IdentityError::from)?;
    Ok(Identity::new(key, chain, trust)?)
}
