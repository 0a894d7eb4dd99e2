//! The messages of a session, on their way to its node.

use super::{Gone, Replies};
use bytes::Bytes;
use essaim_objects::NodeId;
use essaim_protocol::{SessionId, parts};
use essaim_rpc::CallError;
use futures_util::StreamExt as _;
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// So many messages may wait for a node; one that is further behind loses its session, and gets all anew in the next.
pub(super) const QUEUE: usize = 256;

/// Says that the other side is gone, when it is dropped.
pub(crate) struct Guard {
    gone: mpsc::UnboundedSender<Gone>,
    what: Gone,
}

impl Guard {
    pub(crate) const fn new(gone: mpsc::UnboundedSender<Gone>, what: Gone) -> Self {
        Self { gone, what }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The leadership may be over: nobody needs to know then.
        let _ = self.gone.send(self.what);
    }
}

/// A node that does not take its messages.
#[derive(Debug)]
pub(super) struct Stuck;

/// The leader's side.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) node: NodeId,
    /// The revision of the catalog that the node holds once it has taken everything.
    pub(super) holds: Option<u64>,
    /// Whether it has been told of the managers, keys and roots.
    pub(super) is_greeted: bool,
    queue: mpsc::Sender<Result<Bytes, CallError>>,
    /// Messages that may go once the catalog is at least at their index.
    held: VecDeque<(Option<u64>, Bytes)>,
}

impl Stream {
    /// One, and what the node reads.
    pub(super) fn new(
        node: NodeId,
        session: SessionId,
        holds: Option<u64>,
        gone: mpsc::UnboundedSender<Gone>,
    ) -> (Self, Replies) {
        let (queue, messages) = mpsc::channel(QUEUE);
        let guard = Guard::new(gone, Gone::Session(session));
        let replies = futures_util::stream::unfold((messages, guard), |(mut messages, guard)| async {
            let message = messages.recv().await?;
            Some((message, (messages, guard)))
        });
        // Cut only as the connection takes them: what goes to all nodes is in memory once.
        let mut sent = 0_u32;
        let replies = replies.flat_map(move |message| {
            sent = sent.wrapping_add(1);
            let (parts, error) = match message {
                Ok(message) => (Some(parts(sent, message)), None),
                Err(error) => (None, Some(Err(error))),
            };
            futures_util::stream::iter(parts.into_iter().flatten().map(Ok).chain(error))
        });
        let stream = Self {
            node,
            holds,
            is_greeted: false,
            queue,
            held: VecDeque::new(),
        };
        (stream, replies.boxed())
    }

    /// Sends a message now.
    pub(super) fn send(&self, message: Bytes) -> Result<(), Stuck> {
        self.queue.try_send(Ok(message)).map_err(|_| Stuck)
    }

    /// Sends messages now, in their order.
    pub(super) fn send_all(&self, messages: Vec<Bytes>) -> Result<(), Stuck> {
        messages.into_iter().try_for_each(|message| self.send(message))
    }

    /// Sends a message once the catalog that was sent is at least at `needs`, after those that wait.
    pub(super) fn send_after(&mut self, needs: Option<u64>, message: Bytes) -> Result<(), Stuck> {
        if self.held.is_empty() && self.holds >= needs {
            return self.send(message);
        }
        if self.held.len() >= QUEUE {
            return Err(Stuck);
        }
        self.held.push_back((needs, message));
        Ok(())
    }

    /// Notes what catalog was sent; none, where none can be made, and nothing waits for it.
    pub(super) fn release(&mut self, revision: Option<u64>) -> Result<(), Stuck> {
        self.holds = revision.or(self.holds);
        while let Some((_, message)) = self
            .held
            .pop_front_if(|(needs, _)| *needs <= revision || revision.is_none())
        {
            self.send(message)?;
        }
        Ok(())
    }

    /// Ends the session, and tells the node why, if it can be told anything.
    pub(super) fn close(self, why: CallError) {
        let _ = self.queue.try_send(Err(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn stream() -> (Stream, Replies, mpsc::UnboundedReceiver<Gone>) {
        let (gone, leaving) = mpsc::unbounded_channel();
        let (stream, replies) = Stream::new(NodeId::MIN, SessionId(1), None, gone);
        (stream, replies, leaving)
    }

    fn ready(replies: &mut Replies) -> Vec<Bytes> {
        let next = || replies.next().now_or_never().flatten();
        std::iter::from_fn(next).map(Result::unwrap).collect()
    }

    #[test]
    fn assignments_wait_for_a_catalog_that_is_as_new() {
        let (mut stream, mut replies, _leaving) = stream();
        stream.send_after(Some(5), Bytes::from("five")).unwrap();
        stream.send_after(Some(3), Bytes::from("three")).unwrap();
        stream.send_after(Some(7), Bytes::from("seven")).unwrap();
        assert!(ready(&mut replies).is_empty());
        stream.release(Some(4)).unwrap();
        assert!(ready(&mut replies).is_empty(), "in their order");
        stream.release(Some(6)).unwrap();
        assert_eq!(ready(&mut replies), ["five", "three"]);
        stream.send_after(Some(2), Bytes::from("two")).unwrap();
        assert!(ready(&mut replies).is_empty(), "behind those that wait");
        stream.release(None).unwrap();
        assert_eq!(
            ready(&mut replies),
            ["seven", "two"],
            "there is no catalog to wait for"
        );
        stream.send_after(Some(6), Bytes::from("six")).unwrap();
        assert_eq!(ready(&mut replies), ["six"]);
    }

    #[test]
    fn a_node_that_takes_nothing_is_found_out() {
        let (mut stream, replies, mut leaving) = stream();
        for _ in 0..QUEUE {
            stream.send(Bytes::new()).unwrap();
            stream.send_after(Some(1), Bytes::new()).unwrap();
        }
        assert!(stream.send(Bytes::new()).is_err());
        assert!(stream.send_after(Some(1), Bytes::new()).is_err());
        assert!(leaving.try_recv().is_err());
        drop(replies);
        assert!(matches!(leaving.try_recv(), Ok(Gone::Session(SessionId(1)))));
    }
}
