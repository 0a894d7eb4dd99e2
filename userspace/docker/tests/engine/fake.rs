//! An engine in memory, at a socket: answers as Docker does, and breaks as it is told.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio::task::{JoinHandle, JoinSet};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A container as the engine knows it.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) body: Value,
    pub(crate) status: &'static str,
    pub(crate) exit_code: i64,
    pub(crate) health: Option<&'static str>,
    /// Its process, where it is another than the test's.
    pub(crate) pid: Option<u32>,
}

/// What the engine holds, and how it is to break.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) containers: Vec<Container>,
    pub(crate) images: BTreeSet<String>,
    /// What registries have.
    pub(crate) registry: BTreeSet<String>,
    /// What was asked, in order: `METHOD PATH`, without version and query.
    pub(crate) asked: Vec<String>,
    /// How containers of tasks fail to start.
    pub(crate) start_error: Option<(u16, &'static str)>,
    /// Whether it tells of nothing.
    pub(crate) is_mute: bool,
    /// Whether it answers nothing.
    pub(crate) hangs: bool,
    pub(crate) log: Vec<u8>,
    made: u32,
}

#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<String>,
    socket: PathBuf,
}

/// An engine that runs until this is dropped, with all its connections.
pub(crate) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fake {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            state: Arc::default(),
            events: broadcast::channel(100).0,
            socket,
        }
    }

    pub(crate) fn run(&self) -> Running {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        let fake = self.clone();
        Running(tokio::spawn(async move {
            // Ended with the engine.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let fake = fake.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let fake = fake.clone();
                        async move { Ok::<_, Infallible>(fake.answer(request).await) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new();
                    let _ = serving.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A container of the task, not its sandbox.
    pub(crate) fn container(&self, task: &str) -> Option<Container> {
        let state = self.lock();
        let found = state
            .containers
            .iter()
            .find(|found| found.is_of(task) && !found.is_sandbox());
        found.cloned()
    }

    /// Changes a task's container, and tells of it.
    pub(crate) fn change(&self, task: &str, action: &str, change: impl FnOnce(&mut Container)) {
        let mut state = self.lock();
        let is_wanted = |found: &&mut Container| found.is_of(task) && !found.is_sandbox();
        let container = state.containers.iter_mut().find(is_wanted).unwrap();
        change(container);
        let container = container.clone();
        self.tell(&state, &container, action);
    }

    fn tell(&self, state: &State, container: &Container, action: &str) {
        let event = json!({"Type": "container", "Action": action, "scope": "local",
            "Actor": {"ID": container.id, "Attributes": container.body["Labels"]}});
        if !state.is_mute {
            // Who does not listen need not know.
            let _ = self.events.send(format!("{event}\n"));
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let query: BTreeMap<String, String> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.replace("%3A", ":").replace("%2F", "/")))
            .collect();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        // `/v1.41/info`, and `/version` without one.
        let path = match path
            .strip_prefix("/v1.")
            .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
        {
            Some(path) => path,
            None => path.as_str(),
        };
        self.lock().asked.push(format!("{method} {path}"));
        if self.lock().hangs {
            std::future::pending::<()>().await;
        }
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (&method, parts.as_slice()) {
            (&Method::GET, ["version"]) => said(200, &json!({"ApiVersion": "1.41", "Version": "20.10"})),
            (&Method::GET, ["info"]) => said(200, &json!({"CgroupDriver": "cgroupfs"})),
            (&Method::GET, ["images", image, "json"]) => {
                let image = image.replace("%3A", ":");
                if self.lock().images.contains(&image) {
                    said(200, &json!({"Id": image}))
                } else {
                    refused(404, &format!("No such image: {image}"))
                }
            }
            (&Method::POST, ["images", "create"]) => self.make_image(&query, &body),
            (&Method::GET, ["events"]) => self.follow(),
            (&Method::GET, ["containers", "json"]) => {
                let state = self.lock();
                let list = state.containers.iter().map(|found| {
                    json!({"Id": found.id, "Image": found.body["Image"], "Labels": found.body["Labels"]})
                });
                said(200, &list.collect())
            }
            (&Method::POST, ["containers", "create"]) => {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let mut state = self.lock();
                state.made += 1;
                let id = format!("c{}", state.made);
                state.containers.push(Container {
                    id: id.clone(),
                    name: query["name"].clone(),
                    body,
                    status: "created",
                    exit_code: 0,
                    health: None,
                    pid: None,
                });
                said(201, &json!({"Id": id, "Warnings": []}))
            }
            (_, ["containers", name, rest @ ..]) => self.of_container(&method, name, rest, &query),
            _ => refused(404, "page not found"),
        }
    }

    fn of_container(
        &self,
        method: &Method,
        name: &str,
        rest: &[&str],
        query: &BTreeMap<String, String>,
    ) -> Response<Body> {
        let mut state = self.lock();
        let found = state
            .containers
            .iter()
            .position(|found| found.name == name || found.id == name);
        let Some(at) = found else {
            return refused(404, &format!("No such container: {name}"));
        };
        let start_error = state.start_error;
        let log = state.log.clone();
        let container = &mut state.containers[at];
        let mut told = None;
        let answer = match (method, rest) {
            (&Method::GET, ["json"]) => return said(200, &container.inspected()),
            (&Method::GET, ["logs"]) => return raw(200, log.into()),
            (&Method::POST, ["start"]) => {
                if let Some((status, message)) = start_error.filter(|_| !container.is_sandbox()) {
                    container.exit_code = 127;
                    refused(status, message)
                } else {
                    container.status = "running";
                    told = Some("start");
                    empty(204)
                }
            }
            (&Method::POST, ["stop" | "kill"]) if container.status == "running" => {
                container.status = "exited";
                container.exit_code = if query.contains_key("signal") { 137 } else { 143 };
                told = Some("die");
                empty(204)
            }
            (&Method::POST, ["stop" | "kill"]) => refused(409, "is not running"),
            (&Method::DELETE, []) => {
                state.containers.remove(at);
                return empty(204);
            }
            _ => refused(404, "page not found"),
        };
        let container = container.clone();
        if let Some(action) = told {
            self.tell(&state, &container, action);
        }
        answer
    }

    fn make_image(&self, query: &BTreeMap<String, String>, body: &Bytes) -> Response<Body> {
        let mut state = self.lock();
        if query.get("fromSrc").is_some_and(|source| source == "-") {
            assert!(body.len() > 512, "no archive was sent");
            state.images.insert(format!("{}:{}", query["repo"], query["tag"]));
            return said(200, &json!({"status": "imported"}));
        }
        let image = query["fromImage"].clone();
        if !state.registry.contains(&image) {
            return refused(404, "pull access denied");
        }
        state.images.insert(image);
        said(200, &json!({"status": "Download complete"}))
    }

    fn follow(&self) -> Response<Body> {
        let events = self.events.subscribe();
        let events = futures_util::stream::unfold(events, |mut events| async move {
            let event = events.recv().await.ok()?;
            Some((Ok(Frame::data(Bytes::from(event))), events))
        });
        Response::new(StreamBody::new(events).boxed_unsync())
    }
}

impl Container {
    fn is_of(&self, task: &str) -> bool {
        self.body["Labels"]["io.essaim.task"] == task
    }

    pub(crate) fn is_sandbox(&self) -> bool {
        self.name.starts_with("essaim-sandbox-")
    }

    fn inspected(&self) -> Value {
        let running = self.status == "running";
        // Its namespace is the test's own.
        let pid = self.pid.unwrap_or_else(std::process::id);
        let pid = if running { pid } else { 0 };
        let health = self
            .health
            .map(|status| json!({"Status": status, "FailingStreak": 3}));
        json!({"Id": self.id, "Name": format!("/{}", self.name), "State": {
            "Status": self.status, "Running": running, "Pid": pid, "ExitCode": self.exit_code, "OOMKilled": false,
            "StartedAt": "2026-01-02T03:04:05.6Z", "FinishedAt": "2026-01-02T03:04:06.7Z", "Health": health}})
    }

    /// Where what is mounted at this place comes from.
    pub(crate) fn source(&self, target: &str) -> Option<(PathBuf, bool)> {
        let mounts = self.body["HostConfig"]["Mounts"].as_array()?;
        let mount = mounts.iter().find(|mount| mount["Target"] == target)?;
        let path = Path::new(mount["Source"].as_str()?).to_owned();
        Some((path, mount["ReadOnly"] == true))
    }
}

fn said(status: u16, value: &Value) -> Response<Body> {
    raw(status, value.to_string().into())
}

fn refused(status: u16, message: &str) -> Response<Body> {
    said(status, &json!({"message": message}))
}

fn empty(status: u16) -> Response<Body> {
    raw(status, Bytes::new())
}

fn raw(status: u16, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).boxed_unsync());
    *response.status_mut() = status.try_into().unwrap();
    response
}
