//! Sequence numbers of a connection, which a hand-made ICMP error must quote.

use anyhow::Context as _;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

/// linux/tcp.h; the libc crate names the first two only.
const TCP_REPAIR: libc::c_int = 19;
const TCP_REPAIR_QUEUE: libc::c_int = 20;
const TCP_QUEUE_SEQ: libc::c_int = 21;
const TCP_RECV_QUEUE: libc::c_int = 1;
const TCP_REPAIR_ON: libc::c_int = 1;
/// Off, without a window probe.
const TCP_REPAIR_OFF: libc::c_int = -1;

/// The sequence number that the peer sends next.
///
/// # Errors
/// Without `CAP_NET_ADMIN`.
pub fn next_of_peer(stream: &TcpStream) -> anyhow::Result<u32> {
    set(stream, TCP_REPAIR, TCP_REPAIR_ON)?;
    set(stream, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)?;
    let sequence = sequence(stream)?;
    set(stream, TCP_REPAIR, TCP_REPAIR_OFF)?;
    Ok(sequence)
}

/// setsockopt(2): neither the standard library nor socket2 has these options.
fn set(stream: &TcpStream, option: libc::c_int, value: libc::c_int) -> anyhow::Result<()> {
    // SAFETY: the descriptor is open while the stream is borrowed; the value is an integer of the size told.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            std::ptr::from_ref(&value).cast(),
            libc::socklen_t::try_from(size_of_val(&value))?,
        )
    };
    anyhow::ensure!(
        result == 0,
        "TCP option {option}: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

fn sequence(stream: &TcpStream) -> anyhow::Result<u32> {
    let mut value = 0_u32;
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).context("size of an integer")?;
    // SAFETY: as in `set`; the kernel writes at most `length` bytes, which `value` has.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_QUEUE_SEQ,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    anyhow::ensure!(result == 0, "TCP_QUEUE_SEQ: {}", std::io::Error::last_os_error());
    Ok(value)
}
