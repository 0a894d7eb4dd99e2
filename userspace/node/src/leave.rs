//! Out of the cluster.

use crate::error::NodeError;
use crate::keeper::WITHIN;
use crate::member::Member;
use crate::node::{Inner, Node, State};
use crate::record::Phase;
use essaim_protocol::{Leave, method};
use essaim_raft::{ChangeError, Status};
use essaim_rpc::{Code, chain};
use std::time::Duration;
use tokio::time::timeout;

/// How long a node that leaves for good waits for the managers to take note.
const FAREWELL: Duration = Duration::from_secs(5);

impl Node {
    /// Leaves the cluster, and forgets everything of it. The node's object stays in the cluster, down, until it is
    /// removed.
    ///
    /// # Errors
    /// It is in none; or a manager would leave the others without a quorum, and `force` is not set: it stays then.
    pub async fn leave(&self, force: bool) -> Result<(), NodeError> {
        let mut state = self.inner.state.lock().await;
        match &mut *state {
            State::Inactive => return Err(NodeError::NotMember),
            State::Closed => return Err(NodeError::Closed),
            State::Locked(_) if !force => return Err(NodeError::Locked),
            State::Locked(record) => {
                record.phase = Phase::Leaving;
                self.inner.files.save(record)?;
            }
            State::Member(member) => {
                let told = timeout(WITHIN + FAREWELL, self.inner.take_leave(member, force)).await;
                match told {
                    Ok(Err(error)) if !force => return Err(error),
                    Ok(Err(error)) => tracing::warn!(error = chain(&error), "the node leaves all the same"),
                    Ok(Ok(())) => {}
                    Err(_) if !force && member.is_manager() => {
                        return Err(NodeError::Quorum("No manager has answered. ".to_owned()));
                    }
                    Err(_) => tracing::warn!("no manager has taken note that the node leaves"),
                }
                member.record.phase = Phase::Leaving;
                self.inner.files.save(&member.record)?;
            }
        }
        if let State::Member(member) = std::mem::replace(&mut *state, State::Inactive) {
            self.inner.forget_shared();
            member.close().await;
        }
        self.inner.become_inactive(&mut state)
    }
}

impl Inner {
    /// Tells the managers, who take a manager out of the consensus.
    async fn take_leave(&self, member: &Member, force: bool) -> Result<(), NodeError> {
        let Some(manager) = member.manager.as_ref().filter(|_| member.is_raft_member()) else {
            // A worker goes whether the managers hear of it or not.
            let farewell = self.managers(member);
            let told = timeout(FAREWELL, farewell.ask(method::LEAVE, &Leave { force }, FAREWELL)).await;
            if !matches!(told, Ok(Ok(_))) {
                tracing::info!("the managers do not know yet that this node has left");
            }
            return Ok(());
        };
        let raft = manager.replica.raft();
        let status = raft.status();
        if status.voters().len() <= 1 {
            return if force {
                Ok(())
            } else {
                Err(NodeError::LastManager)
            };
        }
        if status.leader == Some(status.node) {
            match raft.step_down().await {
                Ok(()) => {}
                Err(_) if force => {}
                Err(ChangeError::QuorumLoss(_)) => return Err(too_few(&status)),
                Err(error) => {
                    let why = format!("The leadership was not handed over: {}. ", chain(&error));
                    return Err(NodeError::Quorum(why));
                }
            }
        }
        let told = self
            .managers(member)
            .ask(method::LEAVE, &Leave { force }, WITHIN)
            .await;
        match told {
            Ok(_) => Ok(()),
            Err(error) if error.code == Code::FailedPrecondition => Err(too_few(&status)),
            Err(error) => Err(NodeError::Quorum(format!(
                "The other managers have not agreed: {error}. "
            ))),
        }
    }
}

fn too_few(status: &Status) -> NodeError {
    let managers = status.voters().len();
    NodeError::Quorum(format!(
        "Removing this node leaves {} managers out of {managers}, too few of which are reachable. Without a Raft \
         quorum your swarm will be inaccessible. ",
        managers.saturating_sub(1)
    ))
}
