use crate::bpf::{self, RunInput, RunOutput};
use crate::{DatapathError, syscall};
use essaim_abi::maps::TC_INNER_PROGRAMS;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The loaded programs of a generation, by name.
#[derive(Debug)]
pub struct Programs {
    by_name: BTreeMap<String, OwnedFd>,
}

impl Programs {
    pub(crate) fn new(by_name: BTreeMap<String, OwnedFd>) -> Self {
        Self { by_name }
    }

    /// The descriptor of a program: `ingress_xdp`, `overlay_inner_tc`, `connect4`, ….
    ///
    /// # Errors
    /// Where there is no such program.
    pub fn fd(&self, name: &str) -> Result<BorrowedFd<'_>, DatapathError> {
        self.by_name
            .get(name)
            .map(AsFd::as_fd)
            .ok_or_else(|| DatapathError::Missing {
                kind: "program",
                name: name.to_owned(),
            })
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.by_name.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }

    /// How many instructions the verifier followed before it took a program. It refuses one of more than a million.
    ///
    /// # Errors
    /// Where there is no such program, or the kernel does not tell.
    pub fn verified_instructions(&self, name: &str) -> Result<u32, DatapathError> {
        let info = bpf::prog_info(&self.fd(name)?);
        Ok(info
            .map_err(syscall("read what is known of program", name))?
            .verified)
    }

    /// Runs a packet through a program `repeat` times.
    ///
    /// # Errors
    /// Where there is no such program, or the kernel refuses: an interface of the context that does not exist, say.
    pub fn run(&self, name: &str, input: &RunInput<'_>, repeat: u32) -> Result<RunOutput, DatapathError> {
        test_run(self.fd(name)?, input, repeat)
    }

    /// Puts the inner programs where the tc programs call them.
    pub(crate) fn link_inner(&self, inner: BorrowedFd<'_>) -> Result<(), DatapathError> {
        for (slot, name) in TC_INNER_PROGRAMS {
            set_program(inner, *slot, self.fd(name)?)?;
        }
        Ok(())
    }
}

/// Runs a packet through any program, this crate's or not, `repeat` times.
///
/// # Errors
/// Where the kernel refuses: an interface of the context that does not exist, say.
pub fn test_run(
    program: BorrowedFd<'_>,
    input: &RunInput<'_>,
    repeat: u32,
) -> Result<RunOutput, DatapathError> {
    bpf::run(&program, input, repeat).map_err(syscall("run", "program"))
}

/// Writes a slot of a program array.
///
/// # Errors
/// Where the kernel refuses: a program of another type, say.
pub fn set_program(array: BorrowedFd<'_>, slot: u32, program: BorrowedFd<'_>) -> Result<(), DatapathError> {
    use std::os::fd::AsRawFd;
    bpf::update(&array, &slot.to_ne_bytes(), &program.as_raw_fd().to_ne_bytes())
        .map_err(syscall("write slot of program array", slot))
}
