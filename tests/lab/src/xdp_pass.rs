//! The smallest XDP program, for the bridge's side of each node's veth.
//!
//! A veth hands frames that the node's program sends with `XDP_TX` to its other end only when that end has a program
//! too. This is the whole reason for the one here, which passes everything on.

use anyhow::{Context as _, bail};
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`.
const PROGRAM: [u64; 2] = [u64::from_le_bytes([0xb7, 0, 0, 0, 2, 0, 0, 0]), 0x95];

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads here (linux/bpf.h); the kernel takes the rest as zero.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// As [`ProgLoad`], for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// As [`ProgLoad`], for `BPF_OBJ_PIN`.
#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// An XDP program that passes every frame on.
#[derive(Debug)]
pub struct XdpPass(OwnedFd);

impl XdpPass {
    /// Loads it.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn load() -> anyhow::Result<Self> {
        let license = c"Apache-2.0";
        let attributes = ProgLoad {
            prog_type: BPF_PROG_TYPE_XDP,
            insn_cnt: 2,
            insns: address(PROGRAM.as_ptr()),
            license: address(license.as_ptr()),
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: BPF_F_XDP_HAS_FRAGS,
        };
        bpf_fd(BPF_PROG_LOAD, &attributes)
            .map(Self)
            .context("failed to load the passing XDP program (root, or CAP_BPF and CAP_NET_ADMIN, is needed)")
    }

    /// Attaches it to an interface of the current network namespace, for as long as the pin exists.
    ///
    /// # Errors
    /// Where there is no such interface, its driver has no XDP, or it has another program.
    pub fn attach(&self, interface: &str, pin: &Path) -> anyhow::Result<()> {
        let index =
            nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
        let attributes = LinkCreate {
            prog_fd: u32::try_from(self.0.as_raw_fd())?,
            target_ifindex: index,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        let link = bpf_fd(BPF_LINK_CREATE, &attributes)
            .with_context(|| format!("failed to attach an XDP program to {interface}"))?;
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let attributes = ObjPin {
            pathname: address(path.as_ptr()),
            bpf_fd: u32::try_from(link.as_raw_fd())?,
            file_flags: 0,
        };
        let result = bpf(BPF_OBJ_PIN, &attributes);
        result
            .map(drop)
            .with_context(|| format!("failed to pin the link of {interface} at {}", pin.display()))
    }
}

/// A pointer as the kernel takes it.
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn bpf_fd<T>(command: libc::c_long, attributes: &T) -> anyhow::Result<OwnedFd> {
    let fd = RawFd::try_from(bpf(command, attributes)?)?;
    if fd < 0 {
        bail!("bpf({command}) gave no descriptor");
    }
    // SAFETY: the kernel has just made this descriptor for us, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2), which neither the standard library nor nix wraps.
fn bpf<T>(command: libc::c_long, attributes: &T) -> std::io::Result<libc::c_long> {
    // SAFETY: the attributes are one of the structures above, alive during the call and of the size told; the pointers
    // in them are of buffers that the callers keep alive during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
