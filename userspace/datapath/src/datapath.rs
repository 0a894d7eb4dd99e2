use crate::answers::{self, AnswerStore, Answering};
use crate::apply::{self, ApplyReport};
use crate::counters::{self, CountersReport};
use crate::events::EventRing;
use crate::generation::{self, Generation};
use crate::image::Capacity;
use crate::links::{AttachReport, Attachment, Links};
use crate::maps::Maps;
use crate::object::PROGRAMS;
use crate::pins::{self, Pins};
use crate::programs::Programs;
use crate::state::State;
use crate::stub::Stub;
use crate::sweep::{self, SweepReport};
use crate::trace::{self, TraceRequest, TraceStep};
use crate::verify::{self, Difference};
use crate::{DatapathError, Sizing, clock, heap, kernel, links, syscall};
use essaim_abi::maps::{EVENTS, TC_INNER};
use essaim_abi::{Config, ConfigFlags};
use essaim_model::{DesiredState, NodeFacts};
use nix::fcntl::Flock;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where a node's data plane is kept and hangs.
#[derive(Clone, Debug)]
pub struct DatapathOptions {
    /// A folder of its own on a BPF file system; made where it is absent.
    pub pin_dir: PathBuf,
    /// The cgroup (version 2) whose sockets are balanced.
    pub cgroup: PathBuf,
    /// The smallest sizes of the maps; pinned maps that are larger stay so.
    pub sizing: Sizing,
}

/// The data plane of a node.
#[derive(Debug)]
pub struct Datapath {
    maps: Maps,
    programs: Programs,
    /// Ticks a second.
    hz: u32,
    /// What the maps hold; `None` until it is read, and after a failure.
    state: Option<State>,
    pinned: Option<Pinned>,
}

/// What a data plane that outlives the process has besides.
#[derive(Debug)]
struct Pinned {
    pins: Pins,
    stub: Stub,
    /// Absent where another process is the one that changes things.
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    cgroup: File,
    cgroup_id: u32,
    refused: BTreeSet<u32>,
    /// Held for as long as the value lives.
    _lock: Flock<File>,
}

impl Datapath {
    /// Adopts the data plane that is pinned, or makes one; nothing is attached yet.
    ///
    /// Programs of another build are replaced at once for all hooks, and what the maps hold is kept.
    ///
    /// # Errors
    /// Where kernel, rights, BPF file system or cgroup will not do, another agent has the pins, or the kernel refuses a
    /// map or a program. What ran before still runs.
    pub fn open(options: &DatapathOptions) -> Result<Self, DatapathError> {
        let DatapathOptions {
            pin_dir,
            cgroup,
            sizing,
        } = options;
        kernel::check()?;
        kernel::check_bpffs(pin_dir)?;
        kernel::check_cgroup(cgroup)?;
        let pins = Pins::new(pin_dir);
        let lock = pins.lock()?;
        let cgroup_file = File::open(cgroup).map_err(syscall("open", cgroup.display()))?;
        let inode = cgroup_file
            .metadata()
            .map_err(syscall("open", cgroup.display()))?
            .ino();
        let cgroup_id = u32::try_from(inode & u64::from(u32::MAX)).unwrap_or(0);
        let mut stub = Stub::open_or_load(&pins)?;
        let generation = generation::adopt_or_make(&pins, &mut stub, *sizing)?;
        let writer = Writer {
            cgroup: cgroup_file,
            cgroup_id,
            refused: BTreeSet::new(),
            _lock: lock,
        };
        Self::of(
            generation,
            Pinned {
                pins,
                stub,
                writer: Some(writer),
            },
        )
    }

    /// Opens the data plane of a running agent, to look at it.
    ///
    /// # Errors
    /// Where rights are missing, none is pinned there, or it is another build's with another ABI.
    pub fn open_existing(pin_dir: &Path) -> Result<Self, DatapathError> {
        kernel::check()?;
        let pins = Pins::new(pin_dir);
        let not_running = || DatapathError::NotRunning {
            path: pin_dir.to_owned(),
        };
        let stub = Stub::open(&pins)?.ok_or_else(not_running)?;
        let generation = generation::open(&pins, &stub)?.ok_or_else(not_running)?;
        Self::of(
            generation,
            Pinned {
                pins,
                stub,
                writer: None,
            },
        )
    }

    /// Loads programs and maps, pinned nowhere and attached to nothing: for test-runs. All is gone with the value.
    ///
    /// # Errors
    /// Where the kernel refuses a map or a program.
    pub fn load_unattached(sizing: Sizing) -> Result<Self, DatapathError> {
        let loaded = PROGRAMS.load(sizing, &BTreeMap::new())?;
        let (maps, programs) = (Maps::new(loaded.maps)?, Programs::new(loaded.programs));
        programs.link_inner(maps.fd(TC_INNER)?)?;
        let hz = clock::tick_rate(&programs)?;
        Ok(Self {
            maps,
            programs,
            hz,
            state: None,
            pinned: None,
        })
    }

