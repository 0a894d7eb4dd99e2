//! Which addresses the engine was given, and for what: pure.
//!
//! The engine asks for an address before it says what for: first a *lease*, then an endpoint, then the sandbox of a
//! container. The endpoints of one sandbox are one container, whose task is that of the lease that came first.

use essaim_objects::{NetworkId, TaskId};
use essaim_protocol::{AttachedContainer, Attachments, CniAttachment, ContainerInterface, ContainerNetwork};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An address on a network, with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The network.
    pub network: NetworkId,
    /// At most one of a family, with its subnet's prefix; none until the managers have chosen.
    pub addresses: Vec<IpNet>,
    /// Those that the engine has been told of and has not given back.
    pub told: Vec<IpAddr>,
    /// The endpoint that has it.
    pub endpoint: Option<Endpoint>,
    /// Where the endpoint takes part in the network.
    pub joined: Option<Joined>,
    /// What the container is called there.
    pub names: Vec<String>,
    /// What the engine calls the container.
    pub container: Option<String>,
    /// The interface that a runtime has asked for by CNI; none where the Docker Engine has the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
}

/// An interface of a container that the Docker Engine does not know: no other engine tells what it has, so it lasts until its
/// runtime gives it back, at the longest until the machine starts anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// What the runtime knows it by.
    pub attachment: CniAttachment,
    /// Whether the container's default route leads through it.
    pub is_default: bool,
    /// The start of the machine that it was made in.
    pub boot: String,
}

/// The identity of the endpoint of such an interface.
pub fn endpoint_of(attachment: &CniAttachment) -> String {
    let CniAttachment {
        config,
        container,
        interface,
    } = attachment;
    format!("cni/{config}/{container}/{interface}")
}

/// An endpoint of the engine's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its identity.
    pub id: String,
    /// That of the engine's own network.
    pub network: String,
}

/// An endpoint's place in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The container's sandbox, by the file of its namespace.
    pub sandbox: String,
    /// The container's task.
    pub task: TaskId,
    /// Counts the endpoints of the sandbox.
    pub number: u64,
}

/// The leases, by the task that each was taken under. What is in it outlives the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Them.
    pub leases: BTreeMap<TaskId, Lease>,
}

/// What the engine asks for makes no sense, as far as the book knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// An address that nobody was given.
    #[error("address {address} is not one that this node has handed out")]
    NoLease {
        /// It.
        address: IpAddr,
    },
    /// The addresses of an endpoint were given to two.
    #[error("addresses {v4} and {v6} were handed out to two endpoints")]
    Mixed {
        /// One.
        v4: IpAddr,
        /// The other.
        v6: IpAddr,
    },
    /// An endpoint that is not known.
    #[error("endpoint {id} is not known")]
    NoEndpoint {
        /// It.
        id: String,
    },
}

impl Book {
    /// A lease whose addresses are to be chosen, or these.
    pub fn ask(&mut self, task: TaskId, network: NetworkId, wanted: impl IntoIterator<Item = IpNet>) {
        let lease = Lease {
            network,
            addresses: wanted.into_iter().collect(),
            told: Vec::new(),
            endpoint: None,
            joined: None,
            names: Vec::new(),
            container: None,
            interface: None,
        };
        self.leases.insert(task, lease);
    }

    /// What the managers have said of a lease.
    pub fn take(&mut self, task: TaskId, addresses: Vec<IpNet>) {
        if let Some(lease) = self.leases.get_mut(&task) {
            lease.addresses = addresses;
        }
    }

    /// Tells the engine of the lease's address in a subnet.
    pub fn tell(&mut self, task: TaskId, subnet: IpNet) -> Option<IpNet> {
        let lease = self.leases.get_mut(&task)?;
        let found = lease
            .addresses
            .iter()
            .find(|address| subnet.contains(&address.addr()))?;
        lease.told.push(found.addr());
        Some(*found)
    }

    /// A lease of which the engine was told one address, and has yet to be told that of this subnet.
    pub fn half_told(&self, network: NetworkId, subnet: IpNet) -> Option<TaskId> {
        let is_half = |lease: &Lease| {
            let mut rest = lease.addresses.iter().map(IpNet::addr);
            lease.network == network
                && lease.endpoint.is_none()
                && !lease.told.is_empty()
                && rest.any(|address| subnet.contains(&address) && !lease.told.contains(&address))
        };
        let mut leases = self.leases.iter();
        leases.find(|(_, lease)| is_half(lease)).map(|(task, _)| *task)
    }

