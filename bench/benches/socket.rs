//! What the socket programs cost a `connect()` and a `sendto()`; see `bench/README.md`.

use anyhow::{Context as _, ensure};
use essaim_abi::{
    Backend, BackendState, Endpoint, EndpointKind, NetnsFlags, NetnsInfo, Service, ServiceFlags, TableRef,
};
use essaim_bench::cookie::netns_cookie;
use essaim_bench::cpu;
use essaim_bench::netns::Netns;
use essaim_bench::node::{Node, cgroup_root};
use essaim_bench::report::{Report, Target, close_with_criterion};
use essaim_bench::rounds::{Case, Samples};
use essaim_bench::settings::Settings;
use essaim_model::NodeFacts;
use socket2::{Domain, SockAddr, Socket, Type};
use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

const VNI: u32 = 4100;
const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Routed nowhere: the kernel refuses right behind the socket programs, so that nothing else is measured.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// A listener on the loopback interface: the whole of a connection is measured.
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SERVER_VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

fn main() -> anyhow::Result<()> {
    let settings = Settings::from_environment();
    let calls = settings.packets / 50;
    let namespace = Netns::new("socket", "task")?;
    let samples = namespace.inside(|| measure(&namespace, settings, calls))?;
    close_with_criterion(&samples);
    report(settings, &samples)?.finish()
}

/// The group that this process is in for a while; it leaves with the value.
struct Membership {
    before: PathBuf,
    group: PathBuf,
}

impl Membership {
    fn new(group: &Path) -> anyhow::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")
            .context("failed to read this process's control groups")?;
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .context("the process is in no v2 group")?;
        let membership = Self {
            before: cgroup_root()?.join(own),
            group: group.to_owned(),
        };
        membership.enter()?;
        Ok(membership)
    }

    fn enter(&self) -> anyhow::Result<()> {
        join(&self.group)
    }

    fn leave(&self) -> anyhow::Result<()> {
        join(&self.before)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            eprintln!("{error}");
        }
    }
}

fn join(group: &Path) -> anyhow::Result<()> {
    let path = group.join("cgroup.procs");
    fs::write(&path, "0").with_context(|| format!("failed to join {}", path.display()))
}

fn measure(namespace: &Netns, settings: Settings, calls: u32) -> anyhow::Result<Samples> {
    cpu::pin(cpu::last()?)?;
    namespace.ip("route add blackhole 10.98.0.0/15")?;
    let mut node = Node::open("socket")?;
    fill(&mut node)?;
    // Socket programs only: nothing here has an interface.
    node.datapath_mut()?.attach(&NodeFacts::default())?;
    let membership = Membership::new(node.cgroup())?;
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SockAddr::from(SocketAddr::from((SERVER, 80))))?;
    listener.listen(4096)?;
    let server = UdpSocket::bind((SERVER, 80)).context("failed to bind the server's socket")?;

    let inside = Cell::new(true);
    let within = |wanted: bool| -> anyhow::Result<()> {
        if inside.replace(wanted) != wanted {
            if wanted {
                membership.enter()?;
            } else {
                membership.leave()?;
            }
        }
        Ok(())
    };
    let mut cases = Vec::new();
    for (name, bare, vip) in [("refused", NOWHERE, VIP), ("loopback", SERVER, SERVER_VIP)] {
        let whole = name == "loopback";
        let calls = if whole { calls / 4 } else { calls };
        for (row, programs, to) in [
            ("bare", false, bare),
            ("not_ours", true, bare),
            ("vip", true, vip),
        ] {
            let within = &within;
            let to = SockAddr::from(SocketAddr::from((to, 80)));
            let (listener, target) = (&listener, to.clone());
            cases.push(Case::new(
                format!("tcp_connect/{name}_{row}/{calls}"),
                move || {
                    within(programs)?;
                    connects(&target, calls, whole.then_some(listener))
                },
            ));
            cases.push(Case::new(format!("udp_sendto/{name}_{row}/{calls}"), move || {
                within(programs)?;
                sends(&to, calls, whole)
            }));
        }
    }
    let samples = Samples::take(settings.rounds.max(3), &mut cases);
    // Open until here, so that datagrams find it.
    drop(server);
    samples
}

