//! The tc programs: between tasks, and for an ingress flow on the node that has the task.

use crate::{LOOPBACK, Path, catalog};
use anyhow::Context as _;
use essaim_abi::{Addr, Flow, FlowKey, FlowKind, FlowState, Hook, MacAddr};
use essaim_bench::cluster::{planned, published_port, service_name, task_address, task_id, vtep};
use essaim_bench::frames::{Template, Transport};
use essaim_bench::programs::UnderTest;
use essaim_datapath::{Datapath, SkbContext};
use essaim_model::{BackendKey, Liveness, Scope, ServiceKey};
use essaim_packet::steer::HASH_MASK;
use std::net::{IpAddr, SocketAddr};

/// `TC_ACT_REDIRECT`.
const REDIRECT: u32 = 7;
/// The service with tasks on this node.
const HERE: u32 = 1;
/// Where the tasks listen.
const TARGET: u16 = 80;
/// Flows that are entered as established.
const ESTABLISHED: u16 = u16::MAX;
/// Lasts longer than any run.
const HOURS_IN_JIFFIES: u32 = 10_000_000;

/// What is measured of the tc programs.
pub(crate) fn paths(datapath: &mut Datapath) -> anyhow::Result<Vec<Path>> {
    let mut paths = Vec::new();
    for (family, v6) in [("v4", false), ("v6", true)] {
        let task = |service, number| SocketAddr::new(task_address(service, number, v6), TARGET);
        let (own, peer, far) = (task(HERE, 0), task(HERE, 1), task(0, 0));
        let macs = (mac(HERE, 0), mac(HERE, 1));
        let from = SkbContext {
            ifindex: LOOPBACK,
            ..SkbContext::default()
        };
        let local = Template::new(macs, own, peer, Transport::Udp)?;
        let remote = Template::new((mac(HERE, 0), mac(0, 0)), own, far, Transport::Udp)?;
        let entering = Template::new((mac(0, 0), mac(HERE, 1)), far, peer, Transport::Udp)?;
        paths.push(path(
            datapath,
            format!("endpoint_tc/local_udp_{family}/1024"),
            "endpoint_tc",
            &local,
            from,
        )?);
        let sent = path(
            datapath,
            format!("endpoint_tc/remote_udp_{family}/single"),
            "endpoint_tc",
            &remote,
            from,
        )?;
        paths.push(Path { single: true, ..sent });
        let tunnel = [4097, vtep_index(datapath, 1)?, 0, 0, Hook::OverlayTc as u32];
        let arriving = SkbContext {
            cb: tunnel,
            ..SkbContext::default()
        };
        let id = format!("overlay_inner_tc/unicast_udp_{family}/1024");
        paths.push(path(datapath, id, "overlay_inner_tc", &entering, arriving)?);
        paths.extend(ingress(datapath, family, v6)?);
    }
    Ok(paths)
}

fn mac(service: u32, task: u32) -> MacAddr {
    match task_address(service, task, false) {
        IpAddr::V4(address) => MacAddr::of_ipv4(address),
        IpAddr::V6(_) => MacAddr::default(),
    }
}

fn path(
    datapath: &Datapath,
    id: String,
    program: &str,
    frame: &Template,
    context: SkbContext,
) -> anyhow::Result<Path> {
    let mut driver = frame.driver(Some(1 << 10));
    driver.cb = context.cb;
    Ok(Path {
        id,
        kind: UnderTest::Tc,
        program: datapath.programs().fd(program)?.try_clone_to_owned()?,
        driver,
        frame: frame.clone(),
        context,
        single: false,
        verdict: REDIRECT,
    })
}

fn vtep_index(datapath: &Datapath, node: u32) -> anyhow::Result<u32> {
    let address = vtep(node, false);
    datapath
        .maps()
        .vtep_by_addr
        .entry(&address.into())?
        .with_context(|| format!("no VTEP {address} in the maps"))
}

