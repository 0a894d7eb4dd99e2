use openraft::async_runtime::watch::{RecvError, SendError};
use openraft::async_runtime::{Watch, WatchReceiver, WatchSender};
use openraft::{OptionalSend, OptionalSync};
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// Tokio's watch channel, whose receivers wake in the order in which they began to wait. Tokio's own spreads them over
/// a few lists at random, so that no two runs of a simulation would be alike.
#[derive(Debug)]
pub(crate) struct OrderedWatch;

#[derive(Debug)]
pub(crate) struct Sender<T> {
    sender: watch::Sender<T>,
    changes: Arc<Changes>,
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    receiver: watch::Receiver<T>,
    changes: Arc<Notify>,
}

/// What one sender and its copies share; when the last is gone, the receivers are told.
#[derive(Debug, Default)]
struct Changes(Arc<Notify>);

impl Drop for Changes {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            changes: Arc::clone(&self.changes),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            receiver: self.receiver.clone(),
            changes: Arc::clone(&self.changes),
        }
    }
}

impl Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = watch::channel(init);
        let changes = Arc::new(Changes::default());
        let receiver = Receiver {
            receiver,
            changes: Arc::clone(&changes.0),
        };
        (Sender { sender, changes }, receiver)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<OrderedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.sender.send(value).map_err(|error| SendError(error.0))?;
        self.changes.0.notify_waiters();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = self.sender.send_if_modified(modify);
        if modified {
            self.changes.0.notify_waiters();
        }
        modified
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.sender.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver {
            receiver: self.sender.subscribe(),
            changes: Arc::clone(&self.changes.0),
        }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<OrderedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            // Waits from before the look on, so that no change falls between the two.
            let mut change = std::pin::pin!(self.changes.notified());
            change.as_mut().enable();
            match self.receiver.has_changed() {
                Ok(true) => {
                    self.receiver.mark_unchanged();
                    return Ok(());
                }
                Ok(false) => change.await,
                Err(_) => return Err(RecvError(())),
            }
        }
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.receiver.borrow()
    }

    fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.receiver.borrow_and_update()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn receivers_wake_in_the_order_in_which_they_wait() {
        let (sender, receiver) = OrderedWatch::channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let (mut receiver, woken) = (receiver.clone(), Arc::clone(&woken));
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    woken.lock().unwrap().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(sender.send(1).is_ok());
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_is_seen_once_also_when_it_came_before_the_wait() {
        let (sender, mut receiver) = OrderedWatch::channel(0);
        assert!(sender.send_if_modified(|value| {
            *value = 5;
            true
        }));
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow_watched(), 5);
        let mut late = sender.subscribe();
        let waiting =
            tokio::spawn(async move { (receiver.changed().await.is_err(), late.changed().await.is_err()) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "there is nothing new");
        drop(sender);
        assert_eq!(waiting.await.unwrap(), (true, true), "the sender is gone");
    }
}
