//! A control group and a network namespace of the test's own, with the socket programs attached and maps
//! filled by hand.

use essaim_abi::{
    ABI_VERSION, Addr, Backend, BackendState, Config, DropReason, Endpoint, EndpointKind, Event,
    LocalAddressBucket, NetnsFlags, NetnsInfo, Port, Protocol, Service, ServiceFlags, TableRef,
};
use essaim_datapath::{Datapath, EventRing, Sizing};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Every program, and where it is attached: `enum bpf_attach_type`.
const PROGRAMS: [(&str, u32); 8] = [
    ("connect4", 10),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
];

/// The network of every test.
pub(crate) const VNI: u32 = 4100;

/// One rig at a time: a process is in one control group.
static TURN: Mutex<()> = Mutex::new(());

/// The programs at work; what it made is gone when it is dropped.
pub(crate) struct Rig {
    datapath: Datapath,
    events: EventRing,
    links: Vec<OwnedFd>,
    cgroup: Cgroup,
    tables: u32,
    // The last field to be dropped: the process has left the group by then.
    _turn: MutexGuard<'static, ()>,
}

impl Rig {
    /// Moves this thread to a namespace of its own with its loopback up, and attaches the programs to the
    /// process.
    pub(crate) fn new() -> Self {
        let mut rig = Self::detached();
        rig.attach();
        rig
    }

    /// As [`Self::new`], with the programs not attached yet.
    pub(crate) fn detached() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        enter_fresh_netns();
        let cgroup = Cgroup::enter();
        let mut datapath =
            Datapath::load_unattached(Sizing::default()).unwrap_or_else(|error| panic!("{error:?}"));
        let config = Config {
            abi_version: ABI_VERSION,
            sample_mask: u32::MAX,
            ..Config::default()
        };
        datapath.maps_mut().config.write(0, config).unwrap();
        let events = datapath.events().unwrap();
        Self {
            datapath,
            events,
            links: Vec::new(),
            cgroup,
            tables: 0,
            _turn: turn,
        }
    }

    /// Attaches every program.
    pub(crate) fn attach(&mut self) {
        let group = File::open(&self.cgroup.path).expect("the group is there");
        for (name, hook) in PROGRAMS {
            let program = self.datapath.programs().fd(name).unwrap();
            self.links
                .push(link(program.as_raw_fd(), group.as_raw_fd(), hook));
        }
    }

    /// Detaches every program.
    pub(crate) fn detach(&mut self) {
        self.links.clear();
    }

    /// Reports every decision from now on.
    pub(crate) fn watch(&mut self) {
        self.datapath.set_watch(true).unwrap();
    }

    /// What has come into the event ring.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.events.by_ref().collect()
    }

    /// Declares this thread's namespace a task's on [`VNI`].
    pub(crate) fn task(&mut self) {
        self.namespace(NetnsInfo {
            flags: NetnsFlags::TASK,
            vnis: vnis(&[17, VNI]),
            ..NetnsInfo::default()
        });
    }

    /// Declares this thread's namespace the node's.
    pub(crate) fn node(&mut self) {
        self.namespace(NetnsInfo {
            flags: NetnsFlags::NODE,
            ..NetnsInfo::default()
        });
    }

    /// Declares this thread's namespace.
    pub(crate) fn namespace(&mut self, info: NetnsInfo) {
        self.datapath
            .maps_mut()
            .netns_by_cookie
            .insert(&netns_cookie(), &info)
            .unwrap();
    }

    /// Makes `vip` the address of a service of [`VNI`].
    pub(crate) fn vip(&mut self, vip: &str, service: u32) {
        let endpoint = Endpoint {
            vni: VNI,
            index: service,
            kind: EndpointKind::Vip as u8,
            ..Endpoint::default()
        };
        self.datapath
            .maps_mut()
            .endpoint_by_addr
            .insert(&addr(vip), &endpoint)
            .unwrap();
    }

    /// Defines a service with these backends active, spread over a table of its own where it has affinity.
    pub(crate) fn service(&mut self, index: u32, flags: ServiceFlags, backends: &[u32]) {
        let active = self.list(backends);
        let maglev = if flags.has(ServiceFlags::AFFINITY) {
            let slots: Vec<u32> = backends
                .iter()
                .copied()
                .cycle()
                .take(backends.len() * 101)
                .collect();
            self.list(&slots)
        } else {
            TableRef::EMPTY
        };
        let service = Service {
            active,
            maglev,
            flags: flags.with(ServiceFlags::USED),
            vni: VNI,
            ..Service::default()
        };
        self.datapath.maps_mut().services.write(index, service).unwrap();
    }

    fn list(&mut self, entries: &[u32]) -> TableRef {
        let offset = self.tables;
        for entry in entries {
            self.datapath
                .maps_mut()
                .tables
                .write(self.tables, *entry)
                .unwrap();
            self.tables += 1;
        }
        TableRef::new(offset, self.tables - offset, false)
    }

    /// Defines a live backend with these addresses.
    pub(crate) fn backend(&mut self, index: u32, addresses: &[&str]) {
        self.backend_in(index, addresses, BackendState::Active, 1);
    }

    /// Defines a backend.
    pub(crate) fn backend_in(
        &mut self,
        index: u32,
        addresses: &[&str],
        state: BackendState,
        generation: u32,
    ) {
        let mut backend = Backend {
            vni: VNI,
            generation,
            state: state as u8,
            ..Backend::default()
        };
        for address in addresses.iter().map(|text| addr(text)) {
            if address.is_v4() {
                backend.addr4 = address.v4_word();
            } else {
                backend.addr6 = address;
            }
        }
        self.datapath.maps_mut().backends.write(index, backend).unwrap();
    }

    /// Publishes a port of the node.
    pub(crate) fn publish(&mut self, protocol: Protocol, port: u16, service: u32, target_port: u16) {
        let entry = Port {
            service,
            target_port: target_port.to_be(),
            ..Port::default()
        };
        self.datapath
            .maps_mut()
            .ports
            .write(protocol.port_index(port), entry)
            .unwrap();
    }

    /// Makes `address` one of the node's own.
    pub(crate) fn local_address(&mut self, address: &str) {
        let address = addr(address);
        let mut bucket = LocalAddressBucket::default();
        bucket.ways[1] = address;
        let [_, second] = LocalAddressBucket::buckets(&address);
        self.datapath
            .maps_mut()
            .local_addresses
            .write(second, bucket)
            .unwrap();
    }

    /// The new flows that were counted for a service and for a backend.
    pub(crate) fn flows(&self, service: u32, backend: u32) -> (u64, u64) {
        let maps = self.datapath.maps();
        (
            maps.service_counters.sum(service).unwrap().flows,
            maps.backend_counters.sum(backend).unwrap().flows,
        )
    }

    /// How often a reason was counted.
    pub(crate) fn refusals(&self, reason: DropReason) -> u64 {
        self.datapath
            .maps()
            .drop_counters
            .sum(reason as u32)
            .unwrap()
            .packets
    }
}

