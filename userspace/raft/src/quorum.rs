use crate::types::NodeId;
use std::collections::BTreeSet;

/// A change of the voters would leave too few that can be reached; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "only {reachable} of the {voters} managers left would be reachable, and {needed} are needed for a quorum"
)]
pub struct QuorumLoss {
    /// How many of those left are reachable.
    pub reachable: usize,
    /// How many would be left.
    pub voters: usize,
    /// How many make a majority of those.
    pub needed: usize,
}

/// Whether a manager may stop being a voter: those that are left and can be reached must be a majority of those that
/// are left (Swarm's `CanRemoveMember`). So the last one may not go.
///
/// # Errors
/// [`QuorumLoss`] when not.
pub fn may_leave(
    voters: &BTreeSet<NodeId>,
    reachable: &BTreeSet<NodeId>,
    leaving: NodeId,
) -> Result<(), QuorumLoss> {
    let left: BTreeSet<NodeId> = voters.iter().copied().filter(|voter| *voter != leaving).collect();
    let needed = left.len() / 2 + 1;
    let reachable = left.intersection(reachable).count();
    if reachable >= needed {
        Ok(())
    } else {
        Err(QuorumLoss {
            reachable,
            voters: left.len(),
            needed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
        numbers.into_iter().map(NodeId::new).collect()
    }

    /// (voters, reachable, whether the first one may leave). The leader, which asks, is the last and reachable.
    const TABLE: [(u64, &[u64], bool); 12] = [
        (1, &[1], false),
        (2, &[2], true),
        (2, &[1, 2], true),
        (3, &[3], false),
        (3, &[1, 3], false),
        (3, &[2, 3], true),
        (3, &[1, 2, 3], true),
        (4, &[3, 4], true),
        (4, &[1, 4], false),
        (5, &[4, 5], false),
        (5, &[1, 4, 5], false),
        (5, &[3, 4, 5], true),
    ];

    #[test]
    fn a_voter_may_leave_when_a_majority_of_the_others_is_reachable() {
        for (voters, reachable, may) in TABLE {
            let verdict = may_leave(
                &nodes(1..=voters),
                &nodes(reachable.iter().copied()),
                NodeId::new(1),
            );
            assert_eq!(verdict.is_ok(), may, "{voters} voters, reachable {reachable:?}");
        }
    }

    #[test]
    fn who_is_no_voter_counts_for_nothing() {
        let verdict = may_leave(&nodes(1..=3), &nodes([3, 4, 5, 6]), NodeId::new(1));
        assert_eq!(
            verdict,
            Err(QuorumLoss {
                reachable: 1,
                voters: 2,
                needed: 2
            })
        );
    }
}
