//! Tasks: `/tasks`.

use crate::change::view;
use crate::filter::Filters;
use crate::find::{Named, find, task_name};
use crate::reply::{Answer, found};
use crate::request::Request;
use crate::{Engine, EngineError, shape};
use essaim_objects::{Labels, Node, Runtime, Service, Task, TaskState};
use essaim_store::View;
use serde_json::Value;
use std::sync::Arc;

/// `GET /tasks`.
pub(crate) async fn list(engine: &impl Engine, request: &Request) -> Answer {
    const KNOWN: &[&str] = &[
        "id",
        "label",
        "name",
        "node",
        "service",
        "desired-state",
        "runtime",
        "_up-to-date",
    ];
    let mut filters = Filters::of(&request.query, KNOWN)?;
    let states = filters.read("desired-state", |text| text.parse::<TaskState>().ok())?;
    let runtimes = filters.read("runtime", |text| text.parse::<Runtime>().ok())?;
    let up_to_date = filters.truth("_up-to-date")?;
    let view = view(engine).await?;
    filters.resolve("service", |text| {
        Ok(find::<Service>(&view, text)?.id().to_owned())
    })?;
    filters.resolve("node", |text| resolve_node(engine, &view, text))?;
    let fits = |task: &&Arc<Task>| {
        let service = task.service_id.and_then(|id| view.service(id));
        let runtime = match task.spec.runtime {
            None | Some(Runtime::Unset) => Runtime::Container,
            Some(runtime) => runtime,
        };
        // Docker shows no attachments.
        runtime != Runtime::Attachment
            && filters.any("id", |id| task.id.as_str().starts_with(id))
            && filters.any("service", |id| {
                task.service_id.is_some_and(|it| it.as_str() == id)
            })
            && filters.any("node", |id| task.node_id.is_some_and(|it| it.as_str() == id))
            && (states.is_empty() || states.contains(&task.desired_state))
            && (runtimes.is_empty() || runtimes.contains(&runtime))
            && filters.any("name", |name| task_name(task, &view).starts_with(name))
            && filters.labels("label", labels(task, service))
            && up_to_date.is_none_or(|asked| is_up_to_date(task, service) == asked)
    };
    let tasks = candidates(&view, &filters).filter(fits);
    let tasks: Vec<Value> = tasks
        .map(|task| shape::task(task, &view))
        .collect::<Result<_, _>>()?;
    found(&tasks)
}

/// The tasks among which the filters look: those of the services or nodes that are named, else all.
fn candidates<'a>(view: &'a View, filters: &Filters) -> Box<dyn Iterator<Item = &'a Arc<Task>> + 'a> {
    let services: Vec<_> = filters
        .values("service")
        .iter()
        .filter_map(|id| id.parse().ok())
        .collect();
    let nodes: Vec<_> = filters
        .values("node")
        .iter()
        .filter_map(|id| id.parse().ok())
        .collect();
    if !services.is_empty() {
        Box::new(services.into_iter().flat_map(|id| view.tasks_of_service(id)))
    } else if !nodes.is_empty() {
        Box::new(nodes.into_iter().flat_map(|id| view.tasks_on_node(id)))
    } else {
        Box::new(view.tasks())
    }
}

fn resolve_node(engine: &impl Engine, view: &View, text: &str) -> Result<String, EngineError> {
    if text == "self"
        && let Some(id) = engine.local().node_id
    {
        return Ok(id.to_string());
    }
    Ok(find::<Node>(view, text)?.id().to_owned())
}

/// A task's own labels, which are its service's.
fn labels<'a>(task: &'a Task, service: Option<&'a Arc<Service>>) -> Option<&'a Labels> {
    let of_service = service.and_then(|service| service.spec.labels.as_ref());
    let of_container = || {
        task.spec
            .container
            .as_ref()
            .and_then(|container| container.labels.as_ref())
    };
    of_service.or(task.labels.as_ref()).or_else(of_container)
}

/// Whether a task is made of what is asked of its service now.
fn is_up_to_date(task: &Task, service: Option<&Arc<Service>>) -> bool {
    service.is_some_and(|service| {
        let is_same = task.spec_version.is_some() && task.spec_version == service.spec_version;
        let asked = &service.spec.task_template;
        is_same || task.spec == *asked || task.spec.without_constraints() == asked.without_constraints()
    })
}

/// `GET /tasks/{id}`.
pub(crate) async fn inspect(engine: &impl Engine, text: &str) -> Answer {
    let view = view(engine).await?;
    found(&shape::task(&*find::<Task>(&view, text)?, &view)?)
}
