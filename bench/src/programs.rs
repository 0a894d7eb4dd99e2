//! The benchmarks' own BPF programs.

use anyhow::Context as _;
use aya::maps::{Array, Map, PerCpuArray};
use aya::programs::{Program, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use essaim_bench_programs::{DRIVER_WORDS, Driver};
use essaim_datapath::{RunInput, RunOutput, set_program, test_run};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/essaim-bench-programs.o"));

/// Where the driver of a kind of program calls the one under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderTest {
    /// An XDP program, built with frags.
    Xdp,
    /// A tc program.
    Tc,
}

/// The loaded programs.
#[derive(Debug)]
pub struct BenchPrograms {
    ebpf: Ebpf,
}

impl BenchPrograms {
    /// Loads every program; `floor_flows` is the size of floor B's table.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load(floor_flows: u32) -> anyhow::Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("FLOOR_TABLE", floor_flows);
        let mut ebpf = loader
            .load(OBJECT)
            .context("failed to load the benchmarks' programs (are you root?)")?;
        for (name, program) in ebpf.programs_mut() {
            match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => anyhow::bail!("program {name} is of a kind that the benchmarks do not have"),
            }
            .with_context(|| format!("the kernel refuses program {name}"))?;
        }
        Ok(Self { ebpf })
    }

    /// The descriptor of a program.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn fd(&self, name: &str) -> anyhow::Result<OwnedFd> {
        let program = self
            .ebpf
            .program(name)
            .with_context(|| format!("no program {name}"))?;
        Ok(program.fd()?.as_fd().try_clone_to_owned()?)
    }

    /// Has the driver make these packets from now on.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_driver(&mut self, driver: &Driver) -> anyhow::Result<()> {
        let mut map: Array<_, [u64; DRIVER_WORDS]> = Array::try_from(self.map_mut("DRIVER")?)?;
        Ok(map.set(0, driver.words(), 0)?)
    }

    /// Has the driver call this program from now on.
    ///
    /// # Errors
    /// When the kernel refuses: a program of another kind, say.
    pub fn set_under_test(&mut self, kind: UnderTest, program: BorrowedFd<'_>) -> anyhow::Result<()> {
        let name = match kind {
            UnderTest::Xdp => "XDP_UNDER_TEST",
            UnderTest::Tc => "TC_UNDER_TEST",
        };
        let Map::ProgramArray(array) = self.map_mut(name)? else {
            anyhow::bail!("{name} is no program array")
        };
        Ok(set_program(array.fd().as_fd(), 0, program)?)
    }

    /// Attaches an XDP program by the driver of an interface of this thread's namespace, until the value is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_xdp(&mut self, name: &str, interface: &str) -> anyhow::Result<()> {
        let program: &mut Xdp = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("no program {name}"))?
            .try_into()?;
        program
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("failed to attach {name} to {interface}"))?;
        Ok(())
    }

    /// Attaches a tc program to what comes in by an interface of this thread's namespace, until the value is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_tc(&mut self, name: &str, interface: &str) -> anyhow::Result<()> {
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("no program {name}"))?;
        let program: &mut SchedClassifier = program.try_into()?;
        program
            .attach(interface, TcAttachType::Ingress)
            .with_context(|| format!("failed to attach {name} to {interface}"))?;
        Ok(())
    }

    /// Packets that the sinks have dropped.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn received(&mut self) -> anyhow::Result<u64> {
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(self.map_mut("RECEIVED")?)?;
        Ok(map.get(&0, 0)?.iter().sum())
    }

    /// Runs a packet through one of the programs `repeat` times.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run(&self, name: &str, input: &RunInput<'_>, repeat: u32) -> anyhow::Result<RunOutput> {
        Ok(test_run(self.fd(name)?.as_fd(), input, repeat)?)
    }

    fn map_mut(&mut self, name: &str) -> anyhow::Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }
}
