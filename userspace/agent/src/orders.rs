//! An agent that is driven from its own process, by the part that has a session with the managers.

use crate::agent::Agent;
use crate::control::{AgentReply, AgentRequest, Asked, StopQuestion};
use crate::state_dir::StateDir;
use crate::stops::SETTLE;
use essaim_model::{AttachmentKey, Catalog, NetworkName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Where an agent has its catalog from.
#[derive(Debug)]
pub enum Source {
    /// A file, which it follows.
    File(PathBuf),
    /// The managers. Whoever runs the tasks says so, and tells how they fare.
    Managers(Orders),
}

#[derive(Debug)]
pub(crate) enum Order {
    /// The catalog is another.
    Catalog,
    Ask(Asked),
    Runs(TaskId),
    Ended(TaskId),
    /// Nobody is left to give orders.
    End,
}

/// The agent's end.
#[derive(Debug)]
pub struct Orders {
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    given: mpsc::UnboundedReceiver<Order>,
    pub(crate) attached: watch::Sender<Attached>,
}

/// How a round has left the tasks of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attached {
    /// That of the catalog.
    revision: u64,
    /// Those that can be reached, and can reach others; with the networks where names are answered for them.
    tasks: BTreeMap<TaskId, BTreeSet<NetworkName>>,
}

/// The other end. The agent ends when it is dropped.
#[derive(Clone, Debug)]
pub struct AgentHandle {
    catalog: watch::Sender<Arc<Catalog>>,
    orders: mpsc::UnboundedSender<Order>,
    attached: watch::Receiver<Attached>,
}

/// Both ends, with the catalog to begin with.
pub fn orders(catalog: Arc<Catalog>) -> (AgentHandle, Orders) {
    let (catalog, read) = watch::channel(catalog);
    // As long as the node has tasks: each is said to run and to have ended once.
    let (orders, taken) = mpsc::unbounded_channel();
    let (tell_attached, attached) = watch::channel(Attached::default());
    let handle = AgentHandle {
        catalog,
        orders,
        attached,
    };
    let orders = Orders {
        catalog: read,
        given: taken,
        attached: tell_attached,
    };
    (handle, orders)
}

impl Orders {
    /// The next order. Safe to drop at any time.
    pub(crate) async fn next(&mut self) -> Order {
        tokio::select! {
            biased;
            order = self.given.recv() => order.unwrap_or(Order::End),
            Ok(()) = self.catalog.changed() => Order::Catalog,
        }
    }
}

impl Source {
    /// The catalog's file: where the managers give it, the copy of what was applied last.
    pub(crate) fn place(&self, state_dir: &StateDir) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Managers(_) => state_dir.catalog_file(),
        }
    }

    /// The next order; none ever where the catalog is a file.
    pub(crate) async fn next(&mut self) -> Order {
        match self {
            Self::File(_) => std::future::pending().await,
            Self::Managers(orders) => orders.next().await,
        }
    }
}

impl AgentHandle {
    /// Gives it another catalog. Only the newest counts where it is slow.
    pub fn set_catalog(&self, catalog: Arc<Catalog>) {
        self.catalog.send_replace(catalog);
    }

    /// Waits until the agent has put a catalog into effect for the first time: its programs are loaded, which may last.
    pub async fn begun(&self) {
        self.attached_where(|attached| attached.revision > 0).await;
    }

    /// Waits until a task is attached; never ends where it is not to be. Safe to drop at any time.
    pub async fn attached(&self, task: &TaskId) {
        self.attached_where(|attached| attached.tasks.contains_key(task))
            .await;
    }

    /// Waits until an endpoint is as this revision of the catalog or a later one has it, and names are answered for it there.
    /// Safe to drop at any time.
    pub async fn attached_to(&self, endpoint: &AttachmentKey, revision: u64) {
        let is_there = |attached: &Attached| {
            let networks = attached.tasks.get(&endpoint.task);
            attached.revision >= revision
                && networks.is_some_and(|networks| networks.contains(&endpoint.network))
        };
        self.attached_where(is_there).await;
    }

    async fn attached_where(&self, is_there: impl FnMut(&Attached) -> bool) {
        let mut attached = self.attached.clone();
        let is_there = attached.wait_for(is_there).await.is_ok();
        if !is_there {
            // The agent has ended.
            std::future::pending::<()>().await;
        }
    }

    /// Says that a task runs: it takes traffic from now on.
    pub fn runs(&self, task: TaskId) {
        self.order(Order::Runs(task));
    }

    /// Says that a task has ended: its flows are reset.
    pub fn ended(&self, task: TaskId) {
        self.order(Order::Ended(task));
    }

    fn order(&self, order: Order) {
        // It has ended, and with it whoever could act on it.
        let _ = self.orders.send(order);
    }

    /// Takes a task out of service: returns when no node sends it new flows, or the time is over, and those that had
    /// begun are through.
    pub async fn drain(&self, task: TaskId, within: Duration) {
        let question = StopQuestion {
            task: task.clone(),
            drain_only: true,
            drain_deadline_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            signal: "SIGTERM".to_owned(),
            grace_ms: 0,
        };
        let (answer, mut answers) = mpsc::channel(8);
        let request = AgentRequest::Stop(question);
        self.order(Order::Ask(Asked { request, answer }));
        while let Some(reply) = answers.recv().await {
            match reply {
                AgentReply::Drained { pending } => {
                    if !pending.is_empty() {
                        tracing::warn!(%task, ?pending, "nodes may still send new flows to a task that ends");
                    }
                    return sleep(SETTLE).await;
                }
                // It never was in the catalog, or is no more: nobody sends it anything.
                AgentReply::Error { message } => tracing::debug!(%task, message, "task is not drained"),
                _ => {}
            }
        }
    }
}

impl Agent {
    /// Tells whoever runs the tasks which of them are attached.
    pub(crate) fn tell_attached(&mut self) {
        let Source::Managers(orders) = &self.source else {
            return;
        };
        let (Some(plan), Some(facts)) = (self.follower.current(), &self.facts) else {
            return;
        };
        let own = crate::tasks::own(&plan.catalog.services, &self.options.node);
        let attached = own.filter(|(_, task)| {
            task.endpoints.iter().all(|endpoint| {
                let (task, network) = (task.id.clone(), endpoint.network.clone());
                facts.attachments.contains_key(&AttachmentKey { task, network })
            })
        });
        let is_named = |task: &TaskId, network: &NetworkName| {
            let (task, network) = (task.clone(), network.clone());
            let found = facts.attachments.get(&AttachmentKey { task, network });
            found.is_some_and(|found| found.resolver.is_some())
        };
        let tasks = attached
            .map(|(_, task)| {
                let networks = task.endpoints.iter().map(|endpoint| endpoint.network.clone());
                let named = networks.filter(|network| is_named(&task.id, network));
                (task.id.clone(), named.collect())
            })
            .collect();
        let attached = Attached {
            revision: plan.catalog.revision,
            tasks,
        };
        orders.attached.send_if_modified(|before| {
            let is_news = *before != attached;
            *before = attached;
            is_news
        });
    }
}
