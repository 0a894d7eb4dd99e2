//! What must hold, and how far the nodes are from knowing all they should.

use super::World;
use crate::check::difference;
use essaim_gossip::{MemberState, View};
use essaim_model::TaskId;
use std::sync::Arc;
use std::time::Duration;

impl World {
    /// Lets time pass until every running node knows all that it should.
    ///
    /// # Panics
    /// It takes longer than that.
    pub fn converge(&mut self, within: Duration) -> Duration {
        let end = self.now + within;
        let start = self.now;
        while let Some(difference) = self.first_difference() {
            assert!(
                self.now < end,
                "seed {}: after {within:?}, {difference}",
                self.setup.seed
            );
            self.run_for(Duration::from_millis(5));
        }
        self.now.saturating_sub(start)
    }

    /// What a node does not know, or knows wrongly.
    pub fn first_difference(&self) -> Option<String> {
        let running = (0..self.size()).filter(|node| self.is_running(*node));
        running
            .flat_map(|observer| (0..self.size()).map(move |owner| (observer, owner)))
            .find_map(|(observer, owner)| {
                let view = self.view(observer);
                let networks = self.nodes[observer].networks();
                let owner = &self.nodes[owner];
                let found = difference(&view, &owner.name, owner.core.is_some(), &owner.tasks, &networks);
                found.map(|found| format!("on {}: {found}", self.nodes[observer].name))
            })
    }

    pub(super) fn check(&mut self, number: usize, view: Arc<View>) {
        if !number.is_multiple_of(self.setup.check_one_in) {
            return;
        }
        let node = &mut self.nodes[number];
        if let Err(broken) = node.checks.step(view, &self.members, &self.record) {
            panic!(
                "seed {}, {:?}, on {}: {broken}",
                self.setup.seed, self.now, node.name
            );
        }
        for (owner, task) in &self.watched_tasks {
            if *owner == number {
                self.check_acks(*owner, task);
            }
        }
    }

    /// No node counts as having applied a word that its data plane does not have.
    fn check_acks(&self, owner: usize, task: &TaskId) {
        let (view, name) = (self.view(owner), &self.nodes[owner].name);
        let Some(fact) = view.task(name, task) else { return };
        let pending = self.pending_acks(owner, task);
        for (number, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != owner)
        {
            let member = view.members.get(&node.name);
            let is_counted = member.is_some_and(|member| {
                member.state != MemberState::Down
                    && Some(member.epoch) == self.epoch_of(number)
                    && fact
                        .networks
                        .iter()
                        .any(|network| member.interests.contains(network))
            });
            let takes_part = fact
                .networks
                .iter()
                .any(|network| node.networks().contains(network));
            let order = (fact.epoch, fact.version);
            assert!(
                !is_counted
                    || !takes_part
                    || pending.contains(&node.name)
                    || node.checks.has_applied(name, task, order),
                "seed {}, {:?}: {} counts as having applied {task}, and has not",
                self.setup.seed,
                self.now,
                node.name
            );
        }
    }

    /// The pairs of running nodes that can reach each other, of which one is told that the other is down.
    pub fn told_down(&self) -> Vec<(usize, usize)> {
        let pairs =
            (0..self.size()).flat_map(|observer| (0..self.size()).map(move |other| (observer, other)));
        pairs
            .filter(|(observer, other)| {
                let name = &self.nodes[*other].name;
                let state = self.view(*observer).members.get(name).map(|member| member.state);
                self.is_running(*other)
                    && self.setup.network.connects(*observer, *other)
                    && state == Some(MemberState::Down)
            })
            .collect()
    }

    /// How long no node has started and no path has changed.
    pub fn undisturbed_for(&self) -> Duration {
        self.now.saturating_sub(self.undisturbed_since)
    }
}
