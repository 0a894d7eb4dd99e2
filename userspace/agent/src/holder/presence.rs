//! Whether who gave the holder something is there: until when the holder does its part alone.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Who gave it, as far as the holder sees.
pub(super) struct Presence {
    limit: Duration,
    giver: Giver,
}

enum Giver {
    /// It has this connection.
    Here(RawFd),
    /// It went, and is waited for until then.
    Away(Instant),
}

impl Presence {
    /// Of whoever has this connection. It may be away for `limit` at once.
    pub(super) fn new(connection: RawFd, limit: Duration) -> Self {
        Self {
            limit,
            giver: Giver::Here(connection),
        }
    }

    /// A connection has ended.
    pub(super) fn ended(&mut self, connection: RawFd, now: Instant) {
        if matches!(self.giver, Giver::Here(giver) if giver == connection) {
            self.giver = Giver::Away(now + self.limit);
        }
    }

    /// Until when it is waited for, while it is away.
    pub(super) fn awaited(&self) -> Option<Instant> {
        match self.giver {
            Giver::Here(_) => None,
            Giver::Away(until) => Some(until),
        }
    }

    /// It has not come back in time.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.awaited().is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_a_limit_after_the_end_of_its_own_connection() {
        let now = Instant::now();
        let mut presence = Presence::new(5, Duration::from_secs(1));
        presence.ended(6, now);
        assert_eq!((presence.awaited(), presence.is_over(now)), (None, false));
        presence.ended(5, now);
        let until = now + Duration::from_secs(1);
        assert_eq!(presence.awaited(), Some(until));
        // Another's end, which may have the number of this one's connection by then, changes nothing.
        presence.ended(5, until);
        assert!(!presence.is_over(now + Duration::from_millis(999)));
        assert!(presence.is_over(until));
    }
}
