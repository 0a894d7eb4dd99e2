//! What goes out: news, digests, probes and acknowledgements.

use super::Gossip;
use crate::Action;
use crate::acks::Ack;
use crate::claim::{Claim, Statement};
use crate::fact::Scope;
use crate::facts::Excerpt;
use crate::push::Item;
use crate::reply::Reply;
use crate::seal::Carrier;
use crate::wire::{Part, Subject};
use essaim_model::NodeName;
use rand::seq::SliceRandom;
use std::collections::BTreeSet;
use std::time::Instant;

/// The most datagrams that one member is pushed at a time.
const MAX_PUSHED: usize = 2;
/// The most members that news is pushed to at a time, however many networks it is of.
const MAX_TARGETS: usize = 16;

impl Gossip {
    /// Something to be sent to a member in at most so many datagrams.
    pub(super) fn reply(&self, most: usize) -> Reply {
        let room = self.sealer.room(self.config.max_datagram);
        Reply::new(room, most)
    }

    /// Sends it. A member that is not held to be alive is told so with it.
    pub(super) fn send_reply(&mut self, to: &NodeName, mut reply: Reply) {
        if let Some(reproach) = self.membership.reproach(to) {
            reply.push_claims(&[reproach]);
        }
        let Some(address) = self.membership.address(to) else {
            return;
        };
        for content in reply.into_contents(self.membership.own_claim().incarnation) {
            let epoch = self.own.epoch();
            let datagram = self
                .sealer
                .seal(Carrier::Datagram, epoch, to, &content, &mut self.random);
            self.counters.datagram_sent(datagram.len());
            self.actions.push_back(Action::Send {
                to: address,
                datagram,
            });
        }
    }

    fn send(&mut self, to: &NodeName, part: &Part) {
        let mut reply = self.reply(1);
        reply.push(part);
        self.send_reply(to, reply);
    }

    /// Tells a member what is claimed of it.
    pub(super) fn tell(&mut self, node: &NodeName, claim: Claim) {
        let about = node.clone();
        self.send(node, &Part::Claims(vec![Statement { about, claim }]));
    }

    pub(super) fn send_ack(&mut self, ack: Ack) {
        let Ack {
            owner,
            scope,
            epoch,
            version,
        } = ack;
        self.send(
            &owner,
            &Part::Applied {
                scope,
                epoch,
                version,
            },
        );
    }

    /// Sends what the membership has to send, and shows what changed in it. What came by an exchange is not pushed on: it is
    /// seldom news, and much.
    pub(super) fn follow_membership(&mut self, carrier: Carrier, now: Instant) {
        while let Some(change) = self.membership.poll_change() {
            let about = &change.about;
            if carrier == Carrier::Datagram {
                self.push.add_claim(about, &self.config, now);
            }
            self.publish_change(&change);
        }
        while let Some((to, part)) = self.membership.poll_send() {
            self.send(&to, &part);
        }
    }

    /// Pushes news to some members: any, and for news of a network some that take part in it.
    pub(super) fn push_news(&mut self, now: Instant) {
        let items = self.push.items();
        let news: Vec<News> = items.iter().map(|item| self.news(item)).collect();
        let mut sent = 0;
        for target in self.push_targets(&items) {
            let mut reply = self.reply(MAX_PUSHED);
            let scopes: BTreeSet<&Scope> = news.iter().filter_map(|news| news.scope.as_ref()).collect();
            let kept: BTreeSet<&Scope> = scopes
                .into_iter()
                .filter(|scope| self.facts.may_keep(&target, scope))
                .collect();
            let fitting = news
                .iter()
                .take_while(|news| news.add_to(&mut reply, &target, &kept));
            sent = fitting.count().max(sent);
            self.send_reply(&target, reply);
        }
        self.push.pushed(items.iter().take(sent), &self.config, now);
    }

    /// What there is to say of an item. Of a stream with more news than fits a datagram, the first part; who lacks the rest
    /// asks for it.
    fn news(&self, item: &Item) -> News {
        match item {
            Item::Claim(about) => {
                let own = (about == &self.name).then(|| self.membership.own_claim());
                let claim = own.or_else(|| self.membership.claim(about));
                let about = about.clone();
                News {
                    scope: None,
                    owner: None,
                    part: claim.map(|claim| Part::Claims(vec![Statement { about, claim }])),
                }
            }
            Item::Stream { scope, owner, from } => {
                // The room of an empty datagram, less what the incarnation takes.
                let room = self.sealer.room(self.config.max_datagram).saturating_sub(8);
                let stream = self.facts.stream(scope, owner);
                let excerpt = stream.map(|stream| stream.excerpt(owner, scope, *from, room));
                News {
                    scope: Some(scope.clone()),
                    owner: Some(owner.clone()),
                    part: match excerpt {
                        Some(Excerpt::Delta(delta)) => Some(Part::Delta(delta)),
                        Some(Excerpt::Nothing | Excerpt::TooLarge) | None => None,
                    },
                }
            }
        }
    }

