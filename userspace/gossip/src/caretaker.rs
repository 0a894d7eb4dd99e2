//! Answers for a node whose gossip does not run for a while: it lives, and says nothing new.

use crate::claim::{Claim, Statement};
use crate::counters::DropReason;
use crate::reply::Reply;
use crate::seal::{Carrier, Header, Sealer};
use crate::wire::{self, Content, Part};
use crate::{Config, Epoch, Gossip, Incarnation, KeyRing};
use essaim_model::NodeName;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Speaks for a node between two of its runs, in the epoch of the first: answers probes and contradicts suspicions, so that
/// what the node said of its tasks stands. What it hears is lost: the next run learns it from others.
///
/// Whoever uses it bounds the time: while it answers, nobody notices what becomes of the node's tasks.
pub struct Caretaker {
    name: NodeName,
    claim: Claim,
    sealer: Sealer,
    random: StdRng,
}

impl Caretaker {
    /// Speaks for a run of a node; `seed` is 32 random bytes of the operating system's, from which nonces come.
    pub fn new(name: NodeName, epoch: Epoch, keys: KeyRing, seed: [u8; 32]) -> Self {
        let mut random = StdRng::from_seed(seed);
        Self {
            sealer: Sealer::new(name.clone(), keys, &mut random),
            claim: Claim::alive(epoch, Incarnation::default()),
            name,
            random,
        }
    }

