//! How one catalog differs from another, so that a change costs as much as it changes.

use super::{Catalog, CatalogErrors, Cluster, Network, Node, Service};
use crate::{NetworkName, NodeName, ServiceName};
use std::collections::BTreeMap;

/// What leads from one catalog to another.
///
/// The catalogs that it goes between have their nodes, networks and services in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogDelta {
    /// The revision of the catalog that it changes.
    pub basis: u64,
    /// The revision that it leads to.
    pub revision: u64,
    /// What holds for every node, where that changed.
    pub cluster: Option<Cluster>,
    /// The nodes.
    pub nodes: Changes<NodeName, Node>,
    /// The networks.
    pub networks: Changes<NetworkName, Network>,
    /// The services, each with all its tasks.
    pub services: Changes<ServiceName, Service>,
}

/// What was made or changed, and what is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<N, T> {
    /// What was made or changed, as it is.
    pub set: Vec<T>,
    /// The names of what is no more.
    pub removed: Vec<N>,
}

impl<N, T> Default for Changes<N, T> {
    fn default() -> Self {
        Self {
            set: Vec::new(),
            removed: Vec::new(),
        }
    }
}

/// Why a difference cannot be applied; the catalog is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It is to change another catalog.
    #[error(
        "the difference is to revision {expected} of the catalog, found revision {found}; ask for all of it"
    )]
    Basis {
        /// The revision that it changes.
        expected: u64,
        /// The catalog's.
        found: u64,
    },
    /// What it leads to breaks a rule.
    #[error("the difference leads to a catalog that is not valid: {0}")]
    Invalid(#[from] CatalogErrors),
}

/// Something that a catalog has one of for each name.
trait Named: Clone + PartialEq {
    type Name: Clone + Ord;

    fn name(&self) -> &Self::Name;
}

macro_rules! named {
    ($($type:ty, $name:ty;)*) => {
        $(impl Named for $type {
            type Name = $name;

            fn name(&self) -> &$name {
                &self.name
            }
        })*
    };
}

named! {
    Node, NodeName;
    Network, NetworkName;
    Service, ServiceName;
}

fn by_name<T: Named>(items: &[T]) -> BTreeMap<&T::Name, &T> {
    items.iter().map(|item| (item.name(), item)).collect()
}

fn between<T: Named>(old: &[T], new: &[T]) -> Changes<T::Name, T> {
    let (before, after) = (by_name(old), by_name(new));
    let is_new = |item: &&T| before.get(item.name()).is_none_or(|before| before != item);
    let is_gone = |name: &&T::Name| !after.contains_key(*name);
    Changes {
        set: new.iter().filter(is_new).cloned().collect(),
        removed: before.keys().copied().filter(is_gone).cloned().collect(),
    }
}

fn applied<T: Named>(changes: &Changes<T::Name, T>, to: &[T]) -> Vec<T> {
    let mut after = by_name(to);
    for name in &changes.removed {
        after.remove(name);
    }
    after.extend(by_name(&changes.set));
    after.into_values().cloned().collect()
}

impl CatalogDelta {
    /// What leads from `old` to `new`.
    pub fn between(old: &Catalog, new: &Catalog) -> Self {
        Self {
            basis: old.revision,
            revision: new.revision,
            cluster: (old.cluster != new.cluster).then(|| new.cluster.clone()),
            nodes: between(&old.nodes, &new.nodes),
            networks: between(&old.networks, &new.networks),
            services: between(&old.services, &new.services),
        }
    }

    /// Whether it changes nothing but the revision.
    pub fn is_empty(&self) -> bool {
        let Self {
            basis: _,
            revision: _,
            cluster,
            nodes,
            networks,
            services,
        } = self;
        cluster.is_none()
            && (nodes.set.is_empty() && nodes.removed.is_empty())
            && (networks.set.is_empty() && networks.removed.is_empty())
            && (services.set.is_empty() && services.removed.is_empty())
    }

    /// What it makes of a catalog.
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn apply(&self, to: &Catalog) -> Result<Catalog, DeltaError> {
        if to.revision != self.basis {
            return Err(DeltaError::Basis {
                expected: self.basis,
                found: to.revision,
            });
        }
        let catalog = Catalog {
            revision: self.revision,
            cluster: self.cluster.clone().unwrap_or_else(|| to.cluster.clone()),
            nodes: applied(&self.nodes, &to.nodes),
            networks: applied(&self.networks, &to.networks),
            services: applied(&self.services, &to.services),
        };
        catalog.check()?;
        Ok(catalog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use proptest::prelude::*;
    use proptest::sample::{Index, subsequence};

    /// The example with some of its services, nodes and networks, at a revision.
    fn catalog(revision: u64, seed: u8) -> Catalog {
        let mut catalog = Catalog::parse(example()).unwrap();
        catalog.revision = revision;
        catalog.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        catalog.services.sort_by(|a, b| a.name.cmp(&b.name));
        for (at, service) in catalog.services.iter_mut().enumerate() {
            let keep = usize::from(seed >> (2 * at) & 3);
            service.tasks.truncate(keep);
        }
        if seed & 16 != 0 {
            catalog.services.remove(0);
        }
        if seed & 32 != 0 {
            catalog.cluster.vxlan_port = 5789;
        }
        if seed & 64 != 0 {
            catalog.nodes[0].state = crate::NodeState::Down;
        }
        catalog
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_to_the_other_over_the_wire_too(one: u8, other: u8) {
            let (old, new) = (catalog(7, one), catalog(9, other));
            let delta = CatalogDelta::between(&old, &new);
            prop_assert_eq!(delta.apply(&old).unwrap(), new);
            let read = CatalogDelta::parse(&delta.to_toml()).unwrap();
            prop_assert_eq!(&read, &delta);
            prop_assert_eq!(delta.is_empty(), one == other || {
                let mut same = catalog(9, one);
                same.revision = 9;
                same == catalog(9, other)
            });
        }

        #[test]
        fn damage_is_refused_or_read_and_never_worse(cut: Index, names in subsequence(vec!["web", "api"], 0..=2)) {
            let mut new = catalog(9, 255);
            new.services.retain(|service| names.contains(&service.name.as_str()));
            let text = CatalogDelta::between(&catalog(7, 255 - 16), &new).to_toml();
            let cut = cut.index(text.len());
            let damaged = format!("{}{}", &text[..cut], text.get(cut + 1..).unwrap_or_default());
            // Neither panics.
            if let Ok(delta) = CatalogDelta::parse(&damaged) {
                let _ = delta.apply(&catalog(7, 255 - 16));
            }
        }
    }

    #[test]
    fn one_for_another_catalog_is_refused() {
        let delta = CatalogDelta::between(&catalog(7, 0), &catalog(8, 0));
        let error = delta.apply(&catalog(6, 0)).unwrap_err().to_string();
        assert_eq!(
            error,
            "the difference is to revision 7 of the catalog, found revision 6; ask for all of it"
        );
    }

    #[test]
    fn one_that_leaves_something_without_what_it_needs_is_refused() {
        let old = catalog(7, 255 - 16);
        let mut delta = CatalogDelta::between(&old, &old);
        delta.networks.removed = vec![old.networks[0].name.clone()];
        let error = delta.apply(&old).unwrap_err();
        assert!(matches!(error, DeltaError::Invalid(_)), "{error}");
    }
}
