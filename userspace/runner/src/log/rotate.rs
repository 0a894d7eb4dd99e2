use crate::LogOptions;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The files of a task's log: `task.log`, and `task.log.1` and so on, which are older each.
#[derive(Clone, Debug)]
pub(crate) struct LogFiles(PathBuf);

impl LogFiles {
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// The newest file is number 0.
    pub(crate) fn path(&self, age: u32) -> PathBuf {
        match age {
            0 => self.0.join("task.log"),
            age => self.0.join(format!("task.log.{age}")),
        }
    }
}

/// The newest file of a log, which makes room for the next one when it is full.
#[derive(Debug)]
pub(crate) struct Rotating {
    files: LogFiles,
    options: LogOptions,
    file: File,
    size: u64,
}

impl Rotating {
    /// Goes on with the files that are there.
    pub(crate) fn open(files: LogFiles, options: LogOptions) -> io::Result<Self> {
        let file = open(&files.path(0))?;
        let size = file.metadata()?.len();
        Ok(Self {
            files,
            options,
            file,
            size,
        })
    }

    /// Adds whole lines; together they stay in one file. All files together hold at most `max_size` times `max_file`
    /// bytes, as long as no call has more than `max_size`.
    ///
    /// # Errors
    /// The disk's. What was written of the lines is cut off again, as far as the disk lets it.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = u64::try_from(lines.len()).map_err(io::Error::other)?;
        if self.size > 0 && self.size.saturating_add(length) > self.options.max_size {
            self.rotate()?;
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.size = self.size.saturating_add(length);
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.size)?;
                Err(error)
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let oldest = self.options.max_file.saturating_sub(1);
        if oldest == 0 {
            // Another file, so that who reads along sees that it is not the one that it was.
            fs::remove_file(self.files.path(0))?;
        }
        for age in (0..oldest).rev() {
            match fs::rename(self.files.path(age), self.files.path(age.saturating_add(1))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = open(&self.files.path(0))?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_newest_lines_are_kept_within_the_bound(
            lengths in prop::collection::vec(1usize..60, 0..60),
            max_size in 60u64..200,
            max_file in 1u32..5,
            reopened in any::<bool>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let files = LogFiles::new(directory.path());
            let options = LogOptions { max_size, max_file };
            let mut log = Rotating::open(files.clone(), options).unwrap();
            let mut all = Vec::new();
            for (index, length) in lengths.into_iter().enumerate() {
                let line = format!("{index:0length$}\n");
                log.append(line.as_bytes()).unwrap();
                all.extend_from_slice(line.as_bytes());
                if reopened {
                    log = Rotating::open(files.clone(), options).unwrap();
                }
                let mut kept = Vec::new();
                for age in (0..10).rev() {
                    if let Ok(bytes) = fs::read(files.path(age)) {
                        prop_assert!(age < max_file);
                        prop_assert!(u64::try_from(bytes.len()).unwrap() <= max_size);
                        kept.extend(bytes);
                    }
                }
                prop_assert!(all.ends_with(&kept));
                prop_assert!(kept.ends_with(line.as_bytes()));
            }
        }
    }
}
