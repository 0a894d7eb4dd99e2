use super::*;
use essaim_orchestrator::RoleError;
use essaim_raft::{MemberStatus, NodeId as RaftId, Role};
use essaim_store::Store;
use std::collections::BTreeMap;

fn node_id(number: u64) -> NodeId {
    NodeId::from_bits(number.into())
}

/// What manager `own` knows where manager 1 leads, of managers 1, 2, …
fn status(own: u64, heard: &[Heard]) -> Status {
    let members = (1..).zip(heard).map(|(number, reachability)| {
        let member = essaim_raft::Member {
            node: node_id(number).to_string(),
            address: format!("192.0.2.{number}:2377"),
        };
        let status = MemberStatus {
            member,
            voter: true,
            reachability: *reachability,
        };
        (RaftId::new(number), status)
    });
    Status {
        node: RaftId::new(own),
        role: if own == 1 { Role::Leader } else { Role::Follower },
        term: 1,
        leader: Some(RaftId::new(1)),
        members: members.collect::<BTreeMap<_, _>>(),
        applied: None,
        committed: None,
        last_log: None,
        snapshot: None,
        failure: None,
    }
}

/// Nodes 1, 2, … with the roles that are asked of them and what the leader wrote of them.
fn view(nodes: &[(NodeRole, Option<Reachability>)]) -> View {
    let mut store = Store::new();
    let mut transaction = Transaction::new();
    for (number, (role, known)) in (1..).zip(nodes) {
        let spec = NodeSpec {
            role: Some(*role),
            ..NodeSpec::default()
        };
        let mut node = Node::new(node_id(number), spec);
        node.manager_status = known.map(|reachability| ManagerStatus {
            reachability,
            ..ManagerStatus::default()
        });
        transaction.create(node);
    }
    store
        .apply(1, &transaction, essaim_objects::Timestamp::UNIX_EPOCH)
        .unwrap();
    store.view().clone()
}

const MANAGER: (NodeRole, Option<Reachability>) = (NodeRole::Manager, None);
const LEAVING: (NodeRole, Option<Reachability>) = (NodeRole::Worker, None);
const GONE: (NodeRole, Option<Reachability>) = (NodeRole::Manager, Some(Reachability::Unreachable));

#[test]
fn a_demotion_leaves_a_quorum() {
    use Heard::{Reachable as R, Unknown as K, Unreachable as U};
    for (heard, nodes, leaving, may) in [
        (&[R][..], &[MANAGER][..], 1, false),
        (&[R, R], &[MANAGER, MANAGER], 2, true),
        (&[R, U], &[MANAGER, MANAGER], 1, false),
        (&[R, U], &[MANAGER, MANAGER], 2, true),
        (&[R, R, R], &[MANAGER, MANAGER, MANAGER], 3, true),
        (&[R, R, U], &[MANAGER, MANAGER, MANAGER], 2, false),
        // The others are on their way already: this one would be the last.
        (&[R, R, R], &[MANAGER, LEAVING, LEAVING], 1, false),
        (&[R, R, R], &[MANAGER, LEAVING, MANAGER], 3, true),
        // Asked of a manager that does not lead: what the leader wrote counts.
        (&[K, K, K], &[MANAGER, MANAGER, MANAGER], 2, true),
        (&[K, K, K], &[MANAGER, MANAGER, GONE], 2, false),
    ] {
        let managers = managers(&view(nodes), &status(1, heard), node_id(leaving));
        let found = may_leave(node_id(leaving), &managers);
        assert_eq!(found.is_ok(), may, "{leaving} of {heard:?}: {found:?}");
        if nodes.iter().filter(|node| node.0 == NodeRole::Manager).count() == 1 {
            assert_eq!(
                found,
                Err(RoleError::Last {
                    node: node_id(leaving)
                })
            );
        }
    }
}

#[test]
fn a_node_is_shown_as_far_as_its_reachability_is_known() {
    use Heard::{Reachable as R, Unknown as K, Unreachable as U};
    for (own, heard, nodes, number, expected) in [
        (
            1,
            &[R, U][..],
            &[MANAGER, MANAGER][..],
            1,
            Some((true, Reachability::Reachable)),
        ),
        (
            1,
            &[R, U],
            &[MANAGER, MANAGER],
            2,
            Some((false, Reachability::Unreachable)),
        ),
        (
            2,
            &[K, K, K],
            &[MANAGER, MANAGER, GONE],
            1,
            Some((true, Reachability::Reachable)),
        ),
        (
            2,
            &[K, K, K],
            &[MANAGER, MANAGER, GONE],
            2,
            Some((false, Reachability::Reachable)),
        ),
        (
            2,
            &[K, K, K],
            &[MANAGER, MANAGER, GONE],
            3,
            Some((false, Reachability::Unreachable)),
        ),
        (
            2,
            &[K, K, K],
            &[MANAGER, MANAGER, MANAGER],
            3,
            Some((false, Reachability::Unknown)),
        ),
        // Asked to be one, and none yet; or none any more.
        (1, &[R], &[MANAGER, MANAGER], 2, None),
        (1, &[R], &[MANAGER, GONE], 2, None),
    ] {
        let view = view(nodes);
        let found = manager_status(view.node(node_id(number)).unwrap(), &status(own, heard));
        let address = format!("192.0.2.{number}:2377");
        assert_eq!(
            found
                .as_ref()
                .map(|found| (found.leader == Some(true), found.reachability)),
            expected,
            "{number} as {own} sees it, {heard:?}"
        );
        assert!(found.is_none_or(|found| found.addr == Some(address)));
    }
}
