//! What the maps hold against what they should.

use crate::changes::Changes;
use crate::links::Attachment;
use crate::maps::Maps;
use crate::DatapathError;
use essaim_abi::{Protocol, maps as names};
use std::fmt::{self, Debug, Display};
use std::net::IpAddr;

/// Something in the kernel that is not as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The map, or `link`.
    pub place: String,
    /// The entry.
    pub entry: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// How something is not as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is missing or says something else; this is what it should say.
    Expected(String),
    /// It should not be there.
    Superfluous,
    /// The program does not hang there.
    Detached,
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, entry, problem } = self;
        match problem {
            Problem::Expected(expected) => write!(f, "{place} {entry}: missing or different, expected {expected}"),
            Problem::Superfluous => write!(f, "{place} {entry}: there, but not planned"),
            Problem::Detached => write!(f, "{place} {entry}: not attached"),
        }
    }
}

/// What applying these changes would mend.
///
/// # Errors
/// Where a map cannot be read.
pub(crate) fn differences(maps: &Maps, changes: &Changes) -> Result<Vec<Difference>, DatapathError> {
    let mut found = Vec::new();
    let lists: Vec<(u32, usize)> = changes.lists.iter().map(|(offset, slots)| (*offset, slots.len())).collect();
    expected(&mut found, names::TABLES, &lists, |offset| format!("a list, say at {offset}"));
    expected(&mut found, names::VTEPS, &changes.vteps, ToString::to_string);
    expected(&mut found, names::VTEP_BY_ADDR, &changes.vtep_by_addr, ToString::to_string);
    expected(&mut found, names::VTEP_BY_NUMBER, &changes.vtep_by_number, ToString::to_string);
    expected(&mut found, names::BACKENDS, &changes.backends, ToString::to_string);
    expected(&mut found, names::SERVICES, &changes.services, ToString::to_string);
    expected(&mut found, names::ENDPOINT_BY_IFINDEX, &changes.locals, ToString::to_string);
    expected(&mut found, names::NETNS_BY_COOKIE, &changes.netns, ToString::to_string);
    expected(&mut found, names::ENDPOINT_BY_ADDR, &changes.endpoints, ToString::to_string);
    expected(&mut found, names::PORTS, &changes.ports, port);
    for placement in &changes.local_addresses {
        let address = IpAddr::from(placement.address);
        let problem = if placement.address.is_unspecified() {
            Problem::Superfluous
        } else {
            Problem::Expected(address.to_string())
        };
        let entry = format!("bucket {} way {}", placement.bucket, placement.way);
        found.push(Difference { place: names::LOCAL_ADDRESSES.to_owned(), entry, problem });
    }
    if let Some(config) = &changes.config {
        expected(&mut found, names::CONFIG, &[(0, *config)], ToString::to_string);
    }
    superfluous(&mut found, names::PORTS, &changes.ports_gone, port);
    superfluous(&mut found, names::ENDPOINT_BY_ADDR, &changes.endpoints_gone, ToString::to_string);
    superfluous(&mut found, names::NETNS_BY_COOKIE, &changes.netns_gone, ToString::to_string);
    superfluous(&mut found, names::ENDPOINT_BY_IFINDEX, &changes.locals_gone, ToString::to_string);
    superfluous(&mut found, names::VTEP_BY_ADDR, &changes.vtep_by_addr_gone, ToString::to_string);
    superfluous(&mut found, names::VTEP_BY_NUMBER, &changes.vtep_by_number_gone, ToString::to_string);
    let services: Vec<u32> = changes.services_gone.iter().map(|(index, _)| *index).collect();
    superfluous(&mut found, names::SERVICES, &services, ToString::to_string);
    let vteps: Vec<u32> = changes.vteps_gone.iter().map(|(index, _)| *index).collect();
    superfluous(&mut found, names::VTEPS, &vteps, ToString::to_string);
    for (index, backend) in &changes.backends_gone {
        // Those that stand as gone wait for another to take their slot: as it should be.
        if maps.backends.read(*index)? != *backend {
            superfluous(&mut found, names::BACKENDS, &[*index], ToString::to_string);
        }
    }
    Ok(found)
}

/// What does not hang, as differences.
pub(crate) fn detached(missing: Vec<Attachment>) -> impl Iterator<Item = Difference> {
    missing.into_iter().map(|attachment| Difference {
        place: "link".to_owned(),
        entry: attachment.to_string(),
        problem: Problem::Detached,
    })
}

fn expected<K, V: Debug>(
    found: &mut Vec<Difference>,
    place: &str,
    entries: &[(K, V)],
    name: impl Fn(&K) -> String,
) {
    found.extend(entries.iter().map(|(key, value)| Difference {
        place: place.to_owned(),
        entry: name(key),
        problem: Problem::Expected(format!("{value:?}")),
    }));
}

fn superfluous<K>(found: &mut Vec<Difference>, place: &str, keys: &[K], name: impl Fn(&K) -> String) {
    found.extend(keys.iter().map(|key| Difference {
        place: place.to_owned(),
        entry: name(key),
        problem: Problem::Superfluous,
    }));
}

fn port(index: &u32) -> String {
    let protocol = Protocol::ALL.into_iter().find(|protocol| *protocol as u32 == index >> 16);
    let protocol = match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None => "?",
    };
    format!("{}/{protocol}", index & 0xffff)
}
