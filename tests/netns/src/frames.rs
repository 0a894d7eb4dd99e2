//! Frames as they are on the wire, sent and received past the stack of a namespace.

use anyhow::{Context as _, bail, ensure};
use essaim_lab::{Cluster, eventually, netns};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::Read as _;
use std::time::{Duration, Instant};

/// All protocols (`linux/if_ether.h`).
const ETH_P_ALL: u16 = 3;

/// An interface, opened for frames.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
}

impl Wire {
    /// Opens an interface of a machine or task.
    ///
    /// # Errors
    /// When there is none of this name, or the kernel refuses.
    pub fn open(cluster: &Cluster, at: &str, interface: &str) -> anyhow::Result<Self> {
        netns::inside(&cluster.netns(at), || {
            let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            socket.bind(&address(interface)?)?;
            Ok(Self { socket })
        })
        .with_context(|| format!("failed to open {interface} of {at} for frames"))
    }

    /// Sends a frame, Ethernet header first.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        let sent = self.socket.send(frame).context("failed to send a frame")?;
        ensure!(sent == frame.len(), "{sent} of {} bytes were sent", frame.len());
        Ok(())
    }

    /// Waits for a frame of which `wanted` makes something; the others are passed over.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn receive<T>(
        &self,
        deadline: Duration,
        what: &str,
        wanted: impl Fn(&[u8]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let until = Instant::now() + deadline;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no frame within {deadline:?} was {what}");
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = match (&self.socket).read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("failed to receive a frame"),
            };
            if let Some(found) = buffer.get(..length).and_then(&wanted) {
                return Ok(found);
            }
        }
    }
}

/// The Ethernet address of an interface of a machine or task, once it has one.
///
/// # Errors
/// When there is no such interface.
pub fn mac(cluster: &Cluster, at: &str, interface: &str) -> anyhow::Result<[u8; 6]> {
    let shown = eventually(Duration::from_secs(5), "the interface is there", || {
        cluster
            .exec(at, &["ip", "-json", "link", "show", "dev", interface])?
            .ok()
    })?;
    let links: serde_json::Value = serde_json::from_str(&shown)?;
    let text = links
        .pointer("/0/address")
        .and_then(serde_json::Value::as_str)
        .with_context(|| format!("{interface} of {at} has no address"))?;
    mac_of(text)
}

/// Reads an Ethernet address.
///
/// # Errors
/// When the text is none.
pub fn mac_of(text: &str) -> anyhow::Result<[u8; 6]> {
    let bytes = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{text:?} is no Ethernet address"))?;
    <[u8; 6]>::try_from(bytes)
        .ok()
        .with_context(|| format!("{text:?} is no Ethernet address"))
}

/// The packet-socket address of an interface of the calling thread's namespace.
fn address(interface: &str) -> anyhow::Result<SockAddr> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name is a C string that lives during the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "no interface {interface}");
    let make = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        let link = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
            sll_protocol: ETH_P_ALL.to_be(),
            sll_ifindex: i32::try_from(index).unwrap_or_default(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the storage holds any socket address, and is ours to write.
        unsafe { storage.cast::<libc::sockaddr_ll>().write(link) };
        // SAFETY: as the storage.
        unsafe { *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default() };
        Ok(())
    };
    // SAFETY: the closure fills in a whole address and its length.
    let ((), address) = unsafe { SockAddr::try_init(make) }?;
    Ok(address)
}
