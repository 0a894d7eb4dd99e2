//! `stack`: services with their networks, secrets and configs, described by files.

mod deploy;
mod files;

use crate::api::{Filters, encode};
use crate::console::{Console, Exit, Session};
use crate::error::Error;
use crate::service::list::{ServiceListArgs, list as list_services};
use crate::table::{List, ListArgs, row};
use crate::tasks::{TaskListArgs, natural};
use deploy::DeployArgs;
use essaim_compose::NAMESPACE_LABEL;
use essaim_objects::{Config, NetworkResource, Secret, Service, Task};
use files::FileArgs;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;

/// What can be done with stacks.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum StackCommand {
    /// Outputs the final config file, after doing merges and interpolations
    Config(FileArgs),
    /// Deploy a new stack or update an existing stack
    #[command(alias = "up")]
    Deploy(DeployArgs),
    /// List stacks
    #[command(alias = "list")]
    Ls {
        /// Format the output: table, table TEMPLATE, json, or a Go template
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
    },
    /// List the tasks in the stack
    Ps {
        /// How they are shown
        #[command(flatten)]
        show: TaskListArgs,
        /// Its name
        #[arg(value_parser = name)]
        stack: String,
    },
    /// Remove one or more stacks
    #[command(alias = "remove", alias = "down")]
    Rm {
        /// Do not wait for stack removal
        #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_name = "BOOL")]
        detach: bool,
        /// Their names
        #[arg(required = true, value_name = "STACK", value_parser = name)]
        stacks: Vec<String>,
    },
    /// List the services in the stack
    Services {
        /// How they are shown
        #[command(flatten)]
        show: ServiceListArgs,
        /// Its name
        #[arg(value_parser = name)]
        stack: String,
    },
}

/// A stack's name, which begins those of its services.
fn name(text: &str) -> Result<String, crate::parse::Expected> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err(crate::parse::Expected::new(
        "a name of letters, digits, '-', '_' and '.', of which the first is a letter or digit",
    ))
}

/// Prints what files ask for. Asks no daemon.
///
/// # Errors
/// The files cannot be read, or are wrong.
pub(crate) fn config(args: &FileArgs, console: &mut Console<'_>) -> Result<Exit, Error> {
    let loaded = args.load(console)?;
    console.out.write_all(loaded.stack.to_yaml().as_bytes())?;
    Ok(Exit::Done)
}

/// Objects of a stack by its label, with further filters.
fn of_stack(stack: &str) -> Filters {
    Filters::default().with("label", &format!("{NAMESPACE_LABEL}={stack}"))
}

