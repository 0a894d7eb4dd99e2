//! Follows the node's state: a worker while it is in a cluster, a data plane from the first catalog on, neither once it
//! has left.

use crate::DaemonOptions;
use crate::machine;
use crate::plane::Plane;
use crate::plugin::PluginHost;
use essaim_ca::LiveIdentity;
use essaim_docker::{DockerRunner, DockerRunnerConfig};
use essaim_node::{LocalState, Node, Told};
use essaim_plugin::Plugin;
use essaim_runner::{ProcessRunner, ProcessRunnerConfig, Runner as _, RunnerError, ShimProgram};
use essaim_worker::{Describe, LeaderLink, NodeRunner, Notice, WorkerOptions, run_worker, stop_all};
use rustls::time_provider::DefaultTimeProvider;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Events of tasks that wait for the worker; the runner waits where there are more.
const EVENTS: usize = 1024;
/// Notices that wait for the node.
const NOTICES: usize = 16;
/// How long to wait before a worker that could not begin is begun again.
const AGAIN: Duration = Duration::from_secs(3);

/// What a worker is made of, and who else is concerned.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) node: Node,
    pub(crate) plane: Plane,
    pub(crate) plugin: Plugin<PluginHost>,
    pub(crate) leader: LeaderLink,
    pub(crate) options: Arc<DaemonOptions>,
}

/// A worker that runs.
struct Running {
    stop: oneshot::Sender<()>,
    worker: JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        if let Err(error) = self.worker.await {
            tracing::error!(%error, "the worker has ended in a panic");
        }
    }
}

/// Follows the node until it is dropped.
///
/// # Errors
/// Tasks cannot be run on this machine.
pub(crate) fn follow(parts: Parts) -> Result<impl Future<Output = ()>, RunnerError> {
    // Whether it can is seen now rather than by the first task.
    runner(&parts.options)?;
    Ok(async move {
        let plane = &parts.plane;
        let mut local = parts.node.watch();
        let mut worker: Option<Running> = None;
        loop {
            let now = local.borrow_and_update().clone();
            match now.state {
                LocalState::Active => {
                    if let Some(id) = now.node {
                        plane.begin(id);
                    }
                    if worker.is_none() {
                        worker = begin(&parts);
                    }
                }
                // Its tasks and data plane go on from what was kept.
                LocalState::Locked => {
                    if let Some(id) = now.node {
                        plane.begin(id);
                    }
                }
                LocalState::Inactive => {
                    if let Some(worker) = worker.take() {
                        worker.end().await;
                    }
                    leave(&parts).await;
                }
                LocalState::Pending | LocalState::Error => {}
            }
            if local.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    })
}

fn runner(
    options: &DaemonOptions,
) -> Result<(NodeRunner, mpsc::Receiver<essaim_runner::TaskEvent>), RunnerError> {
    let (events, told) = mpsc::channel(EVENTS);
    let processes = ProcessRunnerConfig {
        state_dir: tasks_dir(options),
        cgroup_parent: options.task_cgroup.clone(),
        hidden: vec![options.data_dir.clone(), options.state_dir.path().to_owned()],
        shim: ShimProgram::default(),
    };
    let containers = DockerRunnerConfig {
        socket: options.docker_socket.clone(),
        state_dir: options.data_dir.join("containers"),
        run_dir: options.state_dir.path().join("containers"),
        // Where the socket programs are the whole machine's, the engine's own group serves.
        cgroup_parent: options.cgroup.is_some().then(|| options.task_cgroup.clone()),
    };
    let containers = DockerRunner::new(containers, events.clone())?;
    let runner = NodeRunner::new(ProcessRunner::new(processes, events)?, containers);
    Ok((runner, told))
}

fn tasks_dir(options: &DaemonOptions) -> PathBuf {
    options.data_dir.join("tasks")
}

fn worker_dir(options: &DaemonOptions) -> PathBuf {
    options.data_dir.join("worker")
}

/// Begins a worker; it is begun again where it cannot go on.
fn begin(parts: &Parts) -> Option<Running> {
    let identity = parts.node.identity()?;
    let (stop, mut stopped) = oneshot::channel();
    let parts = parts.clone();
    let worker = async move {
        while let Err(error) = work(&parts, &identity, &mut stopped).await {
            tracing::error!(
                error = essaim_rpc::chain(error.as_ref()),
                "the worker cannot go on; tried again"
            );
            tokio::select! {
                _ = &mut stopped => return,
                () = sleep(AGAIN) => {}
            }
        }
    };
    Some(Running {
        stop,
        worker: tokio::spawn(worker),
    })
}

/// Runs a worker until it is stopped, or cannot go on.
async fn work(
    parts: &Parts,
    identity: &Arc<LiveIdentity>,
    stopped: &mut oneshot::Receiver<()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Parts {
        node,
        plane,
        leader,
        options,
        ..
    } = parts;
    let (runner, events) = runner(options)?;
    let local = node.local();
    let worker = WorkerOptions {
        identity: Arc::clone(identity),
        time: Arc::new(DefaultTimeProvider),
        managers: local
            .managers
            .iter()
            .map(|manager| manager.address.clone())
            .collect(),
        directory: worker_dir(options),
        describe: Describe {
            hostname: Some(options.hostname.clone()),
            labels: options.labels.iter().cloned().collect(),
            generic_resources: machine::generic_resources(&options.generic_resources),
        },
        data_path: local.data_path.or(local.address),
        runner: Arc::new(runner),
        events,
        dataplane: Arc::new(plane.clone()),
        leader: leader.clone(),
    };
    let (notices, mut heard) = mpsc::channel(NOTICES);
    let learn = async {
        while let Some(notice) = heard.recv().await {
            match notice {
                Notice::Node(object) => node.learn(Told::Node(object)),
                Notice::Managers(managers) => node.learn(Told::Managers(managers)),
                Notice::TrustRoots(roots) => node.learn(Told::TrustRoots(roots)),
                Notice::Removed => node.learn(Told::Removed),
                Notice::Connected(true) => tracing::info!("session with the leader"),
                Notice::Connected(false) => tracing::warn!("no session with the leader; tasks go on"),
            }
        }
        std::future::pending::<()>().await;
    };
    let stop = async {
        // Dropped where whoever follows the node ends.
        let _ = stopped.await;
    };
    tokio::select! {
        ended = run_worker(worker, notices, stop) => Ok(ended?),
        () = learn => Ok(()),
    }
}

/// The node is in no cluster: nothing of one is left on it.
async fn leave(parts: &Parts) {
    let Parts {
        plane,
        plugin,
        options,
        ..
    } = parts;
    let directory = worker_dir(options);
    if !directory.exists() {
        return;
    }
    let stopped = async {
        let (runner, mut events) = runner(options)?;
        runner.adopt().await?;
        let drain = async { while events.recv().await.is_some() {} };
        let (runner, dataplane) = (Arc::new(runner), Arc::new(plane.clone()));
        tokio::select! {
            stopped = stop_all(&runner, &dataplane, &directory) => stopped,
            () = drain => Ok(()),
        }
    };
    if let Err(error) = stopped.await {
        tracing::error!(
            error = essaim_rpc::chain(&error),
            "tasks of the cluster that was left may still run"
        );
    }
    if let Err(error) = plugin.forget().await {
        tracing::error!(
            error = essaim_rpc::chain(&error),
            "containers of this node on the cluster's networks are not forgotten"
        );
    }
    plane.remove().await;
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        tracing::error!(%error, directory = %directory.display(), "what the worker kept was not removed");
    }
}
