//! A runner and a data plane in memory.

use essaim_health::StopSignal;
use essaim_objects::{Task, TaskId, Timestamp};
use essaim_protocol::{CatalogUpdate, GossipKey};
use essaim_runner::{
    Adopted, Exit, ExitRecord, LogFollower, LogQuery, Runner, RunnerError, StartRecord, Stats, TaskState,
};
use essaim_worker::{AttachError, Dataplane, TaskSpec, Word, WrongBasis};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

type Name = essaim_model::TaskId;

/// A runner whose tasks are entries of a map.
#[derive(Debug, Default)]
pub(crate) struct FakeRunner {
    pub(crate) tasks: Mutex<BTreeMap<Name, TaskState>>,
}

impl FakeRunner {
    fn state(&self, task: &Name) -> Result<TaskState, RunnerError> {
        let found = self.tasks.lock().unwrap().get(task).cloned();
        found.ok_or_else(|| RunnerError::Unknown { task: task.clone() })
    }
}

impl Runner for FakeRunner {
    type Spec = TaskSpec;

    async fn prepare(&self, task: &Name, _: TaskSpec) -> Result<TaskState, RunnerError> {
        let mut tasks = self.tasks.lock().unwrap();
        Ok(tasks.entry(task.clone()).or_insert(TaskState::Prepared).clone())
    }

    async fn start(&self, task: &Name) -> Result<StartRecord, RunnerError> {
        let record = StartRecord {
            pid: 42,
            shim: 41,
            started: Timestamp::now(),
            container: None,
            health: None,
        };
        assert_eq!(self.state(task)?, TaskState::Prepared, "{task} was started twice");
        self.tasks
            .lock()
            .unwrap()
            .insert(task.clone(), TaskState::Running(record.clone()));
        Ok(record)
    }

    async fn stop(
        &self,
        task: &Name,
        _: Option<StopSignal>,
        _: Option<Duration>,
    ) -> Result<ExitRecord, RunnerError> {
        self.state(task)?;
        let record = ExitRecord {
            exit: Exit::Signal { signal: 15 },
            oom_killed: false,
            started: None,
            finished: Timestamp::now(),
        };
        self.tasks
            .lock()
            .unwrap()
            .insert(task.clone(), TaskState::Ended(record.clone()));
        Ok(record)
    }

    async fn kill(&self, task: &Name) -> Result<ExitRecord, RunnerError> {
        self.stop(task, None, None).await
    }

    async fn remove(&self, task: &Name) -> Result<(), RunnerError> {
        self.tasks.lock().unwrap().remove(task);
        Ok(())
    }

    async fn wait(&self, task: &Name) -> Result<ExitRecord, RunnerError> {
        Err(RunnerError::NotRunning { task: task.clone() })
    }

    async fn stats(&self, task: &Name) -> Result<Stats, RunnerError> {
        Err(RunnerError::NotRunning { task: task.clone() })
    }

    async fn logs(&self, task: &Name, _: LogQuery) -> Result<LogFollower, RunnerError> {
        Err(RunnerError::Unknown { task: task.clone() })
    }

    fn list(&self) -> BTreeMap<Name, TaskState> {
        self.tasks.lock().unwrap().clone()
    }

    async fn adopt(&self) -> Result<Adopted, RunnerError> {
        Ok(Adopted {
            tasks: self.list(),
            removed: Vec::new(),
        })
    }
}

/// A data plane that notes what it is told.
#[derive(Debug, Default)]
pub(crate) struct FakeDataplane {
    pub(crate) told: Mutex<Vec<(TaskId, Word)>>,
    pub(crate) revision: Mutex<Option<u64>>,
    pub(crate) keys: Mutex<Vec<GossipKey>>,
    pub(crate) resolv_conf: PathBuf,
}

impl Dataplane for FakeDataplane {
    async fn attach(&self, task: &Task, netns: &Path) -> Result<(), AttachError> {
        assert_eq!(netns, Path::new(&format!("/run/netns/es-{}", task.id)));
        Ok(())
    }

    fn resolv_conf(&self, _: TaskId) -> PathBuf {
        self.resolv_conf.clone()
    }

    fn tell(&self, task: TaskId, word: Word) {
        self.told.lock().unwrap().push((task, word));
    }

    async fn drain(&self, _: TaskId) {}

    fn catalog(&self, update: CatalogUpdate) -> Result<(), WrongBasis> {
        let mut held = self.revision.lock().unwrap();
        if update.basis.is_some() && update.basis != *held {
            return Err(WrongBasis {
                basis: update.basis,
                held: *held,
            });
        }
        *held = Some(update.revision);
        Ok(())
    }

    fn data_keys(&self, _keys: Vec<essaim_protocol::DataKey>) {}

    fn gossip_keys(&self, keys: Vec<GossipKey>) {
        *self.keys.lock().unwrap() = keys;
    }

    fn revision(&self) -> Option<u64> {
        *self.revision.lock().unwrap()
    }
}