/// The stacks that services say they are of, by name.
fn list(services: &[Service]) -> List {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for service in services {
        let labels = service.spec.labels.as_ref();
        if let Some(stack) = labels.and_then(|labels| labels.get(NAMESPACE_LABEL)) {
            *counts.entry(stack).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(a, _), (b, _)| natural(a, b));
    let rows = counts
        .into_iter()
        .map(|(name, count)| row([("Name", name.into()), ("Services", count.to_string().into())]));
    List {
        columns: &[("Name", "NAME"), ("Services", "SERVICES")],
        table: &["Name", "Services"],
        quiet: "Name",
        rows: rows.collect(),
    }
}

impl Session<'_, '_> {
    pub(crate) async fn stack(&mut self, command: &StackCommand) -> Result<Exit, Error> {
        match command {
            StackCommand::Config(args) => config(args, self.console),
            StackCommand::Deploy(args) => self.deploy_stack(args).await,
            StackCommand::Ls { format } => {
                let filters = Filters::default().with("label", NAMESPACE_LABEL);
                let services: Vec<Service> = self.filtered_list("/services", &filters).await?;
                let show = ListArgs {
                    format: format.clone(),
                    quiet: false,
                };
                let text = list(&services).render(&show)?;
                self.print(&text)?;
                Ok(Exit::Done)
            }
            StackCommand::Ps { show, stack } => {
                let tasks = self.filtered_tasks(of_stack(stack), show).await?;
                if tasks.is_empty() {
                    return Err(Error::Missing(format!("nothing found in stack: {stack}")));
                }
                self.show_tasks(tasks, show).await?;
                Ok(Exit::Done)
            }
            StackCommand::Rm { detach, stacks } => {
                let mut exit = Exit::Done;
                for stack in stacks {
                    exit = exit.and(self.remove_stack(stack, *detach).await?);
                }
                Ok(exit)
            }
            StackCommand::Services { show, stack } => {
                let mut filters = of_stack(stack);
                for (key, value) in &show.filter {
                    filters.add(key, value);
                }
                let filters = filters.to_query().unwrap_or_default();
                let query = [("filters", filters.as_str()), ("status", "true")];
                let services: Vec<Service> = self.client.get("/services", &query).await?;
                if services.is_empty() {
                    self.complain(&format!("Nothing found in stack: {stack}"))?;
                    return Ok(Exit::Done);
                }
                let text = list_services(services).render(&show.list)?;
                self.print(&text)?;
                Ok(Exit::Done)
            }
        }
    }

    async fn filtered_list<T: DeserializeOwned>(
        &self,
        folder: &str,
        filters: &Filters,
    ) -> Result<Vec<T>, Error> {
        let filters = filters.to_query().unwrap_or_default();
        self.client.get(folder, &[("filters", &filters)]).await
    }

    /// Removes what is of a stack: services, then what they used.
    async fn remove_stack(&mut self, stack: &str, detach: bool) -> Result<Exit, Error> {
        let filters = of_stack(stack);
        let mut services: Vec<Service> = self.filtered_list("/services", &filters).await?;
        let networks: Vec<NetworkResource> = self.filtered_list("/networks", &filters).await?;
        let secrets: Vec<Secret> = self.filtered_list("/secrets", &filters).await?;
        let configs: Vec<Config> = self.filtered_list("/configs", &filters).await?;
        if services.is_empty() && networks.is_empty() && secrets.is_empty() && configs.is_empty() {
            self.complain(&format!("Nothing found in stack: {stack}"))?;
            return Ok(Exit::Done);
        }
        services.sort_by(|a, b| a.spec.name().cmp(b.spec.name()));
        let mut exit = Exit::Done;
        for service in &services {
            let name = service.spec.name();
            exit = exit.and(self.remove_of_stack("service", name, service.id.as_str()).await?);
        }
        if !detach && exit == Exit::Done {
            self.wait_for_tasks(&filters).await?;
        }
        for secret in &secrets {
            let name = secret.spec.name.as_deref().unwrap_or_default();
            exit = exit.and(self.remove_of_stack("secret", name, secret.id.as_str()).await?);
        }
        for config in &configs {
            let name = config.spec.name.as_deref().unwrap_or_default();
            exit = exit.and(self.remove_of_stack("config", name, config.id.as_str()).await?);
        }
        for network in &networks {
            exit = exit.and(
                self.remove_of_stack("network", &network.name, &network.id)
                    .await?,
            );
        }
        if exit == Exit::Failed {
            self.complain(&format!(
                "essaim: failed to remove some resources from stack: {stack}"
            ))?;
        }
        Ok(exit)
    }

    /// Removes one object; what fails is told, and the others are gone on with.
    async fn remove_of_stack(&mut self, kind: &str, name: &str, id: &str) -> Result<Exit, Error> {
        self.line(&format!("Removing {kind} {name}"))?;
        match self.client.delete(&format!("/{kind}s/{}", encode(id)), &[]).await {
            Ok(()) => Ok(Exit::Done),
            Err(error @ Error::Daemon { .. }) => {
                self.complain(&format!("Failed to remove {kind} {id}: {}", error.chain()))?;
                Ok(Exit::Failed)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until all tasks have ended.
    async fn wait_for_tasks(&mut self, filters: &Filters) -> Result<(), Error> {
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let tasks: Vec<Task> = self.filtered_list("/tasks", filters).await?;
            if tasks.iter().all(|task| task.status.state.is_over()) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stacks_name_can_begin_a_services_name() {
        for text in ["a", "A-b_c.d", "1"] {
            assert_eq!(name(text).as_deref(), Ok(text));
        }
        for text in ["", "-a", "_", "a b", "a/b", "é", "'a'"] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
