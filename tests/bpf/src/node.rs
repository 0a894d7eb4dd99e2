//! A node: programs of its own, in a network namespace of its own, its maps filled by hand.

use crate::frame::mac_of;
use essaim_abi::{
    Addr, Backend, BackendState, Config, ConfigFlags, Endpoint, EndpointFlags, EndpointKind, Flow, FlowKey,
    LocalAddressBucket, LocalEndpoint, LocalEndpointFlags, MacAddr, Port, PortFlags, Protocol, Service,
    ServiceFlags, TableRef, Vtep, VtepFlags,
};
use essaim_datapath::{Datapath, EventRing, Maps, Sizing};
use nix::sched::{CloneFlags, unshare};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// An address in the form of the maps.
pub fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

/// Numbers of what a [`Node`] has.
pub mod index {
    /// The first uplink.
    pub const UP0: u32 = 10;
    /// The second uplink.
    pub const UP1: u32 = 11;
    /// The VXLAN device.
    pub const VXLAN: u32 = 12;
    /// The node's own endpoint, 10.255.0.1 and `fd00:ff::1`.
    pub const NODE: u32 = 13;
    /// The task 10.1.0.11 of network [`RED`].
    pub const TASK1: u32 = 21;
    /// The task 10.1.0.12 of network [`RED`].
    pub const TASK2: u32 = 22;
    /// The task 10.2.0.13 of network [`BLUE`].
    pub const TASK3: u32 = 23;
    /// The task 10.3.0.14 of the internal network [`INSIDE`].
    pub const TASK4: u32 = 24;
    /// Every interface and its name.
    pub const INTERFACES: [(u32, &str); 8] = [
        (UP0, "up0"),
        (UP1, "up1"),
        (VXLAN, "vx0"),
        (NODE, "node0"),
        (TASK1, "task1"),
        (TASK2, "task2"),
        (TASK3, "task3"),
        (TASK4, "task4"),
    ];

    /// The ingress VNI.
    pub const INGRESS: u32 = 4096;
    /// A network.
    pub const RED: u32 = 4100;
    /// Another network.
    pub const BLUE: u32 = 4101;
    /// An internal network.
    pub const INSIDE: u32 = 4102;

    /// This node's VTEP.
    pub const SELF: u32 = 1;
    /// 192.0.2.2, through [`UP0`].
    pub const VTEP2: u32 = 2;
    /// `2001:db8:f::3`, through [`UP0`].
    pub const VTEP3: u32 = 3;
    /// 192.0.2.4, whose next hop is not known.
    pub const VTEP4: u32 = 4;
    /// 192.0.2.5, through [`UP1`].
    pub const VTEP5: u32 = 5;
    /// The number of a VTEP's node.
    pub fn number(vtep: u32) -> u16 {
        0x1200 + u16::try_from(vtep).unwrap()
    }

    /// The backends on this node: [`TASK1`] and [`TASK2`].
    pub const HERE1: u32 = 1;
    /// As above.
    pub const HERE2: u32 = 2;
    /// The backend 10.1.0.2`n` behind VTEP `n`, from 2 to 5.
    pub const fn behind(vtep: u32) -> u32 {
        10 + vtep
    }

    /// The service of the VIP 10.1.0.100.
    pub const VIP: u32 = 1;
    /// The service behind the published ports.
    pub const WEB: u32 = 2;
}

/// Where a service's lists stand: its table of one slot, four earlier owners, then its active backends.
const LISTS: u32 = 64;

/// The underlay address and Ethernet addresses (next hop, own) of an uplink or VTEP.
pub mod uplink {
    use essaim_abi::MacAddr;

    /// The own address of the first uplink.
    pub const MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x10]);
    /// The router's address.
    pub const ROUTER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xfe]);
    /// This node on the underlay.
    pub const V4: &str = "192.0.2.1";
    /// This node on the underlay.
    pub const V6: &str = "2001:db8:f::1";
}

/// A node. There is one a process, since loading takes seconds; who has it has it alone and finds it as new.
pub struct Node {
    loaded: MutexGuard<'static, Loaded>,
}

