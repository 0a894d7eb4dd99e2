//! Which requests are the engine's, and their path there.

use super::Unreached;
use crate::request::{Minor, Request};
use crate::{EngineError, ErrorKind};

/// What the paths of the cluster's own objects begin with.
const CLUSTER: [&str; 6] = ["swarm", "nodes", "services", "tasks", "secrets", "configs"];
/// What both have a say in: answered here, by what the engine says, too.
const BOTH: [&str; 5] = ["_ping", "version", "info", "events", "networks"];
/// What an engine answers to; only without one is there a need to know.
const ENGINE: [&str; 12] = [
    "auth",
    "build",
    "commit",
    "containers",
    "distribution",
    "exec",
    "grpc",
    "images",
    "plugins",
    "session",
    "system",
    "volumes",
];
/// The image that stands for the node itself: no registry has it.
const HOST_IMAGE: &str = "host";

/// Whether a path, decoded and without its version, is for the engine alone.
///
/// The engine reads versions more loosely than this API does: so none goes on whose first part is not a plain word.
pub(crate) fn is_the_engines(path: &[String]) -> bool {
    let Some(first) = path.first().map(String::as_str) else {
        return false;
    };
    let is_word = !first.is_empty()
        && first
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word
        && !CLUSTER.contains(&first)
        && !BOTH.contains(&first)
        && !is_of_the_host_image(path)
        && is_clean(path)
}

/// Whether a path stays as it is when it is decoded and cleaned, as the engine does: it cannot turn into another there.
pub(crate) fn is_clean(path: &[String]) -> bool {
    let mut pieces = path.iter().flat_map(|part| part.split('/'));
    pieces.all(|piece| !matches!(piece, "" | "." | ".."))
}

fn is_of_the_host_image(path: &[String]) -> bool {
    let [first, image, last] = path else { return false };
    let name = image.split(':').next().unwrap_or_default();
    first == "distribution" && name == HOST_IMAGE && last == "json"
}

/// The path and query that the engine is asked for: of the versions that the client and the engine speak, the lesser.
pub(crate) fn target(request: &Request, engine: Minor) -> String {
    let raw = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let rest = raw.strip_prefix('/').and_then(|path| path.split_once('/'));
    match rest {
        Some((_, rest)) if request.names_version => format!("/v{}/{rest}", request.version.min(engine)),
        _ => raw.to_owned(),
    }
}

