//! Whether and how a node's role changes: never so that the managers lose their quorum.

use essaim_objects::{Node, NodeId, NodeRole};

/// A manager, as the consensus sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Whether the leader reaches it.
    pub is_reachable: bool,
}

/// Why a manager must stay one. The texts begin as Docker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// There would be no manager.
    #[error("attempting to demote the last manager of the swarm: {node}; promote another node first")]
    Last {
        /// The node.
        node: NodeId,
    },
    /// Those that are left could agree on nothing.
    #[error(
        "can't remove member from the raft: this would result in a loss of quorum: without {node}, {reachable} of \
         {members} managers are reachable, expected {quorum}; bring managers back or promote others first"
    )]
    Quorum {
        /// The node.
        node: NodeId,
        /// Managers that would be left.
        members: usize,
        /// Those of them that are reachable.
        reachable: usize,
        /// Those that would have to be.
        quorum: usize,
    },
}

/// Whether a manager may stop being one: those that are left must have a quorum that is reachable. One that is no
/// member may always.
///
/// # Errors
/// Why not.
pub fn may_leave(node: NodeId, members: &[Member]) -> Result<(), RoleError> {
    let is_member = members.iter().any(|member| member.node == node);
    if !is_member {
        return Ok(());
    }
    let others: Vec<_> = members.iter().filter(|member| member.node != node).collect();
    if others.is_empty() {
        return Err(RoleError::Last { node });
    }
    let reachable = others.iter().filter(|member| member.is_reachable).count();
    let quorum = others.len() / 2 + 1;
    if reachable < quorum {
        return Err(RoleError::Quorum {
            node,
            members: others.len(),
            reachable,
            quorum,
        });
    }
    Ok(())
}

/// The next step from the role that a node has to the one that is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleStep {
    /// Nothing is to be done.
    None,
    /// It gets a certificate of this role; a manager then joins the consensus by itself.
    Certify(NodeRole),
    /// The leader, which is to be demoted, first has another manager lead.
    TransferLeadership,
    /// It leaves the consensus; a worker's certificate comes after that.
    RemoveMember,
    /// It must wait: looked at again every few seconds.
    Wait(RoleError),
}

/// Decides on a node's role; `leader` is the node that decides.
pub fn role_step(node: &Node, members: &[Member], leader: NodeId) -> RoleStep {
    let asked = node.spec.role();
    let has = node.certificate_role.unwrap_or(NodeRole::Worker);
    let is_member = members.iter().any(|member| member.node == node.id);
    match (asked, has, is_member) {
        (NodeRole::Manager, NodeRole::Worker, _) => RoleStep::Certify(NodeRole::Manager),
        (NodeRole::Manager, NodeRole::Manager, _) | (NodeRole::Worker, NodeRole::Worker, false) => {
            RoleStep::None
        }
        (NodeRole::Worker, _, true) => match may_leave(node.id, members) {
            Err(why) => RoleStep::Wait(why),
            Ok(()) if node.id == leader => RoleStep::TransferLeadership,
            Ok(()) => RoleStep::RemoveMember,
        },
        (NodeRole::Worker, NodeRole::Manager, false) => RoleStep::Certify(NodeRole::Worker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::NodeSpec;

    fn node(number: u128) -> NodeId {
        NodeId::from_bits(number)
    }

    /// Managers 1, 2, … of which those in `reachable` are.
    fn members(count: u128, reachable: &[u128]) -> Vec<Member> {
        let member = |number| Member {
            node: node(number),
            is_reachable: reachable.contains(&number),
        };
        (1..=count).map(member).collect()
    }

    #[test]
    fn the_last_manager_stays() {
        let why = may_leave(node(1), &members(1, &[1])).unwrap_err();
        assert_eq!(why, RoleError::Last { node: node(1) });
        assert!(
            why.to_string()
                .starts_with("attempting to demote the last manager of the swarm")
        );
    }

    #[test]
    fn a_manager_leaves_only_where_the_others_keep_a_quorum() {
        for (count, reachable, leaving, may) in [
            (2, &[1, 2][..], 2, true),
            (2, &[1], 2, true),
            (2, &[1], 1, false),
            (3, &[1, 2, 3], 3, true),
            (3, &[1, 2], 3, true),
            (3, &[1, 2], 2, false),
            (5, &[1, 2, 3], 5, true),
            (5, &[1, 2, 3], 3, false),
            (5, &[1, 2, 3, 4], 1, true),
            (3, &[1], 9, true),
        ] {
            let members = members(count, reachable);
            assert_eq!(
                may_leave(node(leaving), &members).is_ok(),
                may,
                "{leaving} of {count}, {reachable:?}"
            );
        }
    }

    #[test]
    fn every_case_of_roles_has_its_step() {
        use NodeRole::{Manager, Worker};
        let all = members(3, &[1, 2, 3]);
        let few = members(3, &[1, 2]);
        for (number, asked, has, members, step) in [
            (4, Worker, Worker, &all, RoleStep::None),
            (4, Manager, Worker, &all, RoleStep::Certify(Manager)),
            (4, Manager, Manager, &all, RoleStep::None),
            (2, Manager, Manager, &all, RoleStep::None),
            (2, Worker, Manager, &all, RoleStep::RemoveMember),
            (1, Worker, Manager, &all, RoleStep::TransferLeadership),
            (4, Worker, Manager, &all, RoleStep::Certify(Worker)),
            (3, Worker, Manager, &few, RoleStep::RemoveMember),
        ] {
            let mut it = Node::new(
                node(number),
                NodeSpec {
                    role: Some(asked),
                    ..NodeSpec::default()
                },
            );
            it.certificate_role = Some(has);
            assert_eq!(role_step(&it, members, node(1)), step, "{number} {asked} {has}");
            let why = RoleError::Quorum {
                node: node(2),
                members: 2,
                reachable: 1,
                quorum: 2,
            };
            it.id = node(2);
            it.spec.role = Some(Worker);
            assert_eq!(role_step(&it, &few, node(1)), RoleStep::Wait(why));
        }
    }
}
