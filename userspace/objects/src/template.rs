//! Placeholders such as `{{.Task.Slot}}` in a container's environment, host name and mounts, and in templated secrets
//! and configs.
//!
//! Of Go's templates these are understood: fields, `index .Service.Labels "name"`, `env "NAME"` (in files), quoted
//! strings (so that `{{"{{"}}` gives braces), comments, and `{{-`, `-}}` to trim white space. Everything else is
//! refused with its text, when the spec is checked and not on the node.

use crate::{ContainerSpec, Labels, Node, Service, Task};
use std::borrow::Cow;

/// A text whose placeholders cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("\"{found}\" has {{{{ without }}}}")]
    Unclosed {
        /// The rest of the text from the braces on.
        found: String,
    },
    /// Nothing stands for this.
    #[error(
        "unknown placeholder \"{found}\", expected a field such as .Service.Name, .Service.ID, .Service.Labels, \
         .Node.ID, .Node.Hostname, .Node.Platform.OS, .Node.Platform.Architecture, .Task.ID, .Task.Name, .Task.Slot, \
         or index .Service.Labels \"name\""
    )]
    Unknown {
        /// What stands between the braces.
        found: String,
    },
}

/// What placeholders stand for in a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateContext {
    /// The service's identity.
    pub service_id: String,
    /// Its name.
    pub service_name: String,
    /// Its labels.
    pub service_labels: Labels,
    /// The node's identity.
    pub node_id: String,
    /// Its host name.
    pub node_hostname: String,
    /// Its architecture.
    pub node_architecture: String,
    /// Its operating system.
    pub node_os: String,
    /// The task's identity.
    pub task_id: String,
    /// Its name: the service's, its slot and its identity, with dots between.
    pub task_name: String,
    /// Its slot; the node's identity where the service is global.
    pub task_slot: String,
    /// Its environment, for files.
    pub env: Vec<String>,
}

impl TemplateContext {
    /// That of a task of a service on a node.
    pub fn new(task: &Task, service: &Service, node: &Node) -> Self {
        let description = node.description.clone().unwrap_or_default();
        let platform = description.platform.unwrap_or_default();
        let slot = task.slot.filter(|slot| *slot != 0);
        let task_slot = slot.map_or_else(|| node.id.to_string(), |slot| slot.to_string());
        let container = task.spec.container.as_ref();
        Self {
            service_id: service.id.to_string(),
            service_name: service.spec.name().to_owned(),
            service_labels: service.spec.labels.clone().unwrap_or_default(),
            node_id: node.id.to_string(),
            node_hostname: description.hostname.unwrap_or_default(),
            node_architecture: platform.architecture.unwrap_or_default(),
            node_os: platform.os.unwrap_or_default(),
            task_id: task.id.to_string(),
            task_name: format!("{}.{task_slot}.{}", service.spec.name(), task.id),
            task_slot,
            env: container
                .and_then(|container| container.env.clone())
                .unwrap_or_default(),
        }
    }

    /// A container with its placeholders filled in: environment, host name, mounts.
    ///
    /// # Errors
    /// A placeholder that the checks would have refused.
    pub fn expand(&self, container: &ContainerSpec) -> Result<ContainerSpec, TemplateError> {
        let mut expanded = container.clone();
        for text in templated(&mut expanded) {
            *text = Template::parse(text)?.expand(self);
        }
        Ok(expanded)
    }

    fn variable(&self, name: &str) -> &str {
        let variables = self
            .env
            .iter()
            .rev()
            .filter_map(|variable| variable.split_once('='));
        let mut named = variables.filter(|(found, _)| *found == name);
        named.next().map_or("", |(_, value)| value)
    }
}

