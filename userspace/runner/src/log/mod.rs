//! What a task says: in files of Docker's `json-file` format, rotated, for whoever reads along.

mod line;
mod read;
mod rotate;
mod split;

pub use line::{LogRecord, LogStream};
pub use read::{LogError, LogQuery};

pub(crate) use line::write_line;
pub(crate) use read::Reader;
pub(crate) use rotate::{LogFiles, Rotating};
pub(crate) use split::Splitter;
