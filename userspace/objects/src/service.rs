//! Services.

use crate::object::{always_written, object, spec, words};
use crate::{
    Endpoint, EndpointSpec, Labels, Nanoseconds, NetworkTarget, Ratio, ServiceId, TaskSpec, Timestamp,
    Version,
};
use std::sync::Arc;

object! {
    /// A set of tasks that do the same.
    Service {
        /// Its identity.
        "ID" id: ServiceId,
        /// The log index of its last change.
        "Version" version: Version,
        /// When it was made.
        "CreatedAt" created_at: Timestamp,
        /// When it was last changed.
        "UpdatedAt" updated_at: Timestamp,
        /// What is asked.
        "Spec" spec: Arc<ServiceSpec>,
        /// What was asked before, for a rollback.
        "PreviousSpec" previous_spec: Option<Arc<ServiceSpec>>,
        /// Its ports and virtual addresses as they are allotted.
        "Endpoint" endpoint: Option<Endpoint>,
        /// How its update goes.
        "UpdateStatus" update_status: Option<UpdateStatus>,
        /// How many of its tasks run. Never stored: the API fills it in where it is asked to.
        "ServiceStatus" service_status: Option<ServiceStatus>,
        /// For a job: its run.
        "JobStatus" job_status: Option<JobStatus>,
        /// The log index at which what is asked last changed; tasks carry the one they were made of. Not part of
        /// Docker's API.
        "SpecVersion" spec_version: Option<Version>,
        /// The one of what was asked before. Not part of Docker's API.
        "PreviousSpecVersion" previous_spec_version: Option<Version>,
    }
}

impl Service {
    /// A service to which nothing is allotted yet; the store gives it version and times.
    pub fn new(id: ServiceId, spec: Arc<ServiceSpec>) -> Self {
        Self {
            id,
            version: Version::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
            previous_spec: None,
            endpoint: None,
            update_status: None,
            service_status: None,
            job_status: None,
            spec_version: None,
            previous_spec_version: None,
            extra: crate::Extra::new(),
        }
    }
}

spec! {
    /// What is asked of a service.
    ServiceSpec {
        /// Its name, which is also its DNS name.
        "Name" name: Option<String>,
        /// Its labels.
        "Labels" labels: Option<Labels>,
        /// What its tasks are made of.
        "TaskTemplate" task_template: Arc<TaskSpec>,
        /// How many tasks there are, and whether they end.
        "Mode" mode: Option<ServiceMode>,
        /// How its tasks are replaced by those of a new spec.
        "UpdateConfig" update_config: Option<UpdateConfig>,
        /// How they are when the update before it is taken back.
        "RollbackConfig" rollback_config: Option<UpdateConfig>,
        /// The networks of its tasks, where old clients give them.
        "Networks" networks: Option<Vec<NetworkTarget>>,
        /// How it is reached.
        "EndpointSpec" endpoint_spec: Option<EndpointSpec>,
    }
}

impl ServiceSpec {
    /// Whether it publishes ports, in whatever mode.
    pub fn publishes(&self) -> bool {
        let endpoint = self.endpoint_spec.as_ref();
        endpoint.is_some_and(|endpoint| !endpoint.ports().is_empty())
    }

    /// Its name; empty where none was given, which the checks refuse.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// How many tasks there are; one where nothing is said.
    pub fn mode(&self) -> Mode {
        self.mode
            .as_ref()
            .map_or(Mode::Replicated { replicas: 1 }, ServiceMode::mode)
    }

    /// The networks of its tasks: those of the task template, else those that an old client gave beside it.
    pub fn networks(&self) -> &[NetworkTarget] {
        let of_tasks = self.task_template.networks.as_deref().unwrap_or_default();
        if of_tasks.is_empty() {
            self.networks.as_deref().unwrap_or_default()
        } else {
            of_tasks
        }
    }

    /// How its tasks are replaced, with the defaults of an update.
    pub fn update(&self) -> UpdatePolicy {
        UpdatePolicy::of(self.update_config.as_ref())
    }

    /// How they are when the update is taken back; a rollback is never rolled back.
    pub fn rollback(&self) -> UpdatePolicy {
        UpdatePolicy::of(self.rollback_config.as_ref())
    }
}

spec! {
    /// How many tasks a service has: exactly one member is given.
    ServiceMode {
        /// So many.
        "Replicated" replicated: Option<ReplicatedService>,
        /// One on every node that may have one.
        "Global" global: Option<GlobalService>,
        /// So many that end by themselves.
        "ReplicatedJob" replicated_job: Option<ReplicatedJob>,
        /// One on every node, which ends by itself.
        "GlobalJob" global_job: Option<GlobalJob>,
    }
}

impl ServiceMode {
    /// So many tasks.
    pub fn replicated(replicas: u64) -> Self {
        let replicated = ReplicatedService {
            replicas: Some(replicas),
            ..ReplicatedService::default()
        };
        Self {
            replicated: Some(replicated),
            ..Self::default()
        }
    }

    /// The mode with its defaults: the first member that is given, else one replica.
    pub fn mode(&self) -> Mode {
        if let Some(replicated) = &self.replicated {
            let replicas = replicated.replicas.unwrap_or(1);
            Mode::Replicated { replicas }
        } else if self.global.is_some() {
            Mode::Global
        } else if let Some(job) = &self.replicated_job {
            let max_concurrent = job.max_concurrent.unwrap_or(1);
            Mode::ReplicatedJob {
                max_concurrent,
                total_completions: job.total_completions.unwrap_or(max_concurrent),
            }
        } else if self.global_job.is_some() {
            Mode::GlobalJob
        } else {
            Mode::Replicated { replicas: 1 }
        }
    }
}