/// One task's namespace on one network; two services with one backend each.
fn fill(node: &mut Node) -> anyhow::Result<()> {
    let datapath = node.datapath_mut()?;
    let maps = datapath.maps_mut();
    let mut vnis = [0; essaim_abi::NETNS_MAX_NETWORKS];
    vnis[0] = VNI;
    maps.netns_by_cookie.insert(
        &netns_cookie()?,
        &NetnsInfo {
            flags: NetnsFlags::TASK,
            vnis,
            ..NetnsInfo::default()
        },
    )?;
    for (index, (vip, backend)) in (1_u32..).zip([(VIP, NOWHERE), (SERVER_VIP, SERVER)]) {
        let endpoint = Endpoint {
            vni: VNI,
            index,
            kind: EndpointKind::Vip as u8,
            ..Endpoint::default()
        };
        maps.endpoint_by_addr.insert(&IpAddr::V4(vip).into(), &endpoint)?;
        let addr4 = u32::from_ne_bytes(backend.octets());
        let state = BackendState::Active as u8;
        maps.backends.write(
            index,
            Backend {
                vni: VNI,
                generation: 1,
                state,
                addr4,
                ..Backend::default()
            },
        )?;
        maps.tables.write(index, index)?;
        let active = TableRef::new(index, 1, false);
        let service = Service {
            active,
            flags: ServiceFlags::USED,
            vni: VNI,
            ..Service::default()
        };
        maps.services.write(index, service)?;
    }
    Ok(())
}

/// CPU time of making a TCP socket, connecting it and closing it, in nanoseconds; with a listener, of accepting too.
fn connects(to: &SockAddr, calls: u32, listener: Option<&Socket>) -> anyhow::Result<f64> {
    let (done, time) = cpu::time_of(|| {
        let mut done = 0;
        for _ in 0..calls {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            let connected = socket.connect(to).is_ok();
            done += u32::from(connected);
            if let Some(listener) = listener
                && connected
            {
                let accepted = listener.accept()?;
                // A reset leaves nothing waiting behind.
                socket.set_linger(Some(Duration::ZERO))?;
                drop(accepted);
            }
        }
        Ok(done)
    })?;
    let expected = if listener.is_some() { calls } else { 0 };
    ensure!(
        done == expected,
        "{done} of {calls} connections were made, expected {expected}"
    );
    Ok(cpu::nanos_each(time, u64::from(calls)))
}

/// CPU time of a datagram, in nanoseconds.
fn sends(to: &SockAddr, calls: u32, whole: bool) -> anyhow::Result<f64> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let (done, time) = cpu::time_of(|| Ok((0..calls).filter(|_| socket.send_to(b"x", to).is_ok()).count()))?;
    ensure!((done > 0) == whole, "{done} of {calls} datagrams were sent");
    Ok(cpu::nanos_each(time, u64::from(calls)))
}

fn report(settings: Settings, samples: &Samples) -> anyhow::Result<Report> {
    let find = |prefix: &str| {
        let mut cases = samples.iter();
        let found = cases.find(|(id, _)| id.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')));
        found
            .map(|(id, _)| id.to_owned())
            .with_context(|| format!("no case {prefix}"))
    };
    let median = |prefix: &str| samples.median(&find(prefix)?);
    let mut report = Report::new("socket", "ns", settings);
    let mut over = Vec::new();
    for call in ["tcp_connect", "udp_sendto"] {
        for how in ["refused", "loopback"] {
            let bare = median(&format!("{call}/{how}_bare"))?;
            over.push((format!("{call}/{how}"), bare));
            let more = median(&format!("{call}/{how}_vip"))? - bare;
            let name = format!("{call} to a VIP, {how}: over the same without the programs");
            report.target(Target::at_most(name, more, 350.0, "ns"));
        }
    }
    report.rows(samples, |id, median| {
        let bare = over.iter().find(|(prefix, _)| id.starts_with(prefix.as_str()));
        bare.map(|(_, bare)| vec![("over", median - bare)])
            .unwrap_or_default()
    });
    report.note("refused: the route refuses right behind the programs, so nothing but they differs; loopback: the whole call");
    Ok(report)
}