    /// Whether the engine has yet to be told the rest of any lease of the network.
    pub fn is_half_told(&self, network: NetworkId) -> bool {
        self.leases.values().any(|lease| {
            lease.network == network
                && lease.endpoint.is_none()
                && !lease.told.is_empty()
                && lease.told.len() < lease.addresses.len()
        })
    }

    /// The engine gives an address back: with its last one a lease is over. One that is not known is back already.
    pub fn give_back(&mut self, network: NetworkId, address: IpAddr) {
        self.leases.retain(|_, lease| {
            if lease.network != network || !lease.told.contains(&address) {
                return true;
            }
            lease.told.retain(|told| *told != address);
            !lease.told.is_empty()
        });
    }

    /// An endpoint with these addresses.
    ///
    /// # Errors
    /// They are of no lease, or of two.
    pub fn place(&mut self, endpoint: Endpoint, addresses: &[IpAddr]) -> Result<TaskId, BookError> {
        let mut task = None;
        for address in addresses {
            let lease_of = self.leases.iter().find(|(_, lease)| lease.told.contains(address));
            let (found, _) = lease_of.ok_or(BookError::NoLease { address: *address })?;
            match task {
                Some((other, v4)) if other != *found => {
                    return Err(BookError::Mixed { v4, v6: *address });
                }
                _ => task = Some((*found, *address)),
            }
        }
        let found = task.map(|(task, _)| task);
        let lease = found.and_then(|task| Some((task, self.leases.get_mut(&task)?)));
        let (task, lease) = lease.ok_or(BookError::NoEndpoint {
            id: endpoint.id.clone(),
        })?;
        lease.endpoint = Some(endpoint);
        Ok(task)
    }

    fn of_endpoint(&mut self, id: &str) -> Result<(TaskId, &mut Lease), BookError> {
        let mut leases = self.leases.iter_mut();
        let found = leases.find(|(_, lease)| lease.endpoint.as_ref().is_some_and(|own| own.id == id));
        found
            .map(|(task, lease)| (*task, lease))
            .ok_or_else(|| BookError::NoEndpoint { id: id.to_owned() })
    }

