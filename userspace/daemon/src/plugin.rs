//! The node behind the plugin of its Docker Engine.

use crate::plane::Plane;
use bytes::Bytes;
use essaim_manager::handover_netns_of;
use essaim_netlink::remove_netns;
use essaim_objects::{Network, TaskId};
use essaim_plugin::{Host, Link};
use essaim_protocol::{Attachments, AttachmentsHeld, FindNetwork, decode, encode, method};
use essaim_rpc::chain;
use essaim_worker::{Dataplane as _, LeaderLink, Word};
use std::net::IpAddr;
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
}
