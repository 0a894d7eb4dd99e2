//! Questions that cannot be answered at once.

use super::batch::LARGEST_REPLY;
use super::shared::{Asker, Crowded, Permit, Shared};
use crate::counters::CounterBlock;
use crate::respond::{Transport, refuse};
use crate::upstream::{Ask, Forwarder, Patience, Servers};
use crate::wire::{Query, Rcode};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The way from the threads to the runtime on which upstream servers are waited for.
#[derive(Clone, Debug)]
pub(crate) struct Forwarding {
    runtime: Handle,
    shared: Arc<Shared>,
    forwarder: Arc<Forwarder>,
}

impl Forwarding {
    pub(crate) fn new(runtime: Handle, shared: Arc<Shared>) -> Self {
        let forwarder = Arc::new(Forwarder::new(shared.clone(), Patience::USUAL));
        Self {
            runtime,
            shared,
            forwarder,
        }
    }

    /// Takes a place for a question of the asker, or counts why there is none.
    pub(crate) fn permit(&self, asker: &Asker, counters: &CounterBlock) -> Option<Permit> {
        match Permit::take(asker, &self.shared) {
            Ok(permit) => {
                counters.forwards.add(1);
                Some(permit)
            }
            Err(crowded) => {
                match crowded {
                    Crowded::Asker => counters.over_asker_limit.add(1),
                    Crowded::Node => counters.over_node_limit.add(1),
                }
                counters.answered(Rcode::ServFail);
                None
            }
        }
    }

    /// Has a question answered that came over UDP. Where there is no place for it, writes the refusal into the buffer
    /// and gives its length.
    pub(crate) fn udp(
        &self,
        asker: &Arc<Asker>,
        peer: SocketAddr,
        servers: &Arc<Servers>,
        message: &[u8],
        buffer: &mut [u8],
        counters: &CounterBlock,
    ) -> usize {
        let transport = Transport::Udp(LARGEST_REPLY);
        let Some(permit) = self.permit(asker, counters) else {
            let query = Query::parse(message).ok();
            return query
                .and_then(|query| refuse(&query, transport, Rcode::ServFail, buffer))
                .unwrap_or(0);
        };
        let (this, asker, servers, message) =
            (self.clone(), asker.clone(), servers.clone(), message.to_vec());
        drop(self.runtime.spawn(async move {
            let reply = this.answer(&message, &servers, transport).await;
            drop(permit);
            if reply.is_empty() || asker.udp.send_to(&reply, peer).is_err() {
                this.shared.counters.dropped_unsent.add(1);
            }
        }));
        0
    }

    /// The answer of the upstream servers to a question, which [`Query::parse`] has taken before.
    pub(crate) async fn answer(
        &self,
        message: &[u8],
        servers: &Arc<Servers>,
        transport: Transport,
    ) -> Vec<u8> {
        let Ok(query) = Query::parse(message) else {
            return Vec::new();
        };
        let outcome = self.forwarder.resolve(Ask::new(&query, servers)).await;
        let limit = transport.limit(&query);
        let mut buffer = vec![0; limit];
        let (length, rcode) = match outcome {
            Some(stored) => (
                stored.write(&mut buffer, &query, limit, 0),
                stored.response_code(),
            ),
            None => (
                refuse(&query, transport, Rcode::ServFail, &mut buffer),
                Rcode::ServFail,
            ),
        };
        self.shared.counters.answered(rcode);
        buffer.truncate(length.unwrap_or(0));
        buffer
    }
}
