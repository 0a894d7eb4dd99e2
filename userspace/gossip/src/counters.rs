//! What went in and out, and why input was dropped.

/// Why a datagram or frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum DropReason {
    /// It ends within its header.
    #[error("it ends within its header")]
    Truncated,
    /// It has another version of the format.
    #[error("it has another version of the format")]
    Version,
    /// It is larger than this node accepts.
    #[error("it is larger than accepted")]
    Oversized,
    /// It bears the name of no member.
    #[error("its sender is not a member")]
    NotMember,
    /// It bears this node's own name.
    #[error("it bears the receiver's own name")]
    FromSelf,
    /// No key opens it, or it is meant for another node.
    #[error("no key opens it")]
    Sealed,
    /// It comes from an earlier run of its sender.
    #[error("it comes from an earlier run of its sender")]
    StaleEpoch,
    /// It was opened, but what is in it breaks the format.
    #[error("its content breaks the format")]
    Malformed,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Truncated,
        Self::Version,
        Self::Oversized,
        Self::NotMember,
        Self::FromSelf,
        Self::Sealed,
        Self::StaleEpoch,
        Self::Malformed,
    ];

    /// Its name in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Version => "version",
            Self::Oversized => "oversized",
            Self::NotMember => "not_member",
            Self::FromSelf => "from_self",
            Self::Sealed => "sealed",
            Self::StaleEpoch => "stale_epoch",
            Self::Malformed => "malformed",
        }
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams handed out for sending.
    pub datagrams_sent: u64,
    /// Their bytes, without UDP and IP headers.
    pub datagram_bytes_sent: u64,
    /// Datagrams that were accepted.
    pub datagrams_received: u64,
    /// Their bytes.
    pub datagram_bytes_received: u64,
    /// Frames of exchanges handed out.
    pub frames_sent: u64,
    /// Their bytes.
    pub frame_bytes_sent: u64,
    /// Frames that were accepted.
    pub frames_received: u64,
    /// Their bytes.
    pub frame_bytes_received: u64,
    /// Datagrams that the system did not take; counted by the service.
    pub unsent_datagrams: u64,
    /// Exchanges that were not begun or not ended; counted by the service.
    pub failed_exchanges: u64,
    /// Statements about nodes that are no members, left out.
    pub foreign_statements: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// How many datagrams and frames were dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or_default()
    }

    pub(crate) fn drop_for(&mut self, reason: DropReason) {
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count += 1;
        }
    }

    pub(crate) fn datagram_sent(&mut self, bytes: usize) {
        self.datagrams_sent += 1;
        self.datagram_bytes_sent += bytes as u64;
    }

    pub(crate) fn datagram_received(&mut self, bytes: usize) {
        self.datagrams_received += 1;
        self.datagram_bytes_received += bytes as u64;
    }

    pub(crate) fn frame_sent(&mut self, bytes: usize) {
        self.frames_sent += 1;
        self.frame_bytes_sent += bytes as u64;
    }

    pub(crate) fn frame_received(&mut self, bytes: usize) {
        self.frames_received += 1;
        self.frame_bytes_received += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_counts_under_its_own_number() {
        let mut counters = Counters::default();
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            for _ in 0..=number {
                counters.drop_for(reason);
            }
        }
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(counters.dropped(reason), number as u64 + 1);
        }
    }
}
