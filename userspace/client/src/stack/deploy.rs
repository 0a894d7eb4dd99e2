//! `stack deploy`: the requests, in docker's order.

use super::files::FileArgs;
use super::{name, of_stack};
use crate::api::encode;
use crate::console::{Exit, Session};
use crate::error::Error;
use crate::node::Info;
use crate::service::{References, Waited};
use essaim_compose::{IMAGE_LABEL, Plan, is_predefined};
use essaim_objects::{Config, NetworkResource, Secret, Service, ServiceSpec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What `stack deploy` takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Clone, Debug, clap::Args)]
pub struct DeployArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Exit immediately instead of waiting for the stack services to converge
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_name = "BOOL")]
    detach: bool,
    /// Prune services that are no longer referenced
    #[arg(long)]
    prune: bool,
    /// Suppress progress output
    #[arg(short, long)]
    quiet: bool,
    /// Which image a service gets whose file names the same as before: the file's, or the one that it has
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    resolve_image: ResolveImage,
    /// Send registry authentication details to the nodes
    #[arg(long)]
    with_registry_auth: bool,
    /// Its name
    #[arg(value_parser = name)]
    stack: String,
}

/// When an image that did not change is taken from the file anew. No registry is asked in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ResolveImage {
    /// The file's image, without a digest
    #[default]
    Always,
    /// The image that the service has, where its file's did not change
    Changed,
    /// As changed
    Never,
}

