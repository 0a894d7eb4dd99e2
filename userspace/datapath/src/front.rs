//! What stands in the arrays that programs look at before the hashes of endpoints: pure.

use essaim_abi::{Addr, Endpoint, FRONT_PLACES, FrontEndpoint, FrontLocal, LocalEndpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// An entry of such an array; the default is an empty place.
pub(crate) trait FrontEntry: Copy + Debug + Default + PartialEq {
    type Key: Copy + Debug + Ord;
    type Value: Copy;

    /// The place of a key, below [`FRONT_PLACES`].
    fn place(key: &Self::Key) -> u32;
    /// The copy of the hash's entry; `None` where it needs none.
    fn new(key: Self::Key, value: Self::Value) -> Option<Self>;
}

impl FrontEntry for FrontLocal {
    type Key = u32;
    type Value = LocalEndpoint;

    fn place(key: &u32) -> u32 {
        Self::place(*key)
    }

    fn new(ifindex: u32, local: LocalEndpoint) -> Option<Self> {
        (ifindex != 0).then_some(Self {
            ifindex,
            reserved: 0,
            local,
        })
    }
}

impl FrontEntry for FrontEndpoint {
    type Key = Addr;
    type Value = Endpoint;

    fn place(key: &Addr) -> u32 {
        Self::place(key)
    }

    /// Those of this node: what goes elsewhere costs many times the look-up.
    fn new(address: Addr, endpoint: Endpoint) -> Option<Self> {
        (endpoint.ifindex != 0).then_some(Self {
            address,
            endpoint,
            reserved: [0; 4],
        })
    }
}

/// The entries by place. Of those that share one the lowest key stands there, so that every way to the same entries ends
/// at the same array; of interfaces that is mostly the older one, which is not driven out. The others are found in the
/// hash.
#[derive(Clone, Debug)]
pub(crate) struct Front<E: FrontEntry> {
    places: BTreeMap<u32, BTreeMap<E::Key, E>>,
    /// Places whose entry may not be in the array.
    touched: BTreeSet<u32>,
}

impl<E: FrontEntry> Front<E> {
    /// The front of a hash that holds `entries`; of the array nothing is known.
    pub(crate) fn of(entries: &BTreeMap<E::Key, E::Value>) -> Self {
        let mut front = Self {
            places: BTreeMap::new(),
            touched: (0..FRONT_PLACES).collect(),
        };
        for (key, value) in entries {
            front.put(*key, *value);
        }
        front
    }

    /// Takes in what changes in the hash.
    pub(crate) fn change(&mut self, put: &[(E::Key, E::Value)], gone: &[E::Key]) {
        for key in gone {
            self.remove(key);
        }
        for (key, value) in put {
            self.put(*key, *value);
        }
    }

    /// What must be stored, by place, so that the array is as it should; `held` reads it.
    pub(crate) fn stores(&mut self, held: &dyn Fn(u32) -> E) -> Vec<(u32, E)> {
        std::mem::take(&mut self.touched)
            .into_iter()
            .map(|place| (place, self.at(place)))
            .filter(|(place, entry)| held(*place) != *entry)
            .collect()
    }

    fn put(&mut self, key: E::Key, value: E::Value) {
        let Some(entry) = E::new(key, value) else {
            return self.remove(&key);
        };
        let place = E::place(&key);
        self.places.entry(place).or_default().insert(key, entry);
        self.touched.insert(place);
    }

    fn remove(&mut self, key: &E::Key) {
        let place = E::place(key);
        let Some(sharing) = self.places.get_mut(&place) else {
            return;
        };
        if sharing.remove(key).is_some() {
            self.touched.insert(place);
        }
        if sharing.is_empty() {
            self.places.remove(&place);
        }
    }

    fn at(&self, place: u32) -> E {
        self.places
            .get(&place)
            .and_then(|sharing| sharing.first_key_value())
            .map(|(_, entry)| *entry)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_abi::EndpointKind;
    use proptest::prelude::*;

    fn local(vni: u32) -> LocalEndpoint {
        LocalEndpoint {
            vni,
            ..LocalEndpoint::default()
        }
    }

    #[test]
    fn of_interfaces_that_share_a_place_the_older_stands_and_the_other_follows_it() {
        let (old, new) = (7, 7 + FRONT_PLACES);
        let mut front = Front::<FrontLocal>::of(&BTreeMap::from([(new, local(2))]));
        let empty = |_| FrontLocal::default();
        let stores = front.stores(&empty);
        assert_eq!(stores.len(), 1);
        let newer = FrontLocal {
            ifindex: new,
            reserved: 0,
            local: local(2),
        };
        assert_eq!(stores[0], (7, newer));
        front.change(&[(old, local(1))], &[]);
        let [(7, older)] = front.stores(&|_| newer)[..] else {
            panic!("the older one stands")
        };
        assert_eq!((older.ifindex, older.local.vni), (old, 1));
        front.change(&[(new, local(3))], &[]);
        assert_eq!(front.stores(&|_| older), []);
        front.change(&[], &[old]);
        assert_eq!(front.stores(&|_| older)[0].1.local.vni, 3);
        front.change(&[], &[new]);
        assert_eq!(front.stores(&|_| newer), [(7, FrontLocal::default())]);
    }

    #[test]
    fn an_address_that_leaves_the_node_leaves_the_front() {
        let address = Addr::from(std::net::Ipv4Addr::LOCALHOST);
        let endpoint = |kind, ifindex| Endpoint {
            kind: kind as u8,
            ifindex,
            ..Endpoint::default()
        };
        let mut front = Front::<FrontEndpoint>::of(&BTreeMap::new());
        assert_eq!(front.stores(&|_| FrontEndpoint::default()), []);
        front.change(&[(address, endpoint(EndpointKind::Local, 5))], &[]);
        let [(place, held)] = front.stores(&|_| FrontEndpoint::default())[..] else {
            panic!("it stands there")
        };
        assert_eq!(
            (place, held.endpoint.ifindex),
            (FrontEndpoint::place(&address), 5)
        );
        front.change(&[(address, endpoint(EndpointKind::Tombstone, 0))], &[]);
        assert_eq!(front.stores(&|_| held), [(place, FrontEndpoint::default())]);
    }

    proptest! {
        /// Whatever the way there, the array holds what a fresh start would store, and only what the hash holds.
        #[test]
        fn every_way_ends_at_the_same_array(
            steps in proptest::collection::vec((0_u32..4, 0_u32..3, any::<bool>(), 1_u32..9), 0..40),
            first in 0_usize..40,
        ) {
            let (mut hash, mut array) = (BTreeMap::new(), BTreeMap::new());
            let mut front = Front::<FrontLocal>::of(&hash);
            for (at, (low, high, put, vni)) in steps.into_iter().enumerate() {
                let key = 1 + low + high * FRONT_PLACES;
                if put {
                    hash.insert(key, local(vni));
                    front.change(&[(key, local(vni))], &[]);
                } else {
                    hash.remove(&key);
                    front.change(&[], &[key]);
                }
                if at < first {
                    continue;
                }
                let held = array.clone();
                let read = |place: u32| held.get(&place).copied().unwrap_or_default();
                array.extend(front.stores(&read));
                let read = |place: u32| array.get(&place).copied().unwrap_or_default();
                prop_assert_eq!(Front::of(&hash).stores(&read), []);
                for entry in array.values().filter(|entry| entry.ifindex != 0) {
                    prop_assert_eq!(hash.get(&entry.ifindex), Some(&entry.local));
                }
            }
        }
    }
}
