//! Containers of the node's engine on networks of the cluster: the engine has a network for each, which is made first.

use super::{DockerEngine, without};
use crate::Engine;
use crate::reply::Answer;
use crate::request::Request;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a container can be on beside networks.
const MODES: [&str; 5] = ["", "default", "bridge", "host", "none"];

/// Whether a request makes a container.
pub(crate) fn makes_container(request: &Request) -> bool {
    request.method == http::Method::POST && request.path == ["containers", "create"]
}

/// `POST /containers/create`.
pub(crate) async fn create(engine: &impl Engine, mut request: Request) -> Answer {
    // What is no object the engine refuses in its own words.
    if let Ok(mut asked) = serde_json::from_slice::<Value>(&request.body()) {
        let mut is_changed = false;
        let named = networks(&asked);
        if !named.is_empty() {
            // Without an engine that is what there is to say.
            let reached = DockerEngine::of(engine).open(&request).await.map(drop);
            reached.map_err(|why| without(&request, &why))?;
        }
        for name in named {
            if let Some(own) = engine.prepare_network(&name).await?
                && own != name
            {
                rename(&mut asked, &name, &own);
                is_changed = true;
            }
        }
        if is_changed {
            request.set_body(asked.to_string().into());
        }
    }
    let relayed = DockerEngine::of(engine).relay(&request).await;
    relayed.map_err(|why| without(&request, &why))
}

/// The networks that a container is to be on, by the names that the client has for them.
fn networks(asked: &Value) -> BTreeSet<String> {
    let mode = member(asked, "HostConfig").and_then(|host| member(host, "NetworkMode")?.as_str());
    let mode = mode.filter(|mode| !MODES.contains(mode) && !mode.starts_with("container:"));
    let endpoints =
        member(asked, "NetworkingConfig").and_then(|config| member(config, "EndpointsConfig")?.as_object());
    let named = endpoints.into_iter().flat_map(serde_json::Map::keys);
    let named = named.filter(|name| !MODES.contains(&name.as_str())).cloned();
    named.chain(mode.map(str::to_owned)).collect()
}

/// Has a container be on the engine's network instead.
fn rename(asked: &mut Value, name: &str, own: &str) {
    let mode = member_mut(asked, "HostConfig").and_then(|host| member_mut(host, "NetworkMode"));
    if let Some(mode) = mode.filter(|mode| mode.as_str() == Some(name)) {
        *mode = own.into();
    }
    let endpoints =
        member_mut(asked, "NetworkingConfig").and_then(|config| member_mut(config, "EndpointsConfig"));
    if let Some(endpoints) = endpoints.and_then(Value::as_object_mut)
        && let Some(endpoint) = endpoints.remove(name)
    {
        endpoints.insert(own.to_owned(), endpoint);
    }
}

/// A member, whose name is read as Go reads it: in any case.
fn member<'a>(of: &'a Value, name: &str) -> Option<&'a Value> {
    let mut members = of.as_object()?.iter();
    members
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn member_mut<'a>(of: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let mut members = of.as_object_mut()?.iter_mut();
    members
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_networks_of_a_container_are_those_of_its_mode_and_its_endpoints() {
        for (asked, expected) in [
            (json!({}), &[][..]),
            (json!({"HostConfig": {"NetworkMode": "bridge"}}), &[]),
            (json!({"HostConfig": {"NetworkMode": "container:ab"}}), &[]),
            (json!({"HostConfig": {"NetworkMode": "app"}}), &["app"]),
            (json!({"hostconfig": {"networkmode": "app"}}), &["app"]),
            (
                json!({"HostConfig": {"NetworkMode": "app"}, "NetworkingConfig": {"EndpointsConfig": {"app": {}, "db": null}}}),
                &["app", "db"],
            ),
            (
                json!({"HostConfig": null, "NetworkingConfig": {"EndpointsConfig": null}}),
                &[],
            ),
            (json!("app"), &[]),
        ] {
            assert_eq!(
                networks(&asked).into_iter().collect::<Vec<_>>(),
                expected,
                "{asked}"
            );
        }
    }

    #[test]
    fn a_network_is_renamed_wherever_it_is_named_and_nothing_else_changes() {
        let mut asked = json!({
            "Image": "app", "HostConfig": {"NetworkMode": "x1", "Binds": ["x1:/a"]},
            "NetworkingConfig": {"EndpointsConfig": {"x1": {"Aliases": ["a"]}, "x2": {}}},
        });
        rename(&mut asked, "x1", "app");
        let expected = json!({
            "Image": "app", "HostConfig": {"NetworkMode": "app", "Binds": ["x1:/a"]},
            "NetworkingConfig": {"EndpointsConfig": {"app": {"Aliases": ["a"]}, "x2": {}}},
        });
        assert_eq!(asked, expected);
    }
}
