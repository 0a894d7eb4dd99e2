//! Containers of any runtime on the cluster's networks, by `essaim-cni` called as runtimes call it.

use crate::stage::*;
use essaim_lab::{Cluster, Ran, eventually};
use essaim_netns_tests::names::{Answer, dig};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A container as podman has it.
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// As others have it.
const OTHER: &str = "8d1d7c3e-4b1a-4f0e-9c53-52a40d9e65aa";

/// Two nodes, an attachable network `open` and services on it: `web`, which has a virtual address.
fn stage() -> Cluster {
    let cluster = formed(2, 1);
    for network in ["open", "two"] {
        let line = [
            "network",
            "create",
            "--driver",
            "overlay",
            "--attachable",
            network,
        ];
        cluster.operate("n1", &line).unwrap();
    }
    Server::of(&cluster).create(&cluster, "n1", "web", &["--replicas", "2", "--network", "open"]);
    cluster.wait_running("n1", "web", 2).unwrap();
    cluster
}

/// A runtime on a node, with a container.
struct Runtime<'c> {
    cluster: &'c Cluster,
    node: &'static str,
    container: &'static str,
}

/// One of its calls.
struct Call<'a> {
    command: &'a str,
    container: &'a str,
    /// The container's name in the lab.
    place: &'a str,
    interface: &'a str,
    args: &'a str,
    conf: Value,
}

impl<'c> Runtime<'c> {
    const fn of(cluster: &'c Cluster, node: &'static str) -> Self {
        Self {
            cluster,
            node,
            container: CONTAINER,
        }
    }

    fn conf(&self, network: &str, more: &Value) -> Value {
        let socket = self.cluster.state_dir(self.node).join("cni.sock");
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": format!("conf-{network}"), "type": "essaim-cni", "network": network,
            "socket": socket.display().to_string(),
        });
        for (key, value) in more.as_object().unwrap() {
            conf[key] = value.clone();
        }
        conf
    }

    fn run(&self, call: &Call<'_>) -> Ran {
        let netns = format!("CNI_NETNS=/run/netns/{}", self.cluster.netns(call.place));
        let [command, container] = [("COMMAND", call.command), ("CONTAINERID", call.container)]
            .map(|(name, value)| format!("CNI_{name}={value}"));
        let [interface, args] = [("IFNAME", call.interface), ("ARGS", call.args)]
            .map(|(name, value)| format!("CNI_{name}={value}"));
        let program = self.cluster.binary("essaim-cni").display().to_string();
        let input = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(input.path(), call.conf.to_string()).unwrap();
        let script = format!("exec \"$@\" < {}", input.path().display());
        let line = [
            "sh",
            "-c",
            &script,
            "sh",
            "env",
            &command,
            &container,
            &netns,
            &interface,
            &args,
            "CNI_PATH=/opt/cni/bin",
            &program,
        ];
        self.cluster.exec(self.node, &line).unwrap()
    }

    /// Adds an interface; the result.
    #[track_caller]
    fn add(&self, place: &str, interface: &str, args: &str, conf: &Value) -> Value {
        let added = self.run(&Call {
            command: "ADD",
            container: self.container,
            place,
            interface,
            args,
            conf: conf.clone(),
        });
        serde_json::from_str(&said(added)).unwrap()
    }

    /// A call of the container's that says nothing.
    fn call(&self, command: &str, place: &str, interface: &str, conf: &Value) -> Ran {
        self.run(&Call {
            command,
            container: self.container,
            place,
            interface,
            args: "",
            conf: conf.clone(),
        })
    }

    #[track_caller]
    fn does(&self, command: &str, place: &str, interface: &str, conf: &Value) {
        let said = said(self.call(command, place, interface, conf));
        assert_eq!(said, "", "{command}");
    }
}

/// What a call that must do says.
#[track_caller]
fn said(ran: Ran) -> String {
    assert!(
        ran.status.success(),
        "{}: {} {}",
        ran.line,
        ran.stdout,
        ran.stderr
    );
    ran.stdout
}

