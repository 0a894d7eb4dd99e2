use crate::Target;
use anyhow::Context as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// Where inputs are kept.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// A kept input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Folder {
    /// The inputs that lead a target through its decoder; committed.
    pub fn corpus(target: Target) -> Self {
        Self::of("corpus", target)
    }

    /// The inputs that once made a target fail; committed.
    pub fn regressions(target: Target) -> Self {
        Self::of("regressions", target)
    }

    /// What discovery has found so far; not committed.
    pub fn discovered(target: Target) -> Self {
        Self::of("discovered", target)
    }

    /// This folder.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn of(kind: &str, target: Target) -> Self {
        Self(Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target.name))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it where it is absent.
    ///
    /// # Errors
    /// The system's.
    pub fn make(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.0).with_context(|| format!("failed to make {}", self.0.display()))
    }

    /// Its inputs, by name; none where it is absent.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn inputs(&self) -> anyhow::Result<Vec<Input>> {
        let mut inputs = Vec::new();
        if !self.0.exists() {
            return Ok(inputs);
        }
        let failed = || format!("failed to list {}", self.0.display());
        for entry in fs::read_dir(&self.0).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            let bytes = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            inputs.push(Input { path, bytes });
        }
        inputs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(inputs)
    }

    /// Keeps an input under a name that follows from its bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn keep(&self, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        self.make()?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let path = self.0.join(format!("{:016x}", hasher.finish()));
        fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again_and_only_once() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::at(place.path().join("absent"));
        assert!(folder.inputs().unwrap().is_empty());
        let path = folder.keep(b"one").unwrap();
        assert_eq!(folder.keep(b"one").unwrap(), path);
        folder.keep(b"").unwrap();
        let mut found: Vec<Vec<u8>> = folder
            .inputs()
            .unwrap()
            .into_iter()
            .map(|input| input.bytes)
            .collect();
        found.sort();
        assert_eq!(found, [b"".to_vec(), b"one".to_vec()]);
    }
}
