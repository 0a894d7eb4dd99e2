//! Every program per packet, through `BPF_PROG_TEST_RUN`; see `bench/README.md`.

mod inside;

use anyhow::ensure;
use essaim_abi::MacAddr;
use essaim_bench::cluster::{Shape, planned, published_port, vtep};
use essaim_bench::cpu;
use essaim_bench::frames::{Template, Transport};
use essaim_bench::programs::{BenchPrograms, UnderTest};
use essaim_bench::report::{Report, Target, close_with_criterion};
use essaim_bench::rounds::{Case, Samples};
use essaim_bench::settings::Settings;
use essaim_bench_programs::{Driver, FLOOR_FLOWS};
use essaim_datapath::{Datapath, RunInput, Sizing, SkbContext, XdpContext};
use essaim_model::{Catalog, Liveness, Uplink};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};

/// The loopback interface, which every namespace has: test-runs of XDP come in by it.
const LOOPBACK: u32 = 1;
/// Flow counts; the programs are to cost the same at all of them.
const FLOWS: [u64; 4] = [1, 1 << 10, 1 << 16, 1 << 20];
/// `XDP_PASS`, `XDP_TX`, and `TC_ACT_OK`.
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const TC_OK: u32 = 0;

const FLOOR_A: &str = "floor/xdp_tx/1";
const FLOOR_B: &str = "floor/lru_and_array/1024";
const FLOOR_TC: &str = "floor/tc_ok/1024";
const FLOOR_TC_SINGLE: &str = "floor/tc_ok/single";
/// Single runs in a round, for every million repeated ones.
const SINGLES: u32 = 50_000;

/// A way to measure one program.
struct Path {
    id: String,
    kind: UnderTest,
    program: OwnedFd,
    frame: Template,
    driver: Driver,
    context: SkbContext,
    /// Every run is a call of its own: for programs whose work on a packet cannot be undone. A call costs a
    /// microsecond.
    single: bool,
    /// What the program must say, or the figure is about something else.
    verdict: u32,
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::from_environment();
    cpu::pin(cpu::last()?)?;
    let bench = RefCell::new(BenchPrograms::load(u32::try_from(FLOOR_FLOWS)?)?);
    let mut over_v4 = datapath(false)?;
    let over_v6 = datapath(true)?;
    let mut paths = floors(&bench.borrow())?;
    paths.extend(edge(&over_v4, "v4", false)?);
    paths.extend(edge(&over_v4, "v6_over_v4", true)?);
    paths.extend(edge(&over_v6, "v6", true)?);
    paths.extend(inside::paths(&mut over_v4)?);

    let mut cases: Vec<Case<'_>> = paths
        .iter()
        .map(|path| Case::new(path.id.clone(), || measure(&bench, path, settings.packets)))
        .collect();
    let samples = Samples::take(settings.rounds, &mut cases)?;
    close_with_criterion(&samples);
    report(settings, &samples)?.finish()
}

/// CPU time of a packet, the driver included, in nanoseconds.
fn measure(bench: &RefCell<BenchPrograms>, path: &Path, packets: u32) -> anyhow::Result<f64> {
    let mut bench = bench.borrow_mut();
    bench.set_under_test(path.kind, path.program.as_fd())?;
    bench.set_driver(&path.driver)?;
    let (name, input) = match path.kind {
        UnderTest::Xdp => (
            "driver_xdp",
            RunInput::Xdp {
                packet: path.frame.bytes(),
                context: XdpContext::default(),
            },
        ),
        UnderTest::Tc => (
            "driver_tc",
            RunInput::Skb {
                packet: path.frame.bytes(),
                context: path.context,
            },
        ),
    };
    let (calls, repeat) = if path.single {
        (packets.div_ceil(1_000_000 / SINGLES), 1)
    } else {
        (1, packets)
    };
    let (output, time) = cpu::time_of(|| {
        for _ in 1..calls {
            bench.run(name, &input, repeat)?;
        }
        bench.run(name, &input, repeat)
    })?;
    ensure!(
        output.verdict == path.verdict,
        "{}: verdict {}, expected {}",
        path.id,
        output.verdict,
        path.verdict
    );
    Ok(cpu::nanos_each(time, u64::from(calls) * u64::from(repeat)))
}

const fn shape(underlay_v6: bool) -> Shape {
    Shape {
        services: 2,
        tasks: 10,
        published_each: 1,
        here: 0,
        underlay_v6,
        dual_stack: true,
    }
}

/// Two published services of ten tasks: all tasks of the first are elsewhere, the second's first three are here.
fn catalog(underlay_v6: bool) -> anyhow::Result<Catalog> {
    let mut catalog = shape(underlay_v6).catalog()?;
    // The second service's first tasks are on this node.
    if let [here, ..] = &catalog.nodes[..] {
        let name = here.name.clone();
        for task in catalog
            .services
            .iter_mut()
            .skip(1)
            .flat_map(|service| service.tasks.iter_mut().take(3))
        {
            task.node = name.clone();
        }
    }
    Ok(catalog)
}

/// This node's data plane in that cluster, its uplink the loopback interface.
fn datapath(underlay_v6: bool) -> anyhow::Result<Datapath> {
    let catalog = catalog(underlay_v6)?;
    let desired = planned(&catalog, &Liveness::of(&catalog))?;
    let uplink = Uplink {
        name: "lo".to_owned(),
        ifindex: LOOPBACK,
        mtu: 1500,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
    };
    let mut facts = shape(underlay_v6).facts(&desired, uplink);
    // The first task sends: test-runs of tc come in by the loopback interface too.
    if let Some(first) = facts.attachments.values_mut().next() {
        first.ifindex = LOOPBACK;
    }
    let mut datapath = Datapath::load_unattached(Sizing {
        flows: 1 << 17,
        ..Sizing::default()
    })?;
    datapath.apply(&desired, &facts)?;
    Ok(datapath)
}

