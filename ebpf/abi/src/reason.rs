/// Declares the drop reasons: number, name and meaning in one place.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a packet went no further. Numbers are append-only: they stand in counters that outlive the programs.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $name = $number,)*
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason with this number.
            pub const fn of(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name as counters and events show it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What it means, in a sentence.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    Truncated = 1, "A header reaches past the end of the packet.";
    Malformed = 2, "A header contradicts itself or the packet's length.";
    NotMember = 3, "VXLAN from an address that is no member's VTEP.";
    UnknownVni = 4, "The VNI does not belong to the destination's network.";
    UnknownDestination = 5, "No endpoint of the network has the destination address.";
    SpoofedMac = 6, "The source Ethernet address is not the endpoint's own.";
    SpoofedAddress = 7, "The source IP address is not the endpoint's own.";
    SpoofedArp = 8, "An ARP or neighbour message claims an address that is not the endpoint's own.";
    Multicast = 9, "Multicast and broadcast are not carried.";
    UnsupportedEtherType = 10, "Neither IPv4, IPv6 nor ARP.";
    UnsupportedProtocol = 11, "A service balances TCP, UDP and SCTP, and answers ping; nothing else.";
    NoBackend = 12, "The service has no live backend; the client was refused.";
    NoBackendInFamily = 13, "No backend has an address of the packet's IP version; the client was refused.";
    UnknownFlow = 14, "The packet opens no flow and belongs to none; the client was reset.";
    FlowTableFull = 15, "The table of established flows is full: a new flow was refused.";
    FlowConflict = 16, "Another live flow has the same translated addresses and ports.";
    HandedOnTooOften = 17, "The packet was handed from owner to owner too often: tables of nodes differ.";
    TtlExceeded = 18, "Time to live ran out.";
    TooBig = 19, "The packet does not fit the way ahead and may not be fragmented; its sender was told.";
    UnknownFragment = 20, "A later fragment came whose first fragment was not seen.";
    ForbiddenPort = 21, "A task may not reach a node's VXLAN, gossip or manager port.";
    InternalNetwork = 22, "The network is internal: nothing leaves it.";
    NotInNetwork = 23, "The destination belongs to a network that the sender is not on.";
    EndpointGone = 24, "The destination's task is gone; the sender was refused.";
    BadSteering = 25, "A packet on the ingress VNI carries no steering that this node understands.";
    UnmatchedError = 26, "An ICMP error quotes no known flow.";
    NotEncrypted = 27, "A packet of an encrypted network came without IPsec.";
    HelperFailed = 28, "A kernel helper refused; the packet could not be changed or redirected.";
    UnknownService = 29, "The published port is not known here.";
    UnknownInterface = 30, "The packet came in on an interface, or asks for one, that is in no table.";
    LinkLocal = 31, "Link-local traffic does not leave its link.";
    NotEstablished = 32, "The answer to a flow that this node does not hold.";
    CannotEncrypt = 33, "A packet of an encrypted network has to leave, and this node has no IPsec.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_unique() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index + 1, "{reason:?}");
            assert_eq!(DropReason::of(*reason as u8), Some(*reason));
        }
        assert_eq!(DropReason::of(0), None);
    }
}
