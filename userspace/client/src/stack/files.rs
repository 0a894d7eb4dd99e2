//! The files of a stack: reading them, and telling what was found in them.

use crate::console::Console;
use crate::error::Error;
use essaim_compose::{Loaded, Plan, Source, Surroundings};
use std::io;
use std::path::{Path, PathBuf};

/// The files of a stack.
#[derive(Clone, Debug, clap::Args)]
pub struct FileArgs {
    /// Path to a Compose file, or "-" to read from stdin; of several, later ones go before earlier ones
    #[arg(
        short = 'c',
        long = "compose-file",
        required = true,
        value_name = "FILE",
        value_delimiter = ','
    )]
    compose_file: Vec<String>,
}

impl FileArgs {
    /// What the files ask for, and on standard error what the operator should hear about them.
    ///
    /// # Errors
    /// One cannot be read; everything that is wrong in them.
    pub(super) fn load(&self, console: &mut Console<'_>) -> Result<Loaded, Error> {
        let mut sources = Vec::new();
        for path in &self.compose_file {
            let name = if path == "-" { "stdin" } else { path };
            let text = String::from_utf8(console.read_file(path)?)
                .map_err(|_| Error::Usage(format!("{name} is not UTF-8, expected text")))?;
            sources.push(Source {
                name: name.to_owned(),
                text,
            });
        }
        let directory = self.directory()?;
        let loaded = essaim_compose::load(&sources, &around(&directory, console))?;
        if !loaded.unsupported.is_empty() {
            let keys = loaded.unsupported.join(", ");
            writeln!(console.err, "Ignoring unsupported options: {keys}\n")?;
        }
        if !loaded.deprecated.is_empty() {
            let lines = loaded.deprecated.iter().map(|(key, why)| format!("{key}: {why}"));
            let lines = lines.collect::<Vec<_>>().join("\n\n");
            writeln!(console.err, "Ignoring deprecated options:\n\n{lines}\n")?;
        }
        for word in &loaded.words {
            writeln!(console.err, "essaim: warning: {word}")?;
        }
        Ok(loaded)
    }

    /// The objects that the stack of this name is to have.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(super) fn plan(&self, stack: &str, console: &mut Console<'_>) -> Result<Plan, Error> {
        let loaded = self.load(console)?;
        let directory = self.directory()?;
        Ok(loaded.stack.plan(stack, &around(&directory, console))?)
    }

    /// The folder that paths in the files start at.
    fn directory(&self) -> Result<PathBuf, Error> {
        let first = self.compose_file.first().map_or("-", String::as_str);
        let path = std::path::absolute(first).map_err(|source| Error::File {
            path: first.to_owned(),
            source,
        })?;
        Ok(path.parent().unwrap_or(&path).to_owned())
    }
}

fn around<'a>(directory: &'a Path, console: &'a Console<'_>) -> Surroundings<'a> {
    const READ: fn(&Path) -> io::Result<Vec<u8>> = |path| std::fs::read(path);
    Surroundings {
        directory,
        variable: console.variable,
        read: &READ,
    }
}
