/// The mark of a packet that came through IPsec, or is to go through it, in the bits of [`IPSEC_MARK_MASK`]. Inbound
/// security associations set it on what they decrypted; outbound policies go by it.
pub const IPSEC_MARK: u32 = 0xe500_0000;
/// The bits of a packet's mark that are essaim's; the others are left as they are.
pub const IPSEC_MARK_MASK: u32 = 0xff00_0000;

/// Bytes that ESP with AES-GCM adds to a packet in transport mode at most (RFC 4303, RFC 4106): SPI and sequence number 8,
/// IV 8, padding 3, trailer 2, ICV 16.
pub const ESP_OVERHEAD: u32 = 37;

/// Entry of [`crate::maps::IPSEC_COUNTERS`]: packets that were handed to IPsec.
pub const IPSEC_SENT: u32 = 0;
/// Entry of [`crate::maps::IPSEC_COUNTERS`]: packets that came through IPsec.
pub const IPSEC_RECEIVED: u32 = 1;
/// Entries of [`crate::maps::IPSEC_COUNTERS`].
pub const IPSEC_COUNTS: u32 = 2;
