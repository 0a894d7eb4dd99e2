//! A registry that demands a login (Debian's `docker-registry`).

use crate::stage::{NODES, SOON, Stage};
use anyhow::{Context as _, ensure};
use essaim_lab::{EngineSettings, Family, Running, eventually};
use std::fs;

/// User and password, and the same as `htpasswd` writes them.
const USER: &str = "me";
const PASSWORD: &str = "hunter2";
const HTPASSWD: &str = "me:$2b$05$yUcVr37Wf6C58LVxN61gNOd.dkY2FWsYHfwIF0BpKMPlp65xPkNcK\n";

/// The lab's underlay: its registry has no certificate.
const UNDERLAY: &str = "172.30.0.0/16";

/// Starts the registry on the first node; where it is.
fn registry(stage: &Stage) -> anyhow::Result<(Running, String)> {
    let folder = stage.lab.state_dir("n1").join("registry");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("htpasswd"), HTPASSWD)?;
    let shown = folder.display();
    let config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {shown}/data}}}}\n\
         http: {{addr: '0.0.0.0:5000'}}\n\
         auth: {{htpasswd: {{realm: lab, path: {shown}/htpasswd}}}}\n"
    );
    let file = folder.join("config.yml");
    fs::write(&file, config)?;
    let file = file.display().to_string();
    let running = stage.lab.start("n1", &["docker-registry", "serve", &file])?;
    let address = format!("{}:5000", stage.lab.address("n1", Family::V4)?);
    eventually(SOON, "the registry answers", || {
        let url = format!("http://{USER}:{PASSWORD}@{address}/v2/");
        stage.lab.curl("n1", &url)
    })?;
    Ok((running, address))
}

/// Types a line of the docker CLI at the first node, with the settings of somebody who has logged in.
fn docker(stage: &Stage, line: &[&str]) -> anyhow::Result<String> {
    let host = format!("unix://{}", stage.lab.api_socket("n1").display());
    let config = stage.lab.state_dir("n1").join("docker").display().to_string();
    let docker = ["docker", "--host", &host, "--config", &config];
    stage.lab.exec("n1", &[&docker[..], line].concat())?.ok()
}

/// The same of essaim's own.
fn essaim(stage: &Stage, line: &[&str]) -> anyhow::Result<String> {
    let program = stage.lab.binary("essaim").display().to_string();
    let host = format!("ESSAIM_HOST=unix://{}", stage.lab.api_socket("n1").display());
    let config = format!(
        "DOCKER_CONFIG={}",
        stage.lab.state_dir("n1").join("docker").display()
    );
    let essaim = ["env", &host, &config, &program];
    stage.lab.exec("n1", &[&essaim[..], line].concat())?.ok()
}

#[test]
fn nodes_pull_with_the_credentials_of_who_made_the_service() -> anyhow::Result<()> {
    let stage = Stage::with(&EngineSettings {
        arguments: vec![format!("--insecure-registry={UNDERLAY}")],
        ..EngineSettings::default()
    })?;
    let (_registry, address) = registry(&stage)?;
    let login = ["login", "--username", USER, "--password", PASSWORD, &address];
    docker(&stage, &login).context("no login")?;
    for version in ["1", "2", "3"] {
        let image = format!("{address}/own:{version}");
        docker(&stage, &["tag", "busybox:latest", &image])?;
        docker(&stage, &["push", "--quiet", &image])?;
        docker(&stage, &["rmi", &image])?;
    }
    let image = |version: u32| format!("{address}/own:{version}");
    let sleep = ["sleep", "100000"];
    let create = ["service", "create", "--detach", "--replicas", "2", "--name"];

    // Nobody's.
    let once = ["bare", "--restart-condition", "none", &image(1)];
    stage.operate(&[&create[..], &once, &sleep].concat())?;
    stage.ends("bare", "rejected", &format!("No such image: {}", image(1)))?;
    stage.operate(&["service", "rm", "bare"])?;

    // By both clients, on both nodes.
    let with = ["--with-registry-auth", &image(1)];
    docker(&stage, &[&create[..], &["web"], &with, &sleep].concat())?;
    let first = stage.runs("web", NODES.len())?;
    essaim(&stage, &[&create[..], &["api"], &with, &sleep].concat())?;
    stage.runs("api", NODES.len())?;

    // An update has them still, whoever makes it.
    stage.operate(&["service", "update", "--detach", "--image", &image(2), "web"])?;
    let second = eventually(SOON, "all are new", || {
        let tasks = stage.runs("web", NODES.len())?;
        ensure!(tasks.iter().all(|task| !first.contains(task)), "{tasks:?}");
        Ok(tasks)
    })?;
    for task in &second {
        let name = Stage::container(task);
        let found = stage.docker(&task.node, &["inspect", "--format", "{{.Config.Image}}", &name])?;
        ensure!(found.trim() == image(2), "{found}");
    }
    // They are replaced with the image, and go back with it.
    let logged_out = ["logout", &address];
    docker(&stage, &logged_out)?;
    let update = [
        "service",
        "update",
        "--detach",
        "--with-registry-auth",
        "--image",
        &image(3),
        "api",
    ];
    essaim(&stage, &update)?;
    let refused = format!("No such image: {}", image(3));
    stage.ends("api", "rejected", &refused)?;
    stage.operate(&["service", "rollback", "--detach", "api"])?;
    stage.runs("api", NODES.len())?;

    // No answer has them.
    for path in [
        "/services",
        "/tasks",
        "/services/web",
        "/services/web?insertDefaults=true",
    ] {
        let shown = stage.lab.api("n1", path)?.to_string();
        ensure!(
            !shown.contains("RegistryAuth") && !shown.contains("PullOptions"),
            "{path}: {shown}"
        );
    }
    stage.operate(&["service", "rm", "web", "api"])?;
    stage.has_just(&[])
}
