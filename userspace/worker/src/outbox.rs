use essaim_objects::{TaskId, TaskStatus};
use essaim_protocol::TaskReport;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most tasks of one report, as the managers take.
const MOST: usize = 10_000;

/// What is still to be reported: the newest of each task, so that it never holds more than the node has tasks.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<BTreeMap<TaskId, TaskStatus>>,
    filled: Notify,
}

impl Outbox {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<TaskId, TaskStatus>> {
        // What it guards is whole at all times.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, reports: Vec<TaskReport>) {
        if !reports.is_empty() {
            let reports = reports.into_iter().map(|report| (report.task, report.status));
            self.waiting().extend(reports);
            self.filled.notify_one();
        }
    }

    /// Waits until there is something to be reported, and takes it.
    pub(crate) async fn take(&self) -> Vec<TaskReport> {
        loop {
            let taken = self.take_now();
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    fn take_now(&self) -> Vec<TaskReport> {
        let mut waiting = self.waiting();
        let rest = match waiting.keys().nth(MOST) {
            Some(&first) => waiting.split_off(&first),
            None => BTreeMap::new(),
        };
        let taken = std::mem::replace(&mut *waiting, rest);
        let reports = taken
            .into_iter()
            .map(|(task, status)| TaskReport { task, status });
        reports.collect()
    }

    /// They could not be sent; what has become newer meanwhile stays.
    pub(crate) fn put_back(&self, reports: Vec<TaskReport>) {
        let mut waiting = self.waiting();
        for TaskReport { task, status } in reports {
            waiting.entry(task).or_insert(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::TaskState;

    fn report(task: u128, state: TaskState) -> TaskReport {
        let status = TaskStatus {
            state,
            ..TaskStatus::default()
        };
        TaskReport {
            task: TaskId::from_bits(task),
            status,
        }
    }

    #[tokio::test]
    async fn what_was_not_sent_is_sent_again_unless_it_is_old_news() {
        let outbox = Outbox::default();
        outbox.add(vec![report(1, TaskState::Ready), report(2, TaskState::Ready)]);
        let taken = outbox.take().await;
        outbox.add(vec![report(1, TaskState::Running)]);
        outbox.put_back(taken);
        let expected = vec![report(1, TaskState::Running), report(2, TaskState::Ready)];
        assert_eq!(outbox.take().await, expected);
        assert_eq!(outbox.take_now(), Vec::new());
    }

    #[tokio::test]
    async fn more_than_a_report_may_have_goes_in_several() {
        let outbox = Outbox::default();
        let all = u128::try_from(MOST).unwrap() + 5;
        outbox.add((0..all).map(|task| report(task, TaskState::Ready)).collect());
        assert_eq!(outbox.take().await.len(), MOST);
        assert_eq!(outbox.take().await.len(), 5);
    }
}
