//! The flags that `service create` and `service update` have alike, and what each changes in a spec.

use crate::error::Error;
use crate::parse::{Bytes, Cpus, key_value, nano_duration, ratio, shell_words, word};
use essaim_objects::{
    ContainerSpec, Driver, EndpointSpec, FailureAction, HealthConfig, Labels, Nanoseconds, NodeResources,
    Placement, Ratio, ResolutionMode, ResourceLimits, ResourceRequirements, RestartCondition, RestartPolicy,
    ServiceSpec, TaskSpec, UpdateConfig, UpdateOrder,
};
use std::sync::Arc;

/// Words that a shell would split, in one flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl std::str::FromStr for Words {
    type Err = crate::parse::Expected;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        shell_words(text).map(Self)
    }
}

/// Flags with one value, which create and update share.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub(crate) struct SharedFlags {
    #[command(flatten)]
    container: ContainerFlags,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    log: LogFlags,
    #[command(flatten)]
    resources: ResourceFlags,
    #[command(flatten)]
    restart: RestartFlags,
    #[command(flatten)]
    update: UpdateFlags,
    #[command(flatten)]
    rollback: RollbackFlags,
    /// Endpoint mode (vip or dnsrr)
    #[arg(long, value_name = "MODE", value_parser = word::<ResolutionMode>)]
    endpoint_mode: Option<ResolutionMode>,
    /// Maximum number of tasks per node (0 = unlimited)
    #[arg(long, value_name = "NUMBER")]
    replicas_max_per_node: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