/// `BPF_LINK_CREATE`: the program is attached to the control group for as long as the descriptor lives.
fn link(program: RawFd, group: RawFd, hook: u32) -> OwnedFd {
    const LINK_CREATE: libc::c_long = 28;
    let attributes = [program.cast_unsigned(), group.cast_unsigned(), hook, 0];
    // SAFETY: the kernel reads the four words of `bpf_attr::link_create` that are passed with their size.
    let link = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LINK_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    assert!(
        link >= 0,
        "attaching at hook {hook}: {}",
        io::Error::last_os_error()
    );
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(link).unwrap()) }
}

/// The address in the form of the maps.
pub(crate) fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

/// A namespace's list of networks.
pub(crate) fn vnis(own: &[u32]) -> [u32; essaim_abi::NETNS_MAX_NETWORKS] {
    let mut vnis = [0; essaim_abi::NETNS_MAX_NETWORKS];
    vnis[..own.len()].copy_from_slice(own);
    vnis
}

/// Runs `ip` in this thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}: {status}");
}

/// Runs `work` in another network namespace, with its loopback up.
pub(crate) fn in_other_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter_fresh_netns();
            work()
        });
        inside
            .join()
            .expect("the work in the other namespace does not panic")
    })
}

fn enter_fresh_netns() {
    // SAFETY: the call has no memory to be wrong about; it concerns this thread alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "this suite needs root: {}", io::Error::last_os_error());
    ip("link set lo up");
}

fn netns_cookie() -> u64 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the option is a u64, and both pointers are to live variables of the sizes that are given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "SO_NETNS_COOKIE: {}", io::Error::last_os_error());
    cookie
}

/// A control group that holds this process.
struct Cgroup {
    path: PathBuf,
    before: PathBuf,
}

impl Cgroup {
    fn enter() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let root = mounts
            .lines()
            .filter_map(|line| line.split_once(' ')?.1.split_once(" cgroup2 "))
            .map(|(point, _)| Path::new(point))
            .next()
            .expect("cgroup v2 is mounted");
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .expect("the process is in a v2 group");
        let group = Self {
            path: root.join(format!("essaim-sock-lb-{}", std::process::id())),
            before: root.join(own),
        };
        fs::create_dir(&group.path).unwrap();
        fs::write(group.path.join("cgroup.procs"), "0").unwrap();
        group
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let left = fs::write(self.before.join("cgroup.procs"), "0").and_then(|()| fs::remove_dir(&self.path));
        if let Err(error) = left {
            eprintln!("control group {} is left over: {error}", self.path.display());
        }
    }
}
