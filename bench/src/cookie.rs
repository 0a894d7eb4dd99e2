//! The cookie of a network namespace, which no crate of ours reads.

use nix::libc;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

/// The cookie of this thread's network namespace (`SO_NETNS_COOKIE`, socket(7)).
///
/// # Errors
/// When no socket can be made, or the kernel is older than 5.14.
pub fn netns_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the option is a u64, and both pointers are to live variables of the sizes that are given; no safe wrapper
    // knows the option.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}
