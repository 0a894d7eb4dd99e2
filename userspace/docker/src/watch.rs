//! Hearing of what becomes of containers. Whoever hears nothing looks: no end is lost with a connection, an event, or an
//! engine.

use crate::engine::{Engine, Fault};
use crate::plan::TASK_LABEL;
use crate::runner::{Inner, netns_of};
use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use essaim_model::TaskId;
use essaim_runner::{RunnerError, remove_netns};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// From one try to find the engine to the next.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// From one look at all containers to the next, whatever the events say. Too low, the engine is asked for nothing; too
/// high, an end that no event told of is noticed late.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

impl Inner {
    /// Watches all tasks until the runner is dropped.
    pub(crate) fn watch(self: &Arc<Self>) {
        let (inner, engine) = (Arc::downgrade(self), Arc::clone(&self.engine));
        tokio::spawn(async move {
            let mut was_found = true;
            while inner.strong_count() > 0 {
                if let Err(fault) = follow(&inner, &engine).await {
                    // Said once: a node may have no engine at all.
                    if std::mem::take(&mut was_found) {
                        tracing::info!(%fault, "containers are not watched");
                    }
                    if let Some(inner) = inner.upgrade().filter(|_| fault.is_absent()) {
                        inner.look_without_engine().await;
                    }
                } else {
                    was_found = true;
                }
                sleep(TRY_AGAIN).await;
            }
        });
    }

    /// Looks at every task, and removes what belongs to none.
    async fn look(&self) -> Result<(), Fault> {
        let found = self.own_containers().await?;
        for (task, container, _) in found {
            // The directory comes first and goes last.
            if TaskId::new(&task).is_ok() && self.dirs(&task).spec().exists() {
                continue;
            }
            tracing::warn!(task, container, "a container of no task is removed");
            self.remove_container(&container).await?;
            if TaskId::new(&task).is_ok() && !self.dirs(&task).spec().exists() {
                let removed = tokio::task::spawn_blocking(move || remove_netns(&netns_of(&task)));
                if let Ok(Err(error)) = removed.await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a network namespace is left"
                    );
                }
            }
        }
        for task in self.all() {
            self.settle_or_say(&task).await;
        }
        Ok(())
    }

    /// Looks at the processes of tasks, where that is all that can be looked at.
    async fn look_without_engine(&self) {
        for task in self.all() {
            if let Err(error) = self.settle_without_engine(&task).await {
                tracing::warn!(
                    task = %task.id(),
                    error = &error as &dyn std::error::Error,
                    "failed to see to a task"
                );
            }
        }
    }

    async fn settle_or_say(&self, task: &Arc<crate::runner::Task>) {
        match self.settle(task).await {
            Ok(()) | Err(RunnerError::Engine { .. }) => {}
            Err(error) => {
                tracing::warn!(
                    task = %task.id(),
                    error = &error as &dyn std::error::Error,
                    "failed to see to a task"
                );
            }
        }
    }

    /// Sees to the task of an event.
    async fn heard(&self, event: &EventMessage) {
        // Checks come and go, and what they say is told by another event.
        if event
            .action
            .as_deref()
            .is_some_and(|action| action.starts_with("exec_"))
        {
            return;
        }
        let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
        let name = attributes.and_then(|attributes| attributes.get(TASK_LABEL));
        let task = name.and_then(|name| self.find(&TaskId::new(name).ok()?));
        if let Some(task) = task {
            self.settle_or_say(&task).await;
        }
    }
}

/// Follows the engine until it is gone, or the runner is.
async fn follow(inner: &Weak<Inner>, engine: &Engine) -> Result<(), Fault> {
    let docker = engine.connected().await?.docker;
    // What happens between the look and the first event is told again.
    let since = Timestamp::now();
    let mut events = std::pin::pin!(events(&docker, engine, since));
    loop {
        {
            let Some(inner) = inner.upgrade() else {
                return Ok(());
            };
            inner.look().await?;
        }
        let next_look = Instant::now() + LOOK_AGAIN;
        // The runner is not held while nothing happens.
        while let Ok(event) = timeout_at(next_look, events.next()).await {
            let Some(event) = event else {
                return Err(engine.absent("it has closed the connection".to_owned()));
            };
            let event = event.map_err(|error| engine.fault(error))?;
            let Some(inner) = inner.upgrade() else {
                return Ok(());
            };
            inner.heard(&event).await;
        }
    }
}

fn events(
    docker: &Docker,
    engine: &Engine,
    since: Timestamp,
) -> impl futures_util::Stream<Item = Result<EventMessage, bollard::errors::Error>> {
    let mut filters = engine.own();
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let options = EventsOptions {
        since: Some(format!("{}.{:09}", since.as_second(), since.subsec_nanosecond())),
        until: None,
        filters: Some(filters),
    };
    docker.events(Some(options))
}