/// The texts of a container that may hold placeholders.
fn templated(container: &mut ContainerSpec) -> impl Iterator<Item = &mut String> {
    let mounts = container.mounts.iter_mut().flatten();
    let of_mounts = mounts.flat_map(|mount| {
        let options = mount.volume_options.iter_mut().flat_map(|options| {
            let labels = options.labels.iter_mut().flat_map(Labels::values_mut);
            let driver = options
                .driver_config
                .iter_mut()
                .flat_map(|driver| driver.options.iter_mut());
            labels.chain(driver.flat_map(Labels::values_mut))
        });
        mount.source.iter_mut().chain(&mut mount.target).chain(options)
    });
    let env = container.env.iter_mut().flatten();
    container.hostname.iter_mut().chain(env).chain(of_mounts)
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
    Label(String),
    Variable(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    ServiceId,
    ServiceName,
    ServiceLabels,
    NodeId,
    NodeHostname,
    NodePlatform,
    NodeArchitecture,
    NodeOs,
    TaskId,
    TaskName,
    TaskSlot,
}

impl Field {
    const fn of(name: &str) -> Option<Self> {
        Some(match name.as_bytes() {
            b".Service.ID" => Self::ServiceId,
            b".Service.Name" => Self::ServiceName,
            b".Service.Labels" => Self::ServiceLabels,
            b".Node.ID" => Self::NodeId,
            b".Node.Hostname" => Self::NodeHostname,
            b".Node.Platform" => Self::NodePlatform,
            b".Node.Platform.Architecture" => Self::NodeArchitecture,
            b".Node.Platform.OS" => Self::NodeOs,
            b".Task.ID" => Self::TaskId,
            b".Task.Name" => Self::TaskName,
            b".Task.Slot" => Self::TaskSlot,
            _ => return None,
        })
    }
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// Braces that are not closed, or hold what nothing stands for.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trims = false;
        while let Some(open) = rest.find("{{") {
            let (before, tail) = rest.split_at(open);
            let inner = tail.get(2..).unwrap_or_default();
            let Some(close) = end_of_action(inner) else {
                return Err(TemplateError::Unclosed {
                    found: tail.to_owned(),
                });
            };
            let (action, after) = inner.split_at(close);
            let before = if trims { before.trim_start() } else { before };
            let (before, action) = match action.strip_prefix("- ") {
                Some(action) => (before.trim_end(), action),
                None => (before, action),
            };
            let trimmed = action.strip_suffix(" -");
            trims = trimmed.is_some();
            push_text(&mut parts, before);
            if let Some(part) = part_of(trimmed.unwrap_or(action).trim())? {
                parts.push(part);
            }
            rest = after.get(2..).unwrap_or_default();
        }
        push_text(&mut parts, if trims { rest.trim_start() } else { rest });
        Ok(Self(parts))
    }

    /// The text with its placeholders filled in.
    pub fn expand(&self, context: &TemplateContext) -> String {
        self.0.iter().map(|part| part.expand(context)).collect()
    }
}

impl Part {
    fn expand<'a>(&'a self, context: &'a TemplateContext) -> Cow<'a, str> {
        match self {
            Self::Text(literal) => literal.into(),
            Self::Label(name) => context.service_labels.get(name).map_or("", String::as_str).into(),
            Self::Variable(name) => context.variable(name).into(),
            Self::Field(Field::ServiceLabels) => {
                // As Go prints a map.
                let labels = context.service_labels.iter();
                let labels: Vec<_> = labels.map(|(name, value)| format!("{name}:{value}")).collect();
                format!("map[{}]", labels.join(" ")).into()
            }
            Self::Field(Field::NodePlatform) => {
                format!("{{{} {}}}", context.node_architecture, context.node_os).into()
            }
            Self::Field(Field::ServiceId) => context.service_id.as_str().into(),
            Self::Field(Field::ServiceName) => context.service_name.as_str().into(),
            Self::Field(Field::NodeId) => context.node_id.as_str().into(),
            Self::Field(Field::NodeHostname) => context.node_hostname.as_str().into(),
            Self::Field(Field::NodeArchitecture) => context.node_architecture.as_str().into(),
            Self::Field(Field::NodeOs) => context.node_os.as_str().into(),
            Self::Field(Field::TaskId) => context.task_id.as_str().into(),
            Self::Field(Field::TaskName) => context.task_name.as_str().into(),
            Self::Field(Field::TaskSlot) => context.task_slot.as_str().into(),
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// Where the closing braces stand that are not in a quoted string.
fn end_of_action(action: &str) -> Option<usize> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, c) in action.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '}' if !is_quoted && action.get(at..).is_some_and(|rest| rest.starts_with("}}")) => {
                return Some(at);
            }
            _ => {}
        }
    }
    None
}

/// What an action gives; nothing for a comment.
fn part_of(action: &str) -> Result<Option<Part>, TemplateError> {
    if action.starts_with("/*") && action.ends_with("*/") && action.len() >= 4 {
        return Ok(None);
    }
    let unknown = || TemplateError::Unknown {
        found: action.to_owned(),
    };
    let part = if let Some(field) = Field::of(action) {
        Part::Field(field)
    } else if let Some(literal) = quoted(action) {
        Part::Text(literal)
    } else if let Some(name) = action.strip_prefix("index .Service.Labels ") {
        Part::Label(quoted(name.trim()).ok_or_else(unknown)?)
    } else if let Some(name) = action.strip_prefix("env ") {
        Part::Variable(quoted(name.trim()).ok_or_else(unknown)?)
    } else {
        return Err(unknown());
    };
    Ok(Some(part))
}

/// A quoted string's text.
fn quoted(text: &str) -> Option<String> {
    text.starts_with('"').then(|| serde_json::from_str(text).ok())?
}

#[cfg(test)]
mod tests;