    fn push_targets(&mut self, items: &[Item]) -> BTreeSet<NodeName> {
        let fanout = self.config.fanout;
        let mut targets: BTreeSet<NodeName> = self
            .membership
            .choose(fanout, &mut self.random, |_| true)
            .into_iter()
            .collect();
        let networks: BTreeSet<&Scope> = items
            .iter()
            .filter_map(|item| match item {
                Item::Stream { scope, .. } if *scope != Scope::Node => Some(scope),
                Item::Stream { .. } | Item::Claim(_) => None,
            })
            .collect();
        for scope in networks {
            let takes_part = |node: &NodeName| self.facts.may_keep(node, scope);
            let lacking = fanout.saturating_sub(targets.iter().filter(|node| takes_part(node)).count());
            let lacking = lacking.min(MAX_TARGETS.saturating_sub(targets.len()));
            let is_new = |node: &NodeName| takes_part(node) && !targets.contains(node);
            let more = self.membership.choose(lacking, &mut self.random, is_new);
            targets.extend(more);
        }
        targets
    }

    /// Compares what this node knows with a random member.
    pub(super) fn compare_with_anyone(&mut self) {
        let chosen = self.membership.choose(1, &mut self.random, |_| true);
        let Some(peer) = chosen.first() else { return };
        let mut scopes: Vec<Scope> = self
            .facts
            .scopes()
            .filter(|scope| self.facts.may_keep(peer, scope))
            .cloned()
            .collect();
        // Where not all fit, others do the next time.
        scopes.shuffle(&mut self.random);
        let mut reply = self.reply(1);
        let members = self.membership.size();
        reply.push(&Part::Digest {
            subject: Subject::Members,
            hashes: self.membership.leaves().hashes(members),
        });
        for scope in scopes {
            self.push_digest(&scope, &mut reply);
        }
        self.send_reply(peer, reply);
    }

    fn push_digest(&self, scope: &Scope, reply: &mut Reply) {
        if let Some(leaves) = self.facts.leaves(scope) {
            reply.push(&Part::Digest {
                subject: Subject::Facts(scope.clone()),
                hashes: leaves.hashes(self.membership.size()),
            });
        }
    }

    /// Asks some members of a network, which this node has just come to, for what they know.
    pub(super) fn catch_up(&mut self, scope: &Scope) {
        let fits = |node: &NodeName| self.facts.may_keep(node, scope);
        let chosen = self.membership.choose(self.config.fanout, &mut self.random, fits);
        for peer in chosen {
            let mut reply = self.reply(1);
            self.push_digest(scope, &mut reply);
            self.send_reply(&peer, reply);
        }
    }

    /// Sends a task's last word to those that have not acknowledged it, and asks them to.
    pub(super) fn ask_for_acks(&mut self, now: Instant) {
        for task in self.given_acks.current(now) {
            let pending = self.pending_acks(&task);
            if pending.is_empty() {
                self.given_acks.fulfilled(&task);
                continue;
            }
            let Some((version, scopes)) = self.own.last_word(&self.facts, &task) else {
                continue;
            };
            for node in pending {
                let mut reply = self.reply(1);
                for scope in scopes.iter().filter(|scope| self.facts.may_keep(&node, scope)) {
                    let Some(stream) = self.facts.stream(scope, &self.name) else {
                        continue;
                    };
                    let from = stream.before(version);
                    reply.push_newer(scope, &self.name, stream, from);
                    reply.push(&Part::Confirm {
                        scope: scope.clone(),
                        epoch: stream.epoch(),
                        version,
                    });
                }
                self.send_reply(&node, reply);
            }
        }
        self.given_acks.asked(now + self.config.ack_interval);
    }
}

/// An item as it is pushed.
struct News {
    scope: Option<Scope>,
    owner: Option<NodeName>,
    /// `None` where nothing is left of it, or a digest has to bring it.
    part: Option<Part>,
}

impl News {
    /// Adds it, if it is news for the target; says whether it did not lack room.
    fn add_to(&self, reply: &mut Reply, target: &NodeName, kept: &BTreeSet<&Scope>) -> bool {
        let concerns = self.owner.as_ref() != Some(target)
            && self.scope.as_ref().is_none_or(|scope| kept.contains(scope));
        match &self.part {
            Some(part) if concerns => reply.push(part),
            Some(_) | None => true,
        }
    }
}
