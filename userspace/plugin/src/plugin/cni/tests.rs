use super::*;
use crate::host::{Link, SeenLink};
use essaim_objects::{NetworkId, NetworkSpec};
use essaim_protocol::{Attachments, AttachmentsHeld, Place, RefusedContainer};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex};

const NETNS: &str = "/run/netns/box";

/// A node whose managers give out 10.1.0.2 and on, and whose data plane makes what the managers know of.
#[derive(Clone, Default)]
struct FakeHost(Arc<Mutex<Node>>);

#[derive(Default)]
struct Node {
    is_away: bool,
    said: Attachments,
    /// The addresses of tasks on networks.
    given: BTreeMap<(TaskId, NetworkId), IpNet>,
    /// The links in namespaces that others have made there.
    foreign: Vec<String>,
    running: Vec<TaskId>,
    named: BTreeMap<TaskId, String>,
    boot: String,
    is_off: bool,
}

fn network_id(name: &str) -> NetworkId {
    NetworkId::from_bits(if name == "two" { 2 } else { 1 })
}

impl Node {
    fn is_said(&self, task: TaskId, address: IpAddr) -> bool {
        let mut containers = self.said.containers.iter();
        containers.any(|container| {
            let mut networks = container.networks.iter();
            container.task == task
                && container.is_joined
                && networks.any(|place| place.addresses.contains(&address))
        })
    }
}

impl Host for FakeHost {
    async fn find(&self, name: &str) -> Result<Option<Network>, String> {
        if self.0.lock().unwrap().is_away {
            return Err("this node has no session with a manager".to_owned());
        }
        if name == "nowhere" {
            return Ok(None);
        }
        let spec = serde_json::json!({
            "Name": name, "Attachable": name != "closed",
        });
        let mut network = Network::new(
            network_id(name),
            serde_json::from_value::<NetworkSpec>(spec).unwrap(),
        );
        let subnet = if name == "two" {
            "10.2.0.0/24"
        } else {
            "10.1.0.0/24"
        };
        let gateway = subnet.replace("0/24", "1");
        let ipam = serde_json::json!({ "Configs": [{ "Subnet": subnet, "Gateway": gateway }] });
        network.ipam = Some(serde_json::from_value(ipam).unwrap());
        Ok(Some(network))
    }

    async fn hold(&self, said: Attachments) -> Result<AttachmentsHeld, String> {
        let mut node = self.0.lock().unwrap();
        if node.is_away {
            return Err("this node has no session with a manager".to_owned());
        }
        let mut held = AttachmentsHeld::default();
        for container in &said.containers {
            for place in &container.networks {
                let key = (container.task, place.network);
                let next = node.given.len() + 2;
                let second = if place.network == network_id("two") { 2 } else { 1 };
                let chosen = place
                    .addresses
                    .first()
                    .map_or_else(|| format!("10.{second}.0.{next}"), ToString::to_string);
                if chosen == "10.1.0.99" {
                    held.refused.push(RefusedContainer {
                        task: container.task,
                        why: "address 10.1.0.99 on network app is in use by another".to_owned(),
                    });
                    continue;
                }
                let address: IpNet = format!("{chosen}/24").parse().unwrap();
                node.given.insert(key, address);
                held.places.push(Place {
                    task: container.task,
                    network: place.network,
                    addresses: vec![address],
                });
            }
        }
        node.said = said;
        Ok(held)
    }

    async fn next_session(&self) {
        pending::<()>().await;
    }

    async fn link(&self, _task: TaskId, _address: IpAddr) -> Result<Link, String> {
        Err("there is no engine".to_owned())
    }

    fn runs(&self, task: TaskId) {
        self.0.lock().unwrap().running.push(task);
    }

    fn ended(&self, task: TaskId) {
        let mut node = self.0.lock().unwrap();
        node.running.retain(|running| *running != task);
        node.named.remove(&task);
    }

    fn boot(&self) -> String {
        self.0.lock().unwrap().boot.clone()
    }

    fn namespace(&self, path: &str) -> Result<String, CniRefusal> {
        if path.ends_with("missing") {
            return Err(CniRefusal::new(
                CniFault::NoNamespace,
                format!("there is no network namespace {path}"),
            ));
        }
        Ok(format!("id of {path}"))
    }

    fn name_namespace(&self, task: TaskId, path: &str) -> Result<(), CniRefusal> {
        self.0.lock().unwrap().named.insert(task, path.to_owned());
        Ok(())
    }

    async fn look(&self, path: &str, link: &str) -> Result<Option<SeenLink>, CniRefusal> {
        let node = self.0.lock().unwrap();
        if node.foreign.contains(&link.to_owned()) {
            return Ok(Some(SeenLink {
                mac: "02:00:00:00:00:01".to_owned(),
                mtu: 1500,
                is_up: true,
                addresses: Vec::new(),
            }));
        }
        for container in node
            .said
            .containers
            .iter()
            .filter(|container| container.is_joined)
        {
            if node.named.get(&container.task).map(String::as_str) != Some(path) {
                continue;
            }
            for place in &container.networks {
                if place.interface.as_ref().is_some_and(|own| own.name == link) {
                    let addresses: Vec<IpNet> = place
                        .addresses
                        .iter()
                        .map(|address| IpNet::new(*address, 24).unwrap())
                        .collect();
                    return Ok(Some(SeenLink {
                        mac: mac(&addresses).to_string(),
                        mtu: 1450,
                        is_up: !node.is_off,
                        addresses,
                    }));
                }
            }
        }
        Ok(None)
    }

