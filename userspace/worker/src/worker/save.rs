use crate::core::Kept;
use crate::disk::Disk;
use essaim_rpc::chain;
use std::time::Duration;
use tokio::task::JoinSet;

/// From a write that failed to its next try.
const AGAIN: Duration = Duration::from_secs(5);

/// Writes what is to be kept, the newest only, one write at a time.
pub(super) struct Saver {
    disk: Disk,
    next: Option<Vec<Kept>>,
    writing: JoinSet<Option<Vec<Kept>>>,
}

impl Saver {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            next: None,
            writing: JoinSet::new(),
        }
    }

    pub(super) fn save(&mut self, kept: Vec<Kept>) {
        self.next = Some(kept);
        self.go_on();
    }

    fn go_on(&mut self) {
        if !self.writing.is_empty() {
            return;
        }
        if let Some(kept) = self.next.take() {
            let disk = self.disk.clone();
            self.writing.spawn_blocking(move || write(&disk, kept));
        }
    }

    /// Waits for the end of a write; for ever where there is none.
    pub(super) async fn saved(&mut self) {
        match self.writing.join_next().await {
            None => std::future::pending().await,
            Some(Ok(Some(failed))) => {
                self.next.get_or_insert(failed);
                // A disk that is full is not asked all the time.
                self.writing.spawn(async {
                    tokio::time::sleep(AGAIN).await;
                    None
                });
            }
            Some(_) => self.go_on(),
        }
    }

    /// Writes what is left.
    pub(super) async fn finish(mut self) {
        let mut last = None;
        while let Some(written) = self.writing.join_next().await {
            last = written.ok().flatten();
            if last.is_some() {
                break;
            }
        }
        if let Some(kept) = self.next.take().or(last) {
            let disk = self.disk;
            // It was said where it failed.
            let _ = tokio::task::spawn_blocking(move || write(&disk, kept)).await;
        }
    }
}

/// What could not be written.
fn write(disk: &Disk, kept: Vec<Kept>) -> Option<Vec<Kept>> {
    match disk.keep_tasks(&kept) {
        Ok(()) => None,
        Err(error) => {
            let error = chain(&error);
            tracing::error!(
                error,
                "what is assigned is not kept: a restart has to wait for the managers"
            );
            Some(kept)
        }
    }
}
