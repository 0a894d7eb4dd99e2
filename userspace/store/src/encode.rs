//! Transactions and whole views as bytes.
//!
//! The payload is JSON: specs carry whatever members clients sent, so the format must describe itself, and the objects'
//! own reading and writing is the one that the golden tests hold. Tables are written in order and maps are sorted, so
//! equal views give equal bytes. Task specs, which are most of the weight, are written once each and tasks point at
//! them. A header names what it is, the format's version, the length and a checksum.

use crate::apply::Store;
use crate::view::Cursors;
use crate::{Change, Conflict, MAX_TRANSACTION_SIZE, Object, ObjectId, Transaction, View};
use essaim_objects::{Cluster, Config, Network, NetworkId, Node, Secret, Service, Task, TaskSpec, Version};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of the format, which is raised when older readers would misread it.
pub const FORMAT: u32 = 1;

const TRANSACTION: [u8; 8] = *b"essaim-t";
const SNAPSHOT: [u8; 8] = *b"essaim-s";
/// What it is, format, checksum, length.
const HEADER: usize = 8 + 4 + 4 + 8;

/// Why something cannot be written; nothing was.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A transaction is larger than the log takes.
    #[error("transaction has {found} bytes, expected at most {MAX_TRANSACTION_SIZE}: split it")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// The JSON library refused: a bug.
    #[error("failed to write JSON")]
    Json(#[source] serde_json::Error),
}

