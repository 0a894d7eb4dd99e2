//! Live frames on veth: a generator, and the CPU time that a frame takes from there to where it is dropped.

use crate::netns::Netns;
use crate::programs::BenchPrograms;
use crate::{cpu, frames::Template};
use anyhow::{Context as _, ensure};
use essaim_datapath::{RunInput, XdpContext, XdpMode};
use std::fs;
use std::time::{Duration, Instant};

/// Frames that are sent at once: a veth's ring has room for four times as many.
const BATCH: u32 = 64;
/// How long the last frames may take to arrive.
const SETTLED: Duration = Duration::from_secs(2);

/// A stream of frames out of one interface.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What is sent.
    pub frame: Template,
    /// Number of flows, a power of two.
    pub flows: u64,
    /// Where it goes out.
    pub ifindex: u32,
    /// Where `peer_tc` redirects to; 0 where there is no such program on the way.
    pub peer: u32,
}

/// Sends frames and gives the CPU time of each, generator and sink included, in nanoseconds.
///
/// The frames stay on the generator's CPU all the way: what they cost is the thread's own time, and that of the
/// kernel's thread that takes over where the soft interrupts are too many.
///
/// # Errors
/// When frames do not arrive, or the kernel refuses.
pub fn cost(
    programs: &mut BenchPrograms,
    namespace: &Netns,
    stream: &Stream,
    frames: u32,
) -> anyhow::Result<f64> {
    let mut driver = stream.frame.driver(Some(stream.flows));
    driver.ifindex = stream.ifindex;
    driver.peer = stream.peer;
    programs.set_driver(&driver)?;
    let before = programs.received()?;
    let helper = Helper::of(cpu::last()?)?;
    let idle = helper.time()?;
    let generator = &*programs;
    let own = namespace.inside(|| {
        cpu::pin(cpu::last()?)?;
        let context = XdpContext {
            mode: XdpMode::LiveFrames { batch: BATCH },
            ..XdpContext::default()
        };
        let input = RunInput::Xdp {
            packet: stream.frame.bytes(),
            context,
        };
        Ok(cpu::time_of(|| generator.run("generate_xdp", &input, frames))?.1)
    })?;
    let deadline = Instant::now() + SETTLED;
    let mut arrived = programs.received()? - before;
    while arrived < u64::from(frames) && Instant::now() < deadline {
        std::thread::yield_now();
        arrived = programs.received()? - before;
    }
    let busy = helper.time()?.saturating_sub(idle);
    ensure!(
        cpu::count(arrived) >= 0.98 * f64::from(frames),
        "{arrived} of {frames} frames arrived, expected all: is the path whole?"
    );
    Ok(cpu::nanos_each(own + busy, arrived))
}

/// The kernel's thread that runs a CPU's soft interrupts where they are too many.
struct Helper {
    schedstat: String,
}

impl Helper {
    fn of(cpu: usize) -> anyhow::Result<Self> {
        let wanted = format!("ksoftirqd/{cpu}");
        let processes = fs::read_dir("/proc").context("failed to list the processes")?;
        let mut paths = processes.filter_map(|entry| Some(entry.ok()?.path()));
        let found =
            paths.find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == wanted));
        let found = found.with_context(|| format!("no process {wanted}"))?;
        Ok(Self {
            schedstat: found.join("schedstat").display().to_string(),
        })
    }

    /// The CPU time it has used.
    fn time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(&self.schedstat)
            .with_context(|| format!("failed to read {}", self.schedstat))?;
        let nanos = stat
            .split_ascii_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        Ok(Duration::from_nanos(nanos.with_context(|| {
            format!("no time in {}: {stat}", self.schedstat)
        })?))
    }
}
