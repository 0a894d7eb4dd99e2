//! Whether a task may take traffic, and how it stops taking it: health checks and planned stops.
//!
//! Two pure cores say what is to be done: [`Monitor`] watches one task by a [`HealthCheck`] with Docker's meaning, and
//! [`Stop`] takes one task out of service so that no request fails. They are told the time and what happened, and hand
//! out actions. Round them are the shells: [`HealthService`] runs the probes of a node's tasks inside their
//! namespaces, and [`TaskProcesses`] finds, signals and outwaits the processes of a task.
//!
//! | part | pure | does |
//! |---|---|---|
//! | [`HealthCheck`], [`Probe`] | yes | what to ask of a task, and how often; checked once, when made |
//! | [`Monitor`] | yes | when to probe, when to give a probe up, what its results mean |
//! | [`Stop`] | yes | drain, signal, grace period, kill |
//! | [`HealthService`] | no | probes on tokio; commands in the task's namespaces, control group and privileges |
//! | [`TaskProcesses`], [`stop_task`] | no | processes by their network namespace, through pidfds |

mod check;
mod http;
mod monitor;
mod pidfd;
mod probe;
mod processes;
mod result;
mod run;
mod service;
mod signal;
mod stop;
mod stopping;
mod sys;

pub use check::{CheckError, HealthCheck, Pace};
pub use http::{HttpResponse, ResponseError};
pub use monitor::{Action, Health, Monitor, ProbeRecord, RESULTS_KEPT};
pub use probe::{CommandLine, HttpProbe, Probe, ProbeError};
pub use processes::{ProcessError, TaskProcesses};
pub use result::{FailureCause, OUTPUT_KEPT, Output, ProbeFailure, ProbeResult};
pub use service::{HealthChange, HealthService, TaskHealth, TaskPlace, TaskProbe};
pub use signal::{SignalError, StopSignal};
pub use stop::{Stop, StopAction, StopPhase, StopSettings};
pub use stopping::{StopReport, stop_task};
