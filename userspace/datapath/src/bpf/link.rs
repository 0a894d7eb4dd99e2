//! Links: what holds a program at its hook.

use super::{LINK_CREATE, LINK_DETACH, LINK_UPDATE, OBJ_GET_INFO_BY_FD, bpf, owned};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Where a link attaches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkTarget<'a> {
    /// A network interface, by index.
    Interface(u32),
    /// A cgroup, by an open descriptor of its folder.
    Cgroup(BorrowedFd<'a>),
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// The number of the program that it holds.
    pub(crate) prog_id: u32,
    /// XDP, tcx: the interface, 0 once that is gone. cgroup: the low word of its number.
    pub(crate) target: u32,
}

#[repr(C)]
struct CreateAttributes {
    prog_fd: RawFd,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct UpdateAttributes {
    link_fd: RawFd,
    new_prog_fd: RawFd,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
struct DetachAttributes {
    link_fd: RawFd,
}

#[repr(C)]
struct InfoAttributes {
    fd: RawFd,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_link_info`; `target` is the first word of its union.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    target: u32,
    rest: [u32; 11],
}

/// Attaches a program.
///
/// # Errors
/// What bpf(2) says of `BPF_LINK_CREATE`.
pub(crate) fn link_create(
    program: &impl AsFd,
    target: LinkTarget<'_>,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let target = match target {
        LinkTarget::Interface(index) => index,
        LinkTarget::Cgroup(fd) => u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)?,
    };
    let mut attributes = CreateAttributes {
        prog_fd: program.as_fd().as_raw_fd(),
        target,
        attach_type,
        flags,
    };
    // SAFETY: the arm of `BPF_LINK_CREATE`; it holds no address.
    let result = unsafe { bpf(LINK_CREATE, &mut attributes) }?;
    // SAFETY: the command returned a new descriptor.
    unsafe { owned(result) }
}

/// Replaces the program of a link without a gap.
///
/// # Errors
/// What bpf(2) says of `BPF_LINK_UPDATE`.
pub(crate) fn link_update(link: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    let mut attributes = UpdateAttributes {
        link_fd: link.as_fd().as_raw_fd(),
        new_prog_fd: program.as_fd().as_raw_fd(),
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: the arm of `BPF_LINK_UPDATE`; it holds no address.
    unsafe { bpf(LINK_UPDATE, &mut attributes) }.map(|_| ())
}

/// Detaches what a link holds, whoever else has it open.
///
/// # Errors
/// What bpf(2) says of `BPF_LINK_DETACH`.
pub(crate) fn link_detach(link: &impl AsFd) -> io::Result<()> {
    let mut attributes = DetachAttributes {
        link_fd: link.as_fd().as_raw_fd(),
    };
    // SAFETY: the arm of `BPF_LINK_DETACH`; it holds no address.
    unsafe { bpf(LINK_DETACH, &mut attributes) }.map(|_| ())
}

/// Reads what the kernel knows of a link.
///
/// # Errors
/// What bpf(2) says of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn link_info(link: &impl AsFd) -> io::Result<LinkInfo> {
    let mut raw = RawLinkInfo::default();
    let mut attributes = InfoAttributes {
        fd: link.as_fd().as_raw_fd(),
        length: u32::try_from(size_of::<RawLinkInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut raw) as u64,
    };
    // SAFETY: the arm of `BPF_OBJ_GET_INFO_BY_FD`; the kernel writes at most `length` bytes, which are those of `raw`.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(LinkInfo {
        prog_id: raw.prog_id,
        target: raw.target,
    })
}