struct ContainerFlags {
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<Words>,
    /// Host name of the tasks; may hold placeholders such as {{.Task.Slot}}
    #[arg(long)]
    hostname: Option<String>,
    /// Username or UID (format: `NAME|UID[:GROUP|GID]`)
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory of the tasks
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Use an init inside each task to forward signals and reap processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    init: Option<bool>,
    /// Allocate a pseudo-TTY
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tty: Option<bool>,
    /// Mount the task's root file system as read only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    read_only: Option<bool>,
    /// Signal to stop a task
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Time to wait before force killing a task (ns|us|ms|s|m|h) [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    stop_grace_period: Option<Nanoseconds>,
    /// Tune the node's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1000..=1000))]
    oom_score_adj: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
struct HealthFlags {
    /// Command to run to check health
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    health_interval: Option<Nanoseconds>,
    /// Maximum time to allow one check to run (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    health_timeout: Option<Nanoseconds>,
    /// Start period for the task to initialise before counting retries (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    health_start_period: Option<Nanoseconds>,
    /// Time between running the check during the start period (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    health_start_interval: Option<Nanoseconds>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..))]
    health_retries: Option<i64>,
    /// Disable any health check of the image
    #[arg(long)]
    no_healthcheck: bool,
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
struct LogFlags {
    /// Logging driver for service
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Logging driver options
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    log_opt: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
struct ResourceFlags {
    /// Limit CPUs
    #[arg(long, value_name = "CPUS")]
    limit_cpu: Option<Cpus>,
    /// Limit memory
    #[arg(long, value_name = "BYTES")]
    limit_memory: Option<Bytes>,
    /// Limit the number of processes (0 = unlimited)
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..))]
    limit_pids: Option<i64>,
    /// Reserve CPUs
    #[arg(long, value_name = "CPUS")]
    reserve_cpu: Option<Cpus>,
    /// Reserve memory
    #[arg(long, value_name = "BYTES")]
    reserve_memory: Option<Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[expect(clippy::struct_field_names, reason = "the fields are the flags' names")]
struct RestartFlags {
    /// Restart when condition is met (none, on-failure, any) [default: any]
    #[arg(long, value_name = "CONDITION", value_parser = word::<RestartCondition>)]
    restart_condition: Option<RestartCondition>,
    /// Delay between restart attempts (ns|us|ms|s|m|h) [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    restart_delay: Option<Nanoseconds>,
    /// Maximum number of restarts before giving up
    #[arg(long, value_name = "NUMBER")]
    restart_max_attempts: Option<u64>,
    /// Window used to evaluate the restart policy (ns|us|ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    restart_window: Option<Nanoseconds>,
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[expect(clippy::struct_field_names, reason = "the fields are the flags' names")]
struct UpdateFlags {
    /// Maximum number of tasks updated simultaneously (0 to update all at once) [default: 1]
    #[arg(long, value_name = "NUMBER")]
    update_parallelism: Option<u64>,
    /// Delay between updates (ns|us|ms|s|m|h) [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    update_delay: Option<Nanoseconds>,
    /// Action on update failure (pause, continue, rollback) [default: pause]
    #[arg(long, value_name = "ACTION", value_parser = word::<FailureAction>)]
    update_failure_action: Option<FailureAction>,
    /// Duration after each task update to monitor for failure (ns|us|ms|s|m|h) [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    update_monitor: Option<Nanoseconds>,
    /// Failure rate to tolerate during an update [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = ratio)]
    update_max_failure_ratio: Option<f64>,
    /// Update order (start-first, stop-first) [default: stop-first]
    #[arg(long, value_name = "ORDER", value_parser = word::<UpdateOrder>)]
    update_order: Option<UpdateOrder>,
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[expect(clippy::struct_field_names, reason = "the fields are the flags' names")]
struct RollbackFlags {
    /// Maximum number of tasks rolled back simultaneously (0 to roll back all at once) [default: 1]
    #[arg(long, value_name = "NUMBER")]
    rollback_parallelism: Option<u64>,
    /// Delay between task rollbacks (ns|us|ms|s|m|h) [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    rollback_delay: Option<Nanoseconds>,
    /// Action on rollback failure (pause, continue) [default: pause]
    #[arg(long, value_name = "ACTION", value_parser = rollback_action)]
    rollback_failure_action: Option<FailureAction>,
    /// Duration after each task rollback to monitor for failure (ns|us|ms|s|m|h) [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = nano_duration)]
    rollback_monitor: Option<Nanoseconds>,
    /// Failure rate to tolerate during a rollback [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = ratio)]
    rollback_max_failure_ratio: Option<f64>,
    /// Rollback order (start-first, stop-first) [default: stop-first]
    #[arg(long, value_name = "ORDER", value_parser = word::<UpdateOrder>)]
    rollback_order: Option<UpdateOrder>,
}

fn rollback_action(text: &str) -> Result<FailureAction, crate::parse::Expected> {
    match word(text)? {
        FailureAction::Rollback => Err(crate::parse::Expected::new("pause, continue")),
        action @ (FailureAction::Unset | FailureAction::Pause | FailureAction::Continue) => Ok(action),
    }
}

/// Sets a member where its flag was given.
fn set<T: Clone>(member: &mut Option<T>, flag: Option<&T>) {
    if let Some(value) = flag {
        *member = Some(value.clone());
    }
}

/// As [`set`], where the API leaves out what is zero or empty.
fn set_or_clear<T: Clone + PartialEq + Default>(member: &mut Option<T>, flag: Option<&T>) {
    if let Some(value) = flag {
        *member = Some(value.clone()).filter(|value| *value != T::default());
    }
}

/// The container of a service, made where there was none.
pub(crate) fn container(spec: &mut ServiceSpec) -> &mut ContainerSpec {
    task(spec).container.get_or_insert_default()
}

/// What a service's tasks are made of.
pub(crate) fn task(spec: &mut ServiceSpec) -> &mut TaskSpec {
    Arc::make_mut(&mut spec.task_template)
}

/// Where a service's tasks may run.
pub(crate) fn placement(spec: &mut ServiceSpec) -> &mut Placement {
    task(spec).placement.get_or_insert_default()
}

/// How a service is reached.
pub(crate) fn endpoint(spec: &mut ServiceSpec) -> &mut EndpointSpec {
    spec.endpoint_spec.get_or_insert_default()
}

/// What the tasks of a service need.
pub(crate) fn reservations(spec: &mut ServiceSpec) -> &mut NodeResources {
    task(spec)
        .resources
        .get_or_insert_default()
        .reservations
        .get_or_insert_default()
}

/// A list as the API has it: absent where it is empty.
pub(crate) fn list<T>(items: Vec<T>) -> Option<Vec<T>> {
    Some(items).filter(|items| !items.is_empty())
}

impl SharedFlags {
    /// Changes what the flags name.
    ///
    /// # Errors
    /// Flags that do not go together, or not with the service's mode.
    pub(crate) fn apply(&self, spec: &mut ServiceSpec) -> Result<(), Error> {
        self.container.apply(container(spec));
        self.health.apply(&mut container(spec).healthcheck)?;
        self.log.apply(&mut task(spec).log_driver)?;
        self.resources.apply(&mut task(spec).resources);
        self.restart.apply(&mut task(spec).restart_policy);
        let (update, rollback) = (self.update.values(), self.rollback.values());
        if (update.any() || rollback.any()) && spec.mode().is_job() {
            return Err(Error::Usage(
                "update and rollback configuration is not supported for jobs".to_owned(),
            ));
        }
        update.apply(&mut spec.update_config);
        rollback.apply(&mut spec.rollback_config);
        if let Some(mode) = self.endpoint_mode {
            endpoint(spec).mode = Some(mode);
        }
        if let Some(most) = self.replicas_max_per_node {
            if spec.mode().is_global() {
                return Err(Error::Usage(
                    "--replicas-max-per-node can only be used with replicated or replicated-job mode"
                        .to_owned(),
                ));
            }
            placement(spec).max_replicas = Some(most).filter(|most| *most != 0);
        }
        Ok(())
    }
}

impl ContainerFlags {
    fn apply(&self, container: &mut ContainerSpec) {
        if let Some(Words(words)) = &self.entrypoint {
            container.command = list(words.clone());
        }
        set_or_clear(&mut container.hostname, self.hostname.as_ref());
        set_or_clear(&mut container.user, self.user.as_ref());
        set_or_clear(&mut container.dir, self.workdir.as_ref());
        set(&mut container.init, self.init.as_ref());
        set_or_clear(&mut container.tty, self.tty.as_ref());
        set_or_clear(&mut container.read_only, self.read_only.as_ref());
        set_or_clear(&mut container.stop_signal, self.stop_signal.as_ref());
        set(&mut container.stop_grace_period, self.stop_grace_period.as_ref());
        set_or_clear(&mut container.oom_score_adj, self.oom_score_adj.as_ref());
    }
}

impl HealthFlags {
    fn apply(&self, health: &mut Option<HealthConfig>) -> Result<(), Error> {
        let Self {
            health_cmd,
            health_interval,
            health_timeout,
            health_start_period,
            health_start_interval,
            health_retries,
            no_healthcheck,
        } = self;
        let spans = [
            health_interval,
            health_timeout,
            health_start_period,
            health_start_interval,
        ];
        let any = health_cmd.is_some() || spans.iter().any(|span| span.is_some()) || health_retries.is_some();
        if *no_healthcheck {
            if any {
                return Err(Error::Usage(
                    "--no-healthcheck conflicts with --health-* options".to_owned(),
                ));
            }
            *health = Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            });
        }
        if !any {
            return Ok(());
        }
        let health = health.get_or_insert_default();
        if health
            .test
            .as_deref()
            .is_some_and(|test| test.first().is_some_and(|word| word == "NONE"))
        {
            health.test = None;
        }
        if let Some(command) = health_cmd {
            health.test = Some(command)
                .filter(|command| !command.is_empty())
                .map(|command| vec!["CMD-SHELL".to_owned(), command.clone()]);
        }
        set_or_clear(&mut health.interval, health_interval.as_ref());
        set_or_clear(&mut health.timeout, health_timeout.as_ref());
        set_or_clear(&mut health.start_period, health_start_period.as_ref());
        set_or_clear(&mut health.start_interval, health_start_interval.as_ref());
        set_or_clear(&mut health.retries, health_retries.as_ref());
        Ok(())
    }
}

impl LogFlags {
    fn apply(&self, driver: &mut Option<Driver>) -> Result<(), Error> {
        if let Some(name) = &self.log_driver {
            let options: Labels = self.log_opt.iter().cloned().collect();
            *driver = Some(Driver {
                name: Some(name.clone()),
                options: Some(options).filter(|options| !options.is_empty()),
                ..Driver::default()
            });
        } else if !self.log_opt.is_empty() {
            return Err(Error::Usage("--log-opt is given without --log-driver".to_owned()));
        }
        Ok(())
    }
}

impl ResourceFlags {
    fn apply(&self, resources: &mut Option<ResourceRequirements>) {
        let Self {
            limit_cpu,
            limit_memory,
            limit_pids,
            reserve_cpu,
            reserve_memory,
        } = self;
        if limit_cpu.is_some() || limit_memory.is_some() || limit_pids.is_some() {
            let resources = resources.get_or_insert_default();
            let limits: &mut ResourceLimits = resources.limits.get_or_insert_default();
            set_or_clear(&mut limits.nano_cpus, limit_cpu.map(|cpus| cpus.0).as_ref());
            set_or_clear(&mut limits.memory_bytes, limit_memory.map(|size| size.0).as_ref());
            set_or_clear(&mut limits.pids, limit_pids.as_ref());
        }
        if reserve_cpu.is_some() || reserve_memory.is_some() {
            let reserved = resources
                .get_or_insert_default()
                .reservations
                .get_or_insert_default();
            set_or_clear(&mut reserved.nano_cpus, reserve_cpu.map(|cpus| cpus.0).as_ref());
            set_or_clear(
                &mut reserved.memory_bytes,
                reserve_memory.map(|size| size.0).as_ref(),
            );
        }
    }
}

impl RestartFlags {
    fn apply(&self, policy: &mut Option<RestartPolicy>) {
        if *self == Self::default() {
            return;
        }
        let policy = policy.get_or_insert_with(|| RestartPolicy {
            condition: Some(RestartCondition::Any),
            delay: Some(Nanoseconds::from_secs(5)),
            max_attempts: Some(0),
            ..RestartPolicy::default()
        });
        set(&mut policy.condition, self.restart_condition.as_ref());
        set(&mut policy.delay, self.restart_delay.as_ref());
        set(&mut policy.max_attempts, self.restart_max_attempts.as_ref());
        set(&mut policy.window, self.restart_window.as_ref());
    }
}

/// The values of the flags of an update or of a rollback.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Policy {
    parallelism: Option<u64>,
    delay: Option<Nanoseconds>,
    action: Option<FailureAction>,
    monitor: Option<Nanoseconds>,
    ratio: Option<f64>,
    order: Option<UpdateOrder>,
}

impl UpdateFlags {
    fn values(&self) -> Policy {
        Policy {
            parallelism: self.update_parallelism,
            delay: self.update_delay,
            action: self.update_failure_action,
            monitor: self.update_monitor,
            ratio: self.update_max_failure_ratio,
            order: self.update_order,
        }
    }
}

impl RollbackFlags {
    fn values(&self) -> Policy {
        Policy {
            parallelism: self.rollback_parallelism,
            delay: self.rollback_delay,
            action: self.rollback_failure_action,
            monitor: self.rollback_monitor,
            ratio: self.rollback_max_failure_ratio,
            order: self.rollback_order,
        }
    }
}

impl Policy {
    fn any(self) -> bool {
        let Self {
            parallelism,
            delay,
            action,
            monitor,
            ratio,
            order,
        } = self;
        parallelism.is_some()
            || delay.is_some()
            || action.is_some()
            || monitor.is_some()
            || ratio.is_some()
            || order.is_some()
    }

    fn apply(self, config: &mut Option<UpdateConfig>) {
        if !self.any() {
            return;
        }
        let config = config.get_or_insert_with(|| UpdateConfig {
            parallelism: Some(1),
            failure_action: Some(FailureAction::Pause),
            monitor: Some(Nanoseconds::from_secs(5)),
            max_failure_ratio: Some(Ratio(0.0)),
            order: Some(UpdateOrder::StopFirst),
            ..UpdateConfig::default()
        });
        set(&mut config.parallelism, self.parallelism.as_ref());
        set_or_clear(&mut config.delay, self.delay.as_ref());
        set(&mut config.failure_action, self.action.as_ref());
        set_or_clear(&mut config.monitor, self.monitor.as_ref());
        set(&mut config.max_failure_ratio, self.ratio.map(Ratio).as_ref());
        set(&mut config.order, self.order.as_ref());
    }
}
