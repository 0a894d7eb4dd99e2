//! News that is still being pushed: what, from where on, and how many more times.

use crate::Config;
use crate::epoch::Version;
use crate::fact::Scope;
use essaim_model::NodeName;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// The most items that are pushed at a time: more do not fit anyway.
const MAX_ITEMS: usize = 256;

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
    /// More is waiting than fitted: it goes at the pace of repetitions, and digests may be faster.
    has_backlog: bool,
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

/// An [`Item`] before it is chosen.
enum Key<'a> {
    Claim(&'a NodeName),
    Stream(&'a Scope, &'a NodeName, Version),
}

impl Key<'_> {
    fn item(&self) -> Item {
        match self {
            Self::Claim(about) => Item::Claim((*about).clone()),
            Self::Stream(scope, owner, from) => Item::Stream {
                scope: (*scope).clone(),
                owner: (*owner).clone(),
                from: *from,
            },
        }
    }
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
        let spacing = if self.has_backlog {
            config.push_interval
        } else {
            config.push_spacing
        };
        let earliest = self.last.map_or(now, |last| now.max(last + spacing));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be pushed now, as much as could fit: what was pushed least first, and claims and nodes' own streams before
    /// others.
    pub(crate) fn items(&self) -> Vec<Item> {
        let claims = self
            .claims
            .iter()
            .map(|(about, rounds)| (*rounds, Key::Claim(about)));
        let streams = self.streams.iter().filter_map(|((scope, owner), ranges)| {
            let from = ranges.front()?.from;
            Some((ranges.back()?.rounds, Key::Stream(scope, owner, from)))
        });
        let mut keys: Vec<(Rounds, Key<'_>)> = claims.chain(streams).collect();
        keys.sort_by_key(|(rounds, _)| *rounds);
        keys.into_iter()
            .take(MAX_ITEMS)
            .map(|(_, key)| key.item())
            .collect()
    }

    /// Counts a round for the items that were sent, drops what has had all of its rounds, and says when the next round is.
    pub(crate) fn pushed<'a>(
        &mut self,
        sent: impl IntoIterator<Item = &'a Item>,
        config: &Config,
        now: Instant,
    ) {
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
        let ranges = self.streams.values().flatten().map(|range| range.rounds);
        let mut rounds = self.claims.values().copied().chain(ranges);
        self.has_backlog = rounds.any(|rounds| rounds == Rounds::default());
        self.last = Some(now);
        let is_empty = self.claims.is_empty() && self.streams.is_empty();
        self.due = (!is_empty).then_some(now + config.push_interval);
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
    fn a_backlog_is_not_hastened_by_more_of_it() {
        let (config, now, mut push) = (Config::default(), now(), Push::default());
        push.add_claim(&node("a"), &config, now);
        push.pushed(&[], &config, now);
        push.add_claim(&node("b"), &config, now);
        assert_eq!(push.due(), Some(now + config.push_interval));
        push.pushed(&push.items(), &config, now);
        push.add_claim(&node("c"), &config, now);
        assert_eq!(push.due(), Some(now + config.push_spacing));
    }
}
