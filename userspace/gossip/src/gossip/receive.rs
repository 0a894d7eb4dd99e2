//! What comes in.

use super::Gossip;
use crate::claim::{Claim, Statement};
use crate::counters::DropReason;
use crate::digest::OwnerHash;
use crate::epoch::{Epoch, Version};
use crate::fact::{FactKey, Scope};
use crate::facts::{NotMerged, Stream};
use crate::membership::Heard;
use crate::reply::Reply;
use crate::seal::{Carrier, Header};
use crate::wire::{self, Content, Delta, Head, Part, Subject};
use essaim_model::NodeName;
use std::collections::BTreeMap;
use std::time::Instant;

/// The most datagrams that one is answered with.
const MAX_ANSWERS: usize = 4;

impl Gossip {
    /// Takes in a datagram.
    ///
    /// # Errors
    /// It was dropped, and counted.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> Result<(), DropReason> {
        let handled = self
            .open(Carrier::Datagram, datagram)
            .and_then(|(header, content)| {
                let epoch = self.current_epoch(&header)?;
                self.handle_content(&header.sender, epoch, &content, now)
            });
        self.count(handled)?;
        self.counters.datagram_received(datagram.len());
        Ok(())
    }

    /// Takes in what a member sealed in a datagram.
    pub(crate) fn handle_content(
        &mut self,
        sender: &NodeName,
        epoch: Epoch,
        content: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let mut reply = self.reply(MAX_ANSWERS);
        self.take_in(Carrier::Datagram, sender, epoch, content, &mut reply, now)?;
        if reply.lacks_room() {
            self.exchange_with(sender, now);
        }
        self.send_reply(sender, reply);
        self.follow_membership(Carrier::Datagram, now);
        Ok(())
    }

    /// Takes in a frame of an exchange, and returns the one to answer with, if any.
    ///
    /// # Errors
    /// It was dropped, and counted; the exchange is over.
    pub fn handle_frame(&mut self, frame: &[u8], now: Instant) -> Result<Option<Vec<u8>>, DropReason> {
        let mut reply = self.frame_reply();
        let handled = self.open(Carrier::Frame, frame).and_then(|(header, content)| {
            let epoch = self.current_epoch(&header)?;
            self.take_in(Carrier::Frame, &header.sender, epoch, &content, &mut reply, now)?;
            Ok(header.sender)
        });
        let sender = self.count(handled)?;
        self.counters.frame_received(frame.len());
        self.follow_membership(Carrier::Frame, now);
        Ok(self.frame(&sender, reply))
    }

    fn count<T>(&mut self, handled: Result<T, DropReason>) -> Result<T, DropReason> {
        if let Err(reason) = &handled {
            self.counters.drop_for(*reason);
        }
        handled
    }

    fn open(&self, carrier: Carrier, sealed: &[u8]) -> Result<(Header, Vec<u8>), DropReason> {
        let most = match carrier {
            Carrier::Datagram => Self::MAX_RECEIVED_DATAGRAM,
            Carrier::Frame => Self::MAX_FRAME,
        };
        if sealed.len() > most {
            return Err(DropReason::Oversized);
        }
        let header = Header::read(carrier, sealed)?;
        if header.sender == self.name {
            return Err(DropReason::FromSelf);
        }
        if !self.membership.is_member(&header.sender) {
            return Err(DropReason::NotMember);
        }
        let content = self.sealer.open(&header, sealed)?;
        Ok((header, content))
    }

    /// The epoch of the sender of something that was opened, where it is the newest known.
    fn current_epoch(&mut self, header: &Header) -> Result<Epoch, DropReason> {
        let known = self
            .membership
            .claim(&header.sender)
            .ok_or(DropReason::NotMember)?;
        if header.epoch < known.epoch {
            // It may have lost its disk: it is to take a later epoch.
            self.tell(&header.sender, known);
            return Err(DropReason::StaleEpoch);
        }
        Ok(header.epoch)
    }

    fn take_in(
        &mut self,
        carrier: Carrier,
        sender: &NodeName,
        epoch: Epoch,
        content: &[u8],
        reply: &mut Reply,
        now: Instant,
    ) -> Result<(), DropReason> {
        let Content { incarnation, parts } = wire::decode(content).or(Err(DropReason::Malformed))?;
        self.hear(sender, Claim::alive(epoch, incarnation), now);
        for part in parts {
            match part {
                Part::Ping { number } => {
                    reply.push(&Part::Ack { number });
                }
                Part::Ack { number } => self.membership.acknowledged(number),
                Part::ProbeFor { number, target } => {
                    self.membership
                        .probe_for(sender, number, &target, &mut self.random, now);
                }
                Part::Claims(statements) => {
                    for Statement { about, claim } in statements {
                        self.hear(&about, claim, now);
                    }
                }
                Part::Census {
                    leaves: _,
                    statements,
                } => self.take_census(statements, reply, now),
                Part::Delta(delta) => self.take_delta(carrier, delta, reply, now),
                Part::Digest { subject, hashes } => self.compare(&subject, &hashes, reply),
                Part::Heads { scope, leaves, heads } => self.take_heads(&scope, leaves, heads, reply),
                Part::Pull { scope, heads } => self.give(&scope, &heads, reply),
                Part::Confirm {
                    scope,
                    epoch,
                    version,
                } => {
                    if let Some(ack) = self.own_acks.wanted(&scope, sender, epoch, version) {
                        self.send_ack(ack);
                    }
                }
                Part::Applied {
                    scope,
                    epoch,
                    version,
                } => self.take_ack(sender, scope, epoch, version),
            }
        }
        Ok(())
    }

    fn hear(&mut self, about: &NodeName, claim: Claim, now: Instant) -> Heard {
        let heard = self.membership.hear(about, claim, &mut self.random, now);
        match heard {
            Heard::LaterRun(epoch) => self.renew(epoch, now),
            Heard::Contradicted => {
                self.push.add_claim(&self.name, &self.config, now);
                self.publish_self();
            }
            Heard::Foreign => self.counters.foreign_statements += 1,
            // News is taken up with the membership's changes.
            Heard::News | Heard::Known | Heard::Outdone(_) => {}
        }
        heard
    }

    fn take_census(&mut self, statements: Vec<Statement>, reply: &mut Reply, now: Instant) {
        let mut better = Vec::new();
        for Statement { about, claim } in statements {
            match self.hear(&about, claim, now) {
                Heard::Outdone(claim) => better.push(Statement { about, claim }),
                Heard::Contradicted | Heard::LaterRun(_) => better.push(Statement {
                    about,
                    claim: self.membership.own_claim(),
                }),
                Heard::News | Heard::Known | Heard::Foreign => {}
            }
        }
        reply.push_claims(&better);
    }

    fn take_delta(&mut self, carrier: Carrier, delta: Delta, reply: &mut Reply, now: Instant) {
        let (owner, scope, epoch) = (delta.owner.clone(), delta.scope.clone(), delta.epoch);
        if owner == self.name {
            if epoch > self.epoch() {
                self.renew(epoch, now);
            }
            return;
        }
        let Some(claim) = self.membership.claim(&owner) else {
            self.counters.foreign_statements += 1;
            return;
        };
        match self.facts.merge(delta, claim.epoch, now) {
            Ok(merged) => {
                if epoch > claim.epoch {
                    self.hear(&owner, Claim::alive(epoch, crate::Incarnation::default()), now);
                }
                if carrier == Carrier::Datagram {
                    self.push
                        .add_stream(&scope, &owner, merged.before, &self.config, now);
                }
                self.follow_interests(&owner, &merged.changed);
                self.publish_facts(&owner, &merged.changed);
                let head = self.facts.head(&scope, &owner, epoch);
                self.own_acks
                    .advanced(&scope, &owner, epoch, head, self.view.version);
            }
            Err(NotMerged::Gap) => self.pull(&scope, &owner, epoch, reply),
            Err(NotMerged::Early) => {
                self.pull(&Scope::Node, &owner, epoch, reply);
                self.pull(&scope, &owner, epoch, reply);
            }
            Err(NotMerged::Old | NotMerged::NoInterest) => {}
        }
    }

    /// Drops what rests on an interest that its owner no longer has.
    fn follow_interests(&mut self, owner: &NodeName, changed: &[FactKey]) {
        for key in changed {
            if let FactKey::Interest(network) = key {
                let scope = Scope::Network(network.clone());
                self.given_acks.forget(owner, &scope);
                if self.facts.stream(&scope, owner).is_none() {
                    self.push.remove_stream(&scope, owner);
                    self.own_acks.forget(&scope, owner);
                }
            }
        }
    }

    /// Asks the sender for what this node lacks of a stream.
    fn pull(&self, scope: &Scope, owner: &NodeName, epoch: Epoch, reply: &mut Reply) {
        let head = Head {
            owner: owner.clone(),
            epoch,
            version: self.facts.head(scope, owner, epoch),
        };
        reply.push_pull(scope, &[head]);
    }

    /// Answers a digest with all that this node knows where they differ.
    fn compare(&self, subject: &Subject, hashes: &[u32], reply: &mut Reply) {
        match subject {
            Subject::Members => {
                let leaves = self.membership.leaves().differing(hashes);
                if leaves != 0 {
                    let statements = self.membership.census(leaves);
                    reply.push(&Part::Census { leaves, statements });
                }
            }
            Subject::Facts(scope) => {
                let leaves = self.facts.leaves(scope).map_or(0, |own| own.differing(hashes));
                if leaves != 0 {
                    let heads = self.facts.heads_in(scope, leaves);
                    let scope = scope.clone();
                    reply.push(&Part::Heads { scope, leaves, heads });
                }
            }
        }
    }

    /// Gives the sender what it lacks, and asks for what this node lacks.
    fn take_heads(&self, scope: &Scope, leaves: u64, heads: Vec<Head>, reply: &mut Reply) {
        if !self.facts.keeps(scope) {
            return;
        }
        let theirs: BTreeMap<NodeName, (Epoch, Version)> = heads
            .into_iter()
            .map(|head| (head.owner, (head.epoch, head.version)))
            .collect();
        let mut lacking = Vec::new();
        for (owner, their) in &theirs {
            let stream = self.facts.stream(scope, owner);
            let ours = stream.map_or((Epoch::UNHEARD, Version::ZERO), |stream| {
                (stream.epoch(), stream.head())
            });
            let is_lacking = ours < *their && *owner != self.name && self.membership.is_member(owner);
            if is_lacking && OwnerHash::of(owner).is_in(leaves) {
                lacking.push(Head {
                    owner: owner.clone(),
                    epoch: their.0,
                    version: if ours.0 == their.0 { ours.1 } else { Version::ZERO },
                });
            }
        }
        reply.push_pull(scope, &lacking);
        for (owner, stream) in self.facts.streams_in(scope, leaves) {
            let their = theirs.get(owner).copied().unwrap_or_default();
            if (stream.epoch(), stream.head()) > their {
                let from = if their.0 == stream.epoch() {
                    their.1
                } else {
                    Version::ZERO
                };
                if !reply.push_newer(scope, owner, stream, from) {
                    return;
                }
            }
        }
    }

    fn give(&self, scope: &Scope, heads: &[Head], reply: &mut Reply) {
        for head in heads {
            let stream = self.facts.stream(scope, &head.owner);
            let Some(stream) = stream.filter(|stream| stream.epoch() >= head.epoch) else {
                continue;
            };
            let from = if stream.epoch() == head.epoch {
                head.version
            } else {
                Version::ZERO
            };
            if !reply.push_newer(scope, &head.owner, stream, from) {
                return;
            }
        }
    }

    fn take_ack(&mut self, sender: &NodeName, scope: Scope, epoch: Epoch, version: Version) {
        let own = self.facts.stream(&scope, &self.name).map(Stream::epoch);
        if let Some(claim) = self.membership.claim(sender)
            && own == Some(epoch)
        {
            self.given_acks.give(sender, claim.epoch, scope, version);
        }
    }
}