impl Session<'_, '_> {
    pub(super) async fn deploy_stack(&mut self, args: &DeployArgs) -> Result<Exit, Error> {
        // All that is wrong with the files is told before anything is sent.
        let plan = args.files.plan(&args.stack, self.console)?;
        let info: Info = self.client.get("/info", &[]).await?;
        if !info.swarm.control_available {
            return Err(Error::Usage(
                "this node is not a swarm manager. Use \"essaim swarm init\" or \"essaim swarm join\" to connect this node to swarm and try again."
                    .to_owned(),
            ));
        }
        let mut exit = Exit::Done;
        if args.prune {
            exit = self.prune_services(&args.stack, &plan).await?;
        }
        self.create_networks(&args.stack, &plan).await?;
        self.create_secrets_and_configs(&plan).await?;
        let deployed = self.deploy_services(args, plan).await?;
        if args.detach {
            return Ok(exit);
        }
        for (name, id) in deployed {
            match self.wait_for(&id, args.quiet).await {
                Ok(Waited::Converged) => {}
                Ok(Waited::Interrupted) => break,
                Err(Error::NotConverged(why)) => {
                    self.complain(&format!("essaim: {name}: {why}"))?;
                    exit = Exit::Failed;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(exit)
    }

    /// Removes the services of the stack that its files do not name.
    async fn prune_services(&mut self, stack: &str, plan: &Plan) -> Result<Exit, Error> {
        let mut services: Vec<Service> = self.filtered_list("/services", &of_stack(stack)).await?;
        services.sort_by(|a, b| a.spec.name().cmp(b.spec.name()));
        let mut exit = Exit::Done;
        for service in services {
            let name = service.spec.name();
            if !plan.services.iter().any(|spec| spec.name() == name) {
                exit = exit.and(self.remove_of_stack("service", name, service.id.as_str()).await?);
            }
        }
        Ok(exit)
    }

    async fn create_networks(&mut self, stack: &str, plan: &Plan) -> Result<(), Error> {
        for name in plan.external_networks.iter().filter(|name| !is_predefined(name)) {
            let found = self
                .client
                .get::<NetworkResource>(&format!("/networks/{}", encode(name)), &[])
                .await;
            match found {
                Ok(network) if network.scope == "swarm" => {}
                Ok(network) => {
                    return Err(Error::Usage(format!(
                        "network {name:?} is declared as external, but it is not in the right scope: {:?} instead of \"swarm\"",
                        network.scope
                    )));
                }
                Err(error) if error.is_missing() => {
                    return Err(Error::Missing(format!(
                        "network {name:?} is declared as external, but could not be found. You need to create a swarm-scoped network \
                         before the stack is deployed"
                    )));
                }
                Err(error) => return Err(error),
            }
        }
        let existing: Vec<NetworkResource> = self.filtered_list("/networks", &of_stack(stack)).await?;
        for network in &plan.networks {
            let name = network.name.as_deref().unwrap_or_default();
            if existing.iter().any(|existing| existing.name == name) {
                continue;
            }
            self.line(&format!("Creating network {name}"))?;
            let created = self.client.post("/networks/create", &[], network).await;
            created.map_err(|error| error.about(&format!("failed to create network {name}")))?;
        }
        Ok(())
    }

    async fn create_secrets_and_configs(&mut self, plan: &Plan) -> Result<(), Error> {
        for spec in &plan.secrets {
            let name = spec.name.as_deref().unwrap_or_default();
            let known = self
                .client
                .get::<Secret>(&format!("/secrets/{}", encode(name)), &[])
                .await;
            let known = known.map(|secret| (secret.id.to_string(), secret.version.to_string()));
            self.create_or_update("secret", name, spec, known).await?;
        }
        for spec in &plan.configs {
            let name = spec.name.as_deref().unwrap_or_default();
            let known = self
                .client
                .get::<Config>(&format!("/configs/{}", encode(name)), &[])
                .await;
            let known = known.map(|config| (config.id.to_string(), config.version.to_string()));
            self.create_or_update("config", name, spec, known).await?;
        }
        Ok(())
    }

    /// Updates a secret or config of this identity and version, or creates it where there is none.
    async fn create_or_update<T: Serialize>(
        &mut self,
        kind: &str,
        name: &str,
        spec: &T,
        known: Result<(String, String), Error>,
    ) -> Result<(), Error> {
        match known {
            Ok((id, version)) => {
                let query = [("version", version.as_str())];
                let updated = self
                    .client
                    .post(&format!("/{kind}s/{id}/update"), &query, spec)
                    .await;
                updated.map_err(|error| error.about(&format!("failed to update {kind} {name}")))?;
            }
            Err(error) if error.is_missing() => {
                self.line(&format!("Creating {kind} {name}"))?;
                let created = self.client.post(&format!("/{kind}s/create"), &[], spec).await;
                created.map_err(|error| error.about(&format!("failed to create {kind} {name}")))?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Creates or updates the services; their names and identities.
    async fn deploy_services(
        &mut self,
        args: &DeployArgs,
        plan: Plan,
    ) -> Result<Vec<(String, String)>, Error> {
        let mut specs = plan.services;
        self.identify(&mut specs).await?;
        let existing: Vec<Service> = self.filtered_list("/services", &of_stack(&args.stack)).await?;
        let mut existing: BTreeMap<String, Service> = existing
            .into_iter()
            .map(|service| (service.spec.name().to_owned(), service))
            .collect();
        let mut deployed = Vec::new();
        for mut spec in specs {
            let name = spec.name().to_owned();
            let auth = self.registry_auth(args.with_registry_auth, &spec)?;
            let auth = auth.as_deref();
            let id = if let Some(service) = existing.remove(&name) {
                self.line(&format!("Updating service {name} (id: {})", service.id))?;
                keep(&mut spec, &service, args.resolve_image);
                let updated = self.post_spec(&service, &spec, &[], auth).await;
                updated.map_err(|error| error.about(&format!("failed to update service {name}")))?;
                service.id.to_string()
            } else {
                self.line(&format!("Creating service {name}"))?;
                let created = self.post_new(&spec, auth).await;
                created.map_err(|error| error.about(&format!("failed to create service {name}")))?
            };
            deployed.push((name, id));
        }
        Ok(deployed)
    }

    /// Gives secrets and configs the identities that the cluster has for their names.
    async fn identify(&self, specs: &mut [ServiceSpec]) -> Result<(), Error> {
        let mut references = References::default();
        for spec in specs.iter() {
            let Some(container) = &spec.task_template.container else {
                continue;
            };
            let secrets = container.secrets().iter();
            references
                .secrets
                .extend(secrets.filter_map(|secret| secret.secret_name.clone()));
            let configs = container.configs().iter();
            references
                .configs
                .extend(configs.filter_map(|config| config.config_name.clone()));
        }
        let names = self.look_up(references).await?;
        for spec in specs {
            let Some(container) = &mut Arc::make_mut(&mut spec.task_template).container else {
                continue;
            };
            for secret in container.secrets.iter_mut().flatten() {
                let name = secret.secret_name.as_deref().unwrap_or_default();
                let id = names.secrets.get(name);
                secret.secret_id =
                    Some(*id.ok_or_else(|| Error::Missing(format!("secret not found: {name}")))?);
            }
            for config in container.configs.iter_mut().flatten() {
                let name = config.config_name.as_deref().unwrap_or_default();
                let id = names.configs.get(name);
                config.config_id =
                    Some(*id.ok_or_else(|| Error::Missing(format!("config not found: {name}")))?);
            }
        }
        Ok(())
    }
}

/// What an update leaves as it is: the count of forced updates, and the image with its digest where that is asked for and
/// the file's is the one that the service was deployed with.
fn keep(spec: &mut ServiceSpec, service: &Service, resolve_image: ResolveImage) {
    let image = |spec: &ServiceSpec| {
        spec.labels
            .as_ref()
            .and_then(|labels| labels.get(IMAGE_LABEL))
            .cloned()
    };
    let unchanged = image(spec) == image(&service.spec);
    let before = &service.spec.task_template;
    let task = Arc::make_mut(&mut spec.task_template);
    task.force_update = before.force_update.or(task.force_update);
    match resolve_image {
        ResolveImage::Always => {}
        ResolveImage::Changed | ResolveImage::Never => {
            if let (true, Some(container), Some(before)) = (unchanged, &mut task.container, &before.container)
            {
                container.image.clone_from(&before.image);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_is_kept_with_its_digest_where_that_is_asked_for_and_the_files_did_not_change() {
        let spec = |image: &str, label: &str, forced: u64| -> ServiceSpec {
            serde_json::from_value(json!({"Name": "s_web", "Labels": {IMAGE_LABEL: label},
                "TaskTemplate": {"ContainerSpec": {"Image": image}, "ForceUpdate": forced}}))
            .unwrap()
        };
        let service = Service::new(
            essaim_objects::ServiceId::from_bits(1),
            Arc::new(spec("web:1@sha256:abc", "web:1", 7)),
        );
        let cases = [
            (ResolveImage::Always, "web:1", "web:1"),
            (ResolveImage::Changed, "web:1", "web:1@sha256:abc"),
            (ResolveImage::Never, "web:1", "web:1@sha256:abc"),
            (ResolveImage::Changed, "web:2", "web:2"),
            (ResolveImage::Never, "web:2", "web:2"),
        ];
        for (resolve, image, expected) in cases {
            let mut next = spec(image, image, 0);
            keep(&mut next, &service, resolve);
            assert_eq!(
                json!(next.task_template)["ContainerSpec"]["Image"],
                expected,
                "{resolve:?} {image}"
            );
            assert_eq!(next.task_template.force_update, Some(7));
        }
    }
}