/// The answer to a request of the engine's that cannot be had. An object that is asked for is not found where there is no
/// engine: so `docker inspect` goes on to the cluster's objects.
pub(crate) fn without(request: &Request, why: &Unreached) -> EngineError {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let none = match (request.method.as_str(), path.as_slice()) {
        ("GET", ["containers", id, "json"]) => format!("No such container: {id}"),
        ("GET", ["images", name @ .., "json"]) if !name.is_empty() => {
            format!("No such image: {}", name.join("/"))
        }
        ("GET", ["volumes", name]) => format!("get {name}: no such volume"),
        ("GET", ["plugins", name @ .., "json"]) if !name.is_empty() => {
            format!("plugin {:?} not found", name.join("/"))
        }
        (_, [first, ..]) if ENGINE.contains(first) => return why.into(),
        _ => return EngineError::not_found("page not found"),
    };
    let why = EngineError::from(why);
    match why.kind {
        ErrorKind::NotImplemented => EngineError::not_found(format_args!("{none}: {why}")),
        _ => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn request(uri: &str) -> Request {
        let (head, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        Request::head(head).unwrap().with_body(Bytes::new())
    }

    #[test]
    fn what_is_not_the_clusters_is_the_engines() {
        for uri in [
            "/containers/json",
            "/v1.24/containers/json?all=1",
            "/v1.47/images/localhost:5000/a/b:1/json",
            "/images/a%2Fb/json",
            "/v1.41/build?t=a",
            "/session",
            "/grpc",
            "/auth",
            "/distribution/nginx/json",
            "/distribution/library/host/json",
            "/system/df",
            "/nonsense",
        ] {
            assert!(is_the_engines(&request(uri).path), "{uri}");
        }
    }

    #[test]
    fn nothing_of_the_swarms_reaches_the_engine_however_it_is_written() {
        for uri in [
            "/swarm/init",
            "/v1.41/swarm/init",
            "/nodes",
            "/services/create",
            "/tasks",
            "/secrets/create",
            "/configs/x",
            "/%73warm/init",
            "/v1.41/%73warm/init",
            "/v1%2E41/swarm/init",
            // Versions as the engine reads them.
            "/v1.41.0/swarm/init",
            "/v1/swarm/init",
            "/v41/swarm/init",
            "/v1.41/v1.41/swarm/init",
            "/V1.41/swarm/init",
            // What the engine cleans.
            "//swarm/init",
            "/./swarm/init",
            "/v1.41//swarm/init",
            "/containers/../swarm/init",
            "/containers/%2e%2e/swarm/init",
            "/containers/..%2F..%2Fswarm/init",
            "/containers/x%2F..%2F..%2Fswarm",
            "/containers//json",
            "/containers%2F..%2Fswarm/init",
            "/Swarm/init",
            "/swarm%00/init",
            "/",
            "/v1.41",
            "/v1.41/",
        ] {
            assert!(!is_the_engines(&request(uri).path), "{uri}");
        }
    }

    #[test]
    fn what_both_have_a_say_in_is_answered_here() {
        for uri in [
            "/_ping",
            "/v1.41/info",
            "/version",
            "/events?since=1",
            "/networks/create",
            "/distribution/host/json",
            "/distribution/host:latest/json",
        ] {
            assert!(!is_the_engines(&request(uri).path), "{uri}");
        }
    }

    #[test]
    fn the_lesser_version_is_spoken_and_all_else_stays_as_it_is_written() {
        for (uri, engine, expected) in [
            ("/v1.47/containers/json?all=1", 41, "/v1.41/containers/json?all=1"),
            ("/v1.24/containers/json", 41, "/v1.24/containers/json"),
            ("/v1.41/containers/json", 41, "/v1.41/containers/json"),
            (
                "/v1.47/images/a%2Fb:1/json?x=%20a",
                51,
                "/v1.47/images/a%2Fb:1/json?x=%20a",
            ),
            ("/v1%2E47/containers/json", 41, "/v1.41/containers/json"),
            ("/containers/v1.47/json", 41, "/containers/v1.47/json"),
            ("/build?remote=/v1.47/x", 41, "/build?remote=/v1.47/x"),
        ] {
            assert_eq!(target(&request(uri), Minor(engine)), expected, "{uri}");
        }
    }

    #[test]
    fn without_an_engine_objects_are_not_found_and_all_else_says_why() {
        let absent = Unreached::Absent {
            socket: "/run/d.sock".into(),
        };
        for (uri, kind, says) in [
            (
                "/containers/x/json",
                ErrorKind::NotFound,
                "No such container: x: this node has no Docker Engine at /run/d.sock",
            ),
            (
                "/images/a/b:1/json",
                ErrorKind::NotFound,
                "No such image: a/b:1: ",
            ),
            ("/volumes/x", ErrorKind::NotFound, "get x: no such volume"),
            ("/plugins/x/json", ErrorKind::NotFound, "plugin \"x\" not found"),
            (
                "/containers/json",
                ErrorKind::NotImplemented,
                "this node has no Docker Engine at /run/d.sock",
            ),
            ("/images/json", ErrorKind::NotImplemented, "no Docker Engine"),
            (
                "/containers/x/logs",
                ErrorKind::NotImplemented,
                "no Docker Engine",
            ),
            ("/nonsense", ErrorKind::NotFound, "page not found"),
        ] {
            let error = without(&request(uri), &absent);
            assert_eq!(error.kind, kind, "{uri}");
            assert!(
                error.message.starts_with(says) || error.message.contains("no Docker Engine"),
                "{uri}: {error}"
            );
            assert!(error.message.contains(says), "{uri}: {error}");
        }
        let refuses = Unreached::Refuses {
            socket: "/run/d.sock".into(),
            why: "Connection refused".to_owned(),
        };
        // It may well be there.
        let error = without(&request("/containers/x/json"), &refuses);
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains("Connection refused"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_path_of_the_engines_is_the_swarms_when_it_is_decoded_and_cleaned(uri in "/(v1.41/)?([a-z./%]|%2[EeFf]|swarm|containers){0,12}") {
            let Ok(parsed) = uri.parse::<http::Uri>() else { return Ok(()) };
            let (head, ()) = http::Request::get(parsed).body(()).unwrap().into_parts();
            let Ok(request) = Request::head(head) else { return Ok(()) };
            if is_the_engines(&request.path) {
                let target = target(&request, Minor(41));
                let path = target.split('?').next().unwrap_or_default();
                let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
                let mut cleaned: Vec<&str> = Vec::new();
                for piece in decoded.split('/') {
                    match piece {
                        "" | "." => {}
                        ".." => drop(cleaned.pop()),
                        piece => cleaned.push(piece),
                    }
                }
                let first = cleaned.iter().find(|piece| !piece.starts_with("v1."));
                proptest::prop_assert!(first.is_some_and(|first| !CLUSTER.contains(first)), "{}", uri);
            }
        }
    }
}