/// The programs and maps of a process.
pub(crate) struct Loaded {
    pub(crate) datapath: Datapath,
    pub(crate) events: EventRing,
}

static LOADED: OnceLock<Mutex<Loaded>> = OnceLock::new();

fn load() -> Mutex<Loaded> {
    let sizing = Sizing {
        services: 16,
        backends: 64,
        tables: 4096,
        endpoints: 256,
        flows: 256,
    };
    let datapath =
        Datapath::load_unattached(sizing).expect("programs need root and a kernel that takes them");
    let events = datapath.events().unwrap();
    Mutex::new(Loaded { datapath, events })
}

impl Node {
    /// Waits for the node, moves this thread to a namespace of its own, and fills the maps.
    pub fn new() -> Self {
        // Another test that failed while it had the node leaves nothing that `clear` does not clear.
        let loaded = LOADED
            .get_or_init(load)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        interfaces();
        let mut node = Self { loaded };
        node.clear();
        node.fill();
        node
    }

    /// The maps.
    pub fn maps(&mut self) -> &mut Maps {
        self.loaded.datapath.maps_mut()
    }

    pub(crate) fn loaded(&mut self) -> &mut Loaded {
        &mut self.loaded
    }

    /// The names of the programs, sorted.
    pub fn programs(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.loaded.datapath.programs().names().collect();
        names.sort_unstable();
        names
    }

    /// Ticks a second of the kernel.
    pub fn hz(&self) -> u32 {
        self.loaded.datapath.hz()
    }

    /// The kernel's clock, in which flows count.
    pub fn jiffies(&self) -> u32 {
        self.loaded.datapath.jiffies().unwrap()
    }

    /// Empties every map that [`Self::fill`] or a test may have written to.
    fn clear(&mut self) {
        self.forget();
        let maps = self.maps();
        for port in 0..maps.ports.len() {
            maps.ports.write(port, Port::default()).unwrap();
        }
        for bucket in 0..maps.local_addresses.len() {
            maps.local_addresses
                .write(bucket, LocalAddressBucket::default())
                .unwrap();
        }
        for service in 0..maps.services.len() {
            maps.services.write(service, Service::default()).unwrap();
            maps.next_pick.insert(&service, &0).unwrap();
        }
        for backend in 0..maps.backends.len() {
            maps.backends.write(backend, Backend::default()).unwrap();
        }
        for place in 0..maps.tables.len() {
            maps.tables.write(place, 0).unwrap();
        }
        for (key, _) in maps.endpoint_by_addr.entries().unwrap() {
            maps.endpoint_by_addr.remove(&key).unwrap();
        }
        for (key, _) in maps.endpoint_by_ifindex.entries().unwrap() {
            maps.endpoint_by_ifindex.remove(&key).unwrap();
        }
    }

