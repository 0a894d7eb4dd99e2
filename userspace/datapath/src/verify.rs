//! What the maps hold against what they should.

use crate::DatapathError;
use crate::changes::Changes;
use crate::front::FrontEntry;
use crate::links::Attachment;
use crate::maps::Maps;
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
        let Self {
            place,
            entry,
            problem,
        } = self;
        match problem {
            Problem::Expected(expected) => {
                write!(f, "{place} {entry}: missing or different, expected {expected}")
            }
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
    let mut found = Found(Vec::new());
    let text = ToString::to_string;
    for (offset, slots) in &changes.lists {
        let (entry, expected) = (
            format!("slot {offset} and on"),
            format!("a list of {}", slots.len()),
        );
        found.push(names::TABLES, entry, Problem::Expected(expected));
    }
    found.expected(names::VTEPS, &changes.vteps, text);
    found.expected(names::VTEP_BY_ADDR, &changes.vtep_by_addr, ToString::to_string);
    found.expected(names::VTEP_BY_NUMBER, &changes.vtep_by_number, text);
    found.expected(names::ENCRYPTED_VNIS, &changes.encrypted_vnis, text);
    found.expected(names::BACKENDS, &changes.backends, text);
    found.expected(names::SERVICES, &changes.services, text);
    found.expected(names::ENDPOINT_BY_IFINDEX, &changes.locals, text);
    found.expected(names::NETNS_BY_COOKIE, &changes.netns, ToString::to_string);
    found.expected(names::ENDPOINT_BY_ADDR, &changes.endpoints, ToString::to_string);
    found.front(names::FRONT_BY_IFINDEX, &changes.front_locals);
    found.front(names::FRONT_BY_ADDR, &changes.front_endpoints);
    found.expected(names::PORTS, &changes.ports, |index| port(*index));
    if let Some(config) = &changes.config {
        found.expected(names::CONFIG, &[(0, *config)], text);
    }
    for placement in &changes.local_addresses {
        let entry = format!("bucket {} way {}", placement.bucket, placement.way);
        let problem = match IpAddr::from(placement.address) {
            address if address.is_unspecified() => Problem::Superfluous,
            address => Problem::Expected(address.to_string()),
        };
        found.push(names::LOCAL_ADDRESSES, entry, problem);
    }
    found.superfluous(names::PORTS, &changes.ports_gone, |index| port(*index));
    found.superfluous(
        names::ENDPOINT_BY_ADDR,
        &changes.endpoints_gone,
        ToString::to_string,
    );
    found.superfluous(names::NETNS_BY_COOKIE, &changes.netns_gone, ToString::to_string);
    found.superfluous(names::ENDPOINT_BY_IFINDEX, &changes.locals_gone, text);
    found.superfluous(names::ENCRYPTED_VNIS, &changes.encrypted_vnis_gone, text);
    found.superfluous(
        names::VTEP_BY_ADDR,
        &changes.vtep_by_addr_gone,
        ToString::to_string,
    );
    found.superfluous(names::VTEP_BY_NUMBER, &changes.vtep_by_number_gone, text);
    found.superfluous(names::SERVICES, &changes.services_gone, |(index, _)| {
        index.to_string()
    });
    found.superfluous(names::VTEPS, &changes.vteps_gone, |(index, _)| index.to_string());
    for (index, backend) in &changes.backends_gone {
        // Those that stand as gone wait for another to take their slot: as it should be.
        if maps.backends.read(*index)? != *backend {
            found.push(names::BACKENDS, index.to_string(), Problem::Superfluous);
        }
    }
    Ok(found.0)
}

/// What does not hang, as differences.
pub(crate) fn detached(missing: Vec<Attachment>) -> impl Iterator<Item = Difference> {
    missing.into_iter().map(|attachment| Difference {
        place: "link".to_owned(),
        entry: attachment.to_string(),
        problem: Problem::Detached,
    })
}

/// The differences so far.
struct Found(Vec<Difference>);

impl Found {
    fn push(&mut self, place: &str, entry: String, problem: Problem) {
        self.0.push(Difference {
            place: place.to_owned(),
            entry,
            problem,
        });
    }

    fn expected<K, V: Debug>(&mut self, place: &str, entries: &[(K, V)], name: impl Fn(&K) -> String) {
        for (key, value) in entries {
            self.push(place, name(key), Problem::Expected(format!("{value:?}")));
        }
    }

    fn front<E: FrontEntry>(&mut self, place: &str, entries: &[(u32, E)]) {
        for (number, entry) in entries {
            let problem = if *entry == E::default() {
                Problem::Superfluous
            } else {
                Problem::Expected(format!("{entry:?}"))
            };
            self.push(place, format!("place {number}"), problem);
        }
    }

    fn superfluous<T>(&mut self, place: &str, entries: &[T], name: impl Fn(&T) -> String) {
        for entry in entries {
            self.push(place, name(entry), Problem::Superfluous);
        }
    }
}

fn port(index: u32) -> String {
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| *protocol as u32 == index >> 16);
    let protocol = match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None => "?",
    };
    format!("{}/{protocol}", index & 0xffff)
}
