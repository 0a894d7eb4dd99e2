//! News that is still being pushed: what, from where on, and how many more times.

use crate::Config;
use crate::epoch::Version;
use crate::fact::Scope;
use essaim_model::NodeName;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// News by what it is of.
///
/// News is pushed at once, then repeated for some rounds. The news of a stream is a range of its versions, and what is
/// sent of it is read from the stream at that moment, so a fact that was replaced meanwhile costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Push {
    claims: BTreeMap<NodeName, Rounds>,
    streams: BTreeMap<(Scope, NodeName), VecDeque<Range>>,
    due: Option<Instant>,
    last: Option<Instant>,
}

/// How many times news has been pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rounds(u8);

/// A range of versions, up to where the next one starts.
#[derive(Debug)]
struct Range {
    from: Version,
    rounds: Rounds,
}

/// Something to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Claim(NodeName),
    Stream {
        scope: Scope,
        owner: NodeName,
        from: Version,
    },
}

impl Push {
    /// Notes news of a member.
    pub(crate) fn add_claim(&mut self, about: &NodeName, config: &Config, now: Instant) {
        self.claims.insert(about.clone(), Rounds::default());
        self.hasten(config, now);
    }

    /// Notes news of a stream, beyond that version.
    pub(crate) fn add_stream(
        &mut self,
        scope: &Scope,
        owner: &NodeName,
        from: Version,
        config: &Config,
        now: Instant,
    ) {
        let ranges = self.streams.entry((scope.clone(), owner.clone())).or_default();
        // What has not been pushed at all is one range; a stream that started anew has no other.
        match ranges.back_mut() {
            Some(range) if range.rounds == Rounds::default() => range.from = range.from.min(from),
            Some(range) if range.from >= from => {
                ranges.clear();
                ranges.push_back(Range::new(from));
            }
            Some(_) | None => ranges.push_back(Range::new(from)),
        }
        self.hasten(config, now);
    }

    /// Drops the news of a stream.
    pub(crate) fn remove_stream(&mut self, scope: &Scope, owner: &NodeName) {
        self.streams.remove(&(scope.clone(), owner.clone()));
    }

    /// Drops all news of a node.
    pub(crate) fn remove_node(&mut self, node: &NodeName) {
        self.claims.remove(node);
        self.streams.retain(|(_, owner), _| owner != node);
    }

    fn hasten(&mut self, config: &Config, now: Instant) {
        let earliest = self.last.map_or(now, |last| now.max(last + config.push_spacing));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// All that is to be pushed: what was pushed least first, and claims and nodes' own streams before others.
    pub(crate) fn items(&self) -> Vec<Item> {
        let claims = self
            .claims
            .iter()
            .map(|(about, rounds)| (*rounds, Item::Claim(about.clone())));
        let streams = self.streams.iter().filter_map(|((scope, owner), ranges)| {
            let item = Item::Stream {
                scope: scope.clone(),
                owner: owner.clone(),
                from: ranges.front()?.from,
            };
            Some((ranges.back()?.rounds, item))
        });
        let mut items: Vec<(Rounds, Item)> = claims.chain(streams).collect();
        items.sort_by_key(|(rounds, _)| *rounds);
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// Counts a round for what was sent, drops what has had all of its rounds, and says when the next round is.
    pub(crate) fn pushed(&mut self, sent: &[Item], config: &Config, now: Instant) {
        let is_done = |rounds: Rounds| rounds.0 > config.push_rounds;
        for item in sent {
            match item {
                Item::Claim(about) => {
                    if let Some(rounds) = self.claims.get_mut(about) {
                        rounds.0 += 1;
                    }
                }
                Item::Stream { scope, owner, .. } => {
                    let ranges = self.streams.get_mut(&(scope.clone(), owner.clone()));
                    for range in ranges.into_iter().flatten() {
                        range.rounds.0 += 1;
                    }
                }
            }
        }
        self.claims.retain(|_, rounds| !is_done(*rounds));
        self.streams.retain(|_, ranges| {
            ranges.retain(|range| !is_done(range.rounds));
            !ranges.is_empty()
        });
        self.last = Some(now);
        let mut rounds = self
            .claims
            .values()
            .copied()
            .chain(self.streams.values().flatten().map(|range| range.rounds));
        self.due = if self.claims.is_empty() && self.streams.is_empty() {
            None
        } else if rounds.any(|rounds| rounds == Rounds::default()) {
            Some(now + config.push_spacing)
        } else {
            Some(now + config.push_interval)
        };
    }
}

impl Range {
    const fn new(from: Version) -> Self {
        Self {
            from,
            rounds: Rounds(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn news_has_its_rounds_and_is_then_dropped() {
        let (config, now, mut push) = (Config::default(), now(), Push::default());
        push.add_claim(&node("a"), &config, now);
        assert_eq!(push.due(), Some(now));
        for _ in 0..=config.push_rounds {
            assert_eq!(push.items(), [Item::Claim(node("a"))]);
            push.pushed(&push.items(), &config, now);
        }
        assert_eq!((push.items(), push.due()), (Vec::new(), None));
    }

    #[test]
    fn a_stream_in_constant_change_does_not_push_its_past_for_ever() {
        let (config, now, mut push) = (Config::default(), now(), Push::default());
        for version in 0..100 {
            push.add_stream(
                &Scope::Node,
                &node("a"),
                Version::from_number(version),
                &config,
                now,
            );
            push.pushed(&push.items(), &config, now);
        }
        let [Item::Stream { from, .. }] = &push.items()[..] else {
            panic!("one stream")
        };
        assert_eq!(from.number(), 100 - u64::from(config.push_rounds));
    }

    #[test]
    fn fresh_news_goes_first_and_soon() {
        let (config, start, mut push) = (Config::default(), now(), Push::default());
        push.add_stream(&Scope::Node, &node("a"), Version::ZERO, &config, start);
        push.pushed(&push.items(), &config, start);
        assert_eq!(push.due(), Some(start + config.push_interval));
        push.add_claim(&node("z"), &config, start);
        assert_eq!(push.due(), Some(start + config.push_spacing));
        assert_eq!(push.items()[0], Item::Claim(node("z")));
    }

    #[test]
    fn what_did_not_fit_is_tried_again_soon() {
        let (config, now, mut push) = (Config::default(), now(), Push::default());
        push.add_claim(&node("a"), &config, now);
        push.pushed(&[], &config, now);
        assert_eq!(push.due(), Some(now + config.push_spacing));
    }
}