    /// The answer to a datagram, for where it came from; nothing where it asks for none, or a later run of the node has
    /// been heard of.
    ///
    /// # Errors
    /// It was dropped.
    pub fn answer(&mut self, datagram: &[u8]) -> Result<Option<Vec<u8>>, DropReason> {
        if datagram.len() > Gossip::MAX_RECEIVED_DATAGRAM {
            return Err(DropReason::Oversized);
        }
        let header = Header::read(Carrier::Datagram, datagram)?;
        if header.sender == self.name {
            return Err(DropReason::FromSelf);
        }
        let content = self.sealer.open(&header, datagram)?;
        let Content { parts, .. } = wire::decode(&content).or(Err(DropReason::Malformed))?;
        let mut reply = Reply::new(self.sealer.room(Config::MIN_DATAGRAM), 1);
        for part in parts {
            match part {
                Part::Ping { number } => {
                    reply.push(&Part::Ack { number });
                }
                Part::Claims(statements) | Part::Census { statements, .. } => {
                    let own = statements
                        .into_iter()
                        .filter(|statement| statement.about == self.name);
                    for Statement { claim, .. } in own.collect::<Vec<_>>() {
                        if claim.epoch > self.claim.epoch {
                            return Ok(None);
                        }
                        if claim > self.claim {
                            self.claim = Claim::alive(self.claim.epoch, claim.incarnation.next());
                            let about = self.name.clone();
                            reply.push_claims(&[Statement {
                                about,
                                claim: self.claim,
                            }]);
                        }
                    }
                }
                Part::Ack { .. }
                | Part::ProbeFor { .. }
                | Part::Delta(_)
                | Part::Digest { .. }
                | Part::Heads { .. }
                | Part::Pull { .. }
                | Part::Confirm { .. }
                | Part::Applied { .. } => {}
            }
        }
        let content = reply.into_contents(self.claim.incarnation).next();
        let Self {
            sealer,
            random,
            claim,
            ..
        } = self;
        let seal =
            |content: Vec<u8>| sealer.seal(Carrier::Datagram, claim.epoch, &header.sender, &content, random);
        Ok(content.map(seal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Key, MemberState, Start};
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn ring(byte: u8) -> KeyRing {
        KeyRing::new(Key::new([byte; 32]))
    }

    fn start(of: &str, wall_clock_ms: u64) -> Start {
        Start {
            name: name(of),
            last_epoch: Epoch::UNHEARD,
            wall_clock_ms,
            seed: [7; 32],
            keys: ring(1),
            config: Config::default(),
        }
    }

    /// A core of `a` that knows `b` as its peer.
    fn a(now: Instant) -> Gossip {
        let mut a = Gossip::new(start("a", 1_000), now);
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        a.set_peers(&BTreeMap::from([(name("a"), at(1)), (name("b"), at(2))]), now);
        a
    }

    /// Lets time pass for `a`, with an answer to a datagram where there is one.
    fn pass(
        a: &mut Gossip,
        mut now: Instant,
        time: Duration,
        mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) {
        let end = now + time;
        while let Some(due) = a.poll_timeout().filter(|due| *due <= end) {
            now = now.max(due);
            a.handle_timeout(now);
            while let Some(action) = a.poll_action() {
                if let Action::Send { datagram, .. } = action
                    && let Some(answer) = answer(&datagram)
                {
                    a.handle_datagram(&answer, now).unwrap();
                }
            }
        }
    }

    fn state_of_b(a: &Gossip) -> MemberState {
        a.view().members[&name("b")].state
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is its own shell")]
    fn who_is_spoken_for_lives_and_contradicts_what_was_said_before() {
        let now = Instant::now();
        let mut a = a(now);
        let epoch = Epoch::from_number(500);
        let mut caretaker = Caretaker::new(name("b"), epoch, ring(1), [3; 32]);
        pass(&mut a, now, Duration::from_secs(30), |datagram| {
            caretaker.answer(datagram).unwrap()
        });
        assert_eq!(
            (state_of_b(&a), a.view().members[&name("b")].epoch),
            (MemberState::Alive, epoch)
        );
        let silent = now + Duration::from_secs(30);
        pass(&mut a, silent, Duration::from_secs(10), |_| None);
        assert_eq!(state_of_b(&a), MemberState::Down);
        let heard = silent + Duration::from_secs(10);
        pass(&mut a, heard, Duration::from_secs(10), |datagram| {
            caretaker.answer(datagram).unwrap()
        });
        assert_eq!(state_of_b(&a), MemberState::Alive);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is its own shell")]
    fn it_is_silent_once_a_later_run_speaks_and_to_strangers() {
        let now = Instant::now();
        let mut a = a(now);
        let earlier = Epoch::from_number(500);
        let mut later = Caretaker::new(name("b"), earlier.next(), ring(1), [4; 32]);
        pass(&mut a, now, Duration::from_secs(5), |datagram| {
            later.answer(datagram).unwrap()
        });
        // `a` tells whoever speaks in an earlier epoch.
        let mut caretaker = Caretaker::new(name("b"), earlier, ring(1), [3; 32]);
        let mut core = Gossip::new(start("b", 500), now);
        let at = SocketAddr::from(([192, 0, 2, 1], 1));
        core.set_peers(&BTreeMap::from([(name("a"), at)]), now);
        core.handle_timeout(now + Duration::from_secs(1));
        let mut answers = 0;
        while let Some(action) = core.poll_action() {
            if let Action::Send { datagram, .. } = action {
                assert_eq!(a.handle_datagram(&datagram, now), Err(DropReason::StaleEpoch));
            }
        }
        while let Some(action) = a.poll_action() {
            if let Action::Send { datagram, .. } = action {
                assert_eq!(caretaker.answer(&datagram), Ok(None));
                answers += 1;
            }
        }
        assert_ne!(answers, 0);
        let mut stranger = Caretaker::new(name("b"), earlier, ring(2), [5; 32]);
        a.handle_timeout(now + Duration::from_secs(6));
        let sent = std::iter::from_fn(|| a.poll_action()).find_map(|action| match action {
            Action::Send { datagram, .. } => Some(datagram),
            Action::Exchange { .. } => None,
        });
        assert_eq!(stranger.answer(&sent.unwrap()), Err(DropReason::Sealed));
        assert_eq!(stranger.answer(&[0; 40]), Err(DropReason::Version));
        assert_eq!(stranger.answer(&[]), Err(DropReason::Truncated));
    }
}