/// A call must be refused with this code and these words.
#[track_caller]
fn fails(ran: &Ran, code: u64, words: &str) {
    assert!(
        !ran.status.success(),
        "{} was not refused: {}",
        ran.line,
        ran.stdout
    );
    let error: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(error["code"], code, "{error}");
    assert!(error["details"].as_str().unwrap().contains(words), "{error}");
}

/// The managers know of no container, no node has a name of one, and the kernel holds what it should.
#[track_caller]
fn is_clean(cluster: &Cluster) {
    eventually(SOON, "nothing is left of the containers", || {
        for node in ["n1", "n2"] {
            cluster.essaim(node, &["verify"])?.ok()?;
            let book =
                std::fs::read_to_string(cluster.data_dir(node).join("attachments.json")).unwrap_or_default();
            anyhow::ensure!(
                book.is_empty() || book == r#"{"leases":{}}"#,
                "{node} keeps {book}"
            );
        }
        Ok(())
    })
    .unwrap();
}

/// The names that a daemon gave the namespace of a container of the lab.
fn named(cluster: &Cluster, place: &str) -> Vec<PathBuf> {
    let number = |path: &Path| std::fs::metadata(path).map(|found| found.ino()).ok();
    let own = number(&Path::new("/run/netns").join(cluster.netns(place)));
    assert!(own.is_some(), "{place} has no namespace");
    let entries = std::fs::read_dir("/run/netns").unwrap().flatten();
    let names = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("ec-"));
    let paths = names.map(|entry| entry.path());
    paths.filter(|path| number(path) == own).collect()
}

