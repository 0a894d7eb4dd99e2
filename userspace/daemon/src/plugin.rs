//! The node behind the plugin of its Docker Engine.

use crate::plane::Plane;
use bytes::Bytes;
use essaim_manager::handover_netns_of;
use essaim_netlink::{NetnsError, NetnsRef, hold_netns, is_netns, link_of, remove_netns};
use essaim_objects::{Network, TaskId};
use essaim_plugin::{Host, Link, SeenLink};
use essaim_protocol::{
    Attachments, AttachmentsHeld, CniFault, CniRefusal, FindNetwork, decode, encode, method,
};
use essaim_rpc::chain;
use essaim_worker::{Dataplane as _, LeaderLink, Word};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// How long the managers may take. The engine waits for as long.
const CALL: Duration = Duration::from_secs(10);

/// What the plugin needs of the node.
pub(crate) struct PluginHost {
    pub(crate) leader: LeaderLink,
    pub(crate) plane: Plane,
}

impl PluginHost {
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        message: Bytes,
    ) -> Result<T, String> {
        let answer = self.leader.call(method, message, CALL).await;
        let answer = answer.map_err(|error| chain(&error))?;
        decode(&answer).map_err(|error| chain(&error))
    }
}

impl Host for PluginHost {
    async fn find(&self, name: &str) -> Result<Option<Network>, String> {
        let name = name.to_owned();
        self.ask(method::FIND_NETWORK, encode(&FindNetwork { name }))
            .await
    }

    async fn hold(&self, said: Attachments) -> Result<AttachmentsHeld, String> {
        self.ask(method::ATTACHMENTS, encode(&said)).await
    }

    async fn next_session(&self) {
        self.leader.next_session().await;
    }

    async fn link(&self, task: TaskId, address: IpAddr) -> Result<Link, String> {
        self.plane.handed_over(task, address).await
    }

    fn runs(&self, task: TaskId) {
        // Its process has no number yet, which the data plane does not ask for.
        self.plane.tell(task, Word::Running { pid: 0 });
    }

    fn ended(&self, task: TaskId) {
        self.plane.tell(task, Word::Gone);
        if let Err(error) = remove_netns(&handover_netns_of(task)) {
            tracing::warn!(%error, "the namespace of a container that has gone has a name yet");
        }
    }
    fn boot(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    fn namespace(&self, path: &str) -> Result<String, CniRefusal> {
        let found = identity(path);
        let own = identity(OWN_NAMESPACE);
        match found {
            Ok(found) if !is_netns(Path::new(path)) => {
                let why = format!("{path} ({found}) is no network namespace");
                Err(CniRefusal::new(CniFault::Namespace, why))
            }
            Ok(found) if own.is_ok_and(|own| own == found) => {
                let why = format!("{path} is the node's own network namespace, which has its place already");
                Err(CniRefusal::new(CniFault::Namespace, why))
            }
            Ok(found) => Ok(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let why = format!("there is no network namespace {path}");
                Err(CniRefusal::new(CniFault::NoNamespace, why))
            }
            Err(error) => {
                let why = format!("failed to look at {path}: {error}");
                Err(CniRefusal::new(CniFault::Namespace, why))
            }
        }
    }

    fn name_namespace(&self, task: TaskId, path: &str) -> Result<(), CniRefusal> {
        hold_netns(&handover_netns_of(task), Path::new(path))
            .map_err(|error| CniRefusal::new(CniFault::Namespace, chain(&error)))
    }

    async fn look(&self, path: &str, link: &str) -> Result<Option<SeenLink>, CniRefusal> {
        let (path, link) = (path.to_owned(), link.to_owned());
        let looked = tokio::task::spawn_blocking(move || {
            let netns = NetnsRef::open(&path).map_err(|error| {
                let kind = match &error {
                    NetnsError::Missing { .. } => CniFault::NoNamespace,
                    _ => CniFault::Namespace,
                };
                CniRefusal::new(kind, chain(&error))
            })?;
            let seen = link_of(&netns, &link);
            seen.map_err(|error| CniRefusal::new(CniFault::Namespace, chain(&error)))
        });
        let looked = looked.await;
        let seen = looked.map_err(|error| CniRefusal::new(CniFault::Later, error.to_string()))??;
        Ok(seen.map(|link| SeenLink {
            mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: link.mtu,
            is_up: link.up,
            addresses: link.addresses.into_iter().collect(),
        }))
    }

    async fn attached(&self, task: TaskId, address: IpAddr) -> Result<(), String> {
        self.plane.occupied(task, address).await
    }

    fn node_link(&self, task: TaskId, address: IpAddr) -> Option<String> {
        self.plane.node_link(task, address)
    }

    async fn gone(&self, link: &str) {
        self.plane.gone(link).await;
    }
}

/// The daemon's namespace, which is the node's.
const OWN_NAMESPACE: &str = "/proc/self/ns/net";

/// A namespace's number: whatever file it is opened by, and as long as one of them is.
fn identity(path: &str) -> std::io::Result<String> {
    let found = std::fs::metadata(path)?;
    Ok(format!("netns:{}:{}", found.dev(), found.ino()))
}
