//! The control path: planning, the maps' updates, Maglev tables, memory; see `bench/README.md`.

use anyhow::Context as _;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use essaim_abi::MacAddr;
use essaim_bench::cluster::{Shape, network_name, planned, task_id, this_node};
use essaim_bench::cpu::count;
use essaim_bench::report::{Report, Target};
use essaim_bench::rounds::quantile;
use essaim_bench::settings::Settings;
use essaim_datapath::{Datapath, Sizing};
use essaim_model::{
    BackendKey, Catalog, DesiredState, Liveness, MaglevTable, Membership, NodeFacts, TaskState, Uplink,
    replan,
};
use std::env;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

/// Numbers of services; each has [`TASKS`].
const SERVICES: [u32; 3] = [10, 1000, 10_000];
const TASKS: u32 = 10;
/// Every tenth service is published, at a TCP and a UDP port.
const PUBLISHED_EACH: u32 = 10;
/// Set for the child whose memory is measured.
const CHILD: &str = "BENCH_CONTROL_CHILD";
const MIB: f64 = 1_048_576.0;

fn main() -> anyhow::Result<()> {
    if env::var_os(CHILD).is_some() {
        return child();
    }
    let settings = Settings::from_environment();
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    if settings.quick {
        criterion = criterion
            .warm_up_time(Duration::from_millis(50))
            .measurement_time(Duration::from_millis(300));
    }
    planning(&mut criterion)?;
    tables(&mut criterion)?;
    let report = updates(settings)?;
    criterion.final_summary();
    report.finish()
}

/// Services that have a task on this node each; with more, none has: a node has room for 4,096 endpoints.
const MOST_HERE: u32 = 1000;

fn shape(services: u32) -> Shape {
    let here = u32::from(services <= MOST_HERE);
    Shape {
        services,
        tasks: TASKS,
        published_each: PUBLISHED_EACH,
        here,
        underlay_v6: false,
        dual_stack: false,
    }
}

/// A catalog and what is alive in it; and the same when one task began to drain.
struct Moment {
    catalog: Catalog,
    liveness: Liveness,
    after: Liveness,
}

impl Moment {
    fn new(services: u32) -> anyhow::Result<Self> {
        let catalog = shape(services).catalog()?;
        let liveness = Liveness::of(&catalog);
        let mut after = liveness.clone();
        after.tasks.insert(task_id(services / 2, 3)?, TaskState::Draining);
        Ok(Self {
            catalog,
            liveness,
            after,
        })
    }

    fn plan(&self) -> anyhow::Result<DesiredState> {
        planned(&self.catalog, &self.liveness)
    }

    fn replan(&self, previous: &DesiredState) -> anyhow::Result<DesiredState> {
        let (before, now) = ((&self.catalog, &self.liveness), (&self.catalog, &self.after));
        Ok(replan(previous, before, now, &this_node()?)?)
    }
}

fn planning(criterion: &mut Criterion) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("plan");
    for services in SERVICES {
        let moment = Moment::new(services)?;
        let previous = moment.plan()?;
        group.throughput(Throughput::Elements(u64::from(services)));
        group.bench_function(BenchmarkId::new("all", services), |bencher| {
            bencher.iter(|| black_box(moment.plan()));
        });
        group.bench_function(BenchmarkId::new("one_task_drains", services), |bencher| {
            bencher.iter(|| black_box(moment.replan(&previous)));
        });
    }
    group.finish();
    Ok(())
}

