//! Networks: `/networks`. Those of the cluster are answered here, those of a node by its Docker Engine.

mod verbose;

use crate::change::{already_exists, checked, conflicting, random_bits, replica, update as change, view};
use crate::filter::{Filters, has_label};
use crate::find::find;
use crate::passthrough::{DockerEngine, Unreached, is_clean, left_out, merge};
use crate::reply::{Answer, Reply, created, empty, found};
use crate::request::Request;
use crate::{Engine, EngineError, ErrorKind, moment, shape};
use essaim_manager::Replica;
use essaim_objects::{Network, NetworkCreate, NetworkId, NetworkSpec, TaskState, Timestamp};
use essaim_store::{Conflict, ObjectId, Transaction, View, release};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

/// How long the removal of a network waits for tasks that are stopping: a task's grace and some more.
const LEAVING: Duration = Duration::from_secs(30);

/// The networks that each node has of itself.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

/// `GET /networks`: the cluster's and those of the node's Docker Engine.
pub(crate) async fn list(engine: &impl Engine, request: &Request) -> Answer {
    let own = own_list(engine, request).await?;
    match DockerEngine::of(engine).says(request).await {
        Some(said) => found(&merge::networks(own, said)),
        None => found(&own),
    }
}

/// None where this node is no manager, as the docker CLI asks for them anyway.
async fn own_list(engine: &impl Engine, request: &Request) -> Result<Vec<Value>, EngineError> {
    const KNOWN: &[&str] = &["driver", "id", "label", "name", "scope", "type", "dangling"];
    let filters = Filters::of(&request.query, KNOWN)?;
    let types = filters.read("type", |text| match text {
        "custom" => Some(true),
        "builtin" => Some(false),
        _ => None,
    })?;
    let dangling = filters.truth("dangling")?;
    if engine.replica().is_none() {
        return Ok(Vec::new());
    }
    let view = view(engine).await?;
    let networks = view.networks().filter(|network| {
        filters.any("driver", |driver| driver == "overlay")
            && filters.any("id", |id| network.id.as_str().contains(id))
            && filters.any("name", |asked| matches(network.name(), asked))
            && filters.labels("label", network.spec.labels.as_ref())
            && filters.any("scope", |scope| scope == "swarm")
            && (types.is_empty() || types.contains(&true))
            && dangling.is_none_or(|asked| is_unused(&view, network) == asked)
    });
    networks.map(shape::network).collect()
}

/// Whether a name holds the text, which may be tied to the name's ends by `^` and `$`.
fn matches(name: &str, asked: &str) -> bool {
    let (start, asked) = asked
        .strip_prefix('^')
        .map_or((false, asked), |rest| (true, rest));
    let (end, asked) = asked
        .strip_suffix('$')
        .map_or((false, asked), |rest| (true, rest));
    match (start, end) {
        (false, false) => name.contains(asked),
        (true, false) => name.starts_with(asked),
        (false, true) => name.ends_with(asked),
        (true, true) => name == asked,
    }
}

fn is_unused(view: &View, network: &Network) -> bool {
    let own = ObjectId::from(network.id);
    view.services_on_network(network.id).next().is_none()
        && view.addresses_on(network.id).all(|(_, holder)| holder == own)
}

/// Has the node's Docker Engine answer a request about one network; nothing where the network is the cluster's, or the
/// engine has none such. A network of the cluster's goes before one of the engine's by identity and name, not by the
/// beginning of its identity.
async fn relay(engine: &impl Engine, text: &str, request: &Request) -> Result<Option<Reply>, Unreached> {
    let is_ours = || {
        let view = engine.replica().map(|replica| replica.view());
        view.is_some_and(|view| {
            let by_id = text.parse().ok().and_then(|id| view.network(id));
            by_id.is_some() || view.network_by_name(text).is_some()
        })
    };
    match request.query.get("scope") {
        _ if !is_clean(&request.path) => return Ok(None),
        "swarm" => return Ok(None),
        "local" => {}
        _ if is_ours() => return Ok(None),
        _ => {}
    }
    let reply = DockerEngine::of(engine).relay(request).await?;
    Ok(Some(reply).filter(|reply| reply.status() != StatusCode::NOT_FOUND))
}

