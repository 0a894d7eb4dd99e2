//! VXLAN as anybody could send it: an ordinary UDP payload.

use anyhow::bail;
use essaim_lab::Cluster;
use essaim_netns_tests::udp;
use etherparse::PacketBuilder;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The port of VXLAN.
pub(crate) const VXLAN: u16 = 4789;

/// The port of the victim's socket.
pub(crate) const VICTIM_PORT: u16 = 9999;

/// A UDP datagram in its frame.
pub(crate) fn datagram(
    macs: ([u8; 6], [u8; 6]),
    from: IpAddr,
    to: IpAddr,
    payload: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(macs.0, macs.1);
    let mut frame = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let packet = ethernet.ipv4(from.octets(), to.octets(), 64);
            packet.udp(1234, VICTIM_PORT).write(&mut frame, payload)?;
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let packet = ethernet.ipv6(from.octets(), to.octets(), 64);
            packet.udp(1234, VICTIM_PORT).write(&mut frame, payload)?;
        }
        _ => bail!("{from} and {to} are of different families"),
    }
    Ok(frame)
}

/// The VXLAN header (RFC 7348 section 5) and what it carries.
pub(crate) fn encapsulated(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let mut payload = vec![0x08, 0, 0, 0, a, b, c, 0];
    payload.extend(frame);
    payload
}

/// The socket that must hear only what is real.
pub(crate) struct Victim {
    socket: UdpSocket,
    address: IpAddr,
}

impl Victim {
    /// Opens it in a task.
    pub(crate) fn open(cluster: &Cluster, task: &str, address: IpAddr) -> anyhow::Result<Self> {
        let socket = udp(cluster, task, address, VICTIM_PORT)?;
        Ok(Self { socket, address })
    }

    /// Lets a real peer say something, and makes sure that nothing else was heard before: datagrams that were let in
    /// earlier would be read first.
    pub(crate) fn hears_only(&self, cluster: &Cluster, peer: &str) -> anyhow::Result<()> {
        let socket = udp(cluster, peer, self.address, 0)?;
        socket.send_to(b"real", SocketAddr::new(self.address, VICTIM_PORT))?;
        match self.hear()?.as_str() {
            "real" => Ok(()),
            other => bail!("the victim heard {other:?}"),
        }
    }

    /// The next datagram.
    pub(crate) fn hear(&self) -> anyhow::Result<String> {
        self.socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut buffer = [0; 2048];
        let length = self.socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
    }
}
