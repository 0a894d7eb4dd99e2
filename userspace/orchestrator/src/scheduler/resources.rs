//! What a node has left for tasks.

use essaim_objects::{DiscreteResource, GenericResource, NamedResource, NodeResources};
use std::collections::{BTreeMap, BTreeSet};

/// What a node has left for tasks. May be below nothing, where a node has shrunk under its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Available {
    nano_cpus: i64,
    memory_bytes: i64,
    counted: BTreeMap<String, i64>,
    named: BTreeMap<String, BTreeSet<String>>,
}

/// The kind and number that an operator's own resource asks for or gives.
fn of_generic(resource: &GenericResource) -> Option<(&str, Amount<'_>)> {
    match (&resource.named, &resource.discrete) {
        (Some(named), _) => Some((named.kind.as_deref()?, Amount::One(named.value.as_deref()?))),
        (None, Some(counted)) => Some((counted.kind.as_deref()?, Amount::Count(counted.value?))),
        (None, None) => None,
    }
}

enum Amount<'a> {
    One(&'a str),
    Count(i64),
}

impl Available {
    /// All that a node says it has.
    pub(crate) fn of(resources: Option<&NodeResources>) -> Self {
        let mut available = Self::default();
        if let Some(resources) = resources {
            available.nano_cpus = resources.nano_cpus.unwrap_or_default();
            available.memory_bytes = resources.memory_bytes.unwrap_or_default();
            available.give(resources.generic_resources.as_deref().unwrap_or_default());
        }
        available
    }

    fn give(&mut self, resources: &[GenericResource]) {
        for (kind, amount) in resources.iter().filter_map(of_generic) {
            match amount {
                Amount::One(value) => {
                    self.named
                        .entry(kind.to_owned())
                        .or_default()
                        .insert(value.to_owned());
                }
                Amount::Count(count) => {
                    let left = self.counted.entry(kind.to_owned()).or_default();
                    *left = left.saturating_add(count);
                }
            }
        }
    }

    /// Whether a task that reserves this fits. A kind that is reserved by number may be given by names.
    pub(crate) fn fits(&self, reserved: &NodeResources) -> bool {
        let is_left = |asked: Option<i64>, left: i64| asked.is_none_or(|asked| asked <= 0 || asked <= left);
        let generic = reserved.generic_resources.as_deref().unwrap_or_default();
        is_left(reserved.nano_cpus, self.nano_cpus)
            && is_left(reserved.memory_bytes, self.memory_bytes)
            && generic
                .iter()
                .filter_map(of_generic)
                .all(|(kind, amount)| match amount {
                    Amount::One(value) => self.named.get(kind).is_some_and(|named| named.contains(value)),
                    Amount::Count(count) => count <= self.count(kind),
                })
    }

    fn count(&self, kind: &str) -> i64 {
        let named = self.named.get(kind).map_or(0, BTreeSet::len);
        let counted = self.counted.get(kind).copied().unwrap_or_default();
        counted.saturating_add(i64::try_from(named).unwrap_or(i64::MAX))
    }

    /// Takes what a task reserves, and says which of the operator's own resources it gets: the named first.
    pub(crate) fn take(&mut self, reserved: &NodeResources) -> Vec<GenericResource> {
        self.take_plain(reserved);
        let mut given = Vec::new();
        for (kind, amount) in reserved.generic_resources.iter().flatten().filter_map(of_generic) {
            match amount {
                Amount::One(value) => {
                    self.named.get_mut(kind).map(|named| named.remove(value));
                    given.push(one(kind, value.to_owned()));
                }
                Amount::Count(mut count) => {
                    let names = self.named.entry(kind.to_owned()).or_default();
                    while count > 0
                        && let Some(value) = names.pop_first()
                    {
                        given.push(one(kind, value));
                        count -= 1;
                    }
                    if count > 0 {
                        let left = self.counted.entry(kind.to_owned()).or_default();
                        *left = left.saturating_sub(count);
                        given.push(counted(kind, count));
                    }
                }
            }
        }
        given
    }

    fn take_plain(&mut self, reserved: &NodeResources) {
        self.nano_cpus = self
            .nano_cpus
            .saturating_sub(reserved.nano_cpus.unwrap_or_default());
        self.memory_bytes = self
            .memory_bytes
            .saturating_sub(reserved.memory_bytes.unwrap_or_default());
    }

    /// Takes what a placed task has: what it reserves, and the operator's own resources that it was given.
    pub(crate) fn take_placed(&mut self, reserved: &NodeResources, given: &[GenericResource]) {
        self.take_plain(reserved);
        for (kind, amount) in given.iter().filter_map(of_generic) {
            match amount {
                Amount::One(value) => {
                    self.named.get_mut(kind).map(|named| named.remove(value));
                }
                Amount::Count(count) => {
                    let left = self.counted.entry(kind.to_owned()).or_default();
                    *left = left.saturating_sub(count);
                }
            }
        }
    }
}

fn one(kind: &str, value: String) -> GenericResource {
    GenericResource {
        named: Some(NamedResource {
            kind: Some(kind.to_owned()),
            value: Some(value),
            ..NamedResource::default()
        }),
        ..GenericResource::default()
    }
}

fn counted(kind: &str, count: i64) -> GenericResource {
    GenericResource {
        discrete: Some(DiscreteResource {
            kind: Some(kind.to_owned()),
            value: Some(count),
            ..DiscreteResource::default()
        }),
        ..GenericResource::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(cpus: i64, memory: i64, generic: Vec<GenericResource>) -> NodeResources {
        NodeResources {
            nano_cpus: Some(cpus),
            memory_bytes: Some(memory),
            generic_resources: Some(generic),
            ..NodeResources::default()
        }
    }

    #[test]
    fn what_is_taken_is_gone_and_what_does_not_fit_says_so() {
        let mut node = Available::of(Some(&resources(4, 100, vec![counted("ssd", 2)])));
        assert!(node.fits(&resources(4, 100, vec![counted("ssd", 2)])));
        for much in [
            resources(5, 0, vec![]),
            resources(0, 101, vec![]),
            resources(0, 0, vec![counted("ssd", 3)]),
            resources(0, 0, vec![counted("gpu", 1)]),
        ] {
            assert!(!node.fits(&much), "{much:?}");
        }
        assert_eq!(
            node.take(&resources(3, 100, vec![counted("ssd", 2)])),
            [counted("ssd", 2)]
        );
        assert!(node.fits(&resources(1, 0, vec![])));
        assert!(!node.fits(&resources(0, 1, vec![])));
        assert!(!node.fits(&resources(0, 0, vec![counted("ssd", 1)])));
    }

    #[test]
    fn named_resources_are_given_one_by_one() {
        let has = vec![
            one("gpu", "a".into()),
            one("gpu", "b".into()),
            one("gpu", "c".into()),
        ];
        let mut node = Available::of(Some(&resources(0, 0, has.clone())));
        let two = resources(0, 0, vec![counted("gpu", 2)]);
        let given = node.take(&two);
        assert_eq!(given, [one("gpu", "a".into()), one("gpu", "b".into())]);
        assert!(!node.fits(&two) && node.fits(&resources(0, 0, vec![one("gpu", "c".into())])));
        let mut again = Available::of(Some(&resources(0, 0, has)));
        again.take_placed(&two, &given);
        assert_eq!(again.count("gpu"), 1);
    }

    #[test]
    fn a_node_that_said_nothing_has_nothing_and_takes_what_reserves_nothing() {
        let node = Available::of(None);
        assert!(node.fits(&NodeResources::default()) && !node.fits(&resources(1, 0, vec![])));
    }
}