/// What of a network that neither has is said, where the engine was not there to say it.
fn unless_unreached(own: Answer, unreached: &Unreached) -> Answer {
    left_out(unreached);
    own.map_err(|error| match (error.kind, unreached) {
        (ErrorKind::NotFound, Unreached::Refuses { .. }) => unreached.into(),
        _ => error,
    })
}

/// `GET /networks/{id}`.
pub(crate) async fn inspect(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    match relay(engine, text, request).await {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => own_inspect(engine, text, request).await,
        Err(why) => unless_unreached(own_inspect(engine, text, request).await, &why),
    }
}

async fn own_inspect(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    let scope = request.query.get("scope");
    if scope == "swarm" && PREDEFINED.contains(&text) {
        // So the docker CLI asks for the networks of a service.
        return Err(EngineError::invalid(format_args!(
            "network {text} is a node's own, expected an overlay network: services are on no networks of nodes"
        )));
    }
    let not_found = || EngineError::not_found(format_args!("network {text} not found"));
    if engine.replica().is_none() || !matches!(scope, "" | "swarm") {
        return Err(not_found());
    }
    let view = view(engine).await?;
    let network = find::<Network>(&view, text)?;
    let mut shown = shape::network(&network)?;
    shown["Containers"] = verbose::containers(&view, &network, engine.local().node_id);
    if request.query.flag("verbose") {
        shown["Peers"] = verbose::peers(&view, &network);
        shown["Services"] = verbose::services(&view, &network);
    }
    found(&shown)
}

/// `POST /networks/create`.
pub(crate) async fn create(engine: &impl Engine, request: &Request) -> Answer {
    let mut asked: NetworkCreate = request.json()?;
    let name = asked.name.clone().unwrap_or_default();
    if PREDEFINED.contains(&name.as_str()) {
        return Err(EngineError::forbidden(format_args!(
            "operation is not permitted on predefined {name} network"
        )));
    }
    let driver = asked.driver.clone().unwrap_or_default();
    match owner(&asked, engine.replica().is_some()) {
        Owner::Cluster => {}
        Owner::Either => match of_the_engine(engine, &name, request).await {
            Ok(answer) => return answer,
            Err(why) => left_out(&why),
        },
        Owner::Engine => {
            let answer = of_the_engine(engine, &name, request).await;
            return answer.unwrap_or_else(|why| Err(of_no_engine(&driver, &why)));
        }
    }
    match driver.as_str() {
        "" | "overlay" => {}
        // What only holds configuration has no driver; the docker CLI names its own default for it.
        "bridge" | "null" if asked.config_only == Some(true) => asked.driver = None,
        driver => {
            return Err(EngineError::not_found(format_args!(
                "plugin {driver:?} not found: the driver of a network is \"overlay\""
            )));
        }
    }
    let scope = asked.scope.as_deref().unwrap_or_default();
    if !matches!(scope, "" | "swarm") {
        return Err(EngineError::invalid(format_args!(
            "Scope is {scope:?}, expected \"swarm\""
        )));
    }
    let replica = replica(engine)?;
    let spec = NetworkSpec::from(asked);
    checked(spec.check())?;
    let id = NetworkId::from_bits(random_bits()?);
    change(&replica, |view| {
        if view.network_by_name(&name).is_some() {
            return Err(exists(&name));
        }
        if spec.ingress == Some(true)
            && let Some(ingress) = view.ingress()
        {
            return Err(already_exists(format_args!(
                "ingress network ({}) is already present",
                ingress.id
            )));
        }
        let mut transaction = Transaction::new();
        transaction.create(Network::new(id, spec.clone()));
        Ok(transaction)
    })
    .await?;
    created(&json!({ "Id": id, "Warning": "" }))
}

/// Whose a network is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The cluster's.
    Cluster,
    /// That of the node's Docker Engine.
    Engine,
    /// As Docker has it, the engine's; the cluster's where there is no engine.
    Either,
}

