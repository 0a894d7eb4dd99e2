//! Runs tasks as containers of the node's Docker Engine: [`DockerRunner`], beside the process runner.
//!
//! Each task has two containers. The *sandbox* holds its network namespace and does nothing else: it is made and started
//! when the task is prepared, so that the data plane attaches the task before its process exists, as it does for
//! processes. The task's own container then starts in that namespace.
//!
//! | part | does |
//! |---|---|
//! | `plan` | a task's two containers, as the engine's API says them: pure |
//! | `engine` | the engine at its socket: found anew where it was away, no call without a limit |
//! | `image` | pulls images, and imports that of sandboxes |
//! | `sandbox` | the program in that image, and its archive |
//! | `dirs` | what lies where of a task: plan and state on disk, secrets in memory |
//! | `runner` | [`DockerRunner`]: prepare, start, stop, remove, adopt |
//! | `watch` | hears of ends and of health, also of those that nobody told of |
//! | `logs` | a container's log |
//!
//! # What is known without the engine
//! A task's directory says how far it has come, as with processes: `spec.json`, `prepared`, `started.json`, `exit.json`.
//! So an agent that starts while the engine is away knows its tasks, and hears of their ends when the engine is back.
//! What the engine holds under this runner's mark and no directory names is removed when the engine is found.
#![forbid(unsafe_code)]

mod dirs;
mod engine;
mod image;
mod logs;
mod plan;
mod runner;
mod sandbox;
mod watch;

pub use plan::{Asked, ContainerTask, PlanError};
pub use runner::{DockerRunner, DockerRunnerConfig};
