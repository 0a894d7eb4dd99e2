use crate::types::{LogId, Types};
use openraft::RaftMetrics;

/// What a manager does about snapshots; it can be changed while Raft runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// A snapshot is made every so many entries (Swarm: 10,000). Fewer cost the writing of the whole state more
    /// often; more make a restart apply more entries.
    pub snapshot_interval: u64,
    /// So many entries before the snapshot stay in the log for followers that are slow (Swarm: 500). A follower that
    /// is further behind gets the whole snapshot.
    pub entries_kept: u64,
    /// So many snapshots before the newest stay on the disk (Swarm: none).
    pub snapshots_kept: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            snapshot_interval: 10_000,
            entries_kept: 500,
            snapshots_kept: 0,
        }
    }
}

/// How far a manager is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    applied: u64,
    /// The last entry of the newest snapshot; 0 where there is none.
    snapshot: u64,
    /// The last entry that is not in the log any more.
    purged: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) snapshot: bool,
    /// The log is to begin after this entry.
    pub(crate) purge: Option<u64>,
}

/// Says when snapshots are made and the log is shortened, each once.
#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    /// How much was applied when a snapshot was asked for.
    asked: u64,
    /// What the log was asked to begin after.
    purged: u64,
}

impl Housekeeping {
    pub(crate) fn due(&mut self, tuning: Tuning, metrics: &RaftMetrics<Types>) -> Due {
        let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.index);
        self.due_at(
            tuning,
            Progress {
                applied: index(&metrics.last_applied),
                snapshot: index(&metrics.snapshot),
                purged: index(&metrics.purged),
            },
        )
    }

    fn due_at(&mut self, tuning: Tuning, at: Progress) -> Due {
        let begun = self.asked.max(at.snapshot);
        let snapshot = at.applied.saturating_sub(begun) >= tuning.snapshot_interval.max(1);
        if snapshot {
            self.asked = at.applied;
        }
        let purge = at.snapshot.saturating_sub(tuning.entries_kept);
        let purge = (purge > self.purged.max(at.purged)).then_some(purge);
        self.purged = purge.unwrap_or(self.purged);
        Due { snapshot, purge }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn tuning(snapshot_interval: u64, entries_kept: u64) -> Tuning {
        Tuning {
            snapshot_interval,
            entries_kept,
            snapshots_kept: 0,
        }
    }

    const fn at(applied: u64, snapshot: u64, purged: u64) -> Progress {
        Progress {
            applied,
            snapshot,
            purged,
        }
    }

    #[test]
    fn each_thing_is_asked_for_once() {
        let mut it = Housekeeping::default();
        let tuning = tuning(10, 3);
        let nothing = Due::default();
        let snapshot = Due {
            snapshot: true,
            purge: None,
        };
        assert_eq!(it.due_at(tuning, at(9, 0, 0)), nothing);
        assert_eq!(it.due_at(tuning, at(10, 0, 0)), snapshot);
        assert_eq!(it.due_at(tuning, at(15, 0, 0)), nothing, "it is being made");
        let purge = Due {
            snapshot: false,
            purge: Some(7),
        };
        assert_eq!(it.due_at(tuning, at(15, 10, 0)), purge);
        assert_eq!(
            it.due_at(tuning, at(15, 10, 0)),
            nothing,
            "a follower reads the log yet"
        );
        assert_eq!(it.due_at(tuning, at(15, 10, 7)), nothing);
        assert_eq!(it.due_at(tuning, at(20, 10, 7)), snapshot);
    }

    #[test]
    fn a_change_counts_at_once() {
        let mut it = Housekeeping::default();
        assert_eq!(it.due_at(tuning(10_000, 500), at(600, 0, 0)), Due::default());
        assert!(it.due_at(tuning(100, 500), at(600, 0, 0)).snapshot);
        assert_eq!(it.due_at(tuning(100, 500), at(600, 600, 0)).purge, Some(100));
        assert_eq!(it.due_at(tuning(100, 50), at(600, 600, 100)).purge, Some(550));
        let all_kept = it.due_at(tuning(u64::MAX, u64::MAX), at(10_000, 600, 550));
        assert_eq!(all_kept, Due::default());
    }

    proptest! {
        #[test]
        fn the_log_never_loses_what_no_snapshot_holds(
            steps in proptest::collection::vec((0_u64..30, any::<bool>(), any::<bool>(), 0_u64..20, 0_u64..20), 1..100),
        ) {
            let (mut it, mut now, mut being_made) = (Housekeeping::default(), Progress::default(), None);
            for (entries, is_made, is_purged, interval, kept) in steps {
                now.applied += entries;
                if is_made && let Some(made) = being_made.take() {
                    now.snapshot = made;
                }
                let due = it.due_at(tuning(interval, kept), now);
                if due.snapshot {
                    being_made.get_or_insert(now.applied);
                }
                if let Some(purge) = due.purge {
                    prop_assert!(purge > now.purged && purge + kept <= now.snapshot);
                    if is_purged {
                        now.purged = purge;
                    }
                }
                prop_assert!(now.applied.saturating_sub(now.snapshot.max(it.asked)) < interval.max(1));
            }
        }
    }
}
