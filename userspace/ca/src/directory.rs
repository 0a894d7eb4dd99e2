use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// A file as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Its permissions, such as `0o600`.
    pub mode: u32,
}

/// The operations on a node's identity directory, one by one, so that a test can stop after each.
pub trait Directory {
    /// Reads a file; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is longer than a megabyte.
    fn read(&self, name: &str) -> io::Result<Option<FoundFile>>;

    /// Writes a new file that only its owner can read and write (0600), in the place of one of that name.
    ///
    /// # Errors
    /// It cannot be written; part of it may be.
    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes what the file holds outlive a crash.
    ///
    /// # Errors
    /// The disk fails.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Puts a file in the place of another, in one step.
    ///
    /// # Errors
    /// Nothing is changed.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Makes renames outlive a crash.
    ///
    /// # Errors
    /// The disk fails.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct DiskDirectory(PathBuf);

impl DiskDirectory {
    /// Opens the directory, and makes it (0700) where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl Directory for DiskDirectory {
    fn read(&self, name: &str) -> io::Result<Option<FoundFile>> {
        let file = match File::open(self.0.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if metadata.len() > MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "longer than a megabyte",
            ));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(FoundFile {
            bytes,
            mode: metadata.mode() & 0o7777,
        }))
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        // What a crash has left may have other permissions, or be a link to elsewhere.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?
            .write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::open(self.0.join(name))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}
