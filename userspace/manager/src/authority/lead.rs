//! What the leader sees to.

use super::private::{
    data_rotated, gossip_rotated, removed, root_ca, rotate_data_keys, rotate_gossip_keys, set_removed,
    set_root_ca,
};
use super::roles::{Damper, node_of, statuses};
use super::spec::settle_external;
use super::{Authority, report};
use crate::Notice;
use essaim_ca::{FinishError, SystemEntropy};
use essaim_objects::{Cluster, Node, NodeId, NodeRole};
use essaim_orchestrator::{Member, RoleError, RoleStep, role_step};
use essaim_raft::{Reachability, Status};
use essaim_rpc::chain;
use essaim_store::{Event, MAX_CHANGES, Object, Transaction, View};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep};

/// How often everything is looked at, whatever happens (Swarm: 5 s for roles).
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon something that is not settled is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What comes together is looked at together.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long a key of gossip is sent with (Swarm: 12 h).
pub(super) const GOSSIP_KEY_LIFE: Duration = Duration::from_hours(12);
/// How long the newest key of encrypted networks is that (Swarm: 12 h), where the cluster's label does not say otherwise.
pub(super) const DATA_KEY_LIFE: Duration = Duration::from_hours(12);
/// A label of the cluster: the life of a key of encrypted networks, in seconds. Too short: more changes than the nodes can
/// follow, a node that is behind by more than four is not understood. Too long: more is said under one key.
pub(super) const DATA_KEY_LIFE_LABEL: &str = "essaim.data-key-life";

/// What the leader remembers between looks.
struct Looks {
    begun: Instant,
    damper: Damper,
    /// What nodes wait for, as it was last logged.
    waiting: BTreeMap<NodeId, RoleError>,
}

