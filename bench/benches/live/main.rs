//! Live frames on veth: the edge beside a bare drop and nft's DNAT, the ways between tasks beside the kernel's own; see
//! `bench/README.md`.

mod worlds;

use essaim_bench::report::{Report, Target, close_with_criterion};
use essaim_bench::rounds::{Case, Samples};
use essaim_bench::settings::Settings;
use std::cell::RefCell;
use worlds::World;

fn main() -> anyhow::Result<()> {
    let settings = Settings::from_environment();
    let make: [fn() -> anyhow::Result<World>; 7] = [
        worlds::drop,
        worlds::bounce,
        worlds::edge,
        worlds::nft_dnat,
        worlds::bare_peer,
        worlds::endpoint,
        worlds::kernel_vxlan,
    ];
    let worlds: Vec<RefCell<World>> = make
        .iter()
        .map(|make| Ok(RefCell::new(make()?)))
        .collect::<anyhow::Result<_>>()?;
    let mut cases = Vec::new();
    for world in &worlds {
        for id in world.borrow().ids() {
            let name = id.clone();
            cases.push(Case::new(id, move || {
                world.borrow_mut().cost(&name, settings.packets)
            }));
        }
    }
    let samples = Samples::take(settings.rounds, &mut cases)?;
    drop(cases);
    // What was made goes before anything else can fail.
    drop(worlds);
    close_with_criterion(&samples);
    report(settings, &samples)?.finish()
}

fn report(settings: Settings, samples: &Samples) -> anyhow::Result<Report> {
    let dropped = samples.median("live/xdp_drop/1024")?;
    let mut report = Report::new("live", "ns", settings);
    report.rows(samples, |_, median| vec![("x DROP", median / dropped)]);
    let of = |id: &str, floor: f64| anyhow::Ok(samples.median(id)? / floor);
    for flows in ["1024", "65536"] {
        let id = format!("live/ingress_xdp/{flows}");
        report.target(Target::at_most(id.clone(), of(&id, dropped)?, 1.7, "x DROP"));
    }
    let peer = samples.median("live/bare_redirect_peer/1024")?;
    let local = "live/endpoint_tc_local/1024";
    report.target(Target::at_most(local, of(local, peer)?, 1.2, "x bare"));
    let kernel = samples.median("live/kernel_vxlan/1024")?;
    let remote = "live/endpoint_tc_remote/1024";
    report.target(Target::at_most(remote, of(remote, kernel)?, 0.7, "x kernel"));
    report.note("CPU time of a frame from generator to sink on one core, both included; DROP is the least that can be");
    Ok(report)
}
