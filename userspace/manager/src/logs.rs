//! Logs of tasks: a reader at any manager, the nodes that have them, and the leader between them.
//!
//! Only the leader has sessions with nodes, so it asks them; a manager that does not lead relays. Nothing is kept but a
//! few batches for each reader: where that is full, the nodes' calls wait, and so the nodes slow down.

mod broker;

pub(crate) use broker::{Broker, Lines};

use crate::sessions::{Call, Shared, not_leading, read};
use crate::{Leadership, Replica};
use bytes::Bytes;
use essaim_ca::Role;
use essaim_objects::NodeId;
use essaim_protocol::{LogMessage, LogSubscription, encode};
use essaim_rpc::{Admission, CallError, Methods, chain};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The method by which a manager reads logs at the leader.
const READ_LOGS: &str = "ReadLogs";
/// How long the leader may take to begin.
const WITHIN: Duration = Duration::from_secs(5);

/// Logs that are missing; those of other nodes go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum LogFailure {
    /// A node did not send all.
    #[error("logs of node {node} are incomplete: {why}")]
    Node {
        /// The node.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// The leader is gone, or cannot be asked: nothing more comes.
    #[error("logs end here: {why}")]
    Leader {
        /// Why.
        why: String,
    },
}

/// Lines, and what is missing between them.
pub type LogLines = BoxStream<'static, Result<LogMessage, LogFailure>>;

impl Leadership {
    /// The logs of a request, as nodes send them: in order for each task. They end when all nodes have sent all, which
    /// they never do where the request follows; what is missing is said between the lines. Dropping them ends the
    /// request.
    ///
    /// # Errors
    /// No leader can be asked.
    pub async fn logs(&self, request: LogSubscription) -> Result<LogLines, LogFailure> {
        if self.leads() {
            let asked = self
                .shared
                .ask(|reply| Call::Logs {
                    request: request.clone(),
                    reply,
                })
                .await;
            if let Ok(lines) = asked {
                return Ok(lines.boxed());
            }
        }
        relay(&self.shared.replica, &request).await
    }
}

async fn relay(replica: &Replica, request: &LogSubscription) -> Result<LogLines, LogFailure> {
    let failed = |why: String| LogFailure::Leader { why };
    let status = replica.raft().status();
    let leader = status.leader.and_then(|leader| status.members.get(&leader));
    let leader = leader.ok_or_else(|| failed("no manager leads the cluster".to_owned()))?;
    let client = replica
        .client(&leader.member.address)
        .map_err(|error| failed(chain(&error)))?;
    let messages = client.open(READ_LOGS, encode(request), WITHIN).await;
    let messages = messages.map_err(|error| failed(error.message))?;
    let lines = stream::unfold(Some(messages), |messages| async {
        let mut messages = messages?;
        match messages.next().await {
            Ok(Some(line)) => {
                let line = read::<Result<LogMessage, LogFailure>>(&line);
                let line = line.unwrap_or_else(|error| Err(LogFailure::Leader { why: error.message }));
                Some((line, Some(messages)))
            }
            Ok(None) => None,
            Err(error) => Some((Err(LogFailure::Leader { why: error.message }), None)),
        }
    });
    Ok(lines.boxed())
}

/// Adds what managers ask the leader.
pub(crate) fn methods(shared: &Arc<Shared>, methods: Methods) -> Methods {
    let shared = shared.clone();
    methods.many(READ_LOGS, Admission::Members(Role::Manager), move |_, message| {
        let shared = shared.clone();
        async move {
            let request: LogSubscription = read(&message)?;
            let lines = shared.ask(|reply| Call::Logs { request, reply }).await;
            let lines = lines.map_err(|_| not_leading())?;
            Ok(lines.map(|line| Ok::<Bytes, CallError>(encode(&line))).boxed())
        }
    })
}