    async fn attached(&self, task: TaskId, address: IpAddr) -> Result<(), String> {
        let is_there = self.0.lock().unwrap().is_said(task, address);
        is_there
            .then_some(())
            .ok_or_else(|| "its interface was not there".to_owned())
    }

    fn node_link(&self, task: TaskId, _address: IpAddr) -> Option<String> {
        Some(format!("es{task}"))
    }

    async fn gone(&self, _link: &str) {}
}

struct Lab {
    host: FakeHost,
    plugin: Plugin<FakeHost>,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let host = FakeHost::default();
        let folder = tempfile::tempdir().unwrap();
        let plugin = open(&host, &folder);
        Self { host, plugin, folder }
    }

    async fn call<T: serde::Serialize>(&self, call: &str, asked: &T) -> Result<Value, CniRefusal> {
        let body = serde_json::to_vec(asked).unwrap();
        self.plugin.cni(call, &body).await.unwrap()
    }

    async fn add(&self, network: &str, container: &str, interface: &str) -> Result<CniInterface, CniRefusal> {
        let added = self
            .call(cni_path::ADD, &asked(network, container, interface))
            .await;
        added.map(|found| serde_json::from_value(found).unwrap())
    }

    async fn book(&self) -> Book {
        self.plugin.inner.book.lock().await.clone()
    }
}

fn open(host: &FakeHost, folder: &tempfile::TempDir) -> Plugin<FakeHost> {
    let engine = folder.path().join("no-engine");
    Plugin::open(host.clone(), engine, folder.path().join("book")).unwrap()
}

fn attachment(container: &str, interface: &str) -> CniAttachment {
    CniAttachment {
        config: "conf".to_owned(),
        container: container.to_owned(),
        interface: interface.to_owned(),
    }
}

fn asked(network: &str, container: &str, interface: &str) -> CniAdd {
    CniAdd {
        attachment: attachment(container, interface),
        network: network.to_owned(),
        netns: NETNS.to_owned(),
        names: vec!["web".to_owned()],
        addresses: Vec::new(),
        is_default: false,
    }
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(found: Result<T, CniRefusal>, kind: CniFault, says: &str) {
    let refusal = found.unwrap_err();
    assert_eq!(refusal.kind, kind, "{refusal}");
    assert!(refusal.why.contains(says), "{refusal}");
}

#[tokio::test]
async fn an_interface_is_made_checked_and_given_back() {
    let lab = Lab::new();
    let made = lab.add("app", "c1", "eth0").await.unwrap();
    assert_eq!(made.addresses, ["10.1.0.2/24".parse().unwrap()]);
    assert_eq!((made.mtu, made.mac.as_str()), (1450, "02:42:0a:01:00:02"));
    assert_eq!(made.gateways, [] as [IpAddr; 0]);
    {
        let node = lab.host.0.lock().unwrap();
        let said = &node.said.containers;
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].container.as_deref(), Some("c1"));
        assert_eq!(said[0].networks[0].names, ["web"]);
        assert_eq!(node.running, [said[0].task]);
        assert_eq!(node.named[&said[0].task], NETNS);
    }
    let check = CniCheck {
        attachment: attachment("c1", "eth0"),
        netns: NETNS.to_owned(),
    };
    lab.call(cni_path::CHECK, &check).await.unwrap();
    lab.host.0.lock().unwrap().is_off = true;
    is_refused(
        lab.call(cni_path::CHECK, &check).await,
        CniFault::Differs,
        "turned off",
    );
    let elsewhere = CniCheck {
        netns: "/run/netns/other".to_owned(),
        ..check.clone()
    };
    is_refused(
        lab.call(cni_path::CHECK, &elsewhere).await,
        CniFault::Differs,
        "another namespace",
    );

    for _ in 0..2 {
        lab.call(cni_path::DEL, &attachment("c1", "eth0")).await.unwrap();
    }
    assert_eq!(lab.book().await, Book::default());
    {
        let node = lab.host.0.lock().unwrap();
        assert_eq!(node.said, Attachments::default());
        assert_eq!((node.running.len(), node.named.len()), (0, 0));
    }
    is_refused(
        lab.call(cni_path::CHECK, &check).await,
        CniFault::Unknown,
        "c1 is not known",
    );
}

