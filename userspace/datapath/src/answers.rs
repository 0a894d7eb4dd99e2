//! What the kernel answers questions for names with, and where: see `dns_tc`.

use crate::bpf::{LinkTarget, link_create, update};
use crate::mapped::MappedArray;
use crate::maps::Maps;
use crate::{DatapathError, clsact, pins, syscall};
use essaim_abi::{DnsAnswer, DnsKey, DnsState, Pod, maps};
use nix::sched::{CloneFlags, setns};
use nix::time::ClockId;
use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The program.
pub(crate) const PROGRAM: &str = "dns_tc";
/// The loopback interface is the first of every namespace.
pub(crate) const LOOPBACK: u32 = 1;
/// `enum bpf_attach_type`.
const TCX_INGRESS: u32 = 46;

/// The answers of the kernel, to be filled from any thread.
#[derive(Debug)]
pub struct AnswerStore {
    answers: OwnedFd,
    state: Mutex<MappedArray<DnsState>>,
}

impl AnswerStore {
    pub(crate) fn new(maps: &Maps) -> Result<Self, DatapathError> {
        let cloned = |name: &'static str| {
            maps.fd(name)?
                .try_clone_to_owned()
                .map_err(syscall("open map", name))
        };
        Ok(Self {
            answers: cloned(maps::DNS_ANSWERS)?,
            state: Mutex::new(MappedArray::new(maps::DNS_STATE, cloned(maps::DNS_STATE)?)?),
        })
    }

    fn with_state<T>(&self, with: impl FnOnce(&mut MappedArray<DnsState>) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The generation of answers that counts.
    ///
    /// # Errors
    /// Never: the map has this entry.
    pub fn generation(&self) -> Result<u64, DatapathError> {
        self.with_state(|state| state.read(0).map(|state| state.generation))
    }

    /// Has answers of this generation count, and no others.
    ///
    /// # Errors
    /// As [`Self::generation`].
    pub fn set_generation(&self, generation: u64) -> Result<(), DatapathError> {
        self.with_state(|state| state.store_u64(0, offset_of!(DnsState, generation), generation))
    }

    /// Has the kernel answer for this long from now.
    ///
    /// # Errors
    /// Where there is no clock.
    pub fn renew(&self, lease: Duration) -> Result<(), DatapathError> {
        let now = ClockId::CLOCK_MONOTONIC
            .now()
            .map_err(|errno| syscall("read", "the monotonic clock")(errno.into()))?;
        let until = Duration::from(now).saturating_add(lease).as_nanos();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        self.with_state(|state| state.store_u64(0, offset_of!(DnsState, until), until))
    }

    /// Adds an answer, in the place of one that nobody asked for in a long time where there is no room.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn insert(&self, key: &DnsKey, answer: &DnsAnswer) -> Result<(), DatapathError> {
        update(&self.answers, key.bytes(), answer.bytes()).map_err(syscall("write map", maps::DNS_ANSWERS))
    }
}

/// Says who asks at a socket of the resolver.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn set_asker(maps: &Maps, socket: BorrowedFd<'_>, asker: u64) -> Result<(), DatapathError> {
    let map = maps.fd(maps::DNS_ASKERS)?;
    update(&map, &socket.as_raw_fd().to_ne_bytes(), &asker.to_ne_bytes())
        .map_err(syscall("write map", maps::DNS_ASKERS))
}

/// Attaches the program to the loopback of a namespace: `None` where the kernel (before 6.6) knows no tcx.
///
/// # Errors
/// Where the namespace cannot be entered or the kernel refuses.
pub(crate) fn attach(
    program: BorrowedFd<'_>,
    netns: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>, DatapathError> {
    let linked = inside(netns, || {
        link_create(&program, LinkTarget::Interface(LOOPBACK), TCX_INGRESS, 0)
    })?;
    match linked {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        Err(error) => Err(syscall("attach to a task's loopback program", PROGRAM)(error)),
    }
}

/// Attaches the program that is pinned at `pin` by a filter of the clsact qdisc, which stays while the namespace does.
///
/// # Errors
/// As [`attach`].
pub(crate) fn attach_filter(pin: &Path, netns: BorrowedFd<'_>) -> Result<(), DatapathError> {
    inside(netns, || clsact::attach(pin, LOOPBACK))?
}

/// The program on a namespace's loopback, pinned nowhere: it is taken off when this goes.
#[derive(Debug)]
pub struct Answering(Held);

#[derive(Debug)]
enum Held {
    /// It goes with the descriptor.
    Link { _link: OwnedFd },
    /// A filter in this namespace.
    Filter(OwnedFd),
}

impl Answering {
    pub(crate) fn attach(program: BorrowedFd<'_>, netns: BorrowedFd<'_>) -> Result<Self, DatapathError> {
        if let Some(link) = attach(program, netns)? {
            return Ok(Self(Held::Link { _link: link }));
        }
        let held = netns
            .try_clone_to_owned()
            .map_err(syscall("open namespace of", "a task"))?;
        // A filter is attached from a pin, which need not stay.
        let pin = Path::new("/sys/fs/bpf").join(format!(
            "essaim-{}-{}-{PROGRAM}",
            std::process::id(),
            held.as_raw_fd()
        ));
        pins::pin(&program, &pin)?;
        let attached = attach_filter(&pin, netns);
        pins::remove(&pin)?;
        attached.map(|()| Self(Held::Filter(held)))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Held::Filter(netns) = &self.0
            && let Err(error) = inside(netns.as_fd(), || clsact::detach(LOOPBACK)).flatten()
        {
            tracing::debug!(%error, "the program stays on a loopback");
        }
    }
}

/// Works in a namespace, on a thread of its own: the caller's stays where it is.
fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, DatapathError> {
    let enter = || {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    let done = thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, enter) {
        Ok(thread) => thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(error) => Err(error),
    });
    done.map_err(syscall("enter namespace of", "a task"))
}