/// Ingress flows of one task of this node, by way of node 1: known ones, and new ones.
fn ingress(datapath: &mut Datapath, family: &str, v6: bool) -> anyhow::Result<Vec<Path>> {
    let client: IpAddr = if v6 {
        "2001:db8:1::1:0".parse()?
    } else {
        "198.51.0.0".parse()?
    };
    let published = SocketAddr::new(vtep(1, v6), published_port(HERE));
    let edge_vtep = vtep_index(datapath, 1)?;
    let (hash, task) = hash_of_a_task_here()?;
    let frame = |transport| {
        Template::new(
            (mac(0, 0), mac(HERE, 0)),
            SocketAddr::new(client, 1),
            published,
            transport,
        )
    };

    let key = BackendKey {
        task: task_id(HERE, task)?,
        network: essaim_bench::cluster::network_name()?,
    };
    let indices = 1..datapath.maps().backends.len();
    let found = indices.map(|index| Ok((index, datapath.maps().backends.read(index)?)));
    let found = found
        .collect::<anyhow::Result<Vec<_>>>()?
        .into_iter()
        .find(|(_, backend)| backend.id == key.id());
    let (backend, entry) = found.context("the task is not in the maps")?;
    let flow = Flow {
        translated: published.ip().into(),
        translated_port: published.port().to_be(),
        kind: FlowKind::Ingress as u8,
        state: FlowState::Established as u8,
        edge_token: 1,
        service: entry_of_port(datapath)?,
        backend,
        backend_generation: entry.generation,
        edge_vtep,
        seen: datapath.jiffies()?,
        timeout: HOURS_IN_JIFFIES,
        ..Flow::default()
    };
    let flows: Vec<(FlowKey, Flow)> = (0..=ESTABLISHED)
        .map(|port| {
            let key = FlowKey {
                remote: client.into(),
                local: Addr::from(task_address(HERE, task, v6)),
                // As the driver writes it: without regard to the order of bytes.
                remote_port: port,
                local_port: TARGET.to_be(),
                protocol: 6,
                reserved: [0; 3],
            };
            (key, flow)
        })
        .collect();
    datapath.maps_mut().flows.insert_all(&flows)?;

    let words = [
        edge_vtep,
        1,
        hash,
        u32::from(published.port().to_be()),
        Hook::OverlayTc as u32,
    ];
    let context = SkbContext {
        cb: words,
        ..SkbContext::default()
    };
    let known = frame(Transport::TcpAck)?;
    let few = path(
        datapath,
        format!("backend_tc/established_tcp_{family}/1024"),
        "backend_tc",
        &known,
        context,
    )?;
    let mut many = path(
        datapath,
        format!("backend_tc/established_tcp_{family}/65536"),
        "backend_tc",
        &known,
        context,
    )?;
    many.driver.mask = u64::from(ESTABLISHED);
    let mut new = path(
        datapath,
        format!("backend_tc/new_tcp_{family}/new"),
        "backend_tc",
        &frame(Transport::TcpSyn)?,
        context,
    )?;
    new.driver.mask = u64::from(u32::MAX);
    // Beyond the flows that are established.
    new.driver.counter = 1 << 24;
    Ok(vec![few, many, new])
}

/// The service behind the published port, by its index.
fn entry_of_port(datapath: &Datapath) -> anyhow::Result<u32> {
    let port = essaim_abi::Protocol::Tcp.port_index(published_port(HERE));
    Ok(datapath.maps().ports.read(port)?.service)
}

/// A flow hash whose slot belongs to a task of this node, and the task's number.
fn hash_of_a_task_here() -> anyhow::Result<(u32, u32)> {
    let catalog = catalog(false)?;
    let desired = planned(&catalog, &Liveness::of(&catalog))?;
    let service = service_name(HERE)?;
    let group = ServiceKey {
        service: service.clone(),
        scope: Scope::Ingress,
    };
    let plan = desired
        .services
        .get(&service)
        .context("the service is not in the plan")?;
    let table = plan
        .groups
        .get(&group)
        .and_then(|group| group.maglev.as_ref())
        .context("the service has no table")?;
    let here: Vec<_> = (0..3)
        .map(|task| Ok((task_id(HERE, task)?, task)))
        .collect::<anyhow::Result<_>>()?;
    let mut hashes = (0..=u32::MAX >> 8).map(|hash| (hash << 8) & HASH_MASK);
    let owner = |hash: u32| table.candidates(hash).next();
    hashes
        .find_map(|hash| {
            let key = owner(hash)?;
            here.iter()
                .find(|(id, _)| *id == key.task)
                .map(|(_, task)| (hash, *task))
        })
        .context("no slot belongs to a task of this node")
}