fn tables(criterion: &mut Criterion) -> anyhow::Result<()> {
    let network = network_name()?;
    let mut group = criterion.benchmark_group("maglev");
    for backends in [3_u32, 10, 100, 1000] {
        let keys = |first: u32| -> anyhow::Result<Vec<BackendKey>> {
            (first..first + backends)
                .map(|task| {
                    Ok(BackendKey {
                        task: task_id(0, task)?,
                        network: network.clone(),
                    })
                })
                .collect()
        };
        let steady = Membership {
            active: keys(0)?,
            ..Membership::default()
        };
        let changed = Membership {
            active: keys(1)?,
            generations: vec![keys(0)?],
            ..Membership::default()
        };
        for (name, membership) in [("build", steady), ("build_with_one_earlier", changed)] {
            group.bench_function(BenchmarkId::new(name, backends), |bencher| {
                bencher.iter_batched(
                    || &membership,
                    |membership| black_box(MaglevTable::new(membership)),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
    Ok(())
}

/// Maps that a number of services fits.
fn sizing(services: u32) -> Sizing {
    let backends = services * TASKS;
    let wanted = Sizing {
        // A group for the VIP of each, one for the ports of those that are published, and spare ones for changes.
        services: services * 2 + 64,
        backends: backends + backends / 2 + 64,
        // A Maglev table of ten backends has 1,499 slots; a change holds two of each for a moment.
        tables: services / PUBLISHED_EACH * 1499 * 2 + backends * 4,
        endpoints: backends + services * 2 + 64,
        flows: Sizing::default().flows,
    };
    wanted.max(Sizing::default())
}

fn facts(services: u32, desired: &DesiredState) -> NodeFacts {
    let uplink = Uplink {
        name: "eth0".to_owned(),
        ifindex: 2,
        mtu: 1500,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
    };
    shape(services).facts(desired, uplink)
}

/// The maps' updates: the first plan, the same again, and one endpoint's change.
fn updates(settings: Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("control", "ms", settings);
    let rounds = if settings.quick { 1 } else { 5 };
    for services in SERVICES {
        let moment = Moment::new(services)?;
        let plan = moment.plan()?;
        let facts = facts(services, &plan);
        if services > MOST_HERE {
            report.note(format!(
                "none of the {services} services has a task on this node, of the others each has one"
            ));
        }
        let (mut first, mut again, mut one) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut datapath = Datapath::load_unattached(sizing(services))?;
            first.push(millis(|| Ok(datapath.apply(&plan, &facts).map(|_| ())?))?);
            again.push(millis(|| Ok(datapath.apply(&plan, &facts).map(|_| ())?))?);
            for _ in 0..10 {
                let begun = Instant::now();
                let next = moment.replan(&plan)?;
                datapath.apply(&next, &facts)?;
                one.push(begun.elapsed().as_secs_f64() * 1e3);
                datapath.apply(&plan, &facts)?;
            }
        }
        for (name, times) in [
            ("first", &first),
            ("unchanged", &again),
            ("one_task_drains", &one),
        ] {
            report.figures(format!("apply/{name}/{services}"), times);
        }
        if services == 1000 {
            let planning = millis(|| moment.plan().map(drop))?;
            let all = planning + quantile(&first, 0.5);
            report.target(Target::at_most(
                "first plan of 1,000 services made and applied",
                all,
                1000.0,
                "ms",
            ));
            let change = quantile(&one, 0.5);
            report.target(Target::at_most(
                "one endpoint's change planned and in the maps",
                change,
                5.0,
                "ms",
            ));
        }
    }
    memory(&mut report)?;
    Ok(report)
}

fn millis(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// What a process with 1,000 services takes: measured in a fresh one, which does nothing else.
fn memory(report: &mut Report) -> anyhow::Result<()> {
    let output = Command::new(env::current_exe()?)
        .env(CHILD, "1")
        .output()
        .context("failed to start the child")?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success(),
        "the child failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut numbers = said.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || {
        numbers
            .next()
            .context("the child said too little")?
            .context("the child said no number")
    };
    let (anonymous, shared, maps) = (next()?, next()?, next()?);
    let mib = |bytes: u64| count(bytes) / MIB;
    report.target(Target::at_most(
        "memory of the process with 1,000 services, its code and heap",
        mib(anonymous),
        40.0,
        "MiB",
    ));
    report.target(Target::at_most(
        "memory of the maps with 1,000 services",
        mib(maps),
        64.0,
        "MiB",
    ));
    report.note(format!(
        "the process also maps {:.1} MiB of the maps and of its file into its memory, counted with the maps",
        mib(shared)
    ));
    Ok(())
}

/// Holds 1,000 services as an agent does, and says what that takes: anonymous, mapped and map memory, in bytes.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn child() -> anyhow::Result<()> {
    let moment = Moment::new(1000)?;
    let plan = moment.plan()?;
    let facts = facts(1000, &plan);
    let mut datapath = Datapath::load_unattached(sizing(1000))?;
    datapath.apply(&plan, &facts)?;
    let status = std::fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name}"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    };
    let maps: u64 = datapath.memory()?.values().sum();
    println!(
        "{} {} {maps}",
        field("RssAnon:")?,
        field("RssFile:")? + field("RssShmem:")?
    );
    // Alive until here, as an agent keeps them.
    drop((moment, plan, facts));
    Ok(())
}
