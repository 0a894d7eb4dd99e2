//! Where the node's own addresses stand in [`essaim_abi::maps::LOCAL_ADDRESSES`].

use crate::DatapathError;
use essaim_abi::{Addr, LOCAL_ADDRESS_BUCKETS, LOCAL_ADDRESS_WAYS, LocalAddressBucket};
use std::collections::{BTreeSet, VecDeque};

/// One way of a bucket to be set, in an order in which no address that stays is ever missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) bucket: u32,
    pub(crate) way: usize,
    pub(crate) address: Addr,
}

/// What must be set so that the buckets hold `wanted` and nothing else.
///
/// # Errors
/// Where an address finds no place.
pub(crate) fn place(
    buckets: &mut [LocalAddressBucket],
    wanted: &BTreeSet<Addr>,
) -> Result<Vec<Placement>, DatapathError> {
    let mut missing = wanted.clone();
    let mut stale = Vec::new();
    for (index, bucket) in (0..LOCAL_ADDRESS_BUCKETS).zip(buckets.iter_mut()) {
        for (way, address) in bucket.ways.iter_mut().enumerate() {
            let stands = LocalAddressBucket::buckets(address).contains(&index) && missing.remove(address);
            if !stands && !address.is_unspecified() {
                stale.push((index, way, *address));
                *address = Addr::UNSPECIFIED;
            }
        }
    }
    let mut placements = Vec::new();
    for address in missing {
        let path = path_to_room(buckets, &address).ok_or_else(|| DatapathError::LocalAddresses {
            address: address.into(),
            count: wanted.len(),
        })?;
        // From the free way backwards: each address stands in its new place before its old one is overwritten.
        let mut to = path.last().copied();
        for from in path.iter().rev().skip(1).copied().map(Some).chain([None]) {
            let Some((bucket, way)) = to else { break };
            let moved = from.map_or(address, |(bucket, way)| buckets[bucket as usize].ways[way]);
            buckets[bucket as usize].ways[way] = moved;
            placements.push(Placement {
                bucket,
                way,
                address: moved,
            });
            to = from;
        }
    }
    for (bucket, way, _) in stale {
        if buckets[bucket as usize].ways[way].is_unspecified() {
            placements.push(Placement {
                bucket,
                way,
                address: Addr::UNSPECIFIED,
            });
        }
    }
    Ok(placements)
}

/// The ways to be shifted so that `address` can stand in the first: each one's address moves to the next, and the last
/// is free. Breadth first, so the shortest.
fn path_to_room(buckets: &[LocalAddressBucket], address: &Addr) -> Option<Vec<(u32, usize)>> {
    let mut seen = BTreeSet::new();
    let mut queue: VecDeque<(u32, Vec<(u32, usize)>)> = LocalAddressBucket::buckets(address)
        .into_iter()
        .map(|bucket| (bucket, Vec::new()))
        .collect();
    while let Some((bucket, path)) = queue.pop_front() {
        if !seen.insert(bucket) {
            continue;
        }
        let ways = &buckets.get(bucket as usize)?.ways;
        if let Some(way) = ways.iter().position(Addr::is_unspecified) {
            return Some(path.into_iter().chain([(bucket, way)]).collect());
        }
        for (way, held) in (0..LOCAL_ADDRESS_WAYS).zip(ways) {
            for other in LocalAddressBucket::buckets(held) {
                let path = path.iter().copied().chain([(bucket, way)]).collect();
                queue.push_back((other, path));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn empty() -> Vec<LocalAddressBucket> {
        vec![LocalAddressBucket::default(); LOCAL_ADDRESS_BUCKETS as usize]
    }

    fn found(buckets: &[LocalAddressBucket], address: &Addr) -> bool {
        let places = LocalAddressBucket::buckets(address);
        places
            .iter()
            .any(|bucket| buckets[*bucket as usize].ways.contains(address))
    }

    fn addresses(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<Addr> {
        numbers
            .into_iter()
            .map(|number| Addr::from(Ipv4Addr::from_bits(number)))
            .collect()
    }

    #[test]
    fn hundreds_of_neighbouring_addresses_find_a_place_and_too_many_are_refused() {
        let mut buckets = empty();
        let wanted = addresses((0..600).map(|n| 0x0a00_0001 + n));
        place(&mut buckets, &wanted).unwrap();
        assert!(wanted.iter().all(|address| found(&buckets, address)));
        let too_many = addresses((0..1025).map(|n| 0x0a00_0001 + n));
        assert!(matches!(
            place(&mut buckets, &too_many),
            Err(DatapathError::LocalAddresses { .. })
        ));
    }

    proptest! {
        #[test]
        fn an_address_that_stays_is_found_after_every_single_store(
            rounds in proptest::collection::vec(proptest::collection::btree_set(0_u32..2000, 0..700), 1..4)
        ) {
            let mut live = empty();
            let mut before = BTreeSet::new();
            for numbers in rounds {
                let wanted = addresses(numbers.into_iter().map(|n| n.wrapping_mul(2_654_435_761)));
                let mut planned = live.clone();
                let stay: Vec<Addr> = before.intersection(&wanted).copied().collect();
                for Placement { bucket, way, address } in place(&mut planned, &wanted).unwrap() {
                    live[bucket as usize].ways[way] = address;
                    prop_assert!(stay.iter().all(|address| found(&live, address)));
                }
                prop_assert_eq!(&live, &planned);
                let mut held: Vec<Addr> =
                    live.iter().flat_map(|bucket| bucket.ways).filter(|address| !address.is_unspecified()).collect();
                held.sort_unstable();
                prop_assert_eq!(held, wanted.iter().copied().collect::<Vec<_>>());
                prop_assert!(place(&mut live.clone(), &wanted).unwrap().is_empty());
                before = wanted;
            }
        }
    }
}
