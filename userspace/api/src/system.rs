//! The node itself: `/_ping`, `/version`, `/info`.

use crate::passthrough::{DockerEngine, left_out, merge};
use crate::reply::{Answer, Reply, bytes, found};
use crate::request::{API_VERSION, LEAST_VERSION, Request};
use crate::{Engine, EngineError, Local, LocalState, shape};
use essaim_objects::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

/// Says by which builder the docker CLI builds.
const BUILDER: HeaderName = HeaderName::from_static("builder-version");

/// `GET /_ping`, `HEAD /_ping`. How images are built is the Docker Engine's to say.
pub(crate) async fn ping(engine: &impl Engine, method: &Method) -> Reply {
    let body = if method == Method::HEAD { "" } else { "OK" };
    let mut reply = bytes(StatusCode::OK, "text/plain; charset=utf-8", body);
    let local = engine.local();
    let swarm = match local.state {
        LocalState::Active if local.control_available => "active/manager",
        LocalState::Active => "active/worker",
        state => state.as_str(),
    };
    let headers = reply.headers_mut();
    for (name, value) in [
        (HeaderName::from_static("swarm"), swarm),
        (BUILDER, "1"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    match DockerEngine::of(engine).ping().await {
        Ok(said) => {
            if let Some(builder) = said.get(BUILDER) {
                headers.insert(BUILDER, builder.clone());
            }
        }
        Err(why) => left_out(&why),
    }
    reply
}

/// What goes with every answer.
pub(crate) fn add_headers(headers: &mut HeaderMap, version: &str) {
    let numbers = [
        ("api-version", API_VERSION.to_string()),
        ("server", format!("Docker/{version} (linux)")),
    ];
    for (name, value) in numbers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(
        HeaderName::from_static("ostype"),
        HeaderValue::from_static("linux"),
    );
    headers.insert(
        HeaderName::from_static("docker-experimental"),
        HeaderValue::from_static("false"),
    );
}

/// An architecture as Docker's `/version` names it.
fn go_architecture(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `GET /version`.
pub(crate) async fn version(engine: &impl Engine, request: &Request) -> Answer {
    let own = own_version(engine);
    match DockerEngine::of(engine).says(request).await {
        Some(said) => found(&merge::version(own, said)),
        None => found(&own),
    }
}

fn own_version(engine: &impl Engine) -> Value {
    let local = engine.local();
    let architecture = go_architecture(local.platform.architecture.as_deref().unwrap_or_default());
    let os = local.platform.os.as_deref().unwrap_or("linux");
    json!({
        "Platform": { "Name": "Essaim" },
        "Components": [{
            "Name": "Engine",
            "Version": local.version,
            "Details": {
                "ApiVersion": API_VERSION.to_string(),
                "MinAPIVersion": LEAST_VERSION.to_string(),
                "Arch": architecture,
                "BuildTime": "",
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": "",
                "KernelVersion": local.kernel_version,
                "Os": os,
            },
        }],
        "Version": local.version,
        "ApiVersion": API_VERSION.to_string(),
        "MinAPIVersion": LEAST_VERSION.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "Os": os,
        "Arch": architecture,
        "KernelVersion": local.kernel_version,
        "BuildTime": "",
    })
}

/// `GET /info`.
pub(crate) async fn info(engine: &impl Engine, request: &Request) -> Answer {
    let own = own_info(engine)?;
    match DockerEngine::of(engine).says(request).await {
        Some(said) => found(&merge::info(own, said)),
        None => found(&own),
    }
}

fn own_info(engine: &impl Engine) -> Result<Value, EngineError> {
    let local = engine.local();
    let processors = local.resources.nano_cpus.unwrap_or_default() / 1_000_000_000;
    let swarm = swarm(engine, &local)?;
    let mut info = what_is_not_kept();
    let own = json!({
        "ID": local.node_id.map(|id| id.to_string()).unwrap_or_default(),
        "SystemTime": Timestamp::now(),
        "KernelVersion": local.kernel_version,
        "OperatingSystem": local.operating_system,
        "OSType": local.platform.os.as_deref().unwrap_or("linux"),
        "Architecture": local.platform.architecture.as_deref().unwrap_or_default(),
        "NCPU": processors,
        "MemTotal": local.resources.memory_bytes.unwrap_or_default(),
        "GenericResources": local.resources.generic_resources,
        "Labels": local.labels,
        "DockerRootDir": local.state_dir,
        "Name": local.hostname,
        "ServerVersion": local.version,
        "Swarm": swarm,
    });
    if let (Some(info), Value::Object(own)) = (info.as_object_mut(), own) {
        info.extend(own);
    }
    Ok(info)
}

/// The members of `/info` that clients expect, and a Docker Engine says; here for a node that has none.
fn what_is_not_kept() -> Value {
    const NONE: &[&str] = &[
        "Containers",
        "ContainersRunning",
        "ContainersPaused",
        "ContainersStopped",
        "Images",
        "NFd",
        "NGoroutines",
        "NEventsListener",
    ];
    const THERE: &[&str] = &[
        "MemoryLimit",
        "SwapLimit",
        "CpuCfsPeriod",
        "CpuCfsQuota",
        "CPUShares",
        "CPUSet",
        "PidsLimit",
        "IPv4Forwarding",
        "BridgeNfIptables",
        "BridgeNfIp6tables",
        "LiveRestoreEnabled",
    ];
    const NOT_THERE: &[&str] = &["Debug", "OomKillDisable", "ExperimentalBuild"];
    const UNNAMED: &[&str] = &[
        "LoggingDriver",
        "OSVersion",
        "IndexServerAddress",
        "HttpProxy",
        "HttpsProxy",
        "NoProxy",
        "DefaultRuntime",
        "Isolation",
        "InitBinary",
    ];
    let mut info = json!({
        "Driver": "essaim",
        "DriverStatus": [],
        "Plugins": { "Volume": [], "Network": ["overlay"], "Authorization": null, "Log": [] },
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2",
        "RegistryConfig": { "InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": [] },
        "Runtimes": {},
        "ContainerdCommit": { "ID": "", "Expected": "" },
        "RuncCommit": { "ID": "", "Expected": "" },
        "InitCommit": { "ID": "", "Expected": "" },
        "SecurityOptions": [],
        "Warnings": null,
    });
    let alike = [
        (NONE, json!(0)),
        (THERE, json!(true)),
        (NOT_THERE, json!(false)),
        (UNNAMED, json!("")),
    ];
    for (names, value) in alike {
        for name in names {
            info[*name] = value.clone();
        }
    }
    info
}

/// What this node is in the cluster; from its own copy, so that it can also be asked while nobody leads.
fn swarm(engine: &impl Engine, local: &Local) -> Result<Value, EngineError> {
    let managers = local.remote_managers.iter();
    let managers: Vec<_> = managers
        .map(|manager| json!({ "NodeID": manager.node, "Addr": manager.address }))
        .collect();
    let mut shown = json!({
        "NodeID": local.node_id.map(|id| id.to_string()).unwrap_or_default(),
        "NodeAddr": local.node_addr.as_deref().unwrap_or_default(),
        "LocalNodeState": local.state.as_str(),
        "ControlAvailable": local.control_available,
        "Error": local.error.as_deref().unwrap_or_default(),
        "RemoteManagers": if managers.is_empty() { Value::Null } else { Value::Array(managers) },
    });
    if local.control_available
        && let Some(replica) = engine.replica()
    {
        let view = replica.view();
        let status = replica.raft().status();
        shown["Nodes"] = view.nodes().len().into();
        shown["Managers"] = status.members.len().into();
        if let Some(cluster) = view.cluster() {
            shown["Cluster"] = shape::cluster(cluster, false)?;
        }
    }
    Ok(shown)
}
