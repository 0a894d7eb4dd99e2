//! What `essaim-cni` asks for: interfaces of containers that the Docker Engine does not know.
//!
//! They are leases of the same book, of which the managers are told in the same way. Nobody but their runtime knows what has
//! become of them, so they last until it says so (`DEL`, `GC`).

use super::{NotGranted, Plugin, random_task};
use crate::book::{Book, Interface, Lease};
use crate::host::Host;
use essaim_objects::{Network, TaskId};
use essaim_protocol::{
    CniAdd, CniAttachment, CniCheck, CniFault, CniGc, CniInterface, CniRefusal, CniStatus, cni_path,
};
use essaim_store::mac;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::IpAddr;

impl From<NotGranted> for CniRefusal {
    fn from(why: NotGranted) -> Self {
        match why {
            NotGranted::Unasked(why) => unasked(&why),
            NotGranted::Refused(why) => Self::new(CniFault::Refused, why),
        }
    }
}

/// An interface that takes part in its network, as the book has it.
struct Taken {
    task: TaskId,
    addresses: Vec<IpNet>,
}

impl<H: Host> Plugin<H> {
    /// Answers a call of `essaim-cni`. `None` where there is no such call.
    pub async fn cni(&self, call: &str, body: &[u8]) -> Option<Result<Value, CniRefusal>> {
        let answer = match call {
            cni_path::ADD => self.cni_add(body).await.map(|interface| json!(interface)),
            cni_path::DEL => self.cni_del(body).await,
            cni_path::CHECK => self.cni_check(body).await.map(|interface| json!(interface)),
            cni_path::GC => self.cni_gc(body).await,
            cni_path::STATUS => self.cni_status(body).await,
            _ => return None,
        };
        Some(answer)
    }

    async fn cni_add(&self, body: &[u8]) -> Result<CniInterface, CniRefusal> {
        let asked: CniAdd = read(body)?;
        let (attachment, netns) = (&asked.attachment, asked.netns.as_str());
        let sandbox = self.inner.host.namespace(netns)?;
        if self
            .inner
            .host
            .look(netns, &attachment.interface)
            .await?
            .is_some()
        {
            let why = format!("{netns} has an interface {} already", attachment.interface);
            return Err(CniRefusal::new(CniFault::Exists, why));
        }
        let network = self.open_network(&asked.network).await?;
        let taken = {
            let mut book = self.inner.book.lock().await;
            is_new(&book, &asked, &network, &sandbox)?;
            let lease = random_task().map_err(|why| CniRefusal::new(CniFault::Later, why))?;
            book.ask(lease, network.id, wanted(&network, &asked.addresses)?);
            let taken = self.take(&mut book, lease, &asked, &sandbox).await;
            if taken.is_err() {
                let left = book.vacate(attachment).filter(|left| left.is_last);
                if let Some(task) = left.and_then(|left| left.task) {
                    self.inner.host.ended(task);
                }
                book.leases.remove(&lease);
                self.inner.stale.notify_one();
            }
            self.kept(&book);
            taken?
        };
        let made = self.made(&asked, &taken).await;
        match made {
            Ok(interface) => Ok(CniInterface {
                gateways: gateways(&network, &asked),
                ..interface
            }),
            Err(why) => {
                self.end(attachment).await;
                Err(why)
            }
        }
    }

    /// The interface, once the data plane has made it.
    async fn made(&self, asked: &CniAdd, taken: &Taken) -> Result<CniInterface, CniRefusal> {
        let own = taken.addresses.first().map(IpNet::addr);
        let own = own.ok_or_else(|| CniRefusal::new(CniFault::Refused, "the managers gave no address"))?;
        let attached = self.inner.host.attached(taken.task, own).await;
        attached.map_err(|why| unasked(&why))?;
        self.inner.host.runs(taken.task);
        self.seen(&asked.attachment, &asked.netns, &taken.addresses).await
    }

    /// The network, where containers may be on it.
    async fn open_network(&self, name: &str) -> Result<Network, CniRefusal> {
        let found = self.inner.host.find(name).await.map_err(|why| unasked(&why))?;
        let network = found.ok_or_else(|| {
            let why =
                format!("the cluster has no network {name}; essaim network create --attachable makes one");
            CniRefusal::new(CniFault::Network, why)
        })?;
        if network.spec.attachable != Some(true) || network.is_ingress() {
            let why = format!(
                "network {} is for services only; containers need one that was made with --attachable",
                network.name()
            );
            return Err(CniRefusal::new(CniFault::Network, why));
        }
        Ok(network)
    }