    fn of(generation: Generation, pinned: Pinned) -> Result<Self, DatapathError> {
        let Generation { maps, programs } = generation;
        heap::trim();
        // The kernel that the maps are of has not changed its rate since.
        let hz = match maps.config.read(0)?.hz {
            0 => clock::tick_rate(&programs)?,
            known => known,
        };
        Ok(Self {
            maps,
            programs,
            hz,
            state: None,
            pinned: Some(pinned),
        })
    }

    /// Replaces maps that are too small, without a gap for the packets; those that are large enough stay.
    ///
    /// # Errors
    /// Where this data plane is not pinned or is another process's, or the kernel refuses: what ran before still runs.
    pub fn grow(&mut self, sizing: Sizing) -> Result<(), DatapathError> {
        let Some(Pinned {
            pins,
            stub,
            writer: Some(_),
        }) = &mut self.pinned
        else {
            return Err(not_ours());
        };
        let Generation { maps, programs } = generation::adopt_or_make(pins, stub, sizing)?;
        self.maps = maps;
        self.programs = programs;
        self.state = None;
        Ok(())
    }

    /// How large the maps are whose sizes depend on the catalog.
    ///
    /// # Errors
    /// Where a map cannot be read.
    pub fn sizing(&self) -> Result<Sizing, DatapathError> {
        generation::sizes(self.maps.all())
    }

    /// Hangs the programs in where the node's facts say, and takes them out elsewhere; socket programs of an earlier
    /// build are replaced.
    ///
    /// # Errors
    /// Where this data plane is not pinned or is another process's, or the kernel refuses; calling again goes on.
    pub fn attach(&mut self, facts: &NodeFacts) -> Result<AttachReport, DatapathError> {
        let Self { programs, pinned, .. } = self;
        let Some(Pinned {
            pins,
            stub,
            writer: Some(writer),
        }) = pinned
        else {
            return Err(not_ours());
        };
        let Writer {
            cgroup,
            cgroup_id,
            refused,
            _lock,
        } = writer;
        Links {
            pins,
            stub,
            programs,
            cgroup: cgroup.as_fd(),
            cgroup_id: Some(*cgroup_id),
            refused,
        }
        .reconcile(facts)
    }

    /// Has the kernel answer questions for names in a task's namespace, for whoever asks at this socket of the resolver.
    ///
    /// # Errors
    /// Where this data plane is not pinned or is another process's, the namespace cannot be entered, or the kernel
    /// refuses; calling again goes on.
    pub fn answer_task(
        &mut self,
        cookie: u64,
        netns: BorrowedFd<'_>,
        socket: BorrowedFd<'_>,
    ) -> Result<(), DatapathError> {
        answers::set_asker(&self.maps, socket, cookie)?;
        let Self { programs, pinned, .. } = self;
        let Some(Pinned {
            pins,
            stub,
            writer: Some(writer),
        }) = pinned
        else {
            return Err(not_ours());
        };
        Links {
            pins,
            stub,
            programs,
            cgroup: writer.cgroup.as_fd(),
            cgroup_id: Some(writer.cgroup_id),
            refused: &mut writer.refused,
        }
        .answer(cookie, netns)
    }

    /// As [`Self::answer_task`] of a data plane that is pinned nowhere: it ends with what is returned.
    ///
    /// # Errors
    /// Where the namespace cannot be entered or the kernel refuses.
    pub fn answer_unpinned(
        &self,
        asker: u64,
        netns: BorrowedFd<'_>,
        socket: BorrowedFd<'_>,
    ) -> Result<Answering, DatapathError> {
        self.set_asker(asker, socket)?;
        Answering::attach(self.programs.fd(answers::PROGRAM)?, netns)
    }

