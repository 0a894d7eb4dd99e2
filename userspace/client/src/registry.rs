//! Who asks the registry of an image: what `docker login` has left in docker's own settings.

use crate::console::Console;
use crate::error::Error;
use data_encoding::{BASE64, BASE64URL};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The name of Docker Hub in docker's settings.
const HUB: &str = "https://index.docker.io/v1/";

/// The user of a store's answer whose secret is a token.
const TOKEN_USER: &str = "<token>";

/// Docker's settings, of which only these are looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    auths: BTreeMap<String, Login>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

/// A login as the settings keep it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Login {
    /// User and password, `USER:PASSWORD` in base64.
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// A login as a store tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    username: String,
    secret: String,
}

/// A login as the daemon takes it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct AuthConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    serveraddress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    registrytoken: String,
}

/// The registry that has an image.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some(("docker.io" | "index.docker.io", _)) | None => HUB,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        Some(_) => HUB,
    }
}

/// The host of a registry that is named by its URL.
fn host_of(registry: &str) -> &str {
    let rest = registry
        .strip_prefix("https://")
        .or_else(|| registry.strip_prefix("http://"));
    let rest = rest.unwrap_or(registry);
    rest.split_once('/').map_or(rest, |(host, _)| host)
}

impl Settings {
    /// The program that keeps a registry's login, where one does.
    fn store_of(&self, registry: &str) -> Option<&str> {
        let helper = self.cred_helpers.get(registry).or_else(|| {
            let mut helpers = self.cred_helpers.iter();
            let found = helpers.find(|(name, _)| host_of(name) == host_of(registry))?;
            Some(found.1)
        });
        let store = helper.unwrap_or(&self.creds_store);
        (!store.is_empty()).then_some(store)
    }

    /// The login that stands in the settings themselves.
    fn login(&self, registry: &str) -> Result<AuthConfig, Error> {
        let known = self.auths.get(registry).or_else(|| {
            let mut auths = self.auths.iter();
            let found = auths.find(|(name, _)| host_of(name) == host_of(registry))?;
            Some(found.1)
        });
        let Some(known) = known else {
            return Ok(AuthConfig::default());
        };
        let mut login = AuthConfig {
            serveraddress: registry.to_owned(),
            identitytoken: known.identitytoken.clone(),
            registrytoken: known.registrytoken.clone(),
            ..AuthConfig::default()
        };
        if !known.auth.is_empty() {
            let decoded = BASE64.decode(known.auth.trim_end_matches('\0').as_bytes()).ok();
            let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
            let (user, password) = pair.ok_or_else(|| {
                Error::Usage(format!(
                    "the login at {registry} in docker's settings is unreadable, expected USER:PASSWORD in base64; \
                     log in again (docker login {registry})"
                ))
            })?;
            user.clone_into(&mut login.username);
            password.trim_end_matches('\0').clone_into(&mut login.password);
        }
        Ok(login)
    }
}

impl AuthConfig {
    /// As `X-Registry-Auth` carries it.
    fn to_header(&self) -> Result<String, Error> {
        let text = serde_json::to_vec(self).map_err(Error::Body)?;
        Ok(BASE64URL.encode(&text))
    }

    fn of_store(stored: Stored, registry: &str) -> Self {
        let serveraddress = registry.to_owned();
        if stored.username == TOKEN_USER {
            return Self {
                serveraddress,
                identitytoken: stored.secret,
                ..Self::default()
            };
        }
        Self {
            username: stored.username,
            password: stored.secret,
            serveraddress,
            ..Self::default()
        }
    }
}

impl Console<'_> {
    /// What `X-Registry-Auth` says of an image. Where nobody is logged in, that nobody is: an update then takes the
    /// credentials away that were sent before, as docker's does.
    pub(crate) fn registry_auth(&self, image: &str) -> Result<String, Error> {
        let registry = registry_of(image);
        let settings = self.settings()?;
        let login = match settings.store_of(registry) {
            Some(store) => ask(store, registry)?,
            None => settings.login(registry)?,
        };
        login.to_header()
    }

    fn settings(&self) -> Result<Settings, Error> {
        let set = |name| (self.variable)(name).filter(|value| !value.is_empty());
        let folder = set("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| Some(PathBuf::from(set("HOME")?).join(".docker")));
        let Some(path) = folder.map(|folder| folder.join("config.json")) else {
            return Ok(Settings::default());
        };
        let shown = path.display().to_string();
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Settings::default()),
            other => other.map_err(|source| Error::File {
                path: shown.clone(),
                source,
            })?,
        };
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Usage(format!("{shown} is not docker's settings: {error}")))
    }
}

/// Asks a program that keeps logins.
fn ask(store: &str, registry: &str) -> Result<AuthConfig, Error> {
    let program = format!("docker-credential-{store}");
    let failed = |source| Error::File {
        path: format!("the login at {registry} from {program}"),
        source,
    };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(registry.as_bytes()).map_err(failed)?;
    }
    let ran = child.wait_with_output().map_err(failed)?;
    if !ran.status.success() {
        // It has none.
        return Ok(AuthConfig::default());
    }
    let stored: Stored = serde_json::from_slice(&ran.stdout)
        .map_err(|error| Error::Usage(format!("{program} did not tell a login at {registry}: {error}")))?;
    Ok(AuthConfig::of_store(stored, registry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_registry_stands_before_an_image_where_it_looks_like_a_host() {
        for (image, registry) in [
            ("nginx", HUB),
            ("nginx:1", HUB),
            ("library/nginx", HUB),
            ("docker.io/library/nginx", HUB),
            ("localhost/a", "localhost"),
            ("127.0.0.1:5000/a:1", "127.0.0.1:5000"),
            ("example.org/a/b@sha256:00", "example.org"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
    }

    #[test]
    fn a_login_is_sent_as_docker_sends_it() {
        let settings = json!({
            "auths": {
                "https://index.docker.io/v1/": { "auth": BASE64.encode(b"me:a:b") },
                "https://example.org/v2/": { "identitytoken": "t" },
                "broken.org": { "auth": "?" },
            },
            "credHelpers": { "other.org": "own" },
            "HttpHeaders": {},
        });
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let sent = |image: &str| {
            let header = settings.login(registry_of(image)).unwrap().to_header().unwrap();
            let decoded: Value =
                serde_json::from_slice(&BASE64URL.decode(header.as_bytes()).unwrap()).unwrap();
            decoded
        };
        assert_eq!(
            sent("nginx"),
            json!({ "username": "me", "password": "a:b", "serveraddress": HUB })
        );
        assert_eq!(
            sent("example.org/a"),
            json!({ "serveraddress": "example.org", "identitytoken": "t" })
        );
        assert_eq!(sent("unknown.org/a"), json!({}));
        let refused = settings.login("broken.org").unwrap_err().to_string();
        assert!(refused.contains("broken.org"), "{refused}");
        assert_eq!(settings.store_of("other.org"), Some("own"));
        assert_eq!(settings.store_of(HUB), None);
        let stored = |username: &str| Stored {
            username: username.to_owned(),
            secret: "s".to_owned(),
        };
        assert_eq!(AuthConfig::of_store(stored("me"), "r").password, "s");
        assert_eq!(AuthConfig::of_store(stored(TOKEN_USER), "r").identitytoken, "s");
    }
}
