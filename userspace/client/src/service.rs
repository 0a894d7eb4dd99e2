//! `service`: services and their tasks.

mod converge;
mod create;
mod flags;
mod follow;
pub(crate) mod list;
mod logs;
mod names;
mod pretty;
mod progress;
mod update;

use crate::api::{Filters, decode, encode};
use crate::console::{Exit, Session};
use crate::error::Error;
use crate::inspect::InspectArgs;
use crate::tasks::TaskListArgs;
use bytes::Bytes;
use essaim_objects::{Config, ConfigId, NetworkResource, Secret, SecretId, Service, ServiceSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use converge::Waited;
use names::Names;
pub(crate) use names::References;

/// What can be done with services.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ServiceCommand {
    /// Create a new service
    Create(Box<create::CreateArgs>),
    /// Display detailed information on one or more services
    Inspect {
        /// How they are shown
        #[command(flatten)]
        show: InspectArgs,
        /// Print the information in a human friendly format
        #[arg(long, conflicts_with = "format")]
        pretty: bool,
        /// Names or IDs
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Fetch the logs of a service or task
    Logs(logs::LogsArgs),
    /// List services
    #[command(alias = "list")]
    Ls(list::ServiceListArgs),
    /// List the tasks of one or more services
    Ps {
        /// How they are shown
        #[command(flatten)]
        show: TaskListArgs,
        /// Names or IDs
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Remove one or more services
    #[command(alias = "remove")]
    Rm {
        /// Names or IDs
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Revert changes to a service's configuration
    Rollback {
        /// Exit immediately instead of waiting for the service to converge
        #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
        detach: bool,
        /// Suppress progress output
        #[arg(short, long)]
        quiet: bool,
        /// Its name or ID
        service: String,
    },
    /// Scale one or multiple replicated services
    Scale {
        /// Exit immediately instead of waiting for the service to converge
        #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
        detach: bool,
        /// How many tasks each service is to have
        #[arg(required = true, value_name = "SERVICE=REPLICAS", value_parser = scale)]
        scales: Vec<(String, u64)>,
    },
    /// Update a service
    Update(Box<update::UpdateArgs>),
}

fn scale(text: &str) -> Result<(String, u64), crate::parse::Expected> {
    let expected = || crate::parse::Expected::new("SERVICE=REPLICAS with a number of tasks");
    let (service, replicas) = text
        .split_once('=')
        .filter(|(service, _)| !service.is_empty())
        .ok_or_else(expected)?;
    Ok((service.to_owned(), replicas.parse().map_err(|_| expected())?))
}

#[derive(serde::Deserialize)]
struct Created {
    #[serde(rename = "ID", alias = "Id")]
    id: String,
    #[serde(rename = "Warnings", default)]
    warnings: Option<Vec<String>>,
}

#[derive(serde::Deserialize)]
struct Updated {
    #[serde(rename = "Warnings", default)]
    warnings: Option<Vec<String>>,
}

impl Session<'_, '_> {
    pub(crate) async fn service(&mut self, command: &ServiceCommand) -> Result<Exit, Error> {
        match command {
            ServiceCommand::Create(args) => self.create_service(args).await,
            ServiceCommand::Inspect {
                show,
                pretty,
                services,
            } => {
                let render = async |session: &Self, objects: &[Bytes]| match pretty {
                    true => session.pretty_services(objects).await,
                    false => show.render(objects),
                };
                self.inspect(
                    "service",
                    "/services",
                    services,
                    &[("insertDefaults", "true")],
                    render,
                )
                .await
            }
            ServiceCommand::Logs(args) => self.service_logs(args).await,
            ServiceCommand::Ls(args) => {
                let filters = Filters::of(&args.filter).to_query();
                let mut query = if args.list.quiet {
                    Vec::new()
                } else {
                    vec![("status", "true")]
                };
                query.extend(filters.as_deref().map(|filters| ("filters", filters)));
                let services = self.client.get("/services", &query).await?;
                let text = list::list(services).render(&args.list)?;
                self.print(&text)?;
                Ok(Exit::Done)
            }
            ServiceCommand::Ps { show, services } => self.service_tasks(show, services).await,
            ServiceCommand::Rm { services } => {
                let mut exit = Exit::Done;
                for name in services {
                    let done = self
                        .client
                        .delete(&format!("/services/{}", encode(name)), &[])
                        .await;
                    exit = exit.and(self.tally(name, done, name)?);
                }
                Ok(exit)
            }
            ServiceCommand::Rollback {
                detach,
                quiet,
                service,
            } => {
                let found = self.find_service(service).await?;
                self.roll_back(&found).await?;
                self.converge_told(service, *detach, *quiet).await
            }
            ServiceCommand::Scale { detach, scales } => self.scale_services(scales, *detach).await,
            ServiceCommand::Update(args) => self.update_service(args).await,
        }
    }

    async fn create_service(&mut self, args: &create::CreateArgs) -> Result<Exit, Error> {
        let mut from_files = Vec::new();
        for path in &args.env_file {
            let bytes = self.read_file(path)?;
            let text = String::from_utf8(bytes).map_err(|_| {
                Error::Usage(format!("--env-file {path} is not UTF-8, expected lines of text"))
            })?;
            let variables = essaim_compose::env_file(&text, self.console.variable)
                .map_err(|error| Error::Usage(format!("--env-file {path}: {error}")))?;
            from_files.extend(
                variables
                    .into_iter()
                    .map(|(name, value)| format!("{name}={value}")),
            );
        }
        let names = self.look_up(args.references()).await?;
        let spec = args.to_spec(&names, &from_files, self.console.variable)?;
        let auth = self.registry_auth(args.with_registry_auth, &spec)?;
        let id = self.post_new(&spec, auth.as_deref()).await?;
        self.line(&id)?;
        if args.detach {
            return Ok(Exit::Done);
        }
        self.converge(&id, args.quiet).await
    }

    /// Who asks the registry for a service's image, where that is to be sent.
    pub(crate) fn registry_auth(&self, is_asked: bool, spec: &ServiceSpec) -> Result<Option<String>, Error> {
        let container = spec.task_template.container.as_ref();
        let image = container.and_then(|container| container.image.as_deref());
        match image.filter(|_| is_asked) {
            Some(image) => self.console.registry_auth(image).map(Some),
            None => Ok(None),
        }
    }

    /// Creates a service; its identity.
    pub(crate) async fn post_new(
        &mut self,
        spec: &ServiceSpec,
        registry_auth: Option<&str>,
    ) -> Result<String, Error> {
        const PATH: &str = "/services/create";
        let answer = self.client.post_as(PATH, &[], spec, registry_auth).await?;
        let created: Created = decode(&format!("POST {PATH}"), &answer)?;
        self.warn(created.warnings)?;
        Ok(created.id)
    }

    async fn update_service(&mut self, args: &update::UpdateArgs) -> Result<Exit, Error> {
        args.check_rollback()?;
        let service = self.find_service(&args.service).await?;
        if args.rollback {
            self.roll_back(&service).await?;
        } else {
            let mut names = self.look_up(args.references()).await?;
            for name in args.removed_networks() {
                match self.network_id(name).await {
                    Ok(id) => drop(names.networks.insert(name.clone(), id)),
                    // One that is gone may still be named by its identity.
                    Err(Error::Missing(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let spec = args.apply(&service.spec, &names, self.console.variable)?;
            let auth = self.registry_auth(args.with_registry_auth, &spec)?;
            let query = [("registryAuthFrom", "spec")];
            self.post_spec(&service, &spec, &query, auth.as_deref()).await?;
        }
        self.converge_told(&args.service, args.detach, args.quiet).await
    }

    /// Tells what was changed, and waits for it.
    async fn converge_told(&mut self, service: &str, detach: bool, quiet: bool) -> Result<Exit, Error> {
        self.line(service)?;
        if detach {
            Ok(Exit::Done)
        } else {
            self.converge(service, quiet).await
        }
    }

    async fn roll_back(&mut self, service: &Service) -> Result<(), Error> {
        if service.previous_spec.is_none() {
            return Err(Error::Usage(format!(
                "service {} has no previous specification to go back to",
                service.spec.name()
            )));
        }
        let query = [("rollback", "previous")];
        self.post_spec(service, &service.spec.clone(), &query, None).await
    }

    pub(crate) async fn post_spec(
        &mut self,
        service: &Service,
        spec: &ServiceSpec,
        query: &[(&str, &str)],
        registry_auth: Option<&str>,
    ) -> Result<(), Error> {
        let version = service.version.to_string();
        let query = [query, &[("version", version.as_str())]].concat();
        let path = format!("/services/{}/update", service.id);
        let answer = self.client.post_as(&path, &query, spec, registry_auth).await?;
        self.warn(decode::<Updated>(&format!("POST {path}"), &answer)?.warnings)
    }

    async fn scale_services(&mut self, scales: &[(String, u64)], detach: bool) -> Result<Exit, Error> {
        let mut exit = Exit::Done;
        let mut changed = Vec::new();
        for (name, replicas) in scales {
            let done = self.scale_service(name, *replicas).await;
            let said = self.tally(name, done, &format!("{name} scaled to {replicas}"))?;
            if said == Exit::Done {
                changed.push(name);
            }
            exit = exit.and(said);
        }
        if !detach {
            for name in changed {
                let _ = self.converge(name, false).await?;
            }
        }
        Ok(exit)
    }

    async fn scale_service(&mut self, name: &str, replicas: u64) -> Result<(), Error> {
        let service = self.find_service(name).await?;
        let mut spec = Arc::unwrap_or_clone(service.spec.clone());
        let mode = spec
            .mode
            .get_or_insert_with(|| essaim_objects::ServiceMode::replicated(1));
        match (&mut mode.replicated, &mut mode.replicated_job) {
            (Some(replicated), _) => replicated.replicas = Some(replicas),
            (None, Some(job)) => job.total_completions = Some(replicas),
            (None, None) => {
                return Err(Error::Usage(format!(
                    "{name}: scale can only be used with replicated or replicated-job mode"
                )));
            }
        }
        self.post_spec(&service, &spec, &[], None).await
    }

    pub(crate) fn warn(&mut self, warnings: Option<Vec<String>>) -> Result<(), Error> {
        for warning in warnings.unwrap_or_default() {
            self.complain(&format!("essaim: warning: {warning}"))?;
        }
        Ok(())
    }

    async fn find_service(&self, name: &str) -> Result<Service, Error> {
        self.client.get(&format!("/services/{}", encode(name)), &[]).await
    }

    async fn network_id(&self, name: &str) -> Result<String, Error> {
        let found = self
            .client
            .get::<NetworkResource>(&format!("/networks/{}", encode(name)), &[("scope", "swarm")])
            .await;
        match found {
            Ok(network) => Ok(network.id),
            Err(error) if error.is_missing() => Err(Error::Missing(format!("network {name} not found"))),
            Err(error) => Err(error),
        }
    }

    /// The identities of what flags name.
    pub(crate) async fn look_up(&self, references: References) -> Result<Names, Error> {
        let mut names = Names::default();
        for name in references.networks {
            names.networks.insert(name.clone(), self.network_id(&name).await?);
        }
        let query = |wanted: &std::collections::BTreeSet<String>| {
            let mut filters = Filters::default();
            for name in wanted {
                filters.add("name", name);
            }
            filters.to_query()
        };
        // The daemon's filter takes the beginnings of names too.
        if let Some(filters) = query(&references.secrets) {
            let found: Vec<Secret> = self.client.get("/secrets", &[("filters", &filters)]).await?;
            let by_name: BTreeMap<String, SecretId> = found
                .into_iter()
                .map(|secret| (secret.spec.name.unwrap_or_default(), secret.id))
                .collect();
            names.secrets = by_name
                .into_iter()
                .filter(|(name, _)| references.secrets.contains(name))
                .collect();
        }
        if let Some(filters) = query(&references.configs) {
            let found: Vec<Config> = self.client.get("/configs", &[("filters", &filters)]).await?;
            let by_name: BTreeMap<String, ConfigId> = found
                .into_iter()
                .map(|config| (config.spec.name.unwrap_or_default(), config.id))
                .collect();
            names.configs = by_name
                .into_iter()
                .filter(|(name, _)| references.configs.contains(name))
                .collect();
        }
        Ok(names)
    }

    async fn pretty_services(&self, objects: &[Bytes]) -> Result<String, Error> {
        let mut text = String::new();
        for object in objects {
            let service: Service = decode("GET /services", object)?;
            let mut networks = BTreeMap::new();
            for target in service
                .spec
                .networks()
                .iter()
                .filter_map(|network| network.target.as_deref())
            {
                let found = self
                    .client
                    .get::<NetworkResource>(&format!("/networks/{}", encode(target)), &[("scope", "swarm")])
                    .await;
                match found {
                    Ok(network) => drop(networks.insert(target.to_owned(), network.name)),
                    Err(error) if error.is_missing() => {}
                    Err(error) => return Err(error),
                }
            }
            text.push_str(&pretty::pretty(&service, &networks));
        }
        Ok(text)
    }

    async fn service_tasks(&mut self, show: &TaskListArgs, services: &[String]) -> Result<Exit, Error> {
        let mut filters = Filters::default();
        let mut exit = Exit::Done;
        let mut any = false;
        for name in services {
            if let Some(id) = self.service_id(name).await? {
                any = true;
                filters.add("service", &id);
            } else {
                self.complain(&format!("essaim: no such service: {name}"))?;
                exit = Exit::Failed;
            }
        }
        if any {
            self.list_tasks(filters, show).await?;
        }
        Ok(exit)
    }

    /// The identity of the one service of this name, identity or beginning of an identity.
    async fn service_id(&self, name: &str) -> Result<Option<String>, Error> {
        let mut found: Vec<Service> = Vec::new();
        for key in ["id", "name"] {
            let filters = Filters::default().with(key, name).to_query().unwrap_or_default();
            found.extend(
                self.client
                    .get::<Vec<Service>>("/services", &[("filters", &filters)])
                    .await?,
            );
        }
        let exact = found
            .iter()
            .find(|service| service.id.as_str() == name || service.spec.name() == name);
        if let Some(service) = exact {
            return Ok(Some(service.id.to_string()));
        }
        let mut ids: Vec<_> = found
            .iter()
            .map(|service| service.id)
            .filter(|id| id.as_str().starts_with(name))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        match ids.as_slice() {
            [] => Ok(None),
            [id] => Ok(Some(id.to_string())),
            several => Err(Error::Usage(format!(
                "service {name} is ambiguous ({} matches found), expected a longer ID",
                several.len()
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