impl Authority {
    /// Sees to the cluster whenever this manager leads, until `stop` is there.
    pub async fn lead(&self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            () = self.look() => {}
        }
    }

    async fn look(&self) {
        let mut notices = self.replica.notices();
        let mut status = self.replica.raft().watch();
        let mut looks = Looks {
            begun: Instant::now(),
            damper: Damper::default(),
            waiting: BTreeMap::new(),
        };
        loop {
            let seen = status.borrow_and_update().clone();
            let leads = seen.leader == Some(seen.node);
            let is_settled = !leads || self.see_to(&mut looks, &seen).await;
            let pause = if is_settled { LOOK_EVERY } else { LOOK_AGAIN };
            let pause = if leads {
                pause.min(self.until_data_keys())
            } else {
                pause
            };
            tokio::select! {
                () = concerns(&mut notices) => {}
                () = differs(&mut status, &seen) => {}
                () = sleep(pause) => {}
            }
            sleep(DEBOUNCE).await;
        }
    }

    /// How long the newest key of encrypted networks is good for.
    fn until_data_keys(&self) -> Duration {
        let view = self.replica.view();
        let Some(cluster) = view.cluster() else {
            return LOOK_EVERY;
        };
        let due = data_rotated(cluster).saturating_add(millis(data_key_life(cluster)));
        // Not at once: what is due was seen to, and did not go through.
        Duration::from_millis(due.saturating_sub(self.now_ms())).max(DEBOUNCE)
    }

    fn now_ms(&self) -> u64 {
        self.now().unix().saturating_mul(1000)
    }

    /// Looks at everything once; whether nothing is left to do.
    async fn see_to(&self, looks: &mut Looks, status: &Status) -> bool {
        let view = self.replica.view();
        let now = looks.begun.elapsed();
        let found = statuses(status);
        self.write_statuses(&mut looks.damper, &found, now).await;
        let is_settled = self.change_roles(looks, status, &view).await;
        self.change_cluster(&view).await;
        is_settled
    }

    /// Applies a change that the leader decides; one that does not go through is decided anew at the next look.
    async fn apply(&self, what: &str, mut decide: impl FnMut(&View) -> Transaction) {
        let changed = self
            .replica
            .update(|view| Ok::<_, Infallible>(decide(view)))
            .await;
        if let Err(error) = changed {
            tracing::info!(what, error = chain(&error), "a change has to wait");
        }
    }

    async fn write_statuses(
        &self,
        damper: &mut Damper,
        found: &BTreeMap<NodeId, essaim_objects::ManagerStatus>,
        now: Duration,
    ) {
        self.apply("the managers' status", |view| {
            let mut transaction = Transaction::new();
            for node in view.nodes() {
                if transaction.changes.len() == MAX_CHANGES {
                    break;
                }
                let status = damper.settled(node, found.get(&node.id), now);
                if status != node.manager_status {
                    let mut node = Node::clone(node);
                    node.manager_status = status;
                    transaction.update(node);
                }
            }
            transaction
        })
        .await;
    }

    async fn change_roles(&self, looks: &mut Looks, status: &Status, view: &View) -> bool {
        let raft = self.replica.raft();
        let Some(leader) = status.members.get(&status.node).and_then(node_of) else {
            return false;
        };
        let voters = status.members.values().filter(|member| member.voter);
        let members: Vec<_> = voters
            .filter_map(|member| {
                Some(Member {
                    node: node_of(member)?,
                    is_reachable: member.reachability == Reachability::Reachable,
                })
            })
            .collect();
        let mut is_settled = true;
        for node in view.nodes() {
            let step = role_step(node, &members, leader);
            if !matches!(step, RoleStep::Wait(_)) {
                looks.waiting.remove(&node.id);
            }
            is_settled &= step == RoleStep::None;
            let changed = match step {
                RoleStep::None => continue,
                RoleStep::Certify(role) => {
                    self.certify(node.id, role).await;
                    continue;
                }
                RoleStep::Wait(why) => {
                    if looks.waiting.get(&node.id) != Some(&why) {
                        tracing::warn!(node = %node.id, %why, "a manager is not demoted yet");
                        looks.waiting.insert(node.id, why);
                    }
                    continue;
                }
                RoleStep::TransferLeadership => raft.step_down().await,
                RoleStep::RemoveMember => {
                    let mut numbers = status.members.iter();
                    let number = numbers.find(|(_, member)| node_of(member) == Some(node.id));
                    match number {
                        Some((number, _)) => raft.remove(*number, false).await,
                        None => continue,
                    }
                }
            };
            match changed {
                Ok(()) => tracing::info!(node = %node.id, "a manager was demoted, or has handed over first"),
                Err(error) => {
                    tracing::info!(node = %node.id, error = chain(&error), "a role change has to wait");
                }
            }
            // The members are others now.
            return false;
        }
        is_settled & self.remove_strays(status, view).await
    }

    /// Takes members out whose node was removed, or that did not become managers in time.
    async fn remove_strays(&self, status: &Status, view: &View) -> bool {
        for (number, member) in &status.members {
            let node = node_of(member).and_then(|id| view.node(id));
            let belongs = node.is_some_and(|node| {
                node.certificate_role == Some(NodeRole::Manager) || node.spec.role() == NodeRole::Manager
            });
            if belongs || *number == status.node {
                continue;
            }
            if let Err(error) = self.replica.raft().remove(*number, false).await {
                let node = &member.member.node;
                tracing::warn!(
                    node,
                    error = chain(&error),
                    "a member that is no manager stays for now"
                );
            }
            return false;
        }
        true
    }

    async fn certify(&self, id: NodeId, role: NodeRole) {
        self.apply("a role", |view| {
            let mut transaction = Transaction::new();
            if let Some(node) = view.node(id).filter(|node| node.spec.role() == role) {
                let mut node = Node::clone(node);
                node.certificate_role = Some(role);
                transaction.update(node);
            }
            transaction
        })
        .await;
    }

    async fn change_cluster(&self, view: &View) {
        let now = self.now();
        let is_due = |cluster: &Cluster, view: &View| {
            let (finished, gossip, removed) = due(cluster, view, now.unix());
            finished || gossip || removed || is_data_due(cluster, now.unix())
        };
        if !view.cluster().is_some_and(|cluster| is_due(cluster, view)) {
            return;
        }
        self.apply("the cluster's keys", |view| {
            let mut transaction = Transaction::new();
            if let Some(changed) = view
                .cluster()
                .and_then(|cluster| tended(cluster, view, now.unix()))
            {
                transaction.update(changed);
            }
            transaction
        })
        .await;
    }
}

