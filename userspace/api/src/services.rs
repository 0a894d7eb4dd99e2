//! Services: `/services`.

mod name;
mod spec;
mod status;

use crate::change::{already_exists, checked, random_bits, replica, unimplemented, update as change, view};
use crate::filter::Filters;
use crate::find::find;
use crate::reply::{Answer, created, empty, found};
use crate::request::Request;
use crate::{Engine, EngineError, shape};
use essaim_objects::{
    JobStatus, Mode, PullOptions, Service, ServiceId, ServiceSpec, Timestamp, UpdateState, UpdateStatus,
    Version,
};
use essaim_store::Transaction;
use http::StatusCode;
use serde_json::{Value, json};
use std::mem::discriminant;
use std::sync::Arc;

/// `GET /services`.
pub(crate) async fn list(engine: &impl Engine, request: &Request) -> Answer {
    const KNOWN: &[&str] = &["id", "label", "mode", "name", "runtime"];
    let filters = Filters::of(&request.query, KNOWN)?;
    let with_status = request.query.flag("status");
    let view = view(engine).await?;
    let services = view.services().filter(|service| {
        let spec = &service.spec;
        let mode = match spec.mode() {
            Mode::Replicated { .. } => "replicated",
            Mode::Global => "global",
            Mode::ReplicatedJob { .. } => "replicated-job",
            Mode::GlobalJob => "global-job",
        };
        filters.any("id", |id| service.id.as_str().starts_with(id))
            && filters.any("name", |name| spec.name().starts_with(name))
            && filters.labels("label", spec.labels.as_ref())
            && filters.any("mode", |asked| asked == mode)
            && filters.any("runtime", |asked| asked == "container")
    });
    let shown = |service: &Arc<Service>| {
        let insert_defaults = request.query.flag("insertDefaults");
        if !with_status {
            return shape::service(service, insert_defaults);
        }
        let mut service = Service::clone(service);
        service.service_status = Some(status::of(&view, &service));
        shape::service(&service, insert_defaults)
    };
    let services: Vec<Value> = services.map(shown).collect::<Result<_, _>>()?;
    found(&services)
}

/// `GET /services/{id}`.
pub(crate) async fn inspect(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    let view = view(engine).await?;
    let service = find::<Service>(&view, text)?;
    found(&shape::service(&service, request.query.flag("insertDefaults"))?)
}

/// `POST /services/create`.
pub(crate) async fn create(engine: &impl Engine, request: &Request) -> Answer {
    let asked: ServiceSpec = request.json()?;
    let replica = replica(engine)?;
    let mut asked = spec::with_docker_defaults(asked);
    spec::pull_with(&mut asked, pull_options(request));
    let id = ServiceId::from_bits(random_bits()?);
    if asked.name().is_empty() {
        let bits = random_bits()?;
        let view = replica.view();
        let mut names = (0..).map(|attempt| name::of(bits, attempt));
        asked.name = names.find(|name| view.service_by_name(name).is_none());
    }
    checked(asked.check())?;
    let warnings = warnings(&asked);
    change(&replica, |view| {
        let name = asked.name();
        if view.service_by_name(name).is_some() {
            return Err(already_exists(format_args!(
                "name conflicts with an existing object: service {name} already exists"
            )));
        }
        let mut service = Service::new(id, Arc::new(spec::resolved(view, asked.clone())?));
        service.spec_version = Some(Version::default());
        if asked.mode().is_job() {
            service.job_status = Some(JobStatus {
                last_execution: Some(Timestamp::now()),
                ..JobStatus::default()
            });
        }
        let mut transaction = Transaction::new();
        transaction.create(service);
        Ok(transaction)
    })
    .await?;
    created(&json!({ "ID": id, "Warnings": warnings }))
}

/// What was asked for and makes no difference; `null` where all does, as Docker has it.
fn warnings(asked: &ServiceSpec) -> Option<Vec<String>> {
    Some(asked.without_effect()).filter(|warnings| !warnings.is_empty())
}

/// How the request has images pulled, where it says so.
fn pull_options(request: &Request) -> Option<PullOptions> {
    let registry_auth = request.registry_auth()?;
    Some(PullOptions {
        registry_auth: Some(registry_auth),
        ..PullOptions::default()
    })
}

/// Where an update takes the credentials from that its request does not carry.
#[derive(Clone, Copy, Debug)]
enum AuthFrom {
    Spec,
    PreviousSpec,
}