    /// Has the managers choose the addresses of a lease, and take the container for part of its network.
    async fn take(
        &self,
        book: &mut Book,
        lease: TaskId,
        asked: &CniAdd,
        sandbox: &str,
    ) -> Result<Taken, CniRefusal> {
        let places = self.granted(book, lease).await?;
        let place = places.into_iter().find(|place| place.task == lease);
        let place =
            place.ok_or_else(|| CniRefusal::new(CniFault::Refused, "the managers gave it no address"))?;
        book.take(lease, place.addresses.clone());
        let interface = Interface {
            attachment: asked.attachment.clone(),
            is_default: asked.is_default,
            boot: self.inner.host.boot(),
        };
        let occupied = book.occupy(lease, interface, sandbox, asked.names.clone());
        let task = occupied.map_err(|error| CniRefusal::new(CniFault::Unknown, error.to_string()))?;
        // The data plane looks for it by its name as soon as the managers know of it.
        self.inner.host.name_namespace(task, &asked.netns)?;
        self.granted(book, task).await?;
        Ok(Taken {
            task,
            addresses: place.addresses,
        })
    }

    async fn cni_del(&self, body: &[u8]) -> Result<Value, CniRefusal> {
        let attachment: CniAttachment = read(body)?;
        self.end(&attachment).await;
        Ok(json!({}))
    }

    /// Gives an interface back, and waits until it is gone; one that is not known is.
    async fn end(&self, attachment: &CniAttachment) {
        let (left, link, is_told) = {
            let mut book = self.inner.book.lock().await;
            let Some(left) = book.vacate(attachment) else {
                return;
            };
            let place = left.task.zip(left.address);
            let link = place.and_then(|(task, address)| self.inner.host.node_link(task, address));
            if let Some(task) = left.task.filter(|_| left.is_last) {
                self.inner.host.ended(task);
            }
            self.kept(&book);
            (left, link, self.tell(&book).await)
        };
        if let Err(why) = &is_told {
            tracing::warn!(
                why,
                "the managers do not know yet that a container has left a network"
            );
            self.inner.stale.notify_one();
        }
        // Of a container that stays, the managers have a say; one that ends is the node's own affair.
        if let Some(link) = link.filter(|_| left.is_last || is_told.is_ok()) {
            self.inner.host.gone(&link).await;
        }
    }

    async fn cni_check(&self, body: &[u8]) -> Result<CniInterface, CniRefusal> {
        let asked: CniCheck = read(body)?;
        let sandbox = self.inner.host.namespace(&asked.netns)?;
        let name = format!(
            "interface {} of container {}",
            asked.attachment.interface, asked.attachment.container
        );
        let (taken, is_here) = {
            let book = self.inner.book.lock().await;
            let lease = book.interface(&asked.attachment).map(|(_, lease)| lease);
            let found = lease.and_then(|lease| Some((lease, lease.joined.as_ref()?)));
            let (lease, joined) =
                found.ok_or_else(|| CniRefusal::new(CniFault::Unknown, format!("{name} is not known")))?;
            let taken = Taken {
                task: joined.task,
                addresses: lease.addresses.clone(),
            };
            (taken, joined.sandbox == sandbox)
        };
        if !is_here {
            let why = format!("{name} is in another namespace than {}", asked.netns);
            return Err(CniRefusal::new(CniFault::Differs, why));
        }
        let seen = self
            .seen(&asked.attachment, &asked.netns, &taken.addresses)
            .await?;
        if let Some(own) = taken.addresses.first() {
            let attached = self.inner.host.attached(taken.task, own.addr()).await;
            attached.map_err(|why| CniRefusal::new(CniFault::Differs, format!("{name}: {why}")))?;
        }
        Ok(seen)
    }