/// Whether the root's rotation is at its end, gossip's keys are to be replaced, and removed nodes can be forgotten.
fn due(cluster: &Cluster, view: &View, now: u64) -> (bool, bool, bool) {
    let ca = cluster
        .root_rotation_in_progress
        .then(|| root_ca(cluster).ok())
        .flatten();
    let finished = ca.is_some_and(|ca| ca.rotation().is_some() && ca.pending(&reports(view)).is_empty());
    let gossip = now.saturating_sub(gossip_rotated(cluster)) >= GOSSIP_KEY_LIFE.as_secs();
    let forgotten = removed(cluster).is_ok_and(|list| list.nodes.values().any(|until| *until < now));
    (finished, gossip, forgotten)
}

/// Whether the newest key of encrypted networks has been that for long enough.
fn is_data_due(cluster: &Cluster, now: u64) -> bool {
    now.saturating_mul(1000).saturating_sub(data_rotated(cluster)) >= millis(data_key_life(cluster))
}

/// How long the newest key of encrypted networks is that.
fn data_key_life(cluster: &Cluster) -> Duration {
    let labels = cluster.spec.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(DATA_KEY_LIFE_LABEL));
    let seconds = label
        .and_then(|text| text.parse().ok())
        .filter(|seconds| *seconds > 0);
    seconds.map_or(DATA_KEY_LIFE, Duration::from_secs)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The cluster with what is due done; `None` where nothing can be.
pub(super) fn tended(cluster: &Cluster, view: &View, now: u64) -> Option<Cluster> {
    let (is_finished, gossip, forgotten) = due(cluster, view, now);
    let mut changed = cluster.clone();
    let mut ca = root_ca(cluster).ok()?;
    if is_finished {
        match ca.finish(&reports(view), &mut SystemEntropy) {
            Ok(()) => {
                tracing::info!("the root certificate is replaced on every node");
                set_root_ca(&mut changed, &ca);
                // Those that signed for the former root have nothing to sign for any more.
                if let Err(error) = settle_external(Some(&cluster.spec), &mut changed.spec, &ca) {
                    tracing::warn!(error = chain(&error), "the external authorities stay as they are");
                }
            }
            Err(error @ (FinishError::NoRotation | FinishError::Pending(_) | FinishError::Entropy(_))) => {
                tracing::warn!(error = chain(&error), "the root's rotation cannot end yet");
            }
        }
    }
    if gossip && let Err(error) = rotate_gossip_keys(&mut changed, now, &mut SystemEntropy) {
        tracing::warn!(error = chain(&error), "gossip's keys are not replaced");
    }
    if is_data_due(cluster, now)
        && let Err(error) = rotate_data_keys(&mut changed, now.saturating_mul(1000), &mut SystemEntropy)
    {
        tracing::warn!(
            error = chain(&error),
            "the keys of encrypted networks are not replaced"
        );
    }
    if forgotten && let Ok(mut list) = removed(cluster) {
        list.nodes.retain(|_, until| *until >= now);
        set_removed(&mut changed, &list);
    }
    (changed != *cluster).then_some(changed)
}

/// What each node has reported of its certificate.
fn reports(view: &View) -> BTreeMap<essaim_ca::NodeId, Option<essaim_ca::TlsInfo>> {
    let reports = view.nodes().filter_map(|node| {
        let info = node.certificate.as_ref();
        Some((
            essaim_ca::NodeId::new(node.id.as_str()).ok()?,
            info.and_then(report::read),
        ))
    });
    reports.collect()
}

/// Until who leads, who is a member, or whom the leader reaches is not as it was seen. A copy of the store that is closed
/// tells nothing any more.
async fn differs(status: &mut watch::Receiver<Status>, seen: &Status) {
    let differs = status.wait_for(|now| (now.leader, &now.members) != (seen.leader, &seen.members));
    if differs.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Until something happened to a node or to the cluster, or it is not known.
async fn concerns(notices: &mut broadcast::Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(Notice::Changed { events, .. }) if !events.iter().any(is_of_interest) => {}
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn is_of_interest(event: &Event) -> bool {
    let object = match event {
        Event::Created(object) | Event::Removed(object) | Event::Updated { new: object, .. } => object,
    };
    matches!(object, Object::Node(_) | Object::Cluster(_))
}
