//! The folder of a node's pins.
//!
//! ```text
//! stub/     GENERATION, XDP_PROGRAMS, TC_PROGRAMS and the stub programs; made once, stays
//! maps/     the maps of the running generation, and META, which says what they are
//! maps_next/  those of a generation that is being made; exchanged with `maps` once its programs run
//! progs/N/  the programs of generation N
//! links/    what holds the programs at their hooks: HOOK-IFINDEX, or the name of a socket program
//! ```

use crate::bpf::{MapSpec, map_create, object_get, object_pin};
use crate::table::Table;
use crate::{DatapathError, syscall};
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Name of the map that says what the others are.
const META: &str = "META";
const META_ENTRIES: u32 = 4;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// What the maps of a generation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) abi_version: u32,
    pub(crate) generation: u32,
    /// Of the object that programs and maps came from.
    pub(crate) object: u64,
}

/// The folder of a node's pins.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
}

impl Pins {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn stub(&self) -> PathBuf {
        self.root.join("stub")
    }

    pub(crate) fn stub_next(&self) -> PathBuf {
        self.root.join("stub_next")
    }

    pub(crate) fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    pub(crate) fn maps_next(&self) -> PathBuf {
        self.root.join("maps_next")
    }

    pub(crate) fn all_programs(&self) -> PathBuf {
        self.root.join("progs")
    }

    pub(crate) fn programs(&self, generation: u32) -> PathBuf {
        self.all_programs().join(generation.to_string())
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Keeps other agents out of the folder for as long as the value lives.
    ///
    /// # Errors
    /// Where another process has it, or the folder cannot be made.
    pub(crate) fn lock(&self) -> Result<Flock<fs::File>, DatapathError> {
        make_folder(&self.root)?;
        let folder = fs::File::open(&self.root).map_err(syscall("open", self.root.display()))?;
        Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => DatapathError::InUse {
                path: self.root.clone(),
            },
            error => syscall("lock", self.root.display())(error.into()),
        })
    }

    /// What the maps in a folder are; `None` where there are none, or their making was cut off.
    pub(crate) fn meta(folder: &Path) -> Result<Option<Meta>, DatapathError> {
        let Some(fd) = get(&folder.join(META))? else {
            return Ok(None);
        };
        let table = Table::<u32, u64>::new(META, fd)?;
        let word = |index: u32| table.entry(&index).map(Option::unwrap_or_default);
        let short = |word: u64| u32::try_from(word).unwrap_or(u32::MAX);
        let meta = Meta {
            abi_version: short(word(0)?),
            generation: short(word(1)?),
            object: word(2)?,
        };
        Ok((meta.abi_version != 0).then_some(meta))
    }

    /// Says what the maps in a folder are.
    pub(crate) fn write_meta(folder: &Path, meta: &Meta) -> Result<(), DatapathError> {
        let spec = MapSpec {
            kind: ARRAY,
            key_size: 4,
            value_size: 8,
            max_entries: META_ENTRIES,
            flags: 0,
        };
        let fd = map_create(META, &spec).map_err(syscall("create map", META))?;
        pin(&fd, &folder.join(META))?;
        let mut table = Table::<u32, u64>::new(META, fd)?;
        let Meta {
            abi_version,
            generation,
            object,
        } = *meta;
        table.insert(&1, &u64::from(generation))?;
        table.insert(&2, &object)?;
        // Last: without it the others count for nothing.
        table.insert(&0, &u64::from(abi_version))
    }

    /// Puts the next maps in the place of those that are there, which are then the next.
    ///
    /// # Errors
    /// Where the kernel refuses; nothing is changed then.
    pub(crate) fn exchange_maps(&self) -> Result<(), DatapathError> {
        let flags = if self.maps().exists() {
            RenameFlags::RENAME_EXCHANGE
        } else {
            RenameFlags::empty()
        };
        renameat2(AT_FDCWD, &self.maps_next(), AT_FDCWD, &self.maps(), flags)
            .map_err(|error| syscall("move into place", self.maps_next().display())(error.into()))
    }
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<(), DatapathError> {
    fs::create_dir_all(path).map_err(syscall("make folder", path.display()))
}

/// Removes a folder and all in it; removing what is absent succeeds.
pub(crate) fn remove_folder(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(syscall("remove", path.display())(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a pin; removing what is absent succeeds.
pub(crate) fn remove(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(syscall("remove", path.display())(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Opens a pin; `None` where there is none.
pub(crate) fn get(path: &Path) -> Result<Option<OwnedFd>, DatapathError> {
    object_get(path).map_err(syscall("open", path.display()))
}

/// Pins an object.
pub(crate) fn pin(object: &impl AsFd, path: &Path) -> Result<(), DatapathError> {
    object_pin(object, path).map_err(syscall("pin", path.display()))
}

/// The names of what a folder holds; none where it is absent.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, DatapathError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(syscall("list", folder.display())(error)),
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries
        .map(name)
        .collect::<io::Result<_>>()
        .map_err(syscall("list", folder.display()))
}

/// Opens all pins of a folder, [`META`] left out.
pub(crate) fn open_all(folder: &Path) -> Result<BTreeMap<String, OwnedFd>, DatapathError> {
    let mut opened = BTreeMap::new();
    for name in names(folder)?.into_iter().filter(|name| name != META) {
        if let Some(fd) = get(&folder.join(&name))? {
            opened.insert(name, fd);
        }
    }
    Ok(opened)
}

/// Whether a name can be a pin's: the BPF file system keeps names with a dot for itself.
pub(crate) fn can_pin(name: &str) -> bool {
    !name.contains('.')
}