fn floors(bench: &BenchPrograms) -> anyhow::Result<Vec<Path>> {
    let frame = client_frame(published_port(0), Transport::TcpAck, false)?;
    let path = |id: &str, kind, program, verdict, flows| {
        anyhow::Ok(Path {
            id: id.to_owned(),
            kind,
            program: bench.fd(program)?,
            driver: frame.driver(Some(flows)),
            frame: frame.clone(),
            context: SkbContext::default(),
            single: false,
            verdict,
        })
    };
    let mut floors = vec![
        path(FLOOR_A, UnderTest::Xdp, "tx_xdp", XDP_TX, 1)?,
        path(FLOOR_TC, UnderTest::Tc, "ok_tc", TC_OK, 1 << 10)?,
    ];
    floors.push(Path {
        id: FLOOR_TC_SINGLE.to_owned(),
        single: true,
        ..path("", UnderTest::Tc, "ok_tc", TC_OK, 1 << 10)?
    });
    for flows in FLOWS {
        floors.push(path(
            &format!("floor/lru_and_array/{flows}"),
            UnderTest::Xdp,
            "lookup_xdp",
            XDP_TX,
            flows,
        )?);
    }
    Ok(floors)
}

/// From a client far away to this node.
fn client_frame(port: u16, transport: Transport, v6: bool) -> anyhow::Result<Template> {
    let client: IpAddr = if v6 {
        "2001:db8:1::1:0".parse()?
    } else {
        "198.51.0.0".parse()?
    };
    let macs = (MacAddr([2, 0, 0, 0, 9, 9]), MacAddr([2, 0, 0, 0, 0, 1]));
    Template::new(
        macs,
        SocketAddr::new(client, 1),
        SocketAddr::new(vtep(0, v6), port),
        transport,
    )
}

/// `ingress_xdp`: ports that nobody published, and one that is, with tasks elsewhere.
fn edge(datapath: &Datapath, name: &str, v6: bool) -> anyhow::Result<Vec<Path>> {
    let program = datapath.programs().fd("ingress_xdp")?.try_clone_to_owned()?;
    let path = |id: String, port, transport, flows, verdict| {
        let frame = client_frame(port, transport, v6)?;
        anyhow::Ok(Path {
            id,
            kind: UnderTest::Xdp,
            program: program.try_clone()?,
            driver: frame.driver(flows),
            frame,
            context: SkbContext::default(),
            single: false,
            verdict,
        })
    };
    let mut paths = vec![
        path(
            format!("ingress_xdp/unpublished_tcp_{name}/1024"),
            9,
            Transport::TcpAck,
            Some(1 << 10),
            XDP_PASS,
        )?,
        path(
            format!("ingress_xdp/unpublished_udp_{name}/1024"),
            9,
            Transport::Udp,
            Some(1 << 10),
            XDP_PASS,
        )?,
    ];
    let published = published_port(0);
    for flows in FLOWS {
        let id = format!("ingress_xdp/published_tcp_{name}/{flows}");
        paths.push(path(id, published, Transport::TcpAck, Some(flows), XDP_TX)?);
    }
    paths.push(path(
        format!("ingress_xdp/published_tcp_{name}/new"),
        published,
        Transport::TcpSyn,
        None,
        XDP_TX,
    )?);
    paths.push(path(
        format!("ingress_xdp/published_udp_{name}/1024"),
        published,
        Transport::Udp,
        Some(1 << 10),
        XDP_TX,
    )?);
    Ok(paths)
}

/// The ratios that the targets are about.
fn report(settings: Settings, samples: &Samples) -> anyhow::Result<Report> {
    let (a, tc, single) = (
        samples.median(FLOOR_A)?,
        samples.median(FLOOR_TC)?,
        samples.median(FLOOR_TC_SINGLE)?,
    );
    let b_net = samples.median(FLOOR_B)? - a;
    let mut report = Report::new("packet", "ns raw", settings);
    report.rows(samples, |id, median| {
        if id.starts_with("ingress_xdp") || id.starts_with("floor/lru") || id == FLOOR_A {
            vec![("net", median - a), ("x B", (median - a) / b_net)]
        } else {
            vec![("net", median - if id.ends_with("single") { single } else { tc })]
        }
    });
    let ratio = |id: &str| anyhow::Ok((samples.median(id)? - a) / b_net);
    for name in ["v4", "v6_over_v4", "v6"] {
        for transport in ["tcp", "udp"] {
            let id = format!("ingress_xdp/unpublished_{transport}_{name}/1024");
            report.target(Target::at_most(id.clone(), ratio(&id)?, 0.4, "of B"));
        }
        let mut net = Vec::new();
        for flows in ["1", "1024", "65536", "1048576", "new"] {
            let id = format!("ingress_xdp/published_tcp_{name}/{flows}");
            net.push(samples.median(&id)? - a);
            report.target(Target::at_most(id.clone(), ratio(&id)?, 1.0, "of B"));
        }
        let (low, high) = net.iter().fold((f64::MAX, f64::MIN), |(low, high), net| {
            (low.min(*net), high.max(*net))
        });
        let id = format!("ingress_xdp/published_tcp_{name}: dearest flow count to cheapest");
        report.target(Target::at_most(id, high / low, 1.2, "x"));
    }
    report.note(format!("B net is {b_net:.1} ns; net is less floor A, tc rows less the tc floor; the driver is in every raw figure"));
    Ok(report)
}
