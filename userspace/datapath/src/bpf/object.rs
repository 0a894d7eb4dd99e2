//! Pins and programs.

use super::{OBJ_GET, OBJ_GET_INFO_BY_FD, OBJ_PIN, bpf, owned};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[repr(C)]
struct ObjectAttributes {
    path: u64,
    fd: RawFd,
    flags: u32,
}

#[repr(C)]
struct InfoAttributes {
    fd: RawFd,
    length: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to what is read of it.
#[repr(C)]
#[derive(Default)]
struct RawProgInfo {
    kind: u32,
    id: u32,
    between: [u64; 26],
    verified: u32,
    attach_btf_obj_id: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Pins a map, program or link.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_PIN`.
pub(crate) fn object_pin(object: &impl AsFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attributes = ObjectAttributes {
        path: path.as_ptr() as u64,
        fd: object.as_fd().as_raw_fd(),
        flags: 0,
    };
    // SAFETY: the arm of `BPF_OBJ_PIN`; the path ends in a zero and outlives the call.
    unsafe { bpf(OBJ_PIN, &mut attributes) }.map(|_| ())
}

/// Opens what is pinned at a path; `None` where nothing is.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_GET`.
pub(crate) fn object_get(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = c_path(path)?;
    let mut attributes = ObjectAttributes {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the arm of `BPF_OBJ_GET`; the path ends in a zero and outlives the call.
    match unsafe { bpf(OBJ_GET, &mut attributes) } {
        // SAFETY: the command returned a new descriptor.
        Ok(result) => unsafe { owned(result) }.map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the kernel says of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProgInfo {
    /// Its number, unique while it lives.
    pub(crate) id: u32,
    /// How many instructions the verifier followed before it took it.
    pub(crate) verified: u32,
}

/// Reads what the kernel knows of a program.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn prog_info(program: &impl AsFd) -> io::Result<ProgInfo> {
    let mut raw = RawProgInfo::default();
    let mut attributes = InfoAttributes {
        fd: program.as_fd().as_raw_fd(),
        length: u32::try_from(size_of::<RawProgInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut raw) as u64,
    };
    // SAFETY: the arm of `BPF_OBJ_GET_INFO_BY_FD`; the kernel writes at most `length` bytes, which are those of `raw`.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(ProgInfo {
        id: raw.id,
        verified: raw.verified,
    })
}