    /// Says who asks at a socket of the resolver.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_asker(&self, asker: u64, socket: BorrowedFd<'_>) -> Result<(), DatapathError> {
        answers::set_asker(&self.maps, socket, asker)
    }

    /// What the kernel answers questions for names with.
    ///
    /// # Errors
    /// Where the kernel refuses to map it.
    pub fn answers(&self) -> Result<AnswerStore, DatapathError> {
        AnswerStore::new(&self.maps)
    }

    /// What should hang and does not.
    pub(crate) fn detached(&self, facts: &NodeFacts) -> Result<Vec<Attachment>, DatapathError> {
        let Some(Pinned { pins, stub, writer }) = &self.pinned else {
            return Ok(Vec::new());
        };
        let root = File::open(pins.root()).map_err(syscall("open", pins.root().display()))?;
        let (cgroup, cgroup_id) = match writer {
            Some(writer) => (writer.cgroup.as_fd(), Some(writer.cgroup_id)),
            None => (root.as_fd(), None),
        };
        let refused = &mut BTreeSet::new();
        Links {
            pins,
            stub,
            programs: &self.programs,
            cgroup,
            cgroup_id,
            refused,
        }
        .missing(facts)
    }

    /// Makes the maps hold a plan. Only what differs is stored, in an order that is safe for the packets meanwhile.
    ///
    /// # Errors
    /// Where a map has no room left or the plan contradicts itself: nothing is stored then. Where the kernel refuses:
    /// part of it is stored, and applying again goes on from there.
    pub fn apply(&mut self, desired: &DesiredState, facts: &NodeFacts) -> Result<ApplyReport, DatapathError> {
        let start = Instant::now();
        let (mut state, first) = match self.state.take() {
            Some(state) => (state, false),
            None => (
                State::restore(apply::read(&self.maps)?, Capacity::of(&self.maps)),
                true,
            ),
        };
        let changes = apply::view(&self.maps, |view| {
            state.plan(desired, facts, self.hz, view, start)
        })??;
        let report = apply::store(&mut self.maps, &changes)?;
        self.state = Some(state);
        if first {
            drop(changes);
            heap::trim();
        }
        Ok(ApplyReport {
            duration: start.elapsed(),
            ..report
        })
    }

    /// Compares what the maps hold and what hangs with a plan, and changes nothing.
    ///
    /// # Errors
    /// Where something cannot be read, or the plan does not fit the maps.
    pub fn verify(
        &self,
        desired: &DesiredState,
        facts: &NodeFacts,
    ) -> Result<Vec<Difference>, DatapathError> {
        let mut state = State::restore(apply::read(&self.maps)?, Capacity::of(&self.maps));
        let now = Instant::now();
        let changes = apply::view(&self.maps, |view| state.plan(desired, facts, self.hz, view, now))??;
        let mut differences = verify::differences(&self.maps, &changes)?;
        differences.extend(verify::detached(self.detached(facts)?));
        Ok(differences)
    }

    /// What the programs counted for what a plan names.
    ///
    /// # Errors
    /// Where a map cannot be read.
    pub fn counters(&self, desired: &DesiredState) -> Result<CountersReport, DatapathError> {
        counters::read(&self.maps, desired)
    }

    /// Bytes of kernel memory that each map takes.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn memory(&self) -> Result<BTreeMap<String, u64>, DatapathError> {
        counters::memory(&self.maps)
    }

    /// Takes dead flows out of the table; to be called every few seconds.
    ///
    /// # Errors
    /// Where a map cannot be read or written; the next sweep goes on.
    pub fn sweep_flows(&mut self) -> Result<SweepReport, DatapathError> {
        let now = self.jiffies()?;
        sweep::sweep(&mut self.maps, now)
    }

    /// Runs a packet that does not exist through the real programs, and says what each decides and why.
    ///
    /// The programs write no state and count nothing. `events` is this process's ring where it reads one already; of two
    /// rings open at once one would miss events.
    ///
    /// # Errors
    /// Where the packet is impossible, or the kernel refuses to run it.
    pub fn trace(
        &mut self,
        events: Option<&mut EventRing>,
        request: &TraceRequest,
        desired: &DesiredState,
        facts: &NodeFacts,
    ) -> Result<Vec<TraceStep>, DatapathError> {
        let mut own = None;
        let events = match events {
            Some(events) => events,
            None => own.insert(self.events()?),
        };
        trace::trace(&mut self.maps, &self.programs, events, request, desired, facts)
    }

    /// The maps.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// The maps, to be written to.
    pub fn maps_mut(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// The programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Ticks a second of the kernel.
    pub fn hz(&self) -> u32 {
        self.hz
    }

    /// The low 32 bits of the kernel's jiffies, in which flows count.
    ///
    /// # Errors
    /// Where the kernel refuses to run the program that reads them.
    pub fn jiffies(&self) -> Result<u32, DatapathError> {
        clock::jiffies(&self.programs)
    }

    /// The ring of events.
    ///
    /// # Errors
    /// Where the kernel refuses to map it.
    pub fn events(&self) -> Result<EventRing, DatapathError> {
        EventRing::new(self.maps.fd(EVENTS)?)
    }

    /// Turns on, or off, that every decision goes to the ring of events.
    ///
    /// # Errors
    /// Where the map cannot be written.
    pub fn set_watch(&mut self, on: bool) -> Result<(), DatapathError> {
        let flags = self.maps.config.read(0)?.flags.0;
        let watch = ConfigFlags::WATCH.0;
        let flags = if on { flags | watch } else { flags & !watch };
        self.maps.config.store_u32(0, offset_of!(Config, flags), flags)
    }
}

/// Takes everything down that is pinned in a folder: links, programs, maps and the folder.
///
/// # Errors
/// All that could not be removed; what could be is.
pub fn clean(pin_dir: &Path) -> Result<(), Vec<DatapathError>> {
    let pins = Pins::new(pin_dir);
    let mut errors = Vec::new();
    match pins::names(&pins.links()) {
        Ok(names) => errors.extend(names.iter().filter_map(|name| links::detach(&pins, name).err())),
        Err(error) => errors.push(error),
    }
    errors.extend(pins::remove_folder(pin_dir).err());
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn not_ours() -> DatapathError {
    DatapathError::Plan {
        subject: "this data plane".to_owned(),
        problem: "was opened to be looked at, or is pinned nowhere: it cannot be attached or grown"
            .to_owned(),
    }
}
