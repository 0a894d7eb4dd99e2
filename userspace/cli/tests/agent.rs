//! The agent as a process: one node in a network namespace of its own, on the real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use essaim_agent::startup::cgroup2_mount;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const ESSAIM: &str = env!("CARGO_BIN_EXE_essaim");

/// A node's namespace, folders and tasks; everything goes with it.
struct Stage {
    folder: tempfile::TempDir,
    bpf_root: PathBuf,
    cgroup: PathBuf,
    tasks: Vec<Child>,
    agent: Option<Child>,
    runtime: tokio::runtime::Runtime,
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Stage {
    /// Moves this thread, and with it what it starts, into a fresh network namespace with one uplink.
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own: run the tests as root");
        run("ip link set lo up");
        run("ip link add eth0 type veth peer name eth0p");
        run("ip addr add 192.168.50.11/24 dev eth0");
        run("ip link set eth0 up");
        run("ip link set eth0p up");
        let name = format!(
            "essaim-cli-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let cgroup = cgroup2_mount().unwrap().join(&name);
        std::fs::create_dir(&cgroup).unwrap();
        let mut stage = Self {
            folder: tempfile::tempdir().unwrap(),
            bpf_root: PathBuf::from("/sys/fs/bpf").join(&name),
            cgroup,
            tasks: Vec::new(),
            agent: None,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        };
        for _ in 0..2 {
            let task = stage.task();
            stage.tasks.push(task);
        }
        stage.write_catalog(1, "");
        stage
    }

    /// A process in a network namespace of its own.
    fn task(&self) -> Child {
        let task = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .spawn()
            .unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", task.id());
        self.wait("the task's namespace", || {
            std::fs::read_link(&path).is_ok_and(|found| found != own)
        });
        task
    }

    fn write_catalog(&self, revision: u64, more: &str) {
        let netns = |index: usize| format!("/proc/{}/ns/net", self.tasks[index].id());
        let text = format!(
            r#"revision = {revision}
[cluster]
ingress_subnets = ["10.255.0.0/16"]
[[nodes]]
name = "n1"
address = "192.168.50.11"
overlay = ["10.255.0.11"]
[[networks]]
name = "app"
vni = 100
subnets = ["10.0.1.0/24"]
[[services]]
name = "web"
ports = [{{ published = 8080, target = 80 }}]
[[services.networks]]
name = "app"
vips = ["10.0.1.2"]
[[services.tasks]]
id = "web.1"
node = "n1"
netns = "{}"
endpoints = [{{ network = "app", addresses = ["10.0.1.11"] }}]
[[services.tasks]]
id = "web.2"
node = "n1"
netns = "{}"
endpoints = [{{ network = "app", addresses = ["10.0.1.12"] }}]
{more}"#,
            netns(0),
            netns(1)
        );
        self.write(&text);
    }

    fn write(&self, text: &str) {
        let beside = self.folder.path().join("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.folder.path().join("catalog.toml")).unwrap();
    }

    fn state_dir(&self) -> String {
        self.folder.path().join("state").to_str().unwrap().to_owned()
    }

    fn node_command(&self) -> Command {
        let mut command = Command::new(ESSAIM);
        command.args([
            "node",
            "--name",
            "n1",
            "--uplink",
            "eth0",
            "--state-dir",
            &self.state_dir(),
        ]);
        command
            .arg("--catalog")
            .arg(self.folder.path().join("catalog.toml"));
        command
            .arg("--bpf-root")
            .arg(&self.bpf_root)
            .arg("--cgroup")
            .arg(&self.cgroup);
        command
    }

    fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        self.agent = Some(
            self.node_command()
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
    }

    fn signal(&self, signal: Signal) {
        let agent = self.agent.as_ref().unwrap();
        kill(Pid::from_raw(i32::try_from(agent.id()).unwrap()), signal).unwrap();
    }

    /// Ends the agent with this signal, and waits for it.
    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        self.agent.take().unwrap().wait().unwrap();
    }

    fn essaim(&self, args: &[&str]) -> Output {
        Command::new(ESSAIM)
            .args(args)
            .args(["--state-dir", &self.state_dir()])
            .output()
            .unwrap()
    }

    fn status(&self) -> Option<Value> {
        let output = self.essaim(&["status", "--format", "json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn is_verified(&self) -> bool {
        self.essaim(&["verify"]).status.code() == Some(0)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits for a condition, for at most 20 s.
    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.runtime.block_on(async {
            while !condition() {
                assert!(
                    Instant::now() < deadline,
                    "{what} did not come to pass; the agent said:\n{}",
                    self.log()
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    fn converge(&self) {
        self.wait("a verified node", || self.is_verified());
    }
}

/// The links of this thread's namespace that essaim made.
fn own_links() -> Vec<String> {
    let output = Command::new("ip").args(["-brief", "link"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| line.starts_with("es"))
        .map(str::to_owned)
        .collect()
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let _ = self.essaim(&["clean"]);
        for task in &mut self.tasks {
            let _ = task.kill();
            let _ = task.wait();
        }
        let _ = std::fs::remove_dir(&self.bpf_root);
        let _ = std::fs::remove_dir(&self.cgroup);
    }
}

#[test]
fn an_agent_converges_and_clean_leaves_nothing() {
    let mut stage = Stage::new();
    stage.start();
    stage.converge();
    let status = stage.status().unwrap();
    assert_eq!(status["node"], "n1");
    assert_eq!(status["ports"][0]["hold"]["state"], "held");
    assert_eq!(status["problems"].as_array().unwrap().len(), 0, "{status}");
    let refused = stage.essaim(&["clean"]);
    assert_eq!(
        refused.status.code(),
        Some(1),
        "an agent that runs is not cleaned up behind"
    );
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"));
    stage.end(Signal::SIGTERM);
    assert!(stage.log().contains("data plane stays"), "{}", stage.log());
    assert!(stage.is_verified(), "it stays after SIGTERM");
    assert_eq!(stage.essaim(&["clean"]).status.code(), Some(0));
    assert!(own_links().is_empty());
    assert!(!stage.bpf_root.exists() && !PathBuf::from(stage.state_dir()).exists());
    TcpListener::bind("0.0.0.0:8080").unwrap();
    let nft = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&nft.stdout).contains("essaim"));
    assert_eq!(
        stage.essaim(&["clean"]).status.code(),
        Some(0),
        "clean is idempotent"
    );
}

#[test]
fn a_killed_agent_is_followed_by_one_that_adopts_everything() {
    let mut stage = Stage::new();
    stage.start();
    stage.converge();
    let (links, holder) = (
        own_links(),
        stage.status().unwrap()["agent"]["holder_pid"].clone(),
    );
    stage.end(Signal::SIGKILL);
    assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "the port stays held");
    assert!(stage.is_verified(), "verify works without an agent");
    assert_eq!(stage.status().unwrap()["agent"], Value::Null);
    stage.start();
    stage.wait("the next agent", || {
        stage
            .status()
            .is_some_and(|status| status["agent"]["holder_pid"] == holder)
    });
    stage.converge();
    assert_eq!(own_links(), links, "no link was made anew");
}

#[test]
fn an_agent_that_is_killed_at_any_moment_of_its_start_is_followed_by_one_that_converges() {
    let mut stage = Stage::new();
    for milliseconds in [5, 20, 40, 60, 80, 100, 140, 200] {
        stage.start();
        stage
            .runtime
            .block_on(async { tokio::time::sleep(Duration::from_millis(milliseconds)).await });
        stage.end(Signal::SIGKILL);
    }
    stage.start();
    stage.converge();
}

#[test]
fn a_catalog_that_is_refused_changes_nothing_and_is_told() {
    let mut stage = Stage::new();
    stage.write_catalog(5, "");
    stage.start();
    stage.converge();
    stage.write_catalog(6, "[[services]]\nname = \"web\"\ncolour = 1\n");
    let problems = || {
        stage
            .status()
            .map(|status| status["problems"].to_string())
            .unwrap_or_default()
    };
    stage.wait("every error of the catalog", || {
        problems().contains("colour") && problems().contains("already used")
    });
    assert_eq!(stage.status().unwrap()["revision"], 5);
    stage.write_catalog(4, "");
    stage.wait("the refusal of an older revision", || {
        problems().contains("lower than 5")
    });
    stage.write_catalog(7, "[[services]]\nname = \"api\"\n");
    stage.wait("the valid catalog", || {
        stage.status().is_some_and(|status| status["revision"] == 7)
    });
    assert_eq!(problems(), "[]");
    stage.converge();
}

#[test]
fn a_broken_catalog_does_not_keep_a_node_from_being_looked_after() {
    let mut stage = Stage::new();
    stage.start();
    stage.converge();
    stage.end(Signal::SIGKILL);
    stage.write("revision = \"broken\"\n");
    stage.start();
    stage.wait("an agent", || {
        stage
            .status()
            .is_some_and(|status| status["agent"] != Value::Null)
    });
    let told = || {
        stage
            .status()
            .is_some_and(|status| status["problems"].to_string().contains("found a string"))
    };
    stage.wait("the errors of the catalog", told);
    stage.converge();
}

#[test]
fn a_port_in_use_is_left_to_its_owner_and_taken_when_it_is_free() {
    let mut stage = Stage::new();
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    stage.start();
    let hold = || {
        stage
            .status()
            .map(|status| status["ports"][0]["hold"].clone())
            .unwrap_or_default()
    };
    stage.wait("the clash", || hold()["state"] == "in-use");
    assert_eq!(hold()["owner"]["pid"], std::process::id());
    let output = stage.essaim(&["verify"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(
        text.lines().count(),
        2,
        "the clash is the only difference: {text}"
    );
    assert!(text.contains("tcp/8080"), "{text}");
    drop(listener);
    stage.signal(Signal::SIGHUP);
    stage.wait("the port", || hold()["state"] == "held");
    stage.converge();
}

#[test]
fn a_task_whose_namespace_comes_late_is_attached_then() {
    struct Netns(String);
    impl Drop for Netns {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
        }
    }
    let mut stage = Stage::new();
    let name = format!("essaim-cli-{}-late", std::process::id());
    let late = format!(
        "[[services.tasks]]\nid = \"web.3\"\nnode = \"n1\"\nnetns = \"{name}\"\nendpoints = [{{ network = \"app\", addresses = [\"10.0.1.13\"] }}]\n"
    );
    stage.write_catalog(1, &late);
    stage.start();
    let problems = || {
        stage
            .status()
            .map(|status| status["problems"].to_string())
            .unwrap_or_default()
    };
    stage.wait("the missing namespace", || problems().contains(&name));
    run(&format!("ip netns add {name}"));
    let _netns = Netns(name.clone());
    stage.wait("the endpoint", || problems() == "[]");
    stage.converge();
    let output = Command::new("ip")
        .args(["-n", &name, "-brief", "addr", "show", "eth0"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("10.0.1.13"));
}

#[test]
fn a_second_agent_of_a_state_directory_is_refused() {
    let mut stage = Stage::new();
    stage.start();
    stage.converge();
    let pid = stage.agent.as_ref().unwrap().id().to_string();
    let second = stage.node_command().output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        said.contains("another agent") && said.contains(&pid) && said.contains("--state-dir"),
        "{said}"
    );
    assert!(stage.is_verified());
}

#[test]
fn a_traced_packet_is_followed_to_its_task_and_counts_for_nothing() {
    let mut stage = Stage::new();
    stage.start();
    stage.converge();
    let trace = |line: &str| {
        let args: Vec<&str> = ["trace", "--format", "json"]
            .into_iter()
            .chain(line.split(' '))
            .collect();
        let output = stage.essaim(&args);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["steps"].as_array().unwrap().last().unwrap().clone()
    };
    let client = trace("192.168.50.99 192.168.50.11 tcp 8080");
    assert_eq!(
        (&client["verdict"], &client["service"]),
        (&"delivered".into(), &"web@ingress".into()),
        "{client}"
    );
    let task = trace("10.0.1.11 10.0.1.12 tcp 80");
    assert_eq!(
        (&task["program"], &task["verdict"]),
        (&"endpoint_tc".into(), &"delivered".into()),
        "{task}"
    );
    let outside = trace("192.168.50.99 192.168.50.11 tcp 9999");
    assert_eq!(outside["verdict"], "pass", "{outside}");
    let status = stage.status().unwrap();
    for group in status["services"][0]["groups"].as_array().unwrap() {
        assert_eq!(group["count"]["packets"], 0, "{group}");
    }
    let wrong = stage.essaim(&[
        "trace",
        "10.0.1.11",
        "10.0.1.12",
        "tcp",
        "80",
        "--from",
        "nowhere0",
    ]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("nowhere0"));
}

#[test]
fn a_watcher_is_told_what_becomes_of_a_packet() {
    let mut stage = Stage::new();
    stage.start();
    stage.converge();
    let told = std::fs::File::create(stage.folder.path().join("told")).unwrap();
    let mut watch = Command::new(ESSAIM)
        .args(["watch", "--format", "json", "--state-dir", &stage.state_dir()])
        .stdout(told)
        .spawn()
        .unwrap();
    let task = stage.tasks[0].id().to_string();
    let is_told = || {
        // Until the watcher is heard, nothing is reported: so again and again.
        let ping = [
            "--target", &task, "--net", "ping", "-c", "1", "-W", "1", "10.0.1.2",
        ];
        let answered = Command::new("nsenter")
            .args(ping)
            .output()
            .unwrap()
            .status
            .success();
        let told = std::fs::read_to_string(stage.folder.path().join("told")).unwrap();
        let mut decisions = told
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        answered && decisions.any(|told| told["verdict"] == "answered" && told["destination"] == "10.0.1.2")
    };
    stage.wait("the report of a ping", is_told);
    watch.kill().unwrap();
    watch.wait().unwrap();
}