#[test]
fn a_container_of_any_runtime_is_on_a_network_until_it_is_given_back() {
    let cluster = stage();
    let runtime = Runtime::of(&cluster, "n1");
    let conf = runtime.conf("open", &json!({}));
    let version = said(runtime.call("VERSION", "none", "", &conf));
    assert!(
        version.contains("\"1.1.0\"") && version.contains("\"0.3.1\""),
        "{version}"
    );
    runtime.does("STATUS", "none", "", &conf);

    // It can ask for a name at once: there is no moment without an answer.
    for round in 0..5 {
        cluster.add_container("n1", "first").unwrap();
        runtime.add("first", "eth0", "", &conf);
        let web = dig(&cluster, "first", "web", "A", &["+tries=1"]).unwrap();
        assert_eq!(
            (web.status.as_str(), web.data.len()),
            ("NOERROR", 1),
            "round {round}: {web:?}"
        );
        let page = cluster.curl("first", "http://web/").unwrap();
        assert!(page.contains("Name: web."), "round {round}: {page}");
        runtime.does("DEL", "first", "eth0", &conf);
        let left = cluster
            .exec("first", &["ip", "-o", "link"])
            .unwrap()
            .ok()
            .unwrap();
        assert!(!left.contains("eth0"), "round {round}: {left}");
        cluster.remove_task("first").unwrap();
    }

    // What it is called, and what its runtime is told.
    cluster.add_container("n1", "box").unwrap();
    let aliases = json!({ "runtimeConfig": { "aliases": { "conf-open": ["pal"] } } });
    let told = runtime.add(
        "box",
        "net0",
        "IgnoreUnknown=1;K8S_POD_NAME=box",
        &runtime.conf("open", &aliases),
    );
    let netns = format!("/run/netns/{}", cluster.netns("box"));
    assert_eq!(told["interfaces"][0]["name"], "net0");
    assert_eq!(told["interfaces"][0]["sandbox"], netns);
    assert_eq!(told["dns"]["nameservers"], json!(["127.0.0.11"]));
    let address = told["ips"][0]["address"].as_str().unwrap();
    let (own, _) = address.split_once('/').unwrap();
    let links = cluster.exec("box", &["ip", "-o", "addr"]).unwrap().ok().unwrap();
    assert!(links.contains(&format!("net0    inet {address}")), "{links}");
    let mtu = format!("mtu {}", told["interfaces"][0]["mtu"]);
    let link = cluster
        .exec("box", &["ip", "link", "show", "net0"])
        .unwrap()
        .ok()
        .unwrap();
    let mac = told["interfaces"][0]["mac"].as_str().unwrap();
    assert!(link.contains(&mtu) && link.contains(mac), "{link}");
    // No way to the outside was asked for.
    let routes = cluster.exec("box", &["ip", "route"]).unwrap().ok().unwrap();
    assert!(!routes.contains("default"), "{routes}");

    let program = cluster.binary("essaim-peer").display().to_string();
    let server = cluster
        .start("box", &[&program, "whoami", "--name", "box"])
        .unwrap();
    cluster.add_container("n2", "far").unwrap();
    let other = Runtime {
        container: OTHER,
        ..Runtime::of(&cluster, "n2")
    };
    let other_conf = other.conf("open", &json!({ "cniVersion": "0.4.0" }));
    let far = other.add("far", "eth0", "", &other_conf);
    assert_eq!(
        (&far["cniVersion"], &far["ips"][0]["version"]),
        (&json!("0.4.0"), &json!("4"))
    );
    let reached = || {
        for name in ["box", "pal", &CONTAINER[..12]] {
            eventually(SOON, &format!("{name} is reached"), || {
                let page = cluster.curl("far", &format!("http://{name}/"))?;
                anyhow::ensure!(page.contains("Name: box"), "{page}");
                Ok(())
            })
            .unwrap();
            assert_eq!(
                dig(&cluster, "far", name, "A", &[]).unwrap(),
                Answer::of([own]),
                "{name}"
            );
        }
    };
    reached();

    let checked = runtime.conf("open", &json!({ "prevResult": told }));
    runtime.does("CHECK", "box", "net0", &checked);
    let mut wrong = checked.clone();
    wrong["prevResult"]["ips"][0]["address"] = "192.0.2.1/24".into();
    fails(
        &runtime.call("CHECK", "box", "net0", &wrong),
        102,
        "expected 192.0.2.1/24",
    );
    fails(
        &runtime.call("ADD", "box", "net0", &conf),
        101,
        "has an interface net0 already",
    );

    // Where no daemon is the runtime is told to come again. While one is replaced its steps wait for the next, which has it
    // all; only for the answer of `STATUS` it does not wait long.
    let nobody = runtime.conf("open", &json!({ "socket": "/nowhere/cni.sock" }));
    for (command, code) in [("STATUS", 50), ("DEL", 11)] {
        fails(
            &runtime.call(command, "box", "net0", &nobody),
            code,
            "is essaim node running?",
        );
    }
    cluster.kill_agent("n1").unwrap();
    fails(
        &runtime.call("STATUS", "box", "net0", &conf),
        50,
        "nothing within 5s; is essaim node running?",
    );
    let page = cluster.curl("far", &format!("http://{own}/")).unwrap();
    assert!(page.contains("Name: box"), "{page}");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| runtime.does("CHECK", "box", "net0", &checked));
        cluster.spawn_node("n1").unwrap();
        waits.join().unwrap();
    });
    runtime.does("STATUS", "box", "net0", &conf);
    reached();

    // The namespace may be gone before the runtime says so.
    other.does("DEL", "far", "eth0", &other_conf);
    let names = named(&cluster, "box");
    assert_eq!(names.len(), 1, "{names:?}");
    drop(server);
    cluster.remove_task("box").unwrap();
    runtime.does("DEL", "box", "net0", &conf);
    runtime.does("DEL", "box", "net0", &conf);
    assert!(!names[0].exists(), "{names:?}");
    fails(&runtime.call("CHECK", "far", "net0", &checked), 3, "is not known");
    cluster.operate("n1", &["service", "rm", "web"]).unwrap();
    eventually(SOON, "the network is free", || {
        cluster.operate("n1", &["network", "rm", "open"]).map(drop)
    })
    .unwrap();
    is_clean(&cluster);
}

