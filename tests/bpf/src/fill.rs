//! What a node's maps hold before a test changes them.

use crate::frame::mac_of;
use crate::node::{Node, addr};
use crate::{index, uplink};
use essaim_abi::{
    Backend, BackendState, Config, ConfigFlags, Endpoint, EndpointFlags, EndpointKind, LocalEndpoint,
    LocalEndpointFlags, MacAddr, PortFlags, Protocol, Service, ServiceFlags, Vtep, VtepFlags,
};
use std::net::IpAddr;

impl Node {
    /// Fills the empty maps.
    pub(crate) fn fill(&mut self) {
        let hz = self.hz();
        let config = Config {
            abi_version: essaim_abi::ABI_VERSION,
            flags: ConfigFlags::WATCH,
            ingress_vni: index::INGRESS,
            trace_mark: 0,
            hz,
            half_open_timeout: 63 * hz,
            sample_mask: u32::MAX,
            vxlan_ifindex: index::VXLAN,
            node_ifindex: index::NODE,
            own_vtep: index::SELF,
            vxlan_port: 4789_u16.to_be(),
            gossip_port: 7946_u16.to_be(),
            manager_port: 2377_u16.to_be(),
            reserved: 0,
            uplinks: [index::UP0, index::UP1, 0, 0],
            node_addr4: addr("10.255.0.1"),
            node_addr6: addr("fd00:ff::1"),
        };
        self.maps().config.write(0, config).unwrap();
        for address in [uplink::V4, uplink::V6, "192.0.2.101"] {
            self.local_address(address);
        }
        self.fill_vteps();
        self.fill_tasks();
        self.fill_peers();
        self.fill_names();
        self.fill_services(hz);
    }

    fn fill_vteps(&mut self) {
        let used = VtepFlags::USED;
        for (vtep, address, ifindex, flags, mtu) in [
            (index::SELF, uplink::V4, 0, used.with(VtepFlags::SELF), 1450),
            (
                index::VTEP2,
                "192.0.2.2",
                index::UP0,
                used.with(VtepFlags::RESOLVED),
                1450,
            ),
            (
                index::VTEP3,
                "2001:db8:f::3",
                index::UP0,
                used.with(VtepFlags::RESOLVED).with(VtepFlags::V6),
                1430,
            ),
            (index::VTEP4, "192.0.2.4", 0, used, 1450),
            (
                index::VTEP5,
                "192.0.2.5",
                index::UP1,
                used.with(VtepFlags::RESOLVED),
                1450,
            ),
        ] {
            let entry = Vtep {
                addr: addr(address),
                flags,
                ifindex,
                mtu,
                number: u32::from(index::number(vtep)),
                ..template(address, vtep)
            };
            let maps = self.maps();
            maps.vteps.write(vtep, entry).unwrap();
            maps.vtep_by_addr.insert(&addr(address), &vtep).unwrap();
            maps.vtep_by_number
                .write(u32::from(index::number(vtep)), vtep)
                .unwrap();
        }
    }

    fn fill_tasks(&mut self) {
        let plain = LocalEndpointFlags::NONE;
        for (slot, ifindex, v4, v6, vni, flags, backend) in [
            (
                1,
                index::TASK1,
                "10.1.0.11",
                "fd01::11",
                index::RED,
                plain,
                index::HERE1,
            ),
            (
                2,
                index::TASK2,
                "10.1.0.12",
                "fd01::12",
                index::RED,
                plain,
                index::HERE2,
            ),
            (3, index::TASK3, "10.2.0.13", "fd02::13", index::BLUE, plain, 0),
            (
                4,
                index::TASK4,
                "10.3.0.14",
                "fd03::14",
                index::INSIDE,
                LocalEndpointFlags::INTERNAL,
                0,
            ),
            (
                5,
                index::NODE,
                "10.255.0.1",
                "fd00:ff::1",
                index::INGRESS,
                LocalEndpointFlags::NODE,
                0,
            ),
        ] {
            let (mac, is_node) = (mac_of(v4), ifindex == index::NODE);
            let local = LocalEndpoint {
                addr6: addr(v6),
                addr4: addr(v4).v4_word(),
                vni,
                flags,
                slot,
                mtu: 1450,
                backend,
                netns_cookie: [ifindex, 0],
                mac,
                ..LocalEndpoint::default()
            };
            self.set_local(ifindex, local);
            let kind = if is_node {
                EndpointKind::ThisNode
            } else {
                EndpointKind::Local
            };
            for address in [v4, v6] {
                self.stands_for(
                    address,
                    Endpoint {
                        ifindex,
                        slot,
                        backend,
                        ..known(kind, vni, mac)
                    },
                );
            }
            if backend != 0 {
                let entry = Backend {
                    ifindex,
                    slot,
                    ..task(backend, v4, v6)
                };
                self.maps().backends.write(backend, entry).unwrap();
            }
        }
    }