fn owner(asked: &NetworkCreate, is_manager: bool) -> Owner {
    let scope = asked.scope.as_deref().unwrap_or_default();
    let is_config_only = asked.config_only == Some(true);
    match asked.driver.as_deref().unwrap_or_default() {
        _ if scope == "swarm" || asked.ingress == Some(true) => Owner::Cluster,
        "overlay" => Owner::Cluster,
        // It is for the cluster's overlay networks, which the docker CLI cannot say.
        "" | "bridge" | "null" if is_config_only && is_manager => Owner::Cluster,
        "" => Owner::Either,
        _ => Owner::Engine,
    }
}

/// Why there is no network of a node's own.
fn of_no_engine(driver: &str, why: &Unreached) -> EngineError {
    if matches!(driver, "host" | "null") {
        return EngineError::forbidden(format_args!(
            "only one instance of \"{driver}\" network is allowed"
        ));
    }
    let EngineError { kind, message } = why.into();
    let message = format!(
        "a network of driver {driver:?} is of one node: {message}; the driver of the cluster's networks is \"overlay\""
    );
    EngineError { kind, message }
}

/// Has the node's Docker Engine make a network.
async fn of_the_engine(engine: &impl Engine, name: &str, request: &Request) -> Result<Answer, Unreached> {
    let view = engine.replica().map(|replica| replica.view());
    if view.is_some_and(|view| view.network_by_name(name).is_some()) {
        return Ok(Err(exists(name)));
    }
    DockerEngine::of(engine).relay(request).await.map(Ok)
}

fn exists(name: &str) -> EngineError {
    EngineError::conflict(format_args!("network with name {name} already exists"))
}

/// `DELETE /networks/{id}`.
pub(crate) async fn remove(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    match relay(engine, text, request).await {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => own_remove(engine, text).await,
        Err(why) => unless_unreached(own_remove(engine, text).await, &why),
    }
}

async fn own_remove(engine: &impl Engine, text: &str) -> Answer {
    if PREDEFINED.contains(&text) {
        return Err(EngineError::forbidden(format_args!(
            "{text} is a pre-defined network and cannot be removed"
        )));
    }
    let replica = replica(engine)?;
    let view = view(engine).await?;
    let network = find::<Network>(&view, text)?;
    release_all(&replica, network.id, Instant::now() + LEAVING).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Removes a network. Tasks that are stopping still have their addresses: it waits for them, so that a network can be
/// removed right after its services.
async fn release_all(replica: &Replica, id: NetworkId, deadline: Instant) -> Result<(), EngineError> {
    let mut notices = replica.notices();
    loop {
        let mut is_leaving = false;
        let removed = change(replica, |view| {
            is_leaving = false;
            match release(view, id) {
                Ok(mut batches) if batches.len() < 2 => Ok(batches.pop().unwrap_or_default()),
                // What is left is done the next time round.
                Ok(batches) => Ok(demoted(view, id)
                    .or_else(|| batches.into_iter().next())
                    .unwrap_or_default()),
                Err(Conflict::NotFound { .. }) => Ok(Transaction::new()),
                Err(conflict) => {
                    if let Conflict::InUse { by, .. } = &conflict {
                        is_leaving = leaves(view, *by);
                    }
                    Err(in_use(view, id, &conflict))
                }
            }
        });
        match removed.await {
            Ok(view) if view.network(id).is_none() => return Ok(()),
            Ok(_) => {}
            Err(error) if !is_leaving => return Err(error),
            Err(error) => match timeout_at(deadline, notices.recv()).await {
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) => return Err(error),
            },
        }
    }
}

/// The nodes of a large cluster do not go into one transaction. Every node is given an address on the ingress network as
/// soon as it has none: so before they give theirs up, the network stops being that. A failure in between leaves an ordinary network, which can be removed again.
fn demoted(view: &View, id: NetworkId) -> Option<Transaction> {
    let mut network = Network::clone(view.network(id).filter(|network| network.is_ingress())?);
    network.spec.ingress = None;
    let mut transaction = Transaction::new();
    transaction.update(network);
    Some(transaction)
}

