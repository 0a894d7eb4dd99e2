use crate::DatapathError;
use aya::maps::{Map, MapData, RingBuf};
use essaim_abi::{Event, Pod};
use std::os::fd::{AsFd, BorrowedFd};

/// The reading end of the ring of events. Of several readers each event reaches one: the agent is the one that reads.
pub struct EventRing {
    ring: RingBuf<MapData>,
}

impl EventRing {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Result<Self, DatapathError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| DatapathError::Load {
            object: "the event ring".to_owned(),
            source,
        };
        let data = fd.try_clone_to_owned().map_err(|error| failed(error.into()))?;
        let data = MapData::from_fd(data).map_err(|error| failed(error.into()))?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(|error| failed(error.into()))?;
        Ok(Self { ring })
    }
}

impl std::fmt::Debug for EventRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventRing").finish_non_exhaustive()
    }
}

impl Iterator for EventRing {
    type Item = Event;

    /// The next event that is there; `None` is no end, more may come.
    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = Event::from_bytes(&self.ring.next()?) {
                return Some(event);
            }
        }
    }
}

/// Readable when there are events: for poll(2).
impl AsFd for EventRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