#[test]
fn two_networks_share_a_namespace_and_garbage_is_collected() {
    let cluster = stage();
    let runtime = Runtime::of(&cluster, "n2");
    let open = runtime.conf("open", &json!({}));
    let two = runtime.conf("two", &json!({ "isDefaultGateway": true }));
    cluster.add_container("n2", "box").unwrap();
    runtime.add("box", "eth0", "", &open);
    let told = runtime.add("box", "eth1", "K8S_POD_NAME=box", &two);
    let gateway = told["ips"][0]["gateway"].as_str().unwrap();
    let routes = cluster.exec("box", &["ip", "route"]).unwrap().ok().unwrap();
    assert!(
        routes.contains(&format!("default via {gateway} dev eth1")),
        "{routes}"
    );
    // The first works on, names of both are answered, and the world is reached by the default route.
    let page = cluster.curl("box", "http://web/").unwrap();
    assert!(page.contains("Name: web."), "{page}");
    let server = Server::of(&cluster);
    server.create(&cluster, "n1", "other", &["--network", "two"]);
    cluster.wait_running("n1", "other", 1).unwrap();
    eventually(SOON, "the second network's service is reached", || {
        let page = cluster.curl("box", "http://other/")?;
        anyhow::ensure!(page.contains("Name: other."), "{page}");
        Ok(())
    })
    .unwrap();
    let client = cluster.address("c1", essaim_lab::Family::V4).unwrap();
    let ping = ["ping", "-c", "1", "-W", "3", &client.to_string()];
    cluster.exec("box", &ping).unwrap().ok().unwrap();

    // What cannot be, and what is none of essaim's.
    fails(
        &runtime.call("ADD", "box", "eth2", &runtime.conf("open", &json!({}))),
        101,
        "on network open already",
    );
    cluster
        .operate("n1", &["network", "create", "--driver", "overlay", "closed"])
        .unwrap();
    let refusals = [
        ("closed", json!({}), 7, "for services only"),
        ("nowhere", json!({}), 7, "no network nowhere"),
        (
            "open",
            json!({ "ipam": { "type": "host-local" } }),
            2,
            "host-local",
        ),
        ("open", json!({ "cniVersion": "2.0.0" }), 1, "2.0.0"),
        (
            "two",
            json!({ "runtimeConfig": { "ips": ["192.0.2.7"] } }),
            100,
            "not in a subnet",
        ),
    ];
    cluster.add_container("n2", "late").unwrap();
    for (network, more, code, words) in refusals {
        fails(
            &runtime.call("ADD", "late", "eth0", &runtime.conf(network, &more)),
            code,
            words,
        );
    }
    fails(&runtime.call("ADD", "missing", "eth0", &open), 3, "missing");
    let own = json!({ "network": "nowhere" });
    fails(
        &runtime.call("STATUS", "late", "", &runtime.conf("x", &own)),
        50,
        "no network nowhere",
    );

    // One goes, the other stays.
    runtime.does("DEL", "box", "eth0", &open);
    let links = cluster.exec("box", &["ip", "-o", "link"]).unwrap().ok().unwrap();
    assert!(!links.contains("eth0") && links.contains("eth1"), "{links}");
    let page = cluster.curl("box", "http://other/").unwrap();
    assert!(page.contains("Name: other."), "{page}");

    // Garbage is what its own configuration does not name.
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": CONTAINER, "ifname": "eth1" }] });
    let none = json!({ "cni.dev/valid-attachments": [] });
    runtime.does("GC", "box", "", &runtime.conf("two", &valid));
    runtime.does("GC", "box", "", &runtime.conf("open", &none));
    let links = cluster.exec("box", &["ip", "-o", "link"]).unwrap().ok().unwrap();
    assert!(links.contains("eth1"), "{links}");
    runtime.does("GC", "box", "", &runtime.conf("two", &none));
    let links = cluster.exec("box", &["ip", "-o", "link"]).unwrap().ok().unwrap();
    assert!(!links.contains("eth1"), "{links}");
    is_clean(&cluster);
}