/// How many tasks a service has, with defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// So many.
    Replicated {
        /// How many.
        replicas: u64,
    },
    /// One on every node that may have one.
    Global,
    /// So many that end by themselves.
    ReplicatedJob {
        /// At most so many at a time.
        max_concurrent: u64,
        /// So many must complete.
        total_completions: u64,
    },
    /// One on every node, which ends by itself.
    GlobalJob,
}

impl Mode {
    /// Whether its tasks end by themselves.
    pub const fn is_job(self) -> bool {
        match self {
            Self::Replicated { .. } | Self::Global => false,
            Self::ReplicatedJob { .. } | Self::GlobalJob => true,
        }
    }

    /// Whether every node has one.
    pub const fn is_global(self) -> bool {
        match self {
            Self::Replicated { .. } | Self::ReplicatedJob { .. } => false,
            Self::Global | Self::GlobalJob => true,
        }
    }
}

spec! {
    /// A number of tasks.
    ReplicatedService {
        /// How many; 1 where nothing is said.
        "Replicas" replicas: Option<u64>,
    }
}

spec! {
    /// A task on every node.
    GlobalService {}
}

spec! {
    /// A number of tasks that end by themselves.
    ReplicatedJob {
        /// At most so many at a time; 1 where nothing is said.
        "MaxConcurrent" max_concurrent: Option<u64>,
        /// So many must complete; as many as may run at a time where nothing is said.
        "TotalCompletions" total_completions: Option<u64>,
    }
}

spec! {
    /// A task on every node, which ends by itself.
    GlobalJob {}
}

spec! {
    /// How tasks are replaced by those of another spec.
    UpdateConfig {
        /// So many at a time; 0 is all.
        "Parallelism" parallelism: Option<u64>,
        /// The pause between one batch and the next.
        "Delay" delay: Option<Nanoseconds>,
        /// What happens once too many fail.
        "FailureAction" failure_action: Option<FailureAction>,
        /// How long a new task is watched for failure.
        "Monitor" monitor: Option<Nanoseconds>,
        /// The share of tasks that may fail.
        "MaxFailureRatio" max_failure_ratio: Option<Ratio>,
        /// Whether the old one stops before the new one starts.
        "Order" order: Option<UpdateOrder>,
    }
}

words! {
    /// What happens once too many of an update's tasks fail.
    FailureAction {
        /// What the default says.
        "" Unset,
        /// It waits for the operator.
        "pause" Pause,
        /// It goes on.
        "continue" Continue,
        /// The spec before it comes back.
        "rollback" Rollback,
    }
}

words! {
    /// Whether the old task stops before the new one starts.
    UpdateOrder {
        /// What the default says.
        "" Unset,
        /// The old one stops first.
        "stop-first" StopFirst,
        /// The new one starts first.
        "start-first" StartFirst,
    }
}

/// How tasks are replaced, with the defaults in place of what was left open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdatePolicy {
    /// So many at a time; 0 is all.
    pub parallelism: u64,
    /// The pause between one batch and the next.
    pub delay: Nanoseconds,
    /// What happens once too many fail; never unset.
    pub failure_action: FailureAction,
    /// How long a new task is watched for failure.
    pub monitor: Nanoseconds,
    /// The share of tasks that may fail.
    pub max_failure_ratio: f64,
    /// Whether the old one stops before the new one starts; never unset.
    pub order: UpdateOrder,
}

impl UpdatePolicy {
    /// The defaults where nothing is said; where something is, a missing parallelism is 0, as Docker has it.
    fn of(config: Option<&UpdateConfig>) -> Self {
        let set = config.cloned().unwrap_or_default();
        Self {
            parallelism: set.parallelism.unwrap_or(u64::from(config.is_none())),
            delay: set.delay.unwrap_or_default(),
            failure_action: match set.failure_action {
                None | Some(FailureAction::Unset) => FailureAction::Pause,
                Some(action) => action,
            },
            monitor: set
                .monitor
                .filter(|monitor| monitor.0 != 0)
                .unwrap_or(Nanoseconds::from_secs(5)),
            max_failure_ratio: set.max_failure_ratio.unwrap_or_default().0,
            order: match set.order {
                None | Some(UpdateOrder::Unset) => UpdateOrder::StopFirst,
                Some(order) => order,
            },
        }
    }
}

spec! {
    /// How an update goes.
    UpdateStatus {
        /// In a word.
        "State" state: Option<UpdateState>,
        /// When it began.
        "StartedAt" started_at: Option<Timestamp>,
        /// When it ended.
        "CompletedAt" completed_at: Option<Timestamp>,
        /// In a sentence.
        "Message" message: Option<String>,
    }
}

words! {
    /// How an update goes.
    UpdateState {
        /// It goes on.
        "updating" Updating,
        /// It waits for the operator.
        "paused" Paused,
        /// It is done.
        "completed" Completed,
        /// The spec before it is coming back.
        "rollback_started" RollbackStarted,
        /// Its coming back waits for the operator.
        "rollback_paused" RollbackPaused,
        /// It is back.
        "rollback_completed" RollbackCompleted,
    }
}

spec! {
    /// How many tasks of a service run.
    ServiceStatus {
        /// Those that run.
        "RunningTasks" running_tasks: u64,
        /// Those that should.
        "DesiredTasks" desired_tasks: u64,
        /// Those of a job that have completed.
        "CompletedTasks" completed_tasks: u64,
    }
}

spec! {
    /// A job's run.
    JobStatus {
        /// Which run it is; every update begins another.
        "JobIteration" job_iteration: Version,
        /// When it began.
        "LastExecution" last_execution: Option<Timestamp>,
    }
}

always_written!(Ratio);
