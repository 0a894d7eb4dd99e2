//! From stack files to objects: what is made of each form of each key, what is refused and where, several files, what is
//! printed, and text that is damaged.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod damage;
mod forms;
mod golden;
mod merged;
mod problems;

use essaim_compose::{Loaded, Problems, Source, Surroundings, load};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Reads a file.
type Read = dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// The files and variables that a stack's files may name.
struct Files {
    read: Box<Read>,
}

impl Files {
    fn of(files: &[(&str, &str)]) -> Self {
        let files: BTreeMap<String, String> = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect();
        let read = move |path: &Path| match files.get(path.to_str().unwrap()) {
            Some(text) => Ok(text.clone().into_bytes()),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let read = Box::new(read);
        Self { read }
    }

    fn none() -> Self {
        Self::of(&[])
    }

    /// In the folder `/srv/app`, with the variables `SET`, `NUMBER`, `TRUE`, `OCTAL` and `HOME`.
    fn around(&self) -> Surroundings<'_> {
        Surroundings {
            directory: Path::new("/srv/app"),
            variable: &|name| match name {
                "SET" => Some("value".to_owned()),
                "NUMBER" => Some("3".to_owned()),
                "TRUE" => Some("yes".to_owned()),
                "OCTAL" => Some("0440".to_owned()),
                "HOME" => Some("/root".to_owned()),
                _ => None,
            },
            read: &self.read,
        }
    }
}

/// Reads texts as the files `1.yml`, `2.yml`, and so on.
fn load_all(texts: &[&str], files: &Files) -> Result<Loaded, Problems> {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| Source {
            name: format!("{}.yml", at + 1),
            text: (*text).to_owned(),
        })
        .collect();
    load(&sources, &files.around())
}

/// A file with one service, `web`, of these lines, and other sections after it.
fn file(service: &str, sections: &str) -> String {
    let lines = service.lines().flat_map(|line| ["    ", line, "\n"]);
    let lines: String = lines.collect();
    format!("services:\n  web:\n    image: i\n{lines}{sections}")
}

/// The one service of a file, as it would be posted.
fn posted(text: &str, files: &Files) -> Result<Value, Problems> {
    let loaded = load_all(&[text], files)?;
    let plan = loaded.stack.plan("s", &files.around())?;
    Ok(json!(plan.services[0]))
}

/// The problems in lines, of loading or of planning.
fn problems(text: &str) -> Vec<String> {
    let files = Files::none();
    let end = posted(text, &files);
    end.err()
        .map(|problems| problems.iter().map(ToString::to_string).collect())
        .unwrap_or_default()
}
