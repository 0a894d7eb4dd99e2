//! Which of the nodes that may have a task gets it: preferences first, then the emptiest.

use super::filter::Requirements;
use super::node_info::NodeInfo;
use essaim_objects::{SpreadKey, TaskSpec};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// How a node ranks: the least is the best. Whether the service fails there, how many tasks of the service and how many
/// in all it has, and its place.
type Rank = (bool, u64, u64, usize);

/// Nodes, grouped by each preference in turn.
pub(crate) struct Tree {
    /// Tasks of the service on its nodes.
    tasks: u64,
    below: Below,
}

enum Below {
    Groups(BTreeMap<Option<String>, Tree>),
    Nodes(BinaryHeap<Reverse<Rank>>),
}

/// What a spec's tasks are spread over, the first above the second.
pub(crate) fn preferences(spec: &TaskSpec) -> Vec<SpreadKey> {
    let placement = spec.placement.iter();
    let all = placement.flat_map(|placement| placement.preferences.iter().flatten());
    let spread = all.filter_map(|preference| preference.spread.as_ref()?.spread_descriptor.as_ref());
    spread.filter_map(|text| text.parse().ok()).collect()
}

impl Tree {
    pub(crate) fn new(preferences: usize) -> Self {
        let below = if preferences == 0 {
            Below::Nodes(BinaryHeap::new())
        } else {
            Below::Groups(BTreeMap::new())
        };
        Self { tasks: 0, below }
    }

    /// Adds a node that may have the task.
    pub(crate) fn add(&mut self, preferences: &[SpreadKey], info: &NodeInfo<'_>, rank: Rank) {
        self.tasks += rank.1;
        match &mut self.below {
            Below::Nodes(nodes) => nodes.push(Reverse(rank)),
            Below::Groups(groups) => {
                let Some((first, rest)) = preferences.split_first() else {
                    return;
                };
                // A label that is empty is as good as none.
                let value = first.value(info.node).filter(|value| !value.is_empty());
                let group = groups.entry(value.map(str::to_owned));
                group
                    .or_insert_with(|| Self::new(rest.len()))
                    .add(rest, info, rank);
            }
        }
    }

    /// Picks the node for one task more: of the groups with the fewest tasks, the best node. `place` takes it and says
    /// the node's rank afterwards, or that it can have no more.
    pub(crate) fn pick(&mut self, place: &mut impl FnMut(usize) -> Option<Rank>) -> Option<usize> {
        let picked = match &mut self.below {
            Below::Nodes(nodes) => {
                let Reverse((.., best)) = nodes.pop()?;
                nodes.extend(place(best).map(Reverse));
                best
            }
            Below::Groups(groups) => loop {
                let least = groups.iter_mut().min_by_key(|(_, group)| group.tasks);
                let (value, group) = least?;
                if let Some(picked) = group.pick(place) {
                    break picked;
                }
                let value = value.clone();
                groups.remove(&value);
            },
        };
        self.tasks += 1;
        Some(picked)
    }
}

/// A node's rank.
pub(crate) fn rank(place: usize, info: &NodeInfo<'_>, asked: &Requirements<'_>, is_faulty: bool) -> Rank {
    (is_faulty, info.tasks_of(asked.service), info.tasks, place)
}
