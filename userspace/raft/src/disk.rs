mod directory;

pub use directory::StateDirectory;

use futures_util::future::BoxFuture;
use redb::StorageBackend;
use std::fmt::Debug;
use std::io;

/// Work that blocks.
pub type Job = Box<dyn FnOnce() + Send>;

/// Where a manager's log and snapshots lie: a directory, or what a simulation puts in its place.
///
/// Names are plain file names. Nothing here is atomic or durable by itself; the log and the snapshots order the calls
/// so that a crash between any two of them loses nothing that was acknowledged.
pub trait Disk: Debug + Send + Sync + 'static {
    /// The file of a database, made when there is none.
    ///
    /// # Errors
    /// The system's error.
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// The names of the files.
    ///
    /// # Errors
    /// The system's error.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The content of a file.
    ///
    /// # Errors
    /// The system's error; [`io::ErrorKind::NotFound`] when there is none of that name.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Begins a file, in place of one of that name.
    ///
    /// # Errors
    /// The system's error.
    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>>;

    /// Writes a small file over what it was, in place. It outlives the process, but need not outlive the machine.
    ///
    /// # Errors
    /// The system's error.
    fn note(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// Gives a file another name, in place of one of that name.
    ///
    /// # Errors
    /// The system's error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The system's error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable: what was made, renamed and removed before.
    ///
    /// # Errors
    /// The system's error.
    fn sync_directory(&self) -> io::Result<()>;

    /// Runs work that blocks without holding up the runtime.
    fn run(&self, job: Job) -> BoxFuture<'static, ()>;
}

/// A file that is being written.
pub trait NewFile: io::Write + Send {
    /// Makes its content durable.
    ///
    /// # Errors
    /// The system's error.
    fn sync(&mut self) -> io::Result<()>;
}

/// Runs blocking work of a disk and hands back what it returns; `None` when it panicked or the runtime ends.
pub(crate) async fn run<T: Send + 'static>(
    disk: &dyn Disk,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    disk.run(Box::new(move || {
        let _ = sender.send(work());
    }))
    .await;
    receiver.await.ok()
}
