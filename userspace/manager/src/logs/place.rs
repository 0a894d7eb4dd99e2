//! Where a reader is in the logs of tasks.

use essaim_objects::TaskId;
use essaim_protocol::{LogMessage, LogPosition};
use std::collections::BTreeMap;

/// Of so many tasks it is known: of those that were heard last. A follower may outlive any number of tasks.
const MOST: usize = 4096;

/// Where a reader is, by task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(BTreeMap<TaskId, LogPosition>);

impl Places {
    /// Notes where the lines of a task begin, unless some have been sent.
    pub(crate) fn begin(&mut self, position: LogPosition) {
        self.0.entry(position.task).or_insert(position);
        self.bound();
    }

    /// Notes a line that is sent.
    pub(crate) fn pass(&mut self, line: &LogMessage) {
        let task = line.source.task;
        let place = self.0.entry(task).or_insert_with(|| LogPosition::begin(task));
        place.pass(line.timestamp);
        self.bound();
    }

    /// The places in the logs of these tasks.
    pub(crate) fn of(&self, is_wanted: impl Fn(TaskId) -> bool) -> Vec<LogPosition> {
        let places = self.0.values().filter(|place| is_wanted(place.task));
        places.copied().collect()
    }

    fn bound(&mut self) {
        if self.0.len() > MOST {
            let oldest = self.0.values().min_by_key(|place| place.timestamp);
            if let Some(task) = oldest.map(|place| place.task) {
                self.0.remove(&task);
            }
        }
    }
}

impl From<Vec<LogPosition>> for Places {
    fn from(places: Vec<LogPosition>) -> Self {
        Self(places.into_iter().map(|place| (place.task, place)).collect())
    }
}
