//! Which route answers a request.

use crate::reply::{Answer, Reply};
use crate::request::Request;
use crate::secrets::{self, Kept};
use crate::{Engine, EngineError, events, logs, networks, nodes, services, swarm, system, tasks};
use essaim_objects::{Config, Secret};
use http::Method;

/// Answers a request that is not for the node's Docker Engine alone.
pub(crate) async fn answer<E: Engine>(engine: &E, request: &Request) -> Reply {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let is_get = request.method == Method::GET;
    let answer = match path.as_slice() {
        ["_ping"] if matches!(request.method, Method::GET | Method::HEAD) => {
            Ok(system::ping(engine, &request.method).await)
        }
        ["swarm", rest @ ..] => swarm_route(engine, request, rest).await,
        ["nodes", rest @ ..] => nodes_route(engine, request, rest).await,
        ["services", rest @ ..] => services_route(engine, request, rest).await,
        ["tasks", rest @ ..] => tasks_route(engine, request, rest).await,
        ["secrets", rest @ ..] => kept_route::<Secret>(engine, request, rest).await,
        ["configs", rest @ ..] => kept_route::<Config>(engine, request, rest).await,
        ["networks", rest @ ..] => networks_route(engine, request, rest).await,
        ["version"] if is_get => system::version(engine, request).await,
        ["info"] if is_get => system::info(engine, request).await,
        ["events"] if is_get => events::follow(engine, request).await,
        ["distribution", name, "json"] if is_get => Err(EngineError::not_found(format_args!(
            "no registry is asked about {name}: it is the node itself"
        ))),
        _ => Err(no_page()),
    };
    answer.unwrap_or_else(|error| crate::reply::error(&error))
}

fn no_page() -> EngineError {
    EngineError::not_found("page not found")
}

async fn swarm_route(engine: &impl Engine, request: &Request, path: &[&str]) -> Answer {
    match (request.method.as_str(), path) {
        ("GET", []) => swarm::inspect(engine).await,
        ("POST", ["init"]) => swarm::init(engine, request).await,
        ("POST", ["join"]) => swarm::join(engine, request).await,
        ("POST", ["leave"]) => swarm::leave(engine, request).await,
        ("POST", ["update"]) => swarm::update(engine, request).await,
        ("GET", ["unlockkey"]) => swarm::unlock_key(engine).await,
        ("POST", ["unlock"]) => swarm::unlock(engine, request).await,
        _ => Err(no_page()),
    }
}

async fn nodes_route(engine: &impl Engine, request: &Request, path: &[&str]) -> Answer {
    match (request.method.as_str(), path) {
        ("GET", []) => nodes::list(engine, request).await,
        ("GET", [id]) => nodes::inspect(engine, id).await,
        ("POST", [id, "update"]) => nodes::update(engine, id, request).await,
        ("DELETE", [id]) => nodes::remove(engine, id, request).await,
        _ => Err(no_page()),
    }
}

async fn services_route(engine: &impl Engine, request: &Request, path: &[&str]) -> Answer {
    match (request.method.as_str(), path) {
        ("GET", []) => services::list(engine, request).await,
        ("POST", ["create"]) => services::create(engine, request).await,
        ("GET", [id]) => services::inspect(engine, id, request).await,
        ("POST", [id, "update"]) => services::update(engine, id, request).await,
        ("DELETE", [id]) => services::remove(engine, id).await,
        ("GET", [id, "logs"]) => logs::of_service(engine, id, request).await,
        _ => Err(no_page()),
    }
}

async fn tasks_route(engine: &impl Engine, request: &Request, path: &[&str]) -> Answer {
    match (request.method.as_str(), path) {
        ("GET", []) => tasks::list(engine, request).await,
        ("GET", [id]) => tasks::inspect(engine, id).await,
        ("GET", [id, "logs"]) => logs::of_task(engine, id, request).await,
        _ => Err(no_page()),
    }
}

async fn kept_route<K: Kept>(engine: &impl Engine, request: &Request, path: &[&str]) -> Answer {
    match (request.method.as_str(), path) {
        ("GET", []) => secrets::list::<K>(engine, request).await,
        ("POST", ["create"]) => secrets::create::<K>(engine, request).await,
        ("GET", [id]) => secrets::inspect::<K>(engine, id).await,
        ("POST", [id, "update"]) => secrets::update::<K>(engine, id, request).await,
        ("DELETE", [id]) => secrets::remove::<K>(engine, id).await,
        _ => Err(no_page()),
    }
}

async fn networks_route(engine: &impl Engine, request: &Request, path: &[&str]) -> Answer {
    match (request.method.as_str(), path) {
        ("GET", []) => networks::list(engine, request).await,
        ("POST", ["create"]) => networks::create(engine, request).await,
        ("POST", ["prune"]) => networks::prune(engine, request).await,
        ("GET", [id]) => networks::inspect(engine, id, request).await,
        ("DELETE", [id]) => networks::remove(engine, id, request).await,
        ("POST", [id, "connect" | "disconnect"]) => networks::connect(engine, id, request).await,
        _ => Err(no_page()),
    }
}
