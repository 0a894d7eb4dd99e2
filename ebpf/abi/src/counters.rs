use crate::pod::pod;

/// A cell of a per-CPU counter array.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Packets towards the service or backend (or dropped for the reason).
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// New flows (connections balanced by socket programs included).
    pub flows: u64,
}
pod!(Counters, size = 24, align = 8);
