use super::{Shared, closed, lock};
use crate::disk;
use crate::log::Change;
use crate::types::Types;
use openraft::storage::IOFlushed;
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The most bytes that one commit takes, unless a single write has more.
const COMMIT_BYTES: usize = 8 << 20;

/// Something for the writer to do.
pub(super) enum Write {
    Append {
        changes: Vec<Change>,
        callback: IOFlushed<Types>,
    },
    Sync {
        changes: Vec<Change>,
        done: oneshot::Sender<Result<(), io::Error>>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// Whom to tell.
enum Waiting {
    Append(IOFlushed<Types>),
    Sync(oneshot::Sender<Result<(), io::Error>>),
}

impl Waiting {
    fn tell(self, result: Result<(), io::Error>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            Self::Sync(done) => {
                let _ = done.send(result);
            }
        }
    }
}

/// Writes what is queued, all of it with one sync, in the order in which it was queued. After an error nothing more is
/// written, so what was acknowledged stays the prefix of what was not.
pub(super) async fn run(shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<Write>) {
    let mut closing = None;
    while closing.is_none()
        && let Some(first) = queue.recv().await
    {
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(write) = next {
            match write {
                Write::Append {
                    changes: mut more,
                    callback,
                } => {
                    bytes += more.iter().map(size).sum::<usize>();
                    changes.append(&mut more);
                    waiting.push(Waiting::Append(callback));
                }
                Write::Sync {
                    changes: mut more,
                    done,
                } => {
                    changes.append(&mut more);
                    waiting.push(Waiting::Sync(done));
                }
                Write::Close { done } => closing = Some(done),
            }
            let full = bytes >= COMMIT_BYTES || closing.is_some();
            next = if full { None } else { queue.try_recv().ok() };
        }
        commit(&shared, changes, waiting).await;
    }
    if let Some(done) = closing {
        queue.close();
        while let Some(write) = queue.recv().await {
            let refused = Err(io::Error::other("the log is closed"));
            match write {
                Write::Append { callback, .. } => callback.io_completed(refused),
                Write::Sync { done, .. } => {
                    let _ = done.send(refused);
                }
                Write::Close { done } => drop(done),
            }
        }
        let database = Arc::clone(&shared.database);
        disk::run(&*shared.disk, move || drop(lock(&database).take())).await;
        let _ = done.send(());
    }
}

fn size(change: &Change) -> usize {
    match change {
        Change::Append { plain, .. } => plain.len(),
        Change::RemoveFrom(_) | Change::RemoveUpTo(_) | Change::Vote(_) | Change::Cluster(_) => 0,
    }
}

async fn commit(shared: &Shared, changes: Vec<Change>, waiting: Vec<Waiting>) {
    if shared.fault.happened() {
        for waiting in waiting {
            waiting.tell(Err(shared.fault.as_io()));
        }
        return;
    }
    let committed = lock(&shared.view).committed;
    let last = changes.iter().rev().find_map(|change| match change {
        Change::Append { index, .. } => Some(*index),
        Change::RemoveFrom(_) | Change::RemoveUpTo(_) | Change::Vote(_) | Change::Cluster(_) => None,
    });
    let database = Arc::clone(&shared.database);
    let written = disk::run(&*shared.disk, move || match &mut *lock(&database) {
        Some(database) => database.write(&changes, committed),
        None => Err(closed()),
    })
    .await;
    match written {
        Some(Ok(())) => {
            let mut view = lock(&shared.view);
            view.durable = view.durable.max(last.min(view.last.map(|last| last.index)));
            view.shrink();
            drop(view);
            for waiting in waiting {
                waiting.tell(Ok(()));
            }
        }
        Some(Err(error)) => {
            shared.fault.record(error);
            for waiting in waiting {
                waiting.tell(Err(shared.fault.as_io()));
            }
        }
        None => {
            for waiting in waiting {
                waiting.tell(Err(shared.fault.as_io()));
            }
        }
    }
}
