//! Any object of the store, and its identity.

use essaim_objects::{
    Cluster, ClusterId, Config, ConfigId, Network, NetworkId, Node, NodeId, Secret, SecretId, Service,
    ServiceId, Task, TaskId, Timestamp, Version,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The cluster itself.
    Cluster,
    /// A node.
    Node,
    /// A network.
    Network,
    /// A service.
    Service,
    /// A task.
    Task,
    /// A secret.
    Secret,
    /// A config.
    Config,
}

impl Kind {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Network => "network",
            Self::Service => "service",
            Self::Task => "task",
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Any object; cheap to clone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Object {
    /// The cluster itself.
    Cluster(Arc<Cluster>),
    /// A node.
    Node(Arc<Node>),
    /// A network.
    Network(Arc<Network>),
    /// A service.
    Service(Arc<Service>),
    /// A task.
    Task(Arc<Task>),
    /// A secret.
    Secret(Arc<Secret>),
    /// A config.
    Config(Arc<Config>),
}

/// The identity of any object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectId {
    /// The cluster itself.
    Cluster(ClusterId),
    /// A node.
    Node(NodeId),
    /// A network.
    Network(NetworkId),
    /// A service.
    Service(ServiceId),
    /// A task.
    Task(TaskId),
    /// A secret.
    Secret(SecretId),
    /// A config.
    Config(ConfigId),
}

/// The same for an object of whichever kind.
macro_rules! of_any {
    ($object:expr, $it:ident => $do:expr) => {
        match $object {
            Object::Cluster($it) => $do,
            Object::Node($it) => $do,
            Object::Network($it) => $do,
            Object::Service($it) => $do,
            Object::Task($it) => $do,
            Object::Secret($it) => $do,
            Object::Config($it) => $do,
        }
    };
}

impl Object {
    /// Its identity.
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Cluster(it) => ObjectId::Cluster(it.id),
            Self::Node(it) => ObjectId::Node(it.id),
            Self::Network(it) => ObjectId::Network(it.id),
            Self::Service(it) => ObjectId::Service(it.id),
            Self::Task(it) => ObjectId::Task(it.id),
            Self::Secret(it) => ObjectId::Secret(it.id),
            Self::Config(it) => ObjectId::Config(it.id),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.id().kind()
    }

    /// The log index of its last change.
    pub fn version(&self) -> Version {
        of_any!(self, it => it.version)
    }

    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        of_any!(self, it => it.created_at)
    }

    /// The name that no other object of its kind has; nodes and tasks have none such.
    pub fn unique_name(&self) -> Option<&str> {
        match self {
            Self::Network(it) => it.spec.name.as_deref(),
            Self::Service(it) => it.spec.name.as_deref(),
            Self::Secret(it) => it.spec.name.as_deref(),
            Self::Config(it) => it.spec.name.as_deref(),
            Self::Cluster(_) | Self::Node(_) | Self::Task(_) => None,
        }
    }

    /// It with the version and times of a change.
    pub(crate) fn stamped(mut self, version: Version, created_at: Timestamp, updated_at: Timestamp) -> Self {
        of_any!(&mut self, it => {
            let it = Arc::make_mut(it);
            it.version = version;
            it.created_at = created_at;
            it.updated_at = updated_at;
        });
        self
    }
}

impl ObjectId {
    /// The kind of what it identifies.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Cluster(_) => Kind::Cluster,
            Self::Node(_) => Kind::Node,
            Self::Network(_) => Kind::Network,
            Self::Service(_) => Kind::Service,
            Self::Task(_) => Kind::Task,
            Self::Secret(_) => Kind::Secret,
            Self::Config(_) => Kind::Config,
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id: &dyn fmt::Display = match self {
            Self::Cluster(id) => id,
            Self::Node(id) => id,
            Self::Network(id) => id,
            Self::Service(id) => id,
            Self::Task(id) => id,
            Self::Secret(id) => id,
            Self::Config(id) => id,
        };
        write!(f, "{} {id}", self.kind())
    }
}

macro_rules! conversions {
    ($($kind:ident($id:ident)),*) => {
        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Arc::new(object))
            }
        }

        impl From<Arc<$kind>> for Object {
            fn from(object: Arc<$kind>) -> Self {
                Self::$kind(object)
            }
        }

        impl From<$id> for ObjectId {
            fn from(id: $id) -> Self {
                Self::$kind(id)
            }
        })*
    };
}

conversions!(
    Cluster(ClusterId),
    Node(NodeId),
    Network(NetworkId),
    Service(ServiceId),
    Task(TaskId),
    Secret(SecretId),
    Config(ConfigId)
);