    fn fill_peers(&mut self) {
        for vtep in [index::VTEP2, index::VTEP3, index::VTEP4, index::VTEP5] {
            let (v4, v6) = (format!("10.1.0.2{vtep}"), format!("fd01::2{vtep}"));
            let backend = index::behind(vtep);
            let remote = Endpoint {
                index: vtep,
                backend,
                ..known(EndpointKind::Remote, index::RED, mac_of(&v4))
            };
            self.stands_for(&v4, remote);
            self.stands_for(&v6, remote);
            self.maps()
                .backends
                .write(
                    backend,
                    Backend {
                        vtep,
                        ..task(backend, &v4, &v6)
                    },
                )
                .unwrap();
        }
    }

    fn fill_names(&mut self) {
        for (address, kind, index, vni, mac) in [
            ("10.1.0.1", EndpointKind::Gateway, 0, index::RED, MacAddr::GATEWAY),
            ("fd01::1", EndpointKind::Gateway, 0, index::RED, MacAddr::GATEWAY),
            (
                "10.1.0.100",
                EndpointKind::Vip,
                index::VIP,
                index::RED,
                MacAddr::GATEWAY,
            ),
            (
                "fd01::100",
                EndpointKind::Vip,
                index::VIP,
                index::RED,
                MacAddr::GATEWAY,
            ),
            (
                "10.1.0.66",
                EndpointKind::Tombstone,
                0,
                index::RED,
                MacAddr::GATEWAY,
            ),
            (
                "fd01::66",
                EndpointKind::Tombstone,
                0,
                index::RED,
                MacAddr::GATEWAY,
            ),
            (
                "10.255.0.2",
                EndpointKind::OtherNode,
                index::VTEP2,
                index::INGRESS,
                mac_of("10.255.0.2"),
            ),
            (
                "fd00:ff::2",
                EndpointKind::OtherNode,
                index::VTEP2,
                index::INGRESS,
                mac_of("10.255.0.2"),
            ),
        ] {
            self.stands_for(
                address,
                Endpoint {
                    index,
                    ..known(kind, vni, mac)
                },
            );
        }
    }

    fn stands_for(&mut self, address: &str, endpoint: Endpoint) {
        self.set_endpoint(addr(address), endpoint);
    }

    fn fill_services(&mut self, hz: u32) {
        let timeouts = Service {
            established_timeout: 7200 * hz,
            closing_timeout: 60 * hz,
            udp_timeout: 180 * hz,
            ..Service::default()
        };
        let vip = Service {
            id: 0x1111,
            vip4: addr("10.1.0.100").v4_word(),
            vip6: addr("fd01::100"),
            vni: index::RED,
            flags: ServiceFlags::USED,
            ..timeouts
        };
        self.maps().services.write(index::VIP, vip).unwrap();
        self.active(index::VIP, &[index::HERE2]);
        let web = Service {
            id: 0x2222,
            vni: index::INGRESS,
            flags: ServiceFlags::USED.with(ServiceFlags::INGRESS),
            ..timeouts
        };
        self.maps().services.write(index::WEB, web).unwrap();
        self.owners(index::WEB, &[index::behind(index::VTEP2)]);
        self.active(index::WEB, &[index::behind(index::VTEP2)]);
        self.publish(Protocol::Tcp, 8080, 80, PortFlags::NONE);
        self.publish(Protocol::Udp, 5353, 53, PortFlags::NONE);
        self.publish(Protocol::Sctp, 3868, 3868, PortFlags::NONE);
    }
}

fn known(kind: EndpointKind, vni: u32, mac: MacAddr) -> Endpoint {
    Endpoint {
        vni,
        kind: kind as u8,
        flags: EndpointFlags::NONE,
        mac,
        mtu: 1450,
        ..Endpoint::default()
    }
}

fn task(index: u32, v4: &str, v6: &str) -> Backend {
    Backend {
        id: u64::from(index) << 32,
        addr6: addr(v6),
        addr4: addr(v4).v4_word(),
        vni: index::RED,
        generation: 100 + index,
        state: BackendState::Active as u8,
        mac: mac_of(v4),
        ..Backend::default()
    }
}

/// The header that leads to a VTEP, without what differs from packet to packet.
fn template(address: &str, vtep: u32) -> Vtep {
    let destination: IpAddr = address.parse().unwrap();
    let source = if destination.is_ipv4() {
        uplink::V4
    } else {
        uplink::V6
    }
    .parse()
    .unwrap();
    let header = crate::outer::vxlan(crate::row::towards(vtep), (source, destination), 0, 0, &[]);
    let mut entry = Vtep::default();
    entry.header[..header.len()].copy_from_slice(&header);
    // Total length, checksum and UDP length (payload length and UDP length) are the program's to fill in.
    if destination.is_ipv4() {
        for place in [16..18, 24..26, 38..40] {
            entry.header[place].fill(0);
        }
        entry.ipv4_sum = entry.header[14..34]
            .chunks(2)
            .map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]])))
            .sum();
    } else {
        for place in [18..20, 58..60] {
            entry.header[place].fill(0);
        }
    }
    entry
}
