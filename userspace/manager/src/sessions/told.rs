//! What all nodes are told alike: the managers, the keys of gossip, the roots.

use crate::{Replica, authority};
use essaim_objects::{Cluster, Data, NodeId};
use essaim_protocol::{DataKey, GossipKey, ManagerAddress, ToNode};
use essaim_store::{Event, Object, View};
use std::collections::BTreeMap;

/// Where the cluster keeps the keys of gossip: a JSON array of them in base64, the newest first.
const GOSSIP_KEYS: &str = "gossip-keys";

/// As the nodes were told it last.
#[derive(Debug, Default)]
pub(super) struct Told {
    managers: Vec<ManagerAddress>,
    keys: Vec<GossipKey>,
    data: Vec<DataKey>,
    roots: String,
}

impl Told {
    /// Reads it anew; gives what changed.
    pub(super) fn refresh(&mut self, replica: &Replica, view: &View) -> Vec<ToNode> {
        let cluster = view.cluster();
        let next = Self {
            managers: managers_in(replica, view),
            keys: cluster.map(|cluster| gossip_keys(cluster)).unwrap_or_default(),
            data: cluster.map(|cluster| data_keys(cluster)).unwrap_or_default(),
            roots: cluster.map(|cluster| trust_roots(cluster)).unwrap_or_default(),
        };
        let before = std::mem::replace(self, next);
        let changed = [
            before.managers != self.managers,
            before.keys != self.keys,
            before.roots != self.roots,
            before.data != self.data,
        ];
        let all = self.all().into_iter().zip(changed);
        all.filter(|(_, is_changed)| *is_changed)
            .map(|(message, _)| message)
            .collect()
    }

    /// All of it, for a node that knows nothing.
    pub(super) fn all(&self) -> [ToNode; 4] {
        [
            ToNode::Managers(self.managers.clone()),
            ToNode::GossipKeys(self.keys.clone()),
            ToNode::TrustRoots(self.roots.clone()),
            ToNode::DataKeys(self.data.clone()),
        ]
    }
}

/// Whether it may differ after this.
pub(super) fn concerns(event: &Event) -> bool {
    let is_manager = |object: &Object| match object {
        Object::Node(node) => node.manager_status.is_some(),
        Object::Cluster(_) => true,
        Object::Network(_) | Object::Service(_) | Object::Task(_) | Object::Secret(_) | Object::Config(_) => {
            false
        }
    };
    match event {
        Event::Created(object) | Event::Removed(object) => is_manager(object),
        Event::Updated {
            old: Object::Node(old),
            new: Object::Node(new),
        } => old.manager_status != new.manager_status,
        Event::Updated { old, new } => is_manager(old) || is_manager(new),
    }
}

fn trust_roots(cluster: &Cluster) -> String {
    let info = cluster.tls_info.as_ref();
    info.and_then(|info| info.trust_root.clone()).unwrap_or_default()
}

fn gossip_keys(cluster: &Cluster) -> Vec<GossipKey> {
    let Some(written) = cluster.private.get(GOSSIP_KEYS) else {
        return Vec::new();
    };
    match serde_json::from_slice::<Vec<Data>>(written.as_bytes()) {
        Ok(keys) => keys.into_iter().map(|key| GossipKey { key }).collect(),
        Err(error) => {
            // What it holds is not shown.
            tracing::error!(
                line = error.line(),
                column = error.column(),
                "the keys of gossip cannot be read"
            );
            Vec::new()
        }
    }
}

fn data_keys(cluster: &Cluster) -> Vec<DataKey> {
    match authority::data_keys(cluster) {
        Ok(keys) => keys
            .into_iter()
            .map(|authority::DataKey { generation, key }| DataKey { generation, key })
            .collect(),
        Err(error) => {
            tracing::error!(
                error = essaim_rpc::chain(&error),
                "the keys of encrypted networks cannot be read"
            );
            Vec::new()
        }
    }
}

/// All managers that are known here, the leader first.
pub(super) fn managers(replica: &Replica) -> Vec<ManagerAddress> {
    managers_in(replica, &replica.view())
}

fn managers_in(replica: &Replica, view: &View) -> Vec<ManagerAddress> {
    let mut addresses: BTreeMap<NodeId, String> = BTreeMap::new();
    for node in view.nodes() {
        let address = node
            .manager_status
            .as_ref()
            .and_then(|status| status.addr.clone());
        addresses.extend(
            address
                .filter(|it| !it.is_empty())
                .map(|address| (node.id, address)),
        );
    }
    let status = replica.raft().status();
    let mut first = None;
    for (id, known) in &status.members {
        // Raft's word on where a manager is called is the one that Raft itself goes by.
        if let Ok(node) = known.member.node.parse::<NodeId>() {
            addresses.insert(node, known.member.address.clone());
            if Some(*id) == status.leader {
                first = Some(node);
            }
        }
    }
    let mut managers: Vec<_> = addresses
        .into_iter()
        .map(|(node, address)| ManagerAddress { node, address })
        .collect();
    managers.sort_by_key(|manager| Some(manager.node) != first);
    managers
}