    /// Changes the configuration.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.maps().config.read(0).unwrap();
        change(&mut config);
        self.maps().config.write(0, config).unwrap();
    }

    /// Changes a backend.
    pub fn backend(&mut self, index: u32, change: impl FnOnce(&mut Backend)) {
        let mut backend = self.maps().backends.read(index).unwrap();
        change(&mut backend);
        self.maps().backends.write(index, backend).unwrap();
    }

    /// Changes a service.
    pub fn service(&mut self, index: u32, change: impl FnOnce(&mut Service)) {
        let mut service = self.maps().services.read(index).unwrap();
        change(&mut service);
        self.maps().services.write(index, service).unwrap();
    }

    /// Changes a VTEP.
    pub fn vtep(&mut self, index: u32, change: impl FnOnce(&mut Vtep)) {
        let mut vtep = self.maps().vteps.read(index).unwrap();
        change(&mut vtep);
        self.maps().vteps.write(index, vtep).unwrap();
    }

    /// Changes an endpoint of this node.
    pub fn local(&mut self, ifindex: u32, change: impl FnOnce(&mut LocalEndpoint)) {
        let table = &mut self.maps().endpoint_by_ifindex;
        let mut local = table.entry(&ifindex).unwrap().unwrap();
        change(&mut local);
        table.insert(&ifindex, &local).unwrap();
    }

    /// Writes what an overlay address stands for.
    pub fn endpoint(&mut self, address: &str, change: impl FnOnce(&mut Endpoint)) {
        let table = &mut self.maps().endpoint_by_addr;
        let mut endpoint = table.entry(&addr(address)).unwrap().unwrap_or_default();
        change(&mut endpoint);
        table.insert(&addr(address), &endpoint).unwrap();
    }

    /// Gives a service's only slot its owner and the earlier ones; none: an empty table.
    pub fn owners(&mut self, service: u32, owners: &[u32]) {
        let at = service * LISTS;
        for place in 0..5 {
            let owner = owners.get(place as usize).copied().unwrap_or(0);
            self.maps().tables.write(at + place, owner).unwrap();
        }
        let len = u32::from(!owners.is_empty());
        self.service(service, |service| {
            service.maglev = TableRef::new(at, len, owners.len() > 1);
        });
    }

    /// Gives a service its active backends.
    pub fn active(&mut self, service: u32, backends: &[u32]) {
        let at = service * LISTS + 8;
        for (place, backend) in (at..).zip(backends) {
            self.maps().tables.write(place, *backend).unwrap();
        }
        let len = u32::try_from(backends.len()).unwrap();
        self.service(service, |service| service.active = TableRef::new(at, len, false));
    }

    /// Publishes a port of [`index::WEB`].
    pub fn publish(&mut self, protocol: Protocol, port: u16, target: u16, flags: PortFlags) {
        let entry = Port {
            service: index::WEB,
            target_port: target.to_be(),
            flags,
        };
        self.maps().ports.write(protocol.port_index(port), entry).unwrap();
    }

    /// The entry of an established flow.
    pub fn established(&mut self, key: &FlowKey) -> Option<Flow> {
        self.maps().flows.entry(key).unwrap()
    }

    /// The entry of a half-open flow.
    pub fn half_open(&mut self, key: &FlowKey) -> Option<Flow> {
        self.maps().half_open_flows.entry(key).unwrap()
    }

    /// Forgets every flow and fragment.
    pub fn forget(&mut self) {
        let maps = self.maps();
        for table in [&mut maps.flows, &mut maps.half_open_flows] {
            let keys: Vec<FlowKey> = table.entries().unwrap().into_iter().map(|(key, _)| key).collect();
            for key in keys {
                table.remove(&key).unwrap();
            }
        }
        for (key, _) in maps.fragments.entries().unwrap() {
            maps.fragments.remove(&key).unwrap();
        }
        for slot in 0..16 {
            maps.translated.write(slot, 0).unwrap();
        }
    }

    /// How many flows both tables hold.
    pub fn flows(&mut self) -> usize {
        let maps = self.maps();
        maps.flows.entries().unwrap().len() + maps.half_open_flows.entries().unwrap().len()
    }

    fn fill(&mut self) {
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
        self.fill_overlay();
        self.fill_services(hz);
    }

    /// Adds an address of the node on the underlay.
    pub fn local_address(&mut self, address: &str) {
        let address = addr(address);
        let [bucket, _] = LocalAddressBucket::buckets(&address);
        let mut entry = self.maps().local_addresses.read(bucket).unwrap();
        let free = entry.ways.iter_mut().find(|way| way.is_unspecified()).unwrap();
        *free = address;
        self.maps().local_addresses.write(bucket, entry).unwrap();
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

    fn fill_overlay(&mut self) {
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
                mac,
                reserved: [0; 2],
            };
            self.maps().endpoint_by_ifindex.insert(&ifindex, &local).unwrap();
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
        self.maps()
            .endpoint_by_addr
            .insert(&addr(address), &endpoint)
            .unwrap();
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

impl Default for Node {
    fn default() -> Self {
        Self::new()
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

/// Makes the interfaces, each with the index that [`index`] names.
fn interfaces() {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip of iproute2");
    let mut batch = String::from("link set lo up\n");
    for (index, name) in index::INTERFACES {
        let peer = index + 100;
        let _ = writeln!(
            batch,
            "link add {name} index {index} type veth peer name {name}p index {peer}"
        );
        let _ = writeln!(batch, "link set {name} up");
    }
    ip.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success(), "ip could not make the interfaces");
}
