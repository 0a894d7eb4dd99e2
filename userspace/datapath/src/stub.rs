//! The programs that stay attached, and the switch that says which generation they call.

use crate::mapped::MappedArray;
use crate::object::STUBS;
use crate::pins::{self, Pins};
use crate::programs::{Programs, set_program};
use crate::{DatapathError, Sizing, bpf, syscall};
use essaim_abi::Hook;
use essaim_abi::maps::{GENERATION, GENERATIONS, HOOK_SLOTS, TC_PROGRAMS, XDP_PROGRAMS};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The attached programs and their switch.
#[derive(Debug)]
pub(crate) struct Stub {
    generation: MappedArray<u32>,
    fds: BTreeMap<String, OwnedFd>,
}

impl Stub {
    /// Opens what is pinned; `None` where nothing is.
    ///
    /// # Errors
    /// Where it is not what it should be.
    pub(crate) fn open(pins: &Pins) -> Result<Option<Self>, DatapathError> {
        if !pins.stub().exists() {
            return Ok(None);
        }
        Self::new(pins::open_all(&pins.stub())?).map(Some)
    }

    /// Opens what is pinned, or loads and pins it.
    ///
    /// # Errors
    /// Where the kernel refuses, or what is pinned is not what it should be.
    pub(crate) fn open_or_load(pins: &Pins) -> Result<Self, DatapathError> {
        if let Some(stub) = Self::open(pins)? {
            return Ok(stub);
        }
        pins::remove_folder(&pins.stub_next())?;
        pins::make_folder(&pins.stub_next())?;
        let loaded = STUBS.load(Sizing::default(), &BTreeMap::new())?;
        let fds: BTreeMap<String, OwnedFd> = loaded.maps.into_iter().chain(loaded.programs).collect();
        for (name, fd) in fds.iter().filter(|(name, _)| pins::can_pin(name)) {
            pins::pin(fd, &pins.stub_next().join(name))?;
        }
        // One rename, so that a crash leaves all of it or nothing.
        fs::rename(pins.stub_next(), pins.stub())
            .map_err(syscall("move into place", pins.stub_next().display()))?;
        Self::new(fds)
    }

    fn new(fds: BTreeMap<String, OwnedFd>) -> Result<Self, DatapathError> {
        let generation = fds
            .get(GENERATION)
            .ok_or_else(|| DatapathError::Missing {
                kind: "map",
                name: GENERATION.to_owned(),
            })?
            .try_clone()
            .map_err(syscall("open map", GENERATION))?;
        Ok(Self {
            generation: MappedArray::new(GENERATION, generation)?,
            fds,
        })
    }

    /// A map or program of the stub by its name.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn fd(&self, name: &str) -> Result<BorrowedFd<'_>, DatapathError> {
        self.fds
            .get(name)
            .map(AsFd::as_fd)
            .ok_or_else(|| DatapathError::Missing {
                kind: "stub",
                name: name.to_owned(),
            })
    }

    /// The program that is attached at a hook.
    pub(crate) fn program(&self, hook: Hook) -> Result<BorrowedFd<'_>, DatapathError> {
        self.fd(&format!("{}_stub", hook.name()))
    }

    /// The generation that runs.
    pub(crate) fn generation(&self) -> Result<u32, DatapathError> {
        Ok(self.generation.read(0)? % GENERATIONS)
    }

    /// Puts the programs of a generation where the stubs look for them.
    pub(crate) fn fill(&self, generation: u32, programs: &Programs) -> Result<(), DatapathError> {
        for (array, hook) in HOOKS {
            set_program(
                self.fd(array)?,
                generation * HOOK_SLOTS + hook as u32,
                programs.fd(hook.name())?,
            )?;
        }
        Ok(())
    }

    /// Switches every hook to a generation at once.
    pub(crate) fn switch(&mut self, generation: u32) -> Result<(), DatapathError> {
        self.generation.store_u32(0, 0, generation)
    }

    /// Takes the programs of all generations but one out.
    pub(crate) fn clear_others(&self, generation: u32) -> Result<(), DatapathError> {
        for other in (0..GENERATIONS).filter(|other| *other != generation) {
            for (array, hook) in HOOKS {
                let slot = other * HOOK_SLOTS + hook as u32;
                bpf::delete(&self.fd(array)?, &slot.to_ne_bytes())
                    .map_err(syscall("clear slot of", array))?;
            }
        }
        Ok(())
    }
}

/// The hooks with a stub, and which array the stub looks into.
const HOOKS: [(&str, Hook); 4] = [
    (XDP_PROGRAMS, Hook::IngressXdp),
    (TC_PROGRAMS, Hook::UplinkTc),
    (TC_PROGRAMS, Hook::OverlayTc),
    (TC_PROGRAMS, Hook::EndpointTc),
];