    /// The interface in the kernel, which must have just what it should.
    async fn seen(
        &self,
        attachment: &CniAttachment,
        netns: &str,
        addresses: &[IpNet],
    ) -> Result<CniInterface, CniRefusal> {
        let name = &attachment.interface;
        let differs = |why: String| CniRefusal::new(CniFault::Differs, why);
        let seen = self.inner.host.look(netns, name).await?;
        let seen = seen.ok_or_else(|| differs(format!("{netns} has no interface {name}")))?;
        let own = mac(addresses).to_string();
        if !seen.mac.eq_ignore_ascii_case(&own) {
            let found = seen.mac;
            return Err(differs(format!(
                "the Ethernet address of {name} in {netns} is {found}, expected {own}"
            )));
        }
        if let Some(absent) = addresses.iter().find(|own| !seen.addresses.contains(own)) {
            let found = seen.addresses;
            return Err(differs(format!(
                "{name} in {netns} has {found:?}, expected {absent} among them"
            )));
        }
        if !seen.is_up {
            return Err(differs(format!("{name} in {netns} is turned off")));
        }
        Ok(CniInterface {
            mac: own,
            mtu: seen.mtu,
            addresses: addresses.to_vec(),
            gateways: Vec::new(),
        })
    }

    async fn cni_gc(&self, body: &[u8]) -> Result<Value, CniRefusal> {
        let asked: CniGc = read(body)?;
        let all = self.inner.book.lock().await.interfaces(&asked.config);
        for gone in all.iter().filter(|known| !asked.valid.contains(known)) {
            tracing::info!(
                container = gone.container,
                interface = gone.interface,
                network = gone.config,
                "a runtime has forgotten an interface; its address is free"
            );
            self.end(gone).await;
        }
        Ok(json!({}))
    }

    async fn cni_status(&self, body: &[u8]) -> Result<Value, CniRefusal> {
        let asked: CniStatus = read(body)?;
        self.open_network(&asked.network).await.map(|_| json!({}))
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CniRefusal> {
    serde_json::from_slice(body).map_err(|error| {
        let why =
            format!("the call cannot be read, essaim-cni and the daemon are to be of one version: {error}");
        CniRefusal::new(CniFault::Unreadable, why)
    })
}

fn unasked(why: &str) -> CniRefusal {
    CniRefusal::new(CniFault::Later, why)
}

/// The interface that is asked for is none that the container has, nor a second way to where it has one.
fn is_new(book: &Book, asked: &CniAdd, network: &Network, sandbox: &str) -> Result<(), CniRefusal> {
    let CniAttachment {
        config,
        container,
        interface,
    } = &asked.attachment;
    let exists = |why: String| Err(CniRefusal::new(CniFault::Exists, why));
    if book.interface(&asked.attachment).is_some() {
        return exists(format!(
            "container {container} has interface {interface} of configuration {config} already; DEL comes first"
        ));
    }
    let is_here = |lease: &&Lease| {
        lease
            .joined
            .as_ref()
            .is_some_and(|joined| joined.sandbox == sandbox)
    };
    for lease in book.leases.values().filter(is_here) {
        let Some(other) = &lease.interface else { continue };
        let other_name = &other.attachment.interface;
        if lease.network == network.id {
            let name = network.name();
            return exists(format!(
                "{} is on network {name} already, by its interface {other_name}",
                asked.netns
            ));
        }
        if other.is_default && asked.is_default {
            return exists(format!(
                "the default route of {} leads through {other_name} already; leave out isDefaultGateway",
                asked.netns
            ));
        }
    }
    Ok(())
}

/// The addresses that are asked for, with the prefixes of the network's subnets.
fn wanted(network: &Network, addresses: &[IpAddr]) -> Result<Vec<IpNet>, CniRefusal> {
    let with_prefix = |address: &IpAddr| {
        let mut subnets = network.subnets();
        let subnet = subnets.find(|subnet| subnet.net.contains(address));
        let subnet = subnet.ok_or_else(|| {
            let subnets: Vec<String> = network.subnets().map(|subnet| subnet.net.to_string()).collect();
            let (name, subnets) = (network.name(), subnets.join(", "));
            let why =
                format!("address {address} is not in a subnet of network {name}; choose one of {subnets}");
            CniRefusal::new(CniFault::Refused, why)
        })?;
        Ok(IpNet::new(*address, subnet.net.prefix_len()).unwrap_or_else(|_| (*address).into()))
    };
    addresses.iter().map(with_prefix).collect()
}

/// The gateways that the default routes lead to, where they are asked for.
fn gateways(network: &Network, asked: &CniAdd) -> Vec<IpAddr> {
    let gateways = network.subnets().filter_map(|subnet| subnet.gateway);
    gateways.filter(|_| asked.is_default).collect()
}

#[cfg(test)]
mod tests;
