//! The embedded BPF objects: what they define, and loading them.

use crate::bpf::MapSpec;
use crate::{DatapathError, Sizing};
use aya::EbpfLoader;
use aya::maps::Map;
use aya::programs::Program;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

/// An embedded object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    name: &'static str,
    bytes: &'static [u8],
}

/// The programs of one generation and their maps.
pub(crate) const PROGRAMS: Object = Object {
    name: "essaim-programs",
    bytes: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/essaim-programs.o")),
};

/// The stubs that stay attached.
pub(crate) const STUBS: Object = Object {
    name: "essaim-stubs",
    bytes: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/essaim-stubs.o")),
};

/// Descriptors of what an object became in the kernel, by name.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) programs: BTreeMap<String, OwnedFd>,
    pub(crate) maps: BTreeMap<String, OwnedFd>,
}

impl Object {
    /// A number that changes with the object's bytes (FNV-1a, 64 bits).
    pub(crate) fn hash(self) -> u64 {
        self.bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The maps that the object defines, sized as asked.
    ///
    /// # Errors
    /// Where the object cannot be parsed.
    pub(crate) fn maps(self, sizing: Sizing) -> Result<BTreeMap<String, MapSpec>, DatapathError> {
        let object = aya_obj::Object::parse(self.bytes).map_err(|error| self.failed(error))?;
        let sizes = sizing.entries();
        Ok(object
            .maps
            .iter()
            .map(|(name, map)| {
                let spec = MapSpec {
                    kind: map.map_type(),
                    key_size: map.key_size(),
                    value_size: map.value_size(),
                    max_entries: sizes.get(name.as_str()).copied().unwrap_or(map.max_entries()),
                    flags: map.map_flags(),
                };
                (name.clone(), spec)
            })
            .collect())
    }

    /// The names of the programs that the object holds.
    ///
    /// # Errors
    /// Where the object cannot be parsed.
    pub(crate) fn programs(self) -> Result<Vec<String>, DatapathError> {
        let object = aya_obj::Object::parse(self.bytes).map_err(|error| self.failed(error))?;
        Ok(object.programs.into_keys().collect())
    }

    /// Loads the object: each map named in `pins` is the one pinned there, or is made and pinned there.
    ///
    /// # Errors
    /// Where the kernel refuses a map or a program; the verifier's log is in the error.
    pub(crate) fn load(
        self,
        sizing: Sizing,
        pins: &BTreeMap<String, PathBuf>,
    ) -> Result<Loaded, DatapathError> {
        let mut loader = EbpfLoader::new();
        for (name, entries) in sizing.entries() {
            loader.map_max_entries(name, entries);
        }
        for (name, path) in pins {
            loader.map_pin_path(name.as_str(), path.as_path());
        }
        let mut object = loader.load(self.bytes).map_err(|error| self.failed(error))?;
        let mut result = Loaded::default();
        for (name, map) in object.maps() {
            result.maps.insert(name.to_owned(), self.map_fd(name, map)?);
        }
        result.programs = load_all(object.programs_mut())?;
        Ok(result)
    }

    fn map_fd(self, name: &str, map: &Map) -> Result<OwnedFd, DatapathError> {
        let (Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data)) = map
        else {
            return Err(DatapathError::MapLayout {
                map: name.to_owned(),
                expected: "one of the types that the data plane knows".to_owned(),
                found: format!("{map:?}"),
            });
        };
        data.fd()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| self.failed(error))
    }

    fn failed(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DatapathError {
        DatapathError::Load {
            object: self.name.to_owned(),
            source: source.into(),
        }
    }
}

/// Loads programs on all CPUs: the verifier takes its time over some of them.
fn load_all<'a>(
    programs: impl Iterator<Item = (&'a str, &'a mut Program)> + Send,
) -> Result<BTreeMap<String, OwnedFd>, DatapathError> {
    let queue = Mutex::new(programs);
    let next = || queue.lock().map_or(None, |mut queue| queue.next());
    let work = || {
        let mut loaded = Vec::new();
        while let Some((name, program)) = next() {
            loaded.push((name.to_owned(), program_fd(name, program)?));
        }
        Ok(loaded)
    };
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let loaded: Result<Vec<Vec<_>>, DatapathError> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(panicked())))
            .collect()
    });
    Ok(loaded?.into_iter().flatten().collect())
}

fn panicked() -> DatapathError {
    DatapathError::Load {
        object: "the programs".to_owned(),
        source: "a thread that loads them panicked".into(),
    }
}

fn program_fd(name: &str, program: &mut Program) -> Result<OwnedFd, DatapathError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| DatapathError::Load {
        object: format!("program {name}"),
        source,
    };
    let loaded = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        other => {
            return Err(failed(
                format!("a program of type {:?} has no place here", other.prog_type()).into(),
            ));
        }
    };
    loaded.map_err(|error| failed(error.into()))?;
    let fd = program.fd().map_err(|error| failed(error.into()))?;
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|error| failed(error.into()))
}