    /// The endpoint takes part in its network, in a sandbox; the container's task.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn join(&mut self, id: &str, sandbox: &str) -> Result<TaskId, BookError> {
        let there = self.leases.values().filter_map(|lease| lease.joined.as_ref());
        let there = there.filter(|joined| joined.sandbox == sandbox);
        let last = there.max_by_key(|joined| joined.number).cloned();
        let (own, lease) = self.of_endpoint(id)?;
        let (task, number) = last.map_or((own, 0), |last| (last.task, last.number + 1));
        lease.joined = Some(Joined {
            sandbox: sandbox.to_owned(),
            task,
            number,
        });
        Ok(task)
    }

    /// The endpoint takes part no more; the container's task, where this was its last. Its lease goes on under another task:
    /// one that has run is never to run again.
    pub fn leave(&mut self, id: &str, anew: TaskId) -> Option<TaskId> {
        let (task, lease) = self.of_endpoint(id).ok()?;
        let kept = Lease {
            joined: None,
            names: Vec::new(),
            container: None,
            ..lease.clone()
        };
        lease.joined.as_ref()?;
        let ended = self.remove(task);
        self.leases.insert(anew, kept);
        ended
    }

    /// A lease is over; the container's task, where this was its last.
    pub fn remove(&mut self, task: TaskId) -> Option<TaskId> {
        let left = self.leases.remove(&task)?.joined?;
        let stays = self.members(left.task).next().is_some();
        (!stays).then_some(left.task)
    }

    /// The endpoint is no more; its lease goes on until its addresses are given back.
    pub fn remove_endpoint(&mut self, id: &str) {
        if let Ok((_, lease)) = self.of_endpoint(id) {
            lease.endpoint = None;
        }
    }

    /// What the container of an endpoint is; tells whether that is news.
    pub fn name(&mut self, id: &str, container: &str, names: Vec<String>) -> bool {
        let Ok((_, lease)) = self.of_endpoint(id) else {
            return false;
        };
        let is_news = lease.container.as_deref() != Some(container) || lease.names != names;
        (lease.container, lease.names) = (Some(container.to_owned()), names);
        is_news
    }

    /// An interface of a runtime's takes part in its network, in a namespace, with the addresses that its lease was given; the
    /// container's task.
    ///
    /// # Errors
    /// There is no such lease.
    pub fn occupy(
        &mut self,
        lease: TaskId,
        interface: Interface,
        sandbox: &str,
        names: Vec<String>,
    ) -> Result<TaskId, BookError> {
        let id = endpoint_of(&interface.attachment);
        let Some(found) = self.leases.get_mut(&lease) else {
            return Err(BookError::NoEndpoint { id });
        };
        found.endpoint = Some(Endpoint {
            id: id.clone(),
            network: String::new(),
        });
        let container = interface.attachment.container.clone();
        (found.container, found.names) = (Some(container), names);
        found.interface = Some(interface);
        self.join(&id, sandbox)
    }

    /// The interface of a runtime's, with its lease.
    pub fn interface(&self, attachment: &CniAttachment) -> Option<(TaskId, &Lease)> {
        let of = |lease: &Lease| {
            let interface = lease.interface.as_ref();
            interface.is_some_and(|interface| interface.attachment == *attachment)
        };
        let mut leases = self.leases.iter();
        leases
            .find(|(_, lease)| of(lease))
            .map(|(task, lease)| (*task, lease))
    }

    /// The interfaces of a runtime's configuration.
    pub fn interfaces(&self, config: &str) -> Vec<CniAttachment> {
        let interfaces = self.leases.values().filter_map(|lease| lease.interface.as_ref());
        let attachments = interfaces.map(|interface| &interface.attachment);
        attachments
            .filter(|attachment| attachment.config == config)
            .cloned()
            .collect()
    }

    /// The interface of a runtime's is no more, and its addresses are free: where it was, and whether the container takes
    /// part in anything yet.
    pub fn vacate(&mut self, attachment: &CniAttachment) -> Option<Vacated> {
        let (lease, found) = self.interface(attachment)?;
        let (addresses, joined) = (found.addresses.clone(), found.joined.clone());
        let ended = self.remove(lease);
        Some(Vacated {
            address: addresses.first().map(IpNet::addr),
            task: joined.map(|joined| joined.task),
            is_last: ended.is_some(),
        })
    }

    /// Forgets the interfaces of runtimes that were made before the machine's last start, whose namespaces ended with it;
    /// how many.
    pub fn start_anew(&mut self, boot: &str) -> usize {
        let before = self.leases.len();
        self.leases.retain(|_, lease| {
            let interface = lease.interface.as_ref();
            interface.is_none_or(|interface| interface.boot == boot)
        });
        before - self.leases.len()
    }

    /// The leases of a container, in the order in which its endpoints came.
    pub fn members(&self, task: TaskId) -> impl Iterator<Item = &Lease> {
        let joined = |lease: &&Lease| lease.joined.as_ref().is_some_and(|joined| joined.task == task);
        let mut members: Vec<&Lease> = self.leases.values().filter(joined).collect();
        members.sort_by_key(|lease| lease.joined.as_ref().map(|joined| joined.number));
        members.into_iter()
    }

    /// The tasks of the containers that take part in networks.
    pub fn joined(&self) -> std::collections::BTreeSet<TaskId> {
        let joined = self.leases.values().filter_map(|lease| lease.joined.as_ref());
        joined.map(|joined| joined.task).collect()
    }

    /// All of it as the managers are told.
    pub fn said(&self) -> Attachments {
        let place = |lease: &Lease| ContainerNetwork {
            network: lease.network,
            addresses: lease.addresses.iter().map(IpNet::addr).collect(),
            names: lease.names.clone(),
            interface: lease.interface.as_ref().map(|interface| ContainerInterface {
                name: interface.attachment.interface.clone(),
                is_default: interface.is_default,
            }),
        };
        let kept = self.leases.iter().filter(|(_, lease)| lease.joined.is_none());
        let kept = kept.map(|(task, lease)| AttachedContainer {
            task: *task,
            container: None,
            networks: vec![place(lease)],
            is_joined: false,
        });
        let containers = self.joined().into_iter().map(|task| AttachedContainer {
            task,
            container: self.members(task).find_map(|lease| lease.container.clone()),
            networks: self.members(task).map(place).collect(),
            is_joined: true,
        });
        Attachments {
            containers: containers.chain(kept).collect(),
        }
    }
}

/// What an interface has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vacated {
    /// The first of its addresses.
    pub address: Option<IpAddr>,
    /// The container's task, where it took part.
    pub task: Option<TaskId>,
    /// Whether it was the container's last.
    pub is_last: bool,
}

#[cfg(test)]
mod tests;
