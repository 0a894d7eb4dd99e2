//! Pins and programs.

use super::{MAP_GET_FD_BY_ID, OBJ_GET, OBJ_GET_INFO_BY_FD, OBJ_PIN, address_mut, bpf, owned};
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

#[repr(C)]
struct IdAttributes {
    id: u32,
    next: u32,
    flags: u32,
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct RawProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    translated_len: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    created_by: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// What the kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgInfo {
    /// Its number, unique while it lives.
    pub(crate) id: u32,
    /// The numbers of the maps that it uses.
    pub(crate) map_ids: Vec<u32>,
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
    let mut attributes =
        ObjectAttributes { path: path.as_ptr() as u64, fd: object.as_fd().as_raw_fd(), flags: 0 };
    // SAFETY: the arm of `BPF_OBJ_PIN`; the path ends in a zero and outlives the call.
    unsafe { bpf(OBJ_PIN, &mut attributes) }.map(|_| ())
}

/// Opens what is pinned at a path; `None` where nothing is.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_GET`.
pub(crate) fn object_get(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = c_path(path)?;
    let mut attributes = ObjectAttributes { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the arm of `BPF_OBJ_GET`; the path ends in a zero and outlives the call.
    match unsafe { bpf(OBJ_GET, &mut attributes) } {
        // SAFETY: the command returned a new descriptor.
        Ok(result) => unsafe { owned(result) }.map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the map with this number.
///
/// # Errors
/// What bpf(2) says of `BPF_MAP_GET_FD_BY_ID`.
pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = IdAttributes { id, next: 0, flags: 0 };
    // SAFETY: the arm of `BPF_MAP_GET_FD_BY_ID`; it holds no address.
    let result = unsafe { bpf(MAP_GET_FD_BY_ID, &mut attributes) }?;
    // SAFETY: the command returned a new descriptor.
    unsafe { owned(result) }
}

/// Reads what the kernel knows of a program.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn prog_info(program: &impl AsFd) -> io::Result<ProgInfo> {
    let mut map_ids = vec![0_u32; 64];
    let mut raw = RawProgInfo {
        map_count: u32::try_from(map_ids.len()).map_err(io::Error::other)?,
        map_ids: address_mut(&mut map_ids),
        ..RawProgInfo::default()
    };
    let mut attributes = InfoAttributes {
        fd: program.as_fd().as_raw_fd(),
        length: u32::try_from(size_of::<RawProgInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut raw) as u64,
    };
    // SAFETY: the arm of `BPF_OBJ_GET_INFO_BY_FD`; the kernel writes at most `length` bytes into `raw` and at most
    // `map_count` numbers into `map_ids`, both of which outlive the call.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    map_ids.truncate(raw.map_count as usize);
    Ok(ProgInfo { id: raw.id, map_ids })
}
