//! Logs of tasks: a reader at any manager, the nodes that have them, and the leader between them.
//!
//! Only the leader has sessions with nodes, so it asks them; a manager that does not lead relays. Nothing is kept but a
//! few batches for each reader: where that is full, the nodes' calls wait, and so the nodes slow down.
//!
//! A reader that follows is not disturbed by what comes and goes between: of each task is remembered how far its lines
//! were sent, by the leader for a node that begins another session, and by the reader's manager for another leader.

mod broker;
mod place;

pub(crate) use broker::{Broker, Lines};

use place::Places;

use crate::sessions::{Call, Shared, not_leading, read};
use crate::{Leadership, Replica};
use bytes::Bytes;
use essaim_ca::Role;
use essaim_objects::NodeId;
use essaim_protocol::{LogMessage, LogPosition, LogSubscription, LogSubscriptionId, encode};
use essaim_raft::Status;
use essaim_rpc::{Admission, CallError, Methods, chain};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The method by which a manager reads logs at the leader.
const READ_LOGS: &str = "ReadLogs";
/// How long the leader may take to begin.
const WITHIN: Duration = Duration::from_secs(5);
/// How long a reader that follows waits for another leader.
const LEADERLESS: Duration = Duration::from_mins(1);
/// How soon the next leader is looked for again.
const AGAIN: Duration = Duration::from_millis(200);

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

/// What the leader gives to readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Piece {
    /// A line.
    Line(LogMessage),
    /// Where the lines of a task begin.
    Begins(LogPosition),
    /// Something is missing.
    Failure(LogFailure),
}

type Pieces = BoxStream<'static, Piece>;

impl Leadership {
    /// The logs of a request, as nodes send them: in order for each task. They end when all nodes have sent all, which
    /// they never do where the request follows: then they go on after the loss of a node's session or of the leader,
    /// without a line that is left out or sent twice. What is missing is said between the lines, but for nodes that are
    /// followed and away. Dropping them ends the request.
    ///
    /// # Errors
    /// No leader can be asked.
    pub async fn logs(&self, request: LogSubscription) -> Result<LogLines, LogFailure> {
        let pieces = self.pieces(&request).await?;
        let reading = Reading {
            leadership: self.clone(),
            places: Places::from(request.resume.clone()),
            request,
            pieces: Some(pieces),
        };
        let lines = stream::unfold(reading, |mut reading| async {
            let line = reading.next().await?;
            Some((line, reading))
        });
        Ok(lines.boxed())
    }

    /// What the leader of now gives.
    async fn pieces(&self, request: &LogSubscription) -> Result<Pieces, LogFailure> {
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
        relay(&self.shared.replica, request).await
    }
}

/// A reader, through all leaders.
struct Reading {
    leadership: Leadership,
    request: LogSubscription,
    /// Where the reader is.
    places: Places,
    pieces: Option<Pieces>,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<LogMessage, LogFailure>> {
        loop {
            let piece = self.pieces.as_mut()?.next().await;
            let why = match piece {
                Some(Piece::Line(line)) => {
                    self.places.pass(&line);
                    return Some(Ok(line));
                }
                Some(Piece::Begins(begin)) => {
                    self.places.begin(begin);
                    continue;
                }
                Some(Piece::Failure(failure @ LogFailure::Node { .. })) => return Some(Err(failure)),
                Some(Piece::Failure(failure @ LogFailure::Leader { .. })) => Some(failure),
                None => None,
            };
            self.pieces = None;
            if !self.request.follow {
                return why.map(Err);
            }
            match self.go_on().await {
                Ok(pieces) => self.pieces = Some(pieces),
                Err(failure) => return Some(Err(failure)),
            }
        }
    }

    /// Asks the next leader for the rest. The request is another one: the former leader may still end this one.
    async fn go_on(&mut self) -> Result<Pieces, LogFailure> {
        let begun = Instant::now();
        loop {
            self.request.id = LogSubscriptionId(rand::random());
            self.request.resume = self.places.of(|_| true);
            match self.leadership.pieces(&self.request).await {
                Ok(pieces) => return Ok(pieces),
                Err(failure) if begun.elapsed() >= LEADERLESS => return Err(failure),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }
}

async fn relay(replica: &Replica, request: &LogSubscription) -> Result<Pieces, LogFailure> {
    let failed = |why: String| LogFailure::Leader { why };
    let status = replica.raft().status();
    let asked = status.leader;
    let leader = asked.and_then(|leader| status.members.get(&leader));
    let leader = leader.ok_or_else(|| failed("no manager leads the cluster".to_owned()))?;
    let client = replica
        .client(&leader.member.address)
        .map_err(|error| failed(chain(&error)))?;
    let messages = client.open(READ_LOGS, encode(request), WITHIN).await;
    let messages = messages.map_err(|error| failed(error.message))?;
    let mut watched = replica.raft().watch();
    // A leader that lost its power ends nothing.
    let moved = async move {
        let is_other = |now: &Status| now.leader.is_some() && now.leader != asked;
        let _ = watched.wait_for(is_other).await;
    };
    let lost = |why| Piece::Failure(LogFailure::Leader { why });
    let pieces = stream::unfold(Some((messages, Box::pin(moved))), move |reading| async move {
        let (mut messages, mut moved) = reading?;
        let next = tokio::select! {
            biased;
            next = messages.next() => next,
            () = &mut moved => return Some((lost("another manager leads now".to_owned()), None)),
        };
        match next {
            Ok(Some(piece)) => {
                let piece = read::<Piece>(&piece).unwrap_or_else(|error| lost(error.message));
                Some((piece, Some((messages, moved))))
            }
            Ok(None) => None,
            Err(error) => Some((lost(error.message), None)),
        }
    });
    Ok(pieces.boxed())
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
