//! Where the book is kept: a file that is replaced as a whole.

use crate::PluginError;
use crate::book::Book;
use std::io::{self, Write as _};
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct BookFile {
    path: PathBuf,
}

impl BookFile {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What was written last; nothing where there is none.
    pub(crate) fn read(&self) -> Result<Book, PluginError> {
        let failed = |source| PluginError::File {
            doing: "read",
            path: self.path.clone(),
            source,
        };
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
            Err(error) => Err(failed(error)),
        }
    }

    pub(crate) fn write(&self, book: &Book) -> Result<(), PluginError> {
        let new = self.path.with_extension("new");
        let written = || {
            let mut file = std::fs::File::create(&new)?;
            file.write_all(&serde_json::to_vec(book)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)
        };
        written().map_err(|source| PluginError::File {
            doing: "write",
            path: self.path.clone(),
            source,
        })
    }
}
