//! The calls of bpf(2) that aya keeps to itself or lacks; all unsafe code of the crate is here and in `mapped`.
//!
//! Every function takes and gives owned or borrowed descriptors and slices; the attribute structures mirror the
//! arms of `union bpf_attr` in the kernel's `include/uapi/linux/bpf.h`.

mod link;
mod map;
mod object;
mod run;

pub(crate) use link::{LinkTarget, link_create, link_detach, link_info, link_update};
pub(crate) use map::{
    Cursor, MapSpec, delete, delete_batch, lookup, lookup_batch, map_create, map_info, update, update_batch,
};
pub(crate) use object::{object_get, object_pin, prog_info};
pub(crate) use run::run;
pub use run::{RunInput, RunOutput, SkbContext, XdpContext, XdpMode};

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const MAP_DELETE_BATCH: libc::c_int = 27;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

/// Calls bpf(2) with one arm of its attribute union.
///
/// # Safety
/// `attributes` is the arm that `command` reads, without padding, and every address in it points to memory that
/// the command may read, or write, for as long as it says there.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the caller vouches for the attributes; their size is passed along, the kernel zero-fills the rest.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes).cast::<libc::c_void>(),
            size_of::<A>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes the descriptor that a successful command returned.
///
/// # Safety
/// `result` came from a command that returns a new descriptor, and nothing else owns it.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the caller vouches that the descriptor is new.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The address of a buffer as the attribute union holds it.
fn address<T>(buffer: &[T]) -> u64 {
    if buffer.is_empty() {
        0
    } else {
        buffer.as_ptr() as u64
    }
}

/// As [`address`], for a buffer that the kernel writes.
fn address_mut<T>(buffer: &mut [T]) -> u64 {
    if buffer.is_empty() {
        0
    } else {
        buffer.as_mut_ptr() as u64
    }
}

/// The length of a buffer as the attribute union holds it.
fn length(buffer: &[u8]) -> io::Result<u32> {
    u32::try_from(buffer.len()).map_err(io::Error::other)
}