#[tokio::test]
async fn interfaces_of_one_namespace_are_one_container_and_go_one_by_one() {
    let lab = Lab::new();
    lab.add("app", "c1", "eth0").await.unwrap();
    let second = CniAdd {
        is_default: true,
        ..asked("two", "c1", "eth1")
    };
    let made = lab.call(cni_path::ADD, &second).await.unwrap();
    assert_eq!(made["gateways"], serde_json::json!(["10.2.0.1"]));
    {
        let node = lab.host.0.lock().unwrap();
        assert_eq!(node.said.containers.len(), 1);
        let of = |at: usize| {
            let own = node.said.containers[0].networks[at].interface.clone().unwrap();
            (own.name, own.is_default)
        };
        assert_eq!(
            (of(0), of(1)),
            (("eth0".to_owned(), false), ("eth1".to_owned(), true))
        );
    }
    is_refused(
        lab.add("app", "c2", "eth2").await,
        CniFault::Exists,
        "on network app already",
    );
    let third = CniAdd {
        attachment: attachment("c1", "eth2"),
        network: "app2".to_owned(),
        ..second
    };
    lab.call(cni_path::DEL, &attachment("c1", "eth0")).await.unwrap();
    is_refused(
        lab.call(cni_path::ADD, &third).await,
        CniFault::Exists,
        "through eth1",
    );
    let node = lab.host.0.lock().unwrap();
    assert_eq!(node.said.containers.len(), 1);
    assert_eq!(node.said.containers[0].networks.len(), 1);
    assert_eq!(node.running.len(), 2, "the container is told to run with each");
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let lab = Lab::new();
    let missing = CniAdd {
        netns: "/run/netns/missing".to_owned(),
        ..asked("app", "c1", "eth0")
    };
    is_refused(
        lab.call(cni_path::ADD, &missing).await,
        CniFault::NoNamespace,
        "missing",
    );
    is_refused(
        lab.add("nowhere", "c1", "eth0").await,
        CniFault::Network,
        "--attachable makes one",
    );
    is_refused(
        lab.add("closed", "c1", "eth0").await,
        CniFault::Network,
        "for services only",
    );
    for (address, says) in [
        ("192.0.2.1", "not in a subnet of network app"),
        ("10.1.0.99", "in use"),
    ] {
        let chosen = CniAdd {
            addresses: vec![address.parse().unwrap()],
            ..asked("app", "c1", "eth0")
        };
        is_refused(lab.call(cni_path::ADD, &chosen).await, CniFault::Refused, says);
    }
    lab.host.0.lock().unwrap().foreign = vec!["eth0".to_owned()];
    is_refused(
        lab.add("app", "c1", "eth0").await,
        CniFault::Exists,
        "interface eth0 already",
    );
    lab.host.0.lock().unwrap().foreign.clear();
    lab.host.0.lock().unwrap().is_away = true;
    is_refused(
        lab.add("app", "c1", "eth0").await,
        CniFault::Later,
        "no session with a manager",
    );
    let status = CniStatus {
        network: "app".to_owned(),
    };
    is_refused(
        lab.call(cni_path::STATUS, &status).await,
        CniFault::Later,
        "no session",
    );
    assert_eq!(lab.book().await, Book::default());
    assert!(lab.plugin.cni("/cni/other", b"{}").await.is_none());
    let node = lab.host.0.lock().unwrap();
    assert_eq!((node.running.len(), node.named.len()), (0, 0));
}

#[tokio::test]
async fn an_interface_is_had_once() {
    let lab = Lab::new();
    lab.add("app", "c1", "eth0").await.unwrap();
    // Its runtime has lost the interface, and asks again without giving it back.
    let again = CniAdd {
        netns: "/run/netns/new".to_owned(),
        ..asked("app", "c1", "eth0")
    };
    is_refused(
        lab.call(cni_path::ADD, &again).await,
        CniFault::Exists,
        "DEL comes first",
    );
    assert_eq!(lab.book().await.leases.len(), 1);
}

#[tokio::test]
async fn a_runtimes_own_are_swept_by_it_alone_and_by_a_start_of_the_machine() {
    let lab = Lab::new();
    lab.add("app", "c1", "eth0").await.unwrap();
    lab.add("two", "c1", "eth1").await.unwrap();
    // No engine knows of them, twice in a row.
    let none = BTreeSet::new();
    let missed = lab.plugin.let_go(&none, &BTreeSet::new()).await;
    assert_eq!(lab.plugin.let_go(&none, &missed).await.len(), 0);
    assert_eq!(lab.book().await.leases.len(), 2);

    // A daemon that is replaced has them all, and says that they run.
    lab.host.0.lock().unwrap().running.clear();
    let next = open(&lab.host, &lab.folder);
    assert_eq!(*next.inner.book.lock().await, lab.book().await);
    assert_eq!(lab.host.0.lock().unwrap().running.len(), 1);

    let gc = |config: &str| CniGc {
        config: config.to_owned(),
        valid: vec![attachment("c1", "eth1")],
    };
    lab.call(cni_path::GC, &gc("other")).await.unwrap();
    assert_eq!(lab.book().await.leases.len(), 2);
    lab.call(cni_path::GC, &gc("conf")).await.unwrap();
    assert_eq!(lab.book().await.interfaces("conf"), [attachment("c1", "eth1")]);

    lab.host.0.lock().unwrap().boot = "another".to_owned();
    let next = open(&lab.host, &lab.folder);
    assert_eq!(*next.inner.book.lock().await, Book::default());
}
