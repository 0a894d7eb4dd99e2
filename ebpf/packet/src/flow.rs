//! How a flow lives: which packets open one, and what a packet makes of its state.

use crate::Packet;
use crate::wire::{protocol, sctp, tcp};
use essaim_abi::FlowState;

/// Whether the packet opens a flow: TCP with SYN and without ACK, SCTP with INIT, anything of UDP.
#[inline(always)]
pub const fn opens(packet: &Packet) -> bool {
    match packet.protocol {
        protocol::TCP => packet.flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN,
        protocol::SCTP => packet.flags == sctp::INIT,
        _ => true,
    }
}

/// Whether the packet ends its flow.
#[inline(always)]
pub const fn closes(packet: &Packet) -> bool {
    match packet.protocol {
        protocol::TCP => packet.flags & (tcp::FIN | tcp::RST) != 0,
        protocol::SCTP => matches!(
            packet.flags,
            sctp::ABORT | sctp::SHUTDOWN | sctp::SHUTDOWN_ACK | sctp::SHUTDOWN_COMPLETE
        ),
        _ => false,
    }
}

/// What the packet makes of a flow's state (RFC 9293 section 3.3.2, as far as one in the middle can tell).
///
/// A half-open flow becomes established with the client's first packet after the backend answered; a SYN on a closing
/// flow opens it anew.
#[inline(always)]
pub const fn next(state: FlowState, packet: &Packet, from_client: bool, replied: bool) -> FlowState {
    if closes(packet) {
        return FlowState::Closing;
    }
    match state {
        FlowState::HalfOpen => {
            let opening = packet.protocol != protocol::UDP && opens(packet);
            if from_client && replied && !opening {
                FlowState::Established
            } else {
                FlowState::HalfOpen
            }
        }
        FlowState::Established => FlowState::Established,
        FlowState::Closing => {
            if packet.protocol != protocol::UDP && from_client && opens(packet) {
                FlowState::HalfOpen
            } else {
                FlowState::Closing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fragment;
    use FlowState::{Closing, Established, HalfOpen};

    fn packet(protocol: u8, flags: u8) -> Packet {
        Packet {
            source: essaim_abi::Addr::UNSPECIFIED,
            destination: essaim_abi::Addr::UNSPECIFIED,
            source_port: 0,
            destination_port: 0,
            network: 14,
            transport: 34,
            len: 40,
            protocol,
            flags,
            ttl: 64,
            v6: false,
            dont_fragment: true,
            fragment: Fragment::Whole,
            id: 0,
        }
    }

    #[test]
    fn the_whole_table_of_transitions_holds() {
        use tcp::{ACK, FIN, RST, SYN};
        for (state, protocol, flags, from_client, replied, expected) in [
            (HalfOpen, 6, SYN, true, false, HalfOpen),
            (HalfOpen, 6, SYN, true, true, HalfOpen),
            (HalfOpen, 6, SYN | ACK, false, false, HalfOpen),
            (HalfOpen, 6, ACK, true, false, HalfOpen),
            (HalfOpen, 6, ACK, true, true, Established),
            (HalfOpen, 6, RST | ACK, false, true, Closing),
            (Established, 6, ACK, true, true, Established),
            (Established, 6, ACK, false, true, Established),
            (Established, 6, SYN, true, true, Established),
            (Established, 6, FIN | ACK, true, true, Closing),
            (Established, 6, RST, false, true, Closing),
            (Closing, 6, ACK, true, true, Closing),
            (Closing, 6, SYN, true, true, HalfOpen),
            (Closing, 6, SYN, false, true, Closing),
            (HalfOpen, 17, 0, true, false, HalfOpen),
            (HalfOpen, 17, 0, false, true, HalfOpen),
            (HalfOpen, 17, 0, true, true, Established),
            (Established, 17, 0, false, true, Established),
            (HalfOpen, 132, sctp::INIT, true, true, HalfOpen),
            (HalfOpen, 132, 10, true, true, Established),
            (Established, 132, sctp::ABORT, false, true, Closing),
            (Established, 132, sctp::SHUTDOWN, true, true, Closing),
        ] {
            let found = next(state, &packet(protocol, flags), from_client, replied);
            assert_eq!(
                found, expected,
                "{state:?} {protocol} {flags:#x} client={from_client} replied={replied}"
            );
        }
    }

    #[test]
    fn only_a_bare_syn_opens() {
        assert!(opens(&packet(6, tcp::SYN)));
        assert!(!opens(&packet(6, tcp::SYN | tcp::ACK)));
        assert!(!opens(&packet(6, tcp::ACK)));
        assert!(opens(&packet(17, 0)));
        assert!(opens(&packet(132, sctp::INIT)) && !opens(&packet(132, 0)));
    }
}
