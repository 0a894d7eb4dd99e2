//! Full exchanges over a stream: all claims and heads one way, what the other lacks and asks for back, and what was
//! asked for. Three frames, of the same parts as datagrams.

use super::Gossip;
use crate::Action;
use crate::reply::Reply;
use crate::seal::Carrier;
use crate::wire::Part;
use essaim_model::NodeName;
use std::time::{Duration, Instant};

/// The least time between two exchanges that this node starts.
const SPACING: Duration = Duration::from_millis(500);

impl Gossip {
    /// The most bytes of a frame.
    pub const MAX_FRAME: usize = 4 << 20;
    /// The most bytes of a datagram that is accepted, whatever this node's own path carries.
    pub const MAX_RECEIVED_DATAGRAM: usize = 65_507;

    pub(super) fn exchange_with_anyone(&mut self, now: Instant) {
        let chosen = self.membership.choose(1, &mut self.random, |_| true);
        if let Some(peer) = chosen.first() {
            self.exchange_with(peer, now);
        }
    }

    /// Starts an exchange, unless one was started just now; digests will ask for it again.
    pub(super) fn exchange_with(&mut self, peer: &NodeName, now: Instant) {
        if self.last_exchange.is_some_and(|last| now < last + SPACING) {
            return;
        }
        let Some(address) = self.membership.address(peer) else {
            return;
        };
        let mut reply = self.frame_reply();
        reply.push(&Part::Census {
            leaves: u64::MAX,
            statements: self.membership.census(u64::MAX),
        });
        for scope in self
            .facts
            .scopes()
            .filter(|scope| self.facts.may_keep(peer, scope))
        {
            reply.push(&Part::Heads {
                scope: scope.clone(),
                leaves: u64::MAX,
                heads: self.facts.heads_in(scope, u64::MAX),
            });
        }
        if let Some(frame) = self.frame(peer, reply) {
            self.last_exchange = Some(now);
            self.actions.push_back(Action::Exchange {
                to: address,
                peer: peer.clone(),
                frame,
            });
        }
    }

    pub(super) fn frame_reply(&self) -> Reply {
        let room = self.sealer.room(Self::MAX_FRAME);
        Reply::new(room, 1)
    }

    /// The sealed frame; `None` where nothing is in it.
    pub(super) fn frame(&mut self, to: &NodeName, reply: Reply) -> Option<Vec<u8>> {
        let content = reply
            .into_contents(self.membership.own_claim().incarnation)
            .next()?;
        let epoch = self.own.epoch();
        let frame = self
            .sealer
            .seal(Carrier::Frame, epoch, to, &content, &mut self.random);
        self.counters.frame_sent(frame.len());
        Some(frame)
    }
}
