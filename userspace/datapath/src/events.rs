use crate::DatapathError;
use aya::maps::{Map, MapData, RingBuf};
use essaim_abi::{Event, Pod};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

/// As many as the ring holds.
const KEPT: usize = essaim_abi::maps::EVENT_BYTES as usize / size_of::<Event>();

/// The reading end of the ring of events. Of several readers each event reaches one: the agent is the one that reads.
pub struct EventRing {
    /// Taken from the ring by a trace that they did not belong to.
    kept: VecDeque<Event>,
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
        Ok(Self {
            kept: VecDeque::new(),
            ring,
        })
    }

    /// The events of the dry run with this mark that are there. Others stay for the next reader, the newest
    /// [`KEPT`] of them.
    pub(crate) fn take_traced(&mut self, mark: u32) -> Vec<Event> {
        let mut traced = Vec::new();
        while let Some(event) = self.take() {
            if event.trace_mark == mark {
                traced.push(event);
            } else {
                if self.kept.len() >= KEPT {
                    self.kept.pop_front();
                }
                self.kept.push_back(event);
            }
        }
        traced
    }

    fn take(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = Event::from_bytes(&self.ring.next()?) {
                return Some(event);
            }
        }
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
        self.kept.pop_front().or_else(|| self.take())
    }
}

/// Readable when there are events: for poll(2).
impl AsFd for EventRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
