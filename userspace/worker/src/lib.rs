//! The node's side of the dispatcher: makes the node run what the managers assign.
//!
//! [`run_worker`] keeps a session with the leader, takes what is assigned from it, has the node's [`Runner`] and
//! [`Dataplane`] do it, and reports how the tasks are.
//!
//! | part | is |
//! |---|---|
//! | [`Core`] | what becomes of each task: pure, told of everything and asked for what is to be done |
//! | [`task_spec`] | a task as its runner runs it: pure |
//! | [`NodeRunner`] | the runners of processes and of containers as one |
//! | [`Dataplane`] | what the node's data plane does for tasks; the agent implements it |
//! | session | who leads, what is assigned, heartbeats, reports, logs |
//! | worker | the core's hands: the runner's operations, health checks, what is kept on disk |
//!
//! # A task's way
//! *Accepted* when it is assigned; *preparing* while the runner makes its directory, control groups and namespaces and the
//! data plane its endpoints; *ready*, where it waits until it should run; *starting* until its checks pass, if it has any;
//! *running*. It ends *complete* or *failed* by itself, *failed* where its checks fail, *shutdown* where it should end:
//! then it is drained, asked to stop and, once its grace period is over, killed. What cannot be prepared is *rejected*,
//! and says why. States never go back. What has ended stays on the node with its logs until it is assigned no more.
//!
//! # Without managers
//! Nothing changes for the tasks that run. What is assigned, and how it is, is kept in `tasks.json` (without the contents of
//! secrets and configs), and where the managers are in `managers.json`: a worker that starts while all of them are away
//! takes over what runs, starts and stops what it had been told to, and reports all of it once a leader is there. A task
//! that needs secrets or configs and does not run yet waits for them. What the runner has and nobody assigned goes on until
//! a leader says so.
//!
//! [`Runner`]: essaim_runner::Runner
#![forbid(unsafe_code)]

mod backoff;
mod core;
mod dataplane;
mod describe;
mod disk;
mod leader_link;
mod logs;
mod managers;
mod node_runner;
mod outbox;
mod session;
mod spec;
mod worker;

pub use crate::core::{Action, Core, Done, End, Failure, Kept, Launch, Now, Operation, RunnerState};
pub use dataplane::{AttachError, Dataplane, Word, WrongBasis};
pub use describe::{Describe, Facts, machine_resources};
pub use disk::DiskError;
pub use leader_link::LeaderLink;
pub use node_runner::NodeRunner;
pub use spec::{Given, TaskSpec, Unsupported, health_check, netns_name, netns_path, task_spec};
pub use worker::{Notice, WorkerError, WorkerOptions, run_worker, stop_all};
