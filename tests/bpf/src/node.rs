//! A node: programs of its own, in a network namespace of its own, its maps filled by hand.

use crate::index;
use essaim_abi::{
    Addr, Backend, Config, ConfigFlags, Endpoint, EndpointFlags, EndpointKind, FRONT_PLACES, Flow, FlowKey,
    FrontEndpoint, FrontLocal, LocalAddressBucket, LocalEndpoint, LocalEndpointFlags, MacAddr, Port,
    PortFlags, Protocol, Service, ServiceFlags, TableRef, Vtep,
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

/// Where a service's lists stand: its table of one slot, four earlier owners, then its active backends.
const LISTS: u32 = 64;

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

    /// Programs and maps.
    pub fn datapath(&mut self) -> &mut Datapath {
        &mut self.loaded.datapath
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

    /// How many instructions the kernel's verifier followed before it took a program.
    pub fn verified_instructions(&self, program: &str) -> u32 {
        let programs = self.loaded.datapath.programs();
        programs.verified_instructions(program).unwrap()
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
        for (vni, _) in maps.encrypted_vnis.entries().unwrap() {
            maps.encrypted_vnis.remove(&vni).unwrap();
        }
        for (key, _) in maps.endpoint_by_ifindex.entries().unwrap() {
            maps.endpoint_by_ifindex.remove(&key).unwrap();
        }
        self.clear_fronts();
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
        let mut local = self.maps().endpoint_by_ifindex.entry(&ifindex).unwrap().unwrap();
        change(&mut local);
        self.set_local(ifindex, local);
    }

    /// Writes an endpoint of this node, and the copy that programs look at first.
    pub(crate) fn set_local(&mut self, ifindex: u32, local: LocalEndpoint) {
        let maps = self.maps();
        maps.endpoint_by_ifindex.insert(&ifindex, &local).unwrap();
        let front = FrontLocal {
            ifindex,
            reserved: 0,
            local,
        };
        maps.front_by_ifindex
            .write(FrontLocal::place(ifindex), front)
            .unwrap();
    }

    /// Writes what an overlay address stands for.
    pub fn endpoint(&mut self, address: &str, change: impl FnOnce(&mut Endpoint)) {
        let found = self.maps().endpoint_by_addr.entry(&addr(address)).unwrap();
        let mut endpoint = found.unwrap_or_default();
        change(&mut endpoint);
        self.set_endpoint(addr(address), endpoint);
    }

    /// Writes what an address stands for, and the copy that programs look at first.
    pub(crate) fn set_endpoint(&mut self, address: Addr, endpoint: Endpoint) {
        let maps = self.maps();
        maps.endpoint_by_addr.insert(&address, &endpoint).unwrap();
        let place = FrontEndpoint::place(&address);
        if endpoint.ifindex != 0 {
            let front = FrontEndpoint {
                address,
                endpoint,
                reserved: [0; 4],
            };
            maps.front_by_addr.write(place, front).unwrap();
        } else if maps.front_by_addr.read(place).unwrap().address == address {
            maps.front_by_addr.write(place, FrontEndpoint::default()).unwrap();
        }
    }

    /// Encrypts network [`index::RED`], with all that is on it: both tasks, the remote ones, and both services. The node has
    /// IPsec.
    pub fn encrypt_red(&mut self) {
        self.configure(|config| config.flags = config.flags.with(ConfigFlags::IPSEC));
        self.maps().encrypted_vnis.insert(&index::RED, &1).unwrap();
        for task in [index::TASK1, index::TASK2] {
            self.local(task, |local| {
                local.flags = local.flags.with(LocalEndpointFlags::ENCRYPTED);
            });
        }
        for (address, mut endpoint) in self.maps().endpoint_by_addr.entries().unwrap() {
            if endpoint.vni == index::RED {
                endpoint.flags = EndpointFlags::ENCRYPTED;
                self.set_endpoint(address, endpoint);
            }
        }
        for service in [index::VIP, index::WEB] {
            self.service(service, |service| {
                service.flags = service.flags.with(ServiceFlags::ENCRYPTED);
            });
        }
    }

    /// Puts another interface's copy in the place of this one's, as where two share a place.
    pub fn displace_local(&mut self, ifindex: u32) {
        let place = FrontLocal::place(ifindex);
        let front = &mut self.maps().front_by_ifindex;
        let mut other = front.read(place).unwrap();
        other.ifindex += FRONT_PLACES;
        other.local.mac = MacAddr::BROADCAST;
        front.write(place, other).unwrap();
    }

    /// As [`Self::displace_local`], of an address.
    pub fn displace_endpoint(&mut self, address: &str) {
        let place = FrontEndpoint::place(&addr(address));
        let front = &mut self.maps().front_by_addr;
        let mut other = front.read(place).unwrap();
        other.address.words[0] ^= 1;
        other.endpoint.kind = EndpointKind::Tombstone as u8;
        front.write(place, other).unwrap();
    }

    /// Empties both arrays that programs look at before the hashes, as another build's leave them.
    pub fn clear_fronts(&mut self) {
        let maps = self.maps();
        for place in 0..FRONT_PLACES {
            maps.front_by_ifindex.write(place, FrontLocal::default()).unwrap();
            maps.front_by_addr.write(place, FrontEndpoint::default()).unwrap();
        }
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

    /// Adds an address of the node on the underlay.
    pub fn local_address(&mut self, address: &str) {
        let address = addr(address);
        let [bucket, _] = LocalAddressBucket::buckets(&address);
        let mut entry = self.maps().local_addresses.read(bucket).unwrap();
        let free = entry.ways.iter_mut().find(|way| way.is_unspecified()).unwrap();
        *free = address;
        self.maps().local_addresses.write(bucket, entry).unwrap();
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
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
