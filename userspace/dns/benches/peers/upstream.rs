//! The server of the outside that all three ask: it gives every name the same address.

use crate::sandbox::inside;
use anyhow::Context as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::thread;

/// Where it serves, at the usual port, in every server's namespace.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
/// An answer: a pointer to the question's name, A, IN, an hour, four bytes.
const RECORD: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 192, 0, 2, 1];

/// Serves in a namespace until the bench ends.
pub(crate) fn start(netns: &Path) -> anyhow::Result<()> {
    let socket = inside(netns, || {
        UdpSocket::bind((ADDRESS, 53)).context("failed to open the upstream server's socket")
    })?;
    thread::spawn(move || {
        let mut message = [0; 1024];
        while let Ok((length, peer)) = socket.recv_from(&mut message) {
            if let Some(length) = answer(&mut message, length) {
                // The asker may have gone.
                let _ = socket.send_to(message.get(..length).unwrap_or_default(), peer);
            }
        }
    });
    Ok(())
}

/// Turns a question for an address into its answer and gives its length; whatever follows the question is cut off.
fn answer(message: &mut [u8], length: usize) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*message.get(at)?) {
            0 => break,
            label => at += 1 + label,
        }
    }
    let end = at + 5;
    if end > length {
        return None;
    }
    // A response, recursion available, one answer.
    *message.get_mut(2)? |= 0x80;
    *message.get_mut(3)? = 0x80;
    message.get_mut(6..12)?.copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    message.get_mut(end..end + RECORD.len())?.copy_from_slice(&RECORD);
    Some(end + RECORD.len())
}