/// Whether what uses a network is a task that will not use it any more.
fn leaves(view: &View, user: ObjectId) -> bool {
    let ObjectId::Task(task) = user else { return false };
    view.task(task).is_some_and(|task| {
        let is_orphan = task.service_id.is_some_and(|id| view.service(id).is_none());
        is_orphan || task.desired_state > TaskState::Complete
    })
}

fn in_use(view: &View, id: NetworkId, conflict: &Conflict) -> EngineError {
    let is_ingress = view.network(id).is_some_and(|network| network.is_ingress());
    match conflict {
        Conflict::InUse {
            by: ObjectId::Service(service),
            ..
        } if is_ingress => EngineError::failed_precondition(format_args!(
            "ingress network cannot be removed because service {service} depends on it"
        )),
        conflict => conflicting(conflict),
    }
}

/// `POST /networks/prune`.
pub(crate) async fn prune(engine: &impl Engine, request: &Request) -> Answer {
    let filters = Filters::of(&request.query, &["label", "label!", "until"])?;
    let now = Timestamp::now();
    let mut until = None;
    for text in filters.values("until") {
        until = moment::parse(text, now).map_err(EngineError::invalid)?;
    }
    let mut removed = Vec::new();
    if engine.replica().is_some() {
        removed = own_prune(engine, &filters, until).await?;
    }
    if let Some(said) = DockerEngine::of(engine).says(request).await {
        removed = merge::pruned(removed, &said);
    }
    let removed = (!removed.is_empty()).then_some(removed);
    found(&json!({ "NetworksDeleted": removed }))
}

/// The names of those that are gone.
async fn own_prune(
    engine: &impl Engine,
    filters: &Filters,
    until: Option<Timestamp>,
) -> Result<Vec<String>, EngineError> {
    let replica = replica(engine)?;
    let view = view(engine).await?;
    let is_pruned = |network: &&Arc<Network>| {
        let labels = network.spec.labels.as_ref();
        !network.is_ingress()
            && filters.labels("label", labels)
            && !filters
                .values("label!")
                .iter()
                .any(|asked| has_label(labels, asked))
            && until.is_none_or(|until| network.created_at < until)
            && is_unused(&view, network)
    };
    let mut removed = Vec::new();
    for network in view.networks().filter(is_pruned) {
        // One that came into use meanwhile stays.
        match release_all(&replica, network.id, Instant::now()).await {
            Ok(()) => removed.push(network.name().to_owned()),
            Err(error) => tracing::debug!(network = network.name(), %error, "a network is not pruned"),
        }
    }
    Ok(removed)
}

/// `POST /networks/{id}/connect` and `disconnect`: of the engine's containers, and its networks or what stands there for one
/// of the cluster's.
pub(crate) async fn connect(engine: &impl Engine, text: &str, request: &Request) -> Answer {
    match relay(engine, text, request).await {
        Ok(Some(reply)) => return Ok(reply),
        Ok(None) => {}
        Err(why) => return Err((&why).into()),
    }
    let reached = DockerEngine::of(engine).open(request).await.map(drop);
    reached.map_err(|why| EngineError::from(&why))?;
    let Some(own) = engine.prepare_network(text).await? else {
        return Err(EngineError::not_found(format_args!("network {text} not found")));
    };
    let mut request = request.clone();
    request.set_part(1, &own);
    let relayed = DockerEngine::of(engine).relay(&request).await;
    relayed.map_err(|why| EngineError::from(&why))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_name_is_asked_for_by_a_part_of_it() {
        for (asked, expected) in [
            ("web_front", true),
            ("web", true),
            ("front", true),
            ("^web", true),
            ("^front", false),
            ("front$", true),
            ("web$", false),
            ("^web_front$", true),
            ("^web$", false),
            ("back", false),
        ] {
            assert_eq!(matches("web_front", asked), expected, "{asked}");
        }
    }
}
