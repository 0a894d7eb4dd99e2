//! `HAProxy` and nginx (Debian's): as balancers outside of the cluster, and as containers in it.

use crate::stage::{NODES, SOON, Stage};
use anyhow::ensure;
use essaim_lab::{Family, Running, eventually};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

/// nginx as a task: it says who it is, and whom it sees: plainly at port 80, and by the PROXY protocol at 81.
const NGINX: &str = "user root;\ndaemon off;\npid /tmp/nginx.pid;\nerror_log stderr warn;\nevents {}\nhttp {\n\
    access_log off;\n\
    client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c; uwsgi_temp_path /tmp/d;\n\
    scgi_temp_path /tmp/e;\n\
    server { listen 80; location / { return 200 \"$hostname $remote_addr\\n\"; } }\n\
    server { listen 81 proxy_protocol; location / { return 200 \"$hostname $proxy_protocol_addr\\n\"; } }\n}\n";

/// `HAProxy` as a task, in front of every task of `web`, which it finds by their name.
const HAPROXY: &str = "global\n  log stderr local0 warning\n\
    defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n\
    resolvers tasks\n  nameserver own 127.0.0.11:53\n  hold valid 1s\n\
    frontend all\n  bind :8000\n  default_backend web\n\
    backend web\n  server-template web 2 tasks.web:81 send-proxy-v2 check resolvers tasks init-addr none inter 200ms\n";

/// The machine's own programs in a container, with what they are linked to.
const PROGRAMS: [&str; 5] = ["/usr/sbin", "/usr/lib", "/lib", "/lib64", "/etc/group"];

/// Makes a service of one of the machine's programs in containers.
fn serve(stage: &Stage, name: &str, config: &str, options: &[&str], command: &[&str]) -> anyhow::Result<()> {
    let made = stage
        .lab
        .operate_with("n1", &["config", "create", name, "-"], config)?;
    made.ok()?;
    let config = format!("source={name},target=/etc/{name}.conf");
    let mut mounts: Vec<String> = PROGRAMS
        .iter()
        .map(|path| format!("type=bind,source={path},target={path},readonly"))
        .collect();
    mounts.push("type=bind,source=/etc/passwd,target=/etc/passwd,readonly".to_owned());
    let host_name = "{{.Service.Name}}.{{.Task.Slot}}";
    let mut line = vec![
        "service",
        "create",
        "--detach",
        "--name",
        name,
        "--network",
        "app",
    ];
    line.extend(["--hostname", host_name, "--config", &config]);
    for mount in &mounts {
        line.extend(["--mount", mount.as_str()]);
    }
    line.extend(options);
    line.push("busybox:latest");
    line.extend(command);
    stage.operate(&line).map(drop)
}

/// Asks a URL from outside until both tasks have answered, each of whom must have seen this address.
fn both_see(stage: &Stage, url: &str, seen: &str) -> anyhow::Result<()> {
    let mut answered = BTreeSet::new();
    eventually(SOON, &format!("both tasks answer at {url}"), || {
        let page = stage.lab.curl("c1", url)?;
        let (name, found) = page.trim().split_once(' ').unwrap_or_default();
        // A wrong one is not made good by a later right one.
        if found != seen {
            answered.insert(format!("{name} saw {found}"));
        }
        answered.insert(name.to_owned());
        ensure!(answered.len() >= 2, "{answered:?}");
        Ok(())
    })?;
    let expected: BTreeSet<String> = ["web.1", "web.2"].map(str::to_owned).into();
    ensure!(
        answered == expected,
        "{url}: {answered:?}, expected that {seen} is seen"
    );
    Ok(())
}

/// Starts a balancer on the machine `c2`, in front of a port of every node.
fn haproxy(stage: &Stage, listen: u16, port: u16, options: &str) -> anyhow::Result<Running> {
    let mut config = format!(
        "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n\
         frontend all\n  bind :{listen}\n  default_backend nodes\nbackend nodes\n"
    );
    for node in NODES {
        let address = stage.lab.address(node, Family::V4)?;
        writeln!(
            config,
            "  server {node} {address}:{port} check inter 200ms {options}"
        )?;
    }
    let file = stage.lab.state_dir("n1").join(format!("haproxy-{listen}"));
    fs::write(&file, config)?;
    stage
        .lab
        .start("c2", &["haproxy", "-db", "-f", &file.display().to_string()])
}

fn nginx(stage: &Stage, listen: u16, port: u16) -> anyhow::Result<Running> {
    let mut nodes = String::new();
    for node in NODES {
        write!(nodes, "server {}:{port}; ", stage.lab.address(node, Family::V4)?)?;
    }
    let folder = stage.lab.state_dir("n1").join("nginx");
    fs::create_dir_all(&folder)?;
    let shown = folder.display();
    let config = format!(
        "user root;\npid {shown}/pid;\nerror_log {shown}/log;\ndaemon off;\nevents {{}}\nstream {{\n\
         upstream nodes {{ {nodes} }}\nserver {{ listen {listen}; proxy_pass nodes; proxy_protocol on; }}\n}}\n"
    );
    let file = folder.join("conf");
    // What Debian has not built in.
    let stream = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n";
    fs::write(&file, format!("{stream}{config}"))?;
    stage
        .lab
        .start("c2", &["nginx", "-c", &file.display().to_string()])
}

#[test]
fn tasks_see_the_clients_address_through_balancers() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    let ports = ["--replicas", "2", "--publish", "8080:80", "--publish", "8081:81"];
    let command = ["/usr/sbin/nginx", "-c", "/etc/web.conf"];
    serve(&stage, "web", NGINX, &ports, &command)?;
    stage.runs("web", 2)?;
    let client = stage.lab.address("c1", Family::V4)?.to_string();
    let balancer = stage.lab.address("c2", Family::V4)?.to_string();

    // Without one, at each node.
    for node in NODES {
        let url = format!("http://{}:8080/", stage.lab.address(node, Family::V4)?);
        both_see(&stage, &url, &client)?;
    }
    // One outside: the balancer itself is seen, and by the PROXY protocol whom it speaks for.
    let _plain = haproxy(&stage, 8000, 8080, "")?;
    both_see(&stage, &format!("http://{balancer}:8000/"), &balancer)?;
    let _told = haproxy(&stage, 8001, 8081, "send-proxy-v2 check-send-proxy")?;
    both_see(&stage, &format!("http://{balancer}:8001/"), &client)?;
    let _nginx = nginx(&stage, 8002, 8081)?;
    both_see(&stage, &format!("http://{balancer}:8002/"), &client)?;
    // One in the cluster, in front of the tasks themselves.
    let command = ["/usr/sbin/haproxy", "-db", "-f", "/etc/lb.conf"];
    serve(
        &stage,
        "lb",
        HAPROXY,
        &["--replicas", "2", "--publish", "8082:8000"],
        &command,
    )?;
    stage.runs("lb", 2)?;
    for node in NODES {
        let url = format!("http://{}:8082/", stage.lab.address(node, Family::V4)?);
        both_see(&stage, &url, &client)?;
    }
    stage.operate(&["service", "rm", "lb", "web"])?;
    stage.has_just(&[])
}
