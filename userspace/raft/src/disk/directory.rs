use super::{Disk, Job, NewFile};
use crate::error::StorageError;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A manager's state directory on a file system. Its files are the owner's alone.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// The directory at that path, made when there is none.
    ///
    /// # Errors
    /// [`StorageError`] when it cannot be made or read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref().to_path_buf();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .and_then(|()| fs::read_dir(&path).map(drop))
            .map_err(|error| StorageError::from_io("open the state directory", error))?;
        Ok(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for StateDirectory {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(name))?;
        let backend = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(backend))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join(name))?;
        Ok(Box::new(file))
    }

    fn note(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(name))?;
        file.write_all_at(content, 0)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn run(&self, job: Job) -> BoxFuture<'static, ()> {
        tokio::task::spawn_blocking(job).map(drop).boxed()
    }
}

impl NewFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_directory_and_its_files_are_the_owners_alone() {
        let parent = tempfile::tempdir().unwrap();
        let disk = StateDirectory::open(parent.path().join("a/b")).unwrap();
        assert_eq!(mode(disk.path()), 0o700);
        disk.create("file").unwrap().write_all(b"x").unwrap();
        disk.note("note", b"y").unwrap();
        drop(disk.database("database").unwrap());
        for name in ["file", "note", "database"] {
            assert_eq!(mode(&disk.path().join(name)), 0o600, "{name}");
        }
        disk.rename("file", "renamed").unwrap();
        disk.remove("note").unwrap();
        disk.sync_directory().unwrap();
        assert_eq!(disk.list().unwrap(), ["database", "renamed"]);
        assert_eq!(disk.read("renamed").unwrap(), b"x");
    }

    #[test]
    fn a_note_is_written_over_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let disk = StateDirectory::open(directory.path()).unwrap();
        for note in [b"one", b"two"] {
            disk.note("note", note).unwrap();
            assert_eq!(disk.read("note").unwrap(), note);
        }
    }

    #[test]
    fn what_is_no_directory_is_a_clear_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = StateDirectory::open(file.path()).unwrap_err();
        assert_eq!(refused.to_string(), "failed to open the state directory");
    }
}
