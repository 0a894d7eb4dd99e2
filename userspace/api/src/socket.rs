//! The unix socket that clients connect to.

use crate::Listen;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// The socket cannot be made; what was at the path is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another server listens there.
    #[error("another server listens at {}: stop it, or choose another path", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is no socket: remove it, or choose another path", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {what} at {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A unix socket, with its file, which goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Locked for as long as this lives, so that two servers that start at once do not both take the path.
    _lock: File,
}

impl Socket {
    /// Listens at a path. A socket that a dead server left is replaced. To be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`]: another server listens, something else is there, or the system refuses.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, SocketError> {
        let path = path.into();
        let failed = |what| {
            let path = path.clone();
            move |source| SocketError::Io { what, path, source }
        };
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(beside(&path, "lock"))
            .map_err(failed("open the lock of the socket"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(SocketError::InUse { path }),
            Err(fs::TryLockError::Error(source)) => return Err(failed("lock the socket")(source)),
        }
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket { path }),
            // A server that knows nothing of the lock, such as Docker's, may be behind it.
            Ok(_) if UnixStream::connect(&path).is_ok() => return Err(SocketError::InUse { path }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look")(error)),
        }
        // It gets its mode before it gets its name: nobody else can connect meanwhile.
        let new = beside(&path, "new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove what an earlier start left")(error));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed("listen"))?;
        let placed =
            fs::set_permissions(&new, Permissions::from_mode(MODE)).and_then(|()| fs::rename(&new, &path));
        if let Err(error) = placed {
            let _ = fs::remove_file(&new);
            return Err(failed("place the socket")(error));
        }
        Ok(Self {
            listener,
            path,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Listen for Socket {
    type Connection = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<Self::Connection> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file cannot be removed");
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_is_for_owner_and_group_and_goes_with_its_server() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("essaim.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!((socket.path(), mode(&path)), (path.as_path(), 0o660));
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
        Socket::bind(&path).unwrap();
    }

    #[tokio::test]
    async fn a_dead_servers_socket_is_replaced() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("essaim.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = Socket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn another_server_keeps_its_socket() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("essaim.sock");
        let _ours = Socket::bind(&path).unwrap();
        assert!(matches!(Socket::bind(&path), Err(SocketError::InUse { .. })));
        let other = directory.path().join("docker.sock");
        let _dockers = std::os::unix::net::UnixListener::bind(&other).unwrap();
        assert!(matches!(Socket::bind(&other), Err(SocketError::InUse { .. })));
        UnixStream::connect(&path).unwrap();
        UnixStream::connect(&other).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Socket::bind(&path), Err(SocketError::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let missing = directory.path().join("none").join("essaim.sock");
        assert!(matches!(Socket::bind(missing), Err(SocketError::Io { .. })));
    }
}
