//! One copy of a service: the tasks, past and present, of a slot or of a node.

use crate::state::is_wanted;
use crate::{Change, Cluster, Now, may_desire};
use essaim_objects::{NodeId, Task, TaskId, TaskState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Instance {
    /// That of a number.
    Slot(u64),
    /// That of a node.
    Node(NodeId),
}

impl Instance {
    /// The one that a task belongs to, if any.
    pub(crate) fn of(task: &Task) -> Option<Self> {
        let slot = task.slot.map(Self::Slot);
        slot.or_else(|| task.node_id.map(Self::Node))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touched {
    Created,
    Changed,
    Removed,
}

/// A copy's tasks in the order in which they were made, and what is to be changed of them.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) instance: Instance,
    tasks: Vec<Arc<Task>>,
    touched: BTreeMap<TaskId, Touched>,
}

impl Copy {
    pub(crate) fn new(instance: Instance, mut tasks: Vec<Arc<Task>>) -> Self {
        tasks.sort_by_key(|task| (task.created_at, task.id));
        Self {
            instance,
            tasks,
            touched: BTreeMap::new(),
        }
    }

    /// All tasks, the oldest first.
    pub(crate) fn tasks(&self) -> &[Arc<Task>] {
        &self.tasks
    }

    /// Those that should do their work.
    pub(crate) fn wanted(&self) -> impl DoubleEndedIterator<Item = &Arc<Task>> {
        self.tasks.iter().filter(|task| is_wanted(task))
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted().next().is_some()
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// The last that was made and is not to be removed.
    pub(crate) fn newest(&self) -> Option<&Arc<Task>> {
        self.tasks
            .iter()
            .rfind(|task| task.desired_state < TaskState::Remove)
    }

    /// Sets what a task should be; what would bring it back is ignored.
    pub(crate) fn desire(&mut self, id: TaskId, state: TaskState) {
        let task = self.tasks.iter_mut().find(|task| task.id == id);
        if let Some(task) = task
            && task.desired_state != state
            && may_desire(task.desired_state, state)
        {
            Arc::make_mut(task).desired_state = state;
            self.touched.entry(id).or_insert(Touched::Changed);
        }
    }

    /// Has all tasks removed, once they have stopped.
    pub(crate) fn remove_all(&mut self) {
        for id in self.tasks.iter().map(|task| task.id).collect::<Vec<_>>() {
            self.desire(id, TaskState::Remove);
        }
    }

    /// Shuts down all tasks that should do their work, but the one. What a job has done stays as it is.
    pub(crate) fn shut_down_all_but(&mut self, kept: Option<TaskId>) {
        let is_done = |task: &Task| {
            (task.status.state, task.desired_state) == (TaskState::Complete, TaskState::Complete)
        };
        let others = self
            .wanted()
            .filter(|task| Some(task.id) != kept && !is_done(task));
        for id in others.map(|task| task.id).collect::<Vec<_>>() {
            self.desire(id, TaskState::Shutdown);
        }
    }

    pub(crate) fn create(&mut self, task: Task) {
        self.touched.insert(task.id, Touched::Created);
        self.tasks.push(Arc::new(task));
    }

    /// Deletes a task that was not otherwise changed.
    pub(crate) fn delete(&mut self, id: TaskId) {
        self.touched.entry(id).or_insert(Touched::Removed);
    }

    /// Gives up the tasks of nodes that are gone.
    pub(crate) fn orphan<C: Cluster>(&mut self, cluster: &C, now: Now) {
        for task in &mut self.tasks {
            let is_homeless = task.node_id.is_some_and(|node| cluster.node(node).is_none());
            if is_homeless && !task.status.state.is_over() && task.status.state >= TaskState::Assigned {
                let task = Arc::make_mut(task);
                task.status.state = TaskState::Orphaned;
                task.status.timestamp = Some(now.wall);
                task.status.message = Some("Task belonged to a node that has been deleted".to_owned());
                self.touched.entry(task.id).or_insert(Touched::Changed);
            }
        }
    }

    /// What is to be changed.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        let touched = self.touched;
        let tasks = self.tasks.into_iter();
        let changes = tasks.filter_map(|task| match touched.get(&task.id)? {
            Touched::Created => Some(Change::CreateTask(task)),
            Touched::Changed => Some(Change::UpdateTask(task)),
            Touched::Removed => Some(Change::RemoveTask(task.id, task.version)),
        });
        changes.collect()
    }
}
