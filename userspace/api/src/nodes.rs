//! Nodes: `/nodes`.

use crate::change::{checked, replica, update as change, view};
use crate::filter::Filters;
use crate::find::{find, hostname};
use crate::reply::{Answer, empty, found};
use crate::request::Request;
use crate::{Engine, EngineError, shape};
use essaim_objects::{ManagerStatus, Node, NodeId, NodeRole, NodeSpec, NodeState, Reachability};
use essaim_orchestrator::{Member, may_leave};
use essaim_raft::{Reachability as Heard, Status};
use essaim_store::{Transaction, View};
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// `GET /nodes`.
pub(crate) async fn list(engine: &impl Engine, request: &Request) -> Answer {
    const KNOWN: &[&str] = &["id", "label", "name", "node.label", "role", "membership"];
    let filters = Filters::of(&request.query, KNOWN)?;
    let roles = filters.read("role", |text| text.parse::<NodeRole>().ok())?;
    let memberships = filters.read("membership", |text| match text {
        "accepted" => Some(true),
        "pending" => Some(false),
        _ => None,
    })?;
    let view = view(engine).await?;
    let status = replica(engine)?.raft().status();
    let nodes = view.nodes().filter(|node| {
        let engine = node
            .description
            .as_ref()
            .and_then(|description| description.engine.as_ref());
        filters.any("id", |id| node.id.as_str().starts_with(id))
            && filters.any("name", |name| is_named(node, name))
            && filters.labels("label", engine.and_then(|engine| engine.labels.as_ref()))
            && filters.labels("node.label", node.spec.labels.as_ref())
            && (roles.is_empty() || roles.contains(&node.spec.role()))
            && (memberships.is_empty() || memberships.contains(&true))
    });
    let nodes: Vec<_> = nodes.map(|node| shown(node, &status)).collect::<Result<_, _>>()?;
    found(&nodes)
}

fn is_named(node: &Node, prefix: &str) -> bool {
    let begins = |name: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    begins(hostname(node)) || node.spec.name.as_deref().is_some_and(begins)
}

/// `GET /nodes/{id}`.
pub(crate) async fn inspect(engine: &impl Engine, text: &str) -> Answer {
    let view = view(engine).await?;
    let node = find::<Node>(&view, text)?;
    found(&shown(&node, &replica(engine)?.raft().status())?)
}

/// A node, with what it is among the managers now: that changes too often to be kept.
fn shown(node: &Arc<Node>, status: &Status) -> Result<Value, EngineError> {
    let mut node = Node::clone(node);
    node.manager_status = manager_status(&node, status);
    shape::node(&node)
}

/// What a node is among the managers.
fn manager_status(node: &Node, status: &Status) -> Option<ManagerStatus> {
    let (id, member) = status
        .members
        .iter()
        .find(|(_, member)| member.member.node == node.id.as_str())?;
    let is_leader = status.leader == Some(*id);
    let known = node.manager_status.as_ref().map(|known| known.reachability);
    let reachability = match member.reachability {
        Heard::Reachable => Reachability::Reachable,
        Heard::Unreachable => Reachability::Unreachable,
        // This manager does not lead: it knows of itself and of the leader, else what the leader wrote down.
        Heard::Unknown if is_leader || *id == status.node => Reachability::Reachable,
        Heard::Unknown => known.unwrap_or(Reachability::Unknown),
    };
    Some(ManagerStatus {
        leader: is_leader.then_some(true),
        reachability,
        addr: Some(member.member.address.clone()),
        ..ManagerStatus::default()
    })
}

/// `POST /nodes/{id}/update`.
pub(crate) async fn update(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    let version = request.query.version("node")?;
    let spec: NodeSpec = request.json()?;
    let replica = replica(engine)?;
    for (name, is_absent) in [
        ("Role", spec.role.is_none()),
        ("Availability", spec.availability.is_none()),
    ] {
        if is_absent {
            return Err(EngineError::invalid(format_args!("invalid {name}: \"\"")));
        }
    }
    checked(spec.check())?;
    change(&replica, |view| {
        let node = find::<Node>(view, text)?;
        if node.version != version {
            return Err(EngineError::out_of_sequence());
        }
        if node.spec.role() == NodeRole::Manager && spec.role() == NodeRole::Worker {
            let managers = managers(view, &replica.raft().status(), node.id);
            may_leave(node.id, &managers).map_err(EngineError::failed_precondition)?;
        }
        let mut node = Node::clone(&node);
        node.spec = spec.clone();
        let mut transaction = Transaction::new();
        transaction.update(node);
        Ok(transaction)
    })
    .await?;
    Ok(empty(StatusCode::OK))
}

/// The managers that are to stay some, and `leaving`.
fn managers(view: &View, status: &Status, leaving: NodeId) -> Vec<Member> {
    let voters = status.members.values().filter(|member| member.voter);
    let known = voters.filter_map(|member| {
        let node = view.node(member.member.node.parse().ok()?)?;
        let known = node.manager_status.as_ref().map(|known| known.reachability);
        let is_reachable = match member.reachability {
            Heard::Reachable => true,
            Heard::Unreachable => false,
            Heard::Unknown => known != Some(Reachability::Unreachable),
        };
        let stays = node.spec.role() == NodeRole::Manager || node.id == leaving;
        stays.then_some(Member {
            node: node.id,
            is_reachable,
        })
    });
    known.collect()
}

/// `DELETE /nodes/{id}`.
pub(crate) async fn remove(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    let force = request.query.flag("force");
    let replica = replica(engine)?;
    let view = view(engine).await?;
    let node = find::<Node>(&view, text)?;
    let id = node.id;
    let status = replica.raft().status();
    let is_member = status
        .members
        .values()
        .any(|member| member.member.node == id.as_str());
    if is_member {
        return Err(EngineError::failed_precondition(format_args!(
            "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before \
             removal"
        )));
    }
    if !force && node.status.state == NodeState::Ready {
        return Err(EngineError::failed_precondition(format_args!(
            "node {id} is not down and can't be removed"
        )));
    }
    engine.remove_node(id, force).await?;
    Ok(empty(StatusCode::OK))
}

#[cfg(test)]
mod tests;
