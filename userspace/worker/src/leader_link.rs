//! The way from the rest of the node to the leader, as the session has it.

use bytes::Bytes;
use essaim_rpc::{CallError, Client, Code};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The leader, while the node has a session with it. Clones are the same.
#[derive(Clone, Debug)]
pub struct LeaderLink(Arc<watch::Sender<Option<Client>>>);

impl Default for LeaderLink {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl LeaderLink {
    /// Calls the leader; where there is no session, waits for one as long as the call may take.
    ///
    /// # Errors
    /// There was none in time, or what the leader answers.
    pub async fn call(
        &self,
        method: &'static str,
        message: Bytes,
        within: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + within;
        let mut link = self.0.subscribe();
        let client = timeout_at(deadline, link.wait_for(Option::is_some)).await;
        let client = client.ok().and_then(|found| found.ok()?.clone());
        let nobody = || CallError::new(Code::Unavailable, "this node has no session with a manager");
        let left = deadline.saturating_duration_since(Instant::now());
        client.ok_or_else(nobody)?.call(method, message, left).await
    }

    /// Tells of each session that begins.
    pub async fn next_session(&self) {
        let mut link = self.0.subscribe();
        link.borrow_and_update();
        // The sender lives as long as this.
        while link.changed().await.is_ok() {
            if link.borrow_and_update().is_some() {
                return;
            }
        }
    }

    /// A session has begun; it lasts as long as what is returned.
    pub(crate) fn begin(&self, client: &Client) -> Session<'_> {
        self.0.send_replace(Some(client.clone()));
        Session(self)
    }
}

/// A session with the leader.
pub(crate) struct Session<'a>(&'a LeaderLink);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(None);
    }
}
