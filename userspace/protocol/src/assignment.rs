//! What a node is to run.

use essaim_objects::{Config, ConfigId, Secret, SecretId, Task, TaskId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something that a node is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Assignment {
    /// A task that it should have, in the state that it should be in.
    Task(Arc<Task>),
    /// A secret that one of its tasks uses.
    Secret(Arc<Secret>),
    /// A config that one of its tasks uses.
    Config(Arc<Config>),
}

/// What identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AssignmentId {
    /// A secret.
    Secret(SecretId),
    /// A config.
    Config(ConfigId),
    /// A task.
    Task(TaskId),
}

impl Assignment {
    /// What identifies it.
    pub fn id(&self) -> AssignmentId {
        match self {
            Self::Task(task) => AssignmentId::Task(task.id),
            Self::Secret(secret) => AssignmentId::Secret(secret.id),
            Self::Config(config) => AssignmentId::Config(config.id),
        }
    }
}

/// What a message builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// Nothing: what is not in it, the node is not to have.
    Nothing,
    /// What the node had after the message of this number. One that has another begins a new session.
    Number(u64),
}

/// A message to a node. Those of a session must arrive in order, or the session ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignments {
    /// What it builds on.
    pub basis: Basis,
    /// Its number in the session.
    pub number: u64,
    /// What is new or changed, secrets and configs before the tasks that use them.
    pub changed: Vec<Assignment>,
    /// What the node is to give up.
    pub removed: Vec<AssignmentId>,
}
