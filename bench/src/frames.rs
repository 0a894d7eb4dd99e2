//! The packets that are measured, built header by header.

use anyhow::Context as _;
use essaim_abi::MacAddr;
use essaim_bench_programs::{Driver, FRAME_LEN, TEMPLATE_LEN};
use etherparse::{PacketBuilder, PacketBuilderStep};
use std::net::{IpAddr, SocketAddr};

/// What a transport header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment that opens a connection.
    TcpSyn,
    /// A TCP segment of a connection.
    TcpAck,
    /// A datagram without a checksum.
    Udp,
}

/// A frame of [`FRAME_LEN`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    bytes: Vec<u8>,
    v6: bool,
}

impl Template {
    /// A frame between two addresses of one family.
    ///
    /// # Errors
    /// When the families differ.
    pub fn new(
        macs: (MacAddr, MacAddr),
        from: SocketAddr,
        to: SocketAddr,
        transport: Transport,
    ) -> anyhow::Result<Self> {
        let (source, destination) = macs;
        let builder = PacketBuilder::ethernet2(source.0, destination.0);
        let (builder, headers) = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (builder.ipv4(from.octets(), to.octets(), 64), 34),
            (IpAddr::V6(from), IpAddr::V6(to)) => (builder.ipv6(from.octets(), to.octets(), 64), 54),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                anyhow::bail!("{from} and {to} are of different families")
            }
        };
        let mut bytes = with_transport(builder, headers, from.port(), to.port(), transport)?;
        if transport == Transport::Udp {
            // The driver changes the ports and mends no checksum.
            bytes
                .get_mut(headers + 6..headers + 8)
                .context("no room for a UDP header")?
                .fill(0);
        }
        Ok(Self {
            bytes,
            v6: from.is_ipv6(),
        })
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The driver's entry that makes frames of `flows` flows (a power of two) from it; `None`: every packet is a new flow.
    pub fn driver(&self, flows: Option<u64>) -> Driver {
        let mut template = [0; TEMPLATE_LEN / 8];
        for (word, bytes) in template.iter_mut().zip(self.bytes.chunks_exact(8)) {
            *word = bytes
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        let mask = flows.map_or(u64::from(u32::MAX), |flows| flows.next_power_of_two() - 1);
        Driver {
            template,
            mask,
            counter: 0,
            v6: u32::from(self.v6),
            ifindex: 0,
            cb: [0; 5],
            peer: 0,
        }
    }
}

fn with_transport(
    builder: PacketBuilderStep<etherparse::IpHeaders>,
    headers: usize,
    from: u16,
    to: u16,
    transport: Transport,
) -> anyhow::Result<Vec<u8>> {
    let payload = |transport_len: usize| vec![0; FRAME_LEN - headers - transport_len];
    let mut bytes = Vec::with_capacity(FRAME_LEN);
    match transport {
        Transport::TcpSyn => builder
            .tcp(from, to, 1, 65_535)
            .syn()
            .write(&mut bytes, &payload(20)),
        Transport::TcpAck => builder
            .tcp(from, to, 1, 65_535)
            .ack(1)
            .write(&mut bytes, &payload(20)),
        Transport::Udp => builder.udp(from, to).write(&mut bytes, &payload(8)),
    }
    .with_context(|| format!("failed to build a packet to port {to}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_the_frame_in_words() {
        let macs = (MacAddr([1; 6]), MacAddr([2; 6]));
        for (from, to) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
            for transport in [Transport::TcpSyn, Transport::TcpAck, Transport::Udp] {
                let template =
                    Template::new(macs, from.parse().unwrap(), to.parse().unwrap(), transport).unwrap();
                assert_eq!(template.bytes().len(), FRAME_LEN);
                let words = template.driver(Some(1024)).template;
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                assert_eq!(bytes, template.bytes()[..TEMPLATE_LEN]);
            }
        }
    }
}