impl AuthFrom {
    fn of(request: &Request) -> Result<Self, EngineError> {
        match request.query.get("registryAuthFrom") {
            "" | "spec" => Ok(Self::Spec),
            "previous-spec" => Ok(Self::PreviousSpec),
            other => Err(EngineError::invalid(format_args!(
                "unsupported registryAuthFrom value: {other}"
            ))),
        }
    }

    /// How images are pulled for the service as it was.
    fn pull_options(self, service: &Service) -> Result<Option<PullOptions>, EngineError> {
        let spec = match self {
            Self::Spec => &service.spec,
            Self::PreviousSpec => {
                let previous = service.previous_spec.as_ref();
                previous.ok_or_else(|| without_previous(service))?
            }
        };
        let container = spec.task_template.container.as_ref();
        Ok(container.and_then(|container| container.pull_options.clone()))
    }
}

fn without_previous(service: &Service) -> EngineError {
    EngineError::failed_precondition(format_args!(
        "service {} does not have a previous spec",
        service.id
    ))
}

/// `POST /services/{id}/update`.
pub(crate) async fn update(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    let version = request.query.version("service")?;
    let asked: ServiceSpec = request.json()?;
    let rolls_back = match request.query.get("rollback") {
        "" | "none" => false,
        "previous" => true,
        other => {
            return Err(EngineError::invalid(format_args!(
                "unrecognized rollback option {other}: expected \"previous\" or \"none\""
            )));
        }
    };
    let auth_from = AuthFrom::of(request)?;
    let replica = replica(engine)?;
    let asked = spec::with_docker_defaults(asked);
    let mut warnings = None;
    if !rolls_back {
        checked(asked.check())?;
        warnings = self::warnings(&asked);
    }
    change(&replica, |view| {
        let old = find::<Service>(view, text)?;
        if old.version != version {
            return Err(EngineError::out_of_sequence());
        }
        let mut service = if rolls_back {
            rolled_back(&old)?
        } else {
            let mut next = spec::resolved(view, asked.clone())?;
            let pull = match pull_options(request) {
                Some(sent) => Some(sent),
                None => auth_from.pull_options(&old)?,
            };
            spec::pull_with(&mut next, pull);
            updated(&old, next)?
        };
        if service.spec.mode().is_job() {
            let job = service.job_status.get_or_insert_default();
            job.job_iteration.index += 1;
            job.last_execution = Some(Timestamp::now());
        }
        let mut transaction = Transaction::new();
        transaction.update(service);
        Ok(transaction)
    })
    .await?;
    found(&json!({ "Warnings": warnings }))
}

/// What a new spec makes of a service.
fn updated(old: &Service, mut spec: ServiceSpec) -> Result<Service, EngineError> {
    if spec.name() != old.spec.name() {
        return Err(unimplemented("renaming services is not supported"));
    }
    if discriminant(&spec.mode()) != discriminant(&old.spec.mode()) {
        return Err(unimplemented("service mode change is not allowed"));
    }
    if spec.task_template == old.spec.task_template {
        // One copy of it serves all tasks.
        spec.task_template = old.spec.task_template.clone();
    }
    let mut service = old.clone();
    service.previous_spec = Some(std::mem::replace(&mut service.spec, Arc::new(spec)));
    service.previous_spec_version = service.spec_version;
    // Greater than that of any spec before, as every change of the service has a greater version.
    service.spec_version = Some(old.version);
    service.update_status = None;
    Ok(service)
}

/// What a service was before its last update; the one that is taken back becomes the one before.
fn rolled_back(old: &Service) -> Result<Service, EngineError> {
    let mut service = old.clone();
    let Some(previous) = service.previous_spec.take() else {
        return Err(without_previous(old));
    };
    service.previous_spec = Some(std::mem::replace(&mut service.spec, previous));
    std::mem::swap(&mut service.spec_version, &mut service.previous_spec_version);
    if !service.spec.mode().is_job() {
        service.update_status = Some(UpdateStatus {
            state: Some(UpdateState::RollbackStarted),
            started_at: Some(Timestamp::now()),
            message: Some("manually requested rollback".to_owned()),
            ..UpdateStatus::default()
        });
    }
    Ok(service)
}

/// `DELETE /services/{id}`.
pub(crate) async fn remove(engine: &impl Engine, text: &str) -> Answer {
    let replica = replica(engine)?;
    change(&replica, |view| {
        let mut transaction = Transaction::new();
        transaction.remove(find::<Service>(view, text)?);
        Ok(transaction)
    })
    .await?;
    Ok(empty(StatusCode::OK))
}