/// Why something cannot be read; what is held stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The end is missing.
    #[error("{found} bytes, expected {expected}: it is torn")]
    Torn {
        /// How many there are.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
    /// It is something else.
    #[error("starts with \"{}\", expected \"{}\"", .found.escape_ascii(), .expected.escape_ascii())]
    Magic {
        /// How it starts.
        found: [u8; 8],
        /// How it should.
        expected: [u8; 8],
    },
    /// Another version of the program wrote it.
    #[error("format version {found}, expected {FORMAT}: use the version of the program that wrote it")]
    Format {
        /// The format's version.
        found: u32,
    },
    /// Bytes changed.
    #[error("checksum {found:08x}, expected {expected:08x}: it is corrupt")]
    Checksum {
        /// That of the bytes.
        found: u32,
        /// That in the header.
        expected: u32,
    },
    /// The checksum holds, but the content cannot be understood.
    #[error("content cannot be understood")]
    Json(#[source] serde_json::Error),
    /// A task points at a spec that is not there.
    #[error("spec {found} is not there, expected one of {count}")]
    Spec {
        /// Its number.
        found: usize,
        /// How many there are.
        count: usize,
    },
    /// The objects do not go together.
    #[error("objects do not go together")]
    Inconsistent(#[source] Conflict),
}

fn framed(magic: [u8; 8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn unframed(expected: [u8; 8], bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let torn = |expected: u64| DecodeError::Torn {
        found: bytes.len() as u64,
        expected,
    };
    let short = || torn(HEADER as u64);
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    if *magic != expected {
        return Err(DecodeError::Magic {
            found: *magic,
            expected,
        });
    }
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (checksum, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (length, payload) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let [format, checksum] = [format, checksum].map(|word| u32::from_le_bytes(*word));
    if format != FORMAT {
        return Err(DecodeError::Format { found: format });
    }
    let length = u64::from_le_bytes(*length);
    if length != payload.len() as u64 {
        return Err(torn(length.saturating_add(HEADER as u64)));
    }
    let found = crc32fast::hash(payload);
    if found != checksum {
        return Err(DecodeError::Checksum {
            found,
            expected: checksum,
        });
    }
    Ok(payload)
}

/// The task specs that are written, each once.
#[derive(Default)]
struct Specs {
    written: Vec<Arc<TaskSpec>>,
    /// By text: whether tasks share a spec in memory must not show.
    by_text: BTreeMap<String, usize>,
    by_address: BTreeMap<usize, usize>,
}

impl Specs {
    fn number(&mut self, spec: &Arc<TaskSpec>) -> serde_json::Result<usize> {
        let address = Arc::as_ptr(spec).addr();
        if let Some(number) = self.by_address.get(&address) {
            return Ok(*number);
        }
        let next = self.written.len();
        let number = *self.by_text.entry(serde_json::to_string(spec)?).or_insert(next);
        if number == next {
            self.written.push(spec.clone());
        }
        self.by_address.insert(address, number);
        Ok(number)
    }
}

/// A task whose spec is elsewhere.
#[derive(Serialize, Deserialize)]
struct TaskRecord {
    task: Task,
    spec: usize,
}

impl TaskRecord {
    fn new(task: &Task, empty: &Arc<TaskSpec>, spec: usize) -> Self {
        let task = Task {
            spec: empty.clone(),
            ..task.clone()
        };
        Self { task, spec }
    }

    fn into_task(self, specs: &[Arc<TaskSpec>]) -> Result<Task, DecodeError> {
        let spec = specs.get(self.spec).ok_or(DecodeError::Spec {
            found: self.spec,
            count: specs.len(),
        })?;
        Ok(Task {
            spec: spec.clone(),
            ..self.task
        })
    }
}

#[derive(Serialize, Deserialize)]
enum ChangeRecord {
    Create(Object),
    CreateTask(TaskRecord),
    Update(Object, Version),
    UpdateTask(TaskRecord, Version),
    Remove(ObjectId, Version),
}

#[derive(Serialize, Deserialize)]
struct TransactionRecord {
    specs: Vec<Arc<TaskSpec>>,
    changes: Vec<ChangeRecord>,
}

impl Transaction {
    /// Its bytes, for the log.
    ///
    /// # Errors
    /// It is larger than [`MAX_TRANSACTION_SIZE`].
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let empty = Arc::default();
        let mut specs = Specs::default();
        let mut changes = Vec::with_capacity(self.changes.len());
        for change in &self.changes {
            changes.push(match change {
                Change::Create(Object::Task(task)) => {
                    let spec = specs.number(&task.spec).map_err(EncodeError::Json)?;
                    ChangeRecord::CreateTask(TaskRecord::new(task, &empty, spec))
                }
                Change::Update(Object::Task(task), version) => {
                    let spec = specs.number(&task.spec).map_err(EncodeError::Json)?;
                    ChangeRecord::UpdateTask(TaskRecord::new(task, &empty, spec), *version)
                }
                Change::Create(object) => ChangeRecord::Create(object.clone()),
                Change::Update(object, version) => ChangeRecord::Update(object.clone(), *version),
                Change::Remove(id, version) => ChangeRecord::Remove(*id, *version),
            });
        }
        let record = TransactionRecord {
            specs: specs.written,
            changes,
        };
        let bytes = framed(
            TRANSACTION,
            &serde_json::to_vec(&record).map_err(EncodeError::Json)?,
        );
        if bytes.len() > MAX_TRANSACTION_SIZE {
            return Err(EncodeError::TooLarge { found: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// The bytes are torn, corrupt, of another version, or something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let record: TransactionRecord =
            serde_json::from_slice(unframed(TRANSACTION, bytes)?).map_err(DecodeError::Json)?;
        let specs = record.specs;
        let changes = record.changes.into_iter().map(|change| {
            Ok(match change {
                ChangeRecord::Create(object) => Change::Create(object),
                ChangeRecord::CreateTask(task) => Change::Create(task.into_task(&specs)?.into()),
                ChangeRecord::Update(object, version) => Change::Update(object, version),
                ChangeRecord::UpdateTask(task, version) => {
                    Change::Update(task.into_task(&specs)?.into(), version)
                }
                ChangeRecord::Remove(id, version) => Change::Remove(id, version),
            })
        });
        let changes = changes.collect::<Result<_, DecodeError>>()?;
        Ok(Self { changes })
    }
}

/// How a view is written.
#[derive(Serialize)]
struct SnapshotRef<'a> {
    index: u64,
    last_vni: u32,
    cursors: Vec<(&'a NetworkId, &'a Cursors)>,
    specs: &'a [Arc<TaskSpec>],
    clusters: Vec<&'a Cluster>,
    nodes: Vec<&'a Node>,
    networks: Vec<&'a Network>,
    secrets: Vec<&'a Secret>,
    configs: Vec<&'a Config>,
    services: Vec<&'a Service>,
    tasks: Tasks<'a>,
}

/// Tasks with the numbers of their specs, written one by one.
struct Tasks<'a> {
    view: &'a View,
    specs: Vec<usize>,
}

impl Serialize for Tasks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let empty = Arc::default();
        let tasks = self.view.tasks().zip(&self.specs);
        serializer.collect_seq(tasks.map(|(task, spec)| TaskRecord::new(task, &empty, *spec)))
    }
}

/// How a view is read.
#[derive(Deserialize)]
struct Snapshot {
    index: u64,
    last_vni: u32,
    cursors: Vec<(NetworkId, Cursors)>,
    specs: Vec<Arc<TaskSpec>>,
    clusters: Vec<Arc<Cluster>>,
    nodes: Vec<Arc<Node>>,
    networks: Vec<Arc<Network>>,
    secrets: Vec<Arc<Secret>>,
    configs: Vec<Arc<Config>>,
    services: Vec<Arc<Service>>,
    tasks: Vec<TaskRecord>,
}

impl View {
    /// Its bytes, for a snapshot; equal views give equal bytes.
    ///
    /// # Errors
    /// None that the content can cause.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut specs = Specs::default();
        let numbers = self.tasks().map(|task| specs.number(&task.spec));
        let numbers = numbers
            .collect::<Result<Vec<_>, _>>()
            .map_err(EncodeError::Json)?;
        let record = SnapshotRef {
            index: self.index,
            last_vni: self.last_vni,
            cursors: self.cursors.iter().collect(),
            specs: &specs.written,
            clusters: self.clusters.values().map(AsRef::as_ref).collect(),
            nodes: self.nodes().map(AsRef::as_ref).collect(),
            networks: self.networks().map(AsRef::as_ref).collect(),
            secrets: self.secrets().map(AsRef::as_ref).collect(),
            configs: self.configs().map(AsRef::as_ref).collect(),
            services: self.services().map(AsRef::as_ref).collect(),
            tasks: Tasks {
                view: self,
                specs: numbers,
            },
        };
        let payload = serde_json::to_vec(&record).map_err(EncodeError::Json)?;
        Ok(framed(SNAPSHOT, &payload))
    }

    /// Reads it back, with every check that applying makes.
    ///
    /// # Errors
    /// The bytes are torn, corrupt, of another version, something else, or hold objects that do not go together.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Snapshot {
            index,
            last_vni,
            cursors,
            mut specs,
            clusters,
            nodes,
            networks,
            secrets,
            configs,
            services,
            tasks,
        } = serde_json::from_slice(unframed(SNAPSHOT, bytes)?).map_err(DecodeError::Json)?;
        let mut view = Self::default();
        let first = clusters
            .into_iter()
            .map(Object::Cluster)
            .chain(networks.into_iter().map(Object::Network));
        let first = first.chain(nodes.into_iter().map(Object::Node));
        let used = secrets
            .into_iter()
            .map(Object::Secret)
            .chain(configs.into_iter().map(Object::Config));
        for object in first.chain(used).chain(services.into_iter().map(Object::Service)) {
            view.restore(object)?;
        }
        for record in tasks {
            let number = record.spec;
            let task = view.restore(record.into_task(&specs)?.into())?;
            if let (Object::Task(task), Some(spec)) = (task, specs.get_mut(number)) {
                // Found again without a comparison by the tasks that follow.
                *spec = task.spec.clone();
            }
        }
        view.index = index;
        view.last_vni = last_vni;
        view.cursors = cursors.into_iter().collect();
        Ok(view)
    }

    fn restore(&mut self, object: Object) -> Result<Object, DecodeError> {
        if self.object(object.id()).is_some() {
            let object = object.id();
            return Err(DecodeError::Inconsistent(Conflict::Exists { object }));
        }
        self.put_back(object).map_err(DecodeError::Inconsistent)
    }
}

impl Store {
    /// One that goes on from a snapshot.
    ///
    /// # Errors
    /// As [`View::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        View::decode(bytes).map(Self::from)
    }
}

#[cfg(test)]
mod tests;
