//! Addresses, published ports and interfaces: what points at groups and backends.

use super::service::Indexed;
use super::{Image, v4_word, v6_addr};
use crate::DatapathError;
use essaim_abi::{
    Endpoint, EndpointFlags, EndpointKind, LocalEndpoint, LocalEndpointFlags, NETNS_MAX_NETWORKS, NetnsFlags,
    NetnsInfo, Port, PortFlags,
};
use essaim_model::{
    AddressKind, AddressPlan, AttachmentKey, AttachmentPlan, BackendKey, PublishedPort, ResolverPorts,
};
use std::collections::BTreeSet;

impl Indexed<'_> {
    pub(super) fn address(&self, plan: &AddressPlan) -> Result<Endpoint, DatapathError> {
        let AddressPlan {
            vni,
            kind,
            mac,
            encrypted,
        } = plan;
        let environment = self.environment;
        let flags = if *encrypted {
            EndpointFlags::ENCRYPTED
        } else {
            EndpointFlags::NONE
        };
        let base = Endpoint {
            vni: vni.get(),
            flags,
            mac: *mac,
            mtu: environment.mtu,
            ..Endpoint::default()
        };
        let (kind, endpoint) = match kind {
            AddressKind::Local(attachment, backend) => match self.facts.attachments.get(attachment) {
                Some(facts) => {
                    let (ifindex, slot) = (facts.ifindex, self.slot(facts.ifindex));
                    let backend = self.backend_index(backend)?;
                    (
                        EndpointKind::Local,
                        Endpoint {
                            ifindex,
                            slot,
                            backend,
                            mtu: facts.mtu,
                            ..base
                        },
                    )
                }
                // Its interface is not there (yet): refused, not left waiting.
                None => (EndpointKind::Tombstone, base),
            },
            AddressKind::Remote(vtep, backend) => {
                let (index, mtu) = environment.vtep(*vtep);
                let kind = if index == 0 {
                    EndpointKind::Tombstone
                } else {
                    EndpointKind::Remote
                };
                (
                    kind,
                    Endpoint {
                        index,
                        mtu,
                        backend: self.backend_index(backend)?,
                        ..base
                    },
                )
            }
            AddressKind::Vip(service) => (
                EndpointKind::Vip,
                Endpoint {
                    index: self.service(service)?,
                    ..base
                },
            ),
            AddressKind::Gateway => (EndpointKind::Gateway, base),
            AddressKind::ThisNode => {
                let (ifindex, slot) = (environment.node_ifindex, environment.node_slot);
                (
                    EndpointKind::ThisNode,
                    Endpoint {
                        ifindex,
                        slot,
                        ..base
                    },
                )
            }
            AddressKind::OtherNode(vtep) => {
                let (index, mtu) = environment.vtep(*vtep);
                (EndpointKind::OtherNode, Endpoint { index, mtu, ..base })
            }
            AddressKind::Tombstone => (EndpointKind::Tombstone, base),
        };
        Ok(Endpoint {
            kind: kind as u8,
            ..endpoint
        })
    }

    pub(super) fn port(&self, plan: &PublishedPort) -> Result<Port, DatapathError> {
        let PublishedPort {
            group,
            target,
            host,
            dsr,
        } = plan;
        let host = if *host { PortFlags::HOST } else { PortFlags::NONE };
        let dsr = if *dsr { PortFlags::DSR } else { PortFlags::NONE };
        Ok(Port {
            service: self.service(group)?,
            target_port: target.to_be(),
            flags: host.with(dsr),
        })
    }

    pub(super) fn attachment(
        &self,
        key: &AttachmentKey,
        plan: &AttachmentPlan,
        image: &mut Image,
    ) -> Result<(), DatapathError> {
        let Some(facts) = self.facts.attachments.get(key) else {
            return Ok(());
        };
        let addresses = || plan.addresses.iter().map(ipnet::IpNet::addr);
        let backend = BackendKey {
            task: key.task.clone(),
            network: key.network.clone(),
        };
        let internal = if plan.internal {
            LocalEndpointFlags::INTERNAL
        } else {
            LocalEndpointFlags::NONE
        };
        let encrypted = if plan.encrypted {
            LocalEndpointFlags::ENCRYPTED
        } else {
            LocalEndpointFlags::NONE
        };
        let local = LocalEndpoint {
            addr6: v6_addr(addresses()),
            addr4: v4_word(addresses()),
            vni: plan.vni.get(),
            flags: internal.with(encrypted),
            slot: self.slot(facts.ifindex),
            mtu: facts.mtu,
            backend: self.backends.get(&backend).map_or(0, |given| given.index),
            netns_cookie: halves(facts.netns_cookie),
            mac: plan.mac,
            reserved: [0; 2],
        };
        image.locals.insert(facts.ifindex, local);
        let networks: BTreeSet<u32> = plan.task_networks.iter().map(|vni| vni.get()).collect();
        let mut namespace = netns(key, NetnsFlags::TASK, &networks)?;
        if let Some(ResolverPorts { udp, tcp }) = facts.resolver {
            (namespace.dns_udp_port, namespace.dns_tcp_port) = (udp.to_be(), tcp.to_be());
        }
        if facts.netns_cookie != 0 {
            image.netns.insert(facts.netns_cookie, namespace);
        }
        Ok(())
    }
}

/// A cookie as the programs read it: the lower half first.
#[expect(clippy::cast_possible_truncation, reason = "each half is cut out on purpose")]
pub(super) const fn halves(cookie: u64) -> [u32; 2] {
    [cookie as u32, (cookie >> 32) as u32]
}

pub(super) fn netns(
    subject: &impl ToString,
    flags: NetnsFlags,
    networks: &BTreeSet<u32>,
) -> Result<NetnsInfo, DatapathError> {
    if networks.len() > NETNS_MAX_NETWORKS {
        return Err(DatapathError::Plan {
            subject: subject.to_string(),
            problem: format!(
                "on {} networks, at most {NETNS_MAX_NETWORKS} are supported",
                networks.len()
            ),
        });
    }
    let mut info = NetnsInfo {
        flags,
        ..NetnsInfo::default()
    };
    for (to, from) in info.vnis.iter_mut().zip(networks) {
        *to = *from;
    }
    Ok(info)
}
