//! What agent and shim say to each other: JSON in frames, each with its length before it (4 bytes, little endian).
//!
//! A shim outlives the agents that come and go, newer ones too: messages are only ever added, and a shim answers what it
//! does not know with [`Reply::Error`].

use crate::record::ExitRecord;
use crate::{ProcessSpec, StartRecord};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// The version of the messages that a shim of this build understands.
pub(crate) const PROTOCOL: u32 = 1;
/// Largest message of a connection, in bytes.
const MAX_MESSAGE: usize = 64 << 10;
/// Largest first message to a shim, and largest file that comes after it, in bytes.
const MAX_LAUNCH: usize = 64 << 20;

/// What an agent asks of a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How are you?
    Status,
    /// Send the task's process this signal.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Tell when the task has ended. This connection is for nothing else then.
    Subscribe,
}

/// What a shim answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// To [`Request::Status`].
    Status(ShimStatus),
    /// To [`Request::Signal`].
    Signalled {
        /// Whether the process was there to get it.
        delivered: bool,
    },
    /// To [`Request::Subscribe`], at once.
    Subscribed,
    /// To [`Request::Subscribe`], when the task has ended and the record is on the disk.
    Exited(ExitRecord),
    /// The request could not be understood or done.
    Error {
        /// Why.
        message: String,
    },
}

/// How a shim is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimStatus {
    /// The version of the messages that it understands.
    pub protocol: u32,
    /// Version of its build.
    pub version: String,
    /// When its task started, and the processes.
    pub start: StartRecord,
    /// Records of the log that were given up because the disk refused them.
    pub log_lost: u64,
}

/// The first message to a shim, over its standard input. After it come the contents of the files of `spec`, in their
/// order, each with its length before it; they are in no message, so that nothing can show them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The name of its control groups.
    pub(crate) name: String,
    /// The control group above them.
    pub(crate) cgroup_parent: PathBuf,
    pub(crate) spec: ProcessSpec,
    /// The network namespace to enter.
    pub(crate) netns: Option<PathBuf>,
    /// Files of the node that are mounted in the task: source and target.
    pub(crate) etc: Vec<(PathBuf, PathBuf)>,
    /// Directories of the node that the task is not to see.
    pub(crate) hidden: Vec<PathBuf>,
}

/// What a shim says of the launch over its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "launched", rename_all = "kebab-case")]
pub(crate) enum Launched {
    /// The command runs.
    Running(StartRecord),
    /// It could not be run; that is its exit record.
    Failed(ExitRecord),
    /// The shim did nothing.
    Refused {
        /// Why.
        message: String,
    },
}

fn too_long(length: usize, limit: usize) -> io::Error {
    let text = format!("a message of {length} bytes exceeds the limit of {limit}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Writes bytes with their length before them.
pub(crate) fn write_bytes(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| too_long(bytes.len(), MAX_LAUNCH))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(bytes)
}

/// Reads what [`write_bytes`] wrote.
pub(crate) fn read_bytes(from: &mut impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > limit {
        return Err(too_long(length, limit));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A message as it goes over a connection.
pub(crate) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = Vec::new();
    write_bytes(&mut frame, &serde_json::to_vec(message)?)?;
    Ok(frame)
}

/// Writes a message.
pub(crate) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(message)?)
}

/// Reads a message.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    Ok(serde_json::from_slice(&read_bytes(from, MAX_MESSAGE)?)?)
}

/// Writes the first message to a shim.
pub(crate) fn send_launch(to: &mut impl Write, launch: &Launch) -> io::Result<()> {
    send(to, launch)?;
    for file in &launch.spec.files {
        write_bytes(to, file.contents.bytes().unwrap_or_default())?;
    }
    to.flush()
}

/// Reads it, with the contents put back into its files.
pub(crate) fn receive_launch(from: &mut impl Read) -> io::Result<Launch> {
    let mut launch: Launch = serde_json::from_slice(&read_bytes(from, MAX_LAUNCH)?)?;
    for file in &mut launch.spec.files {
        file.contents = crate::Contents::new(read_bytes(from, MAX_LAUNCH)?);
    }
    Ok(launch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Contents, FileKind, TaskFile};

    #[test]
    fn requests_and_replies_are_written_as_documented() {
        for (request, text) in [
            (Request::Status, r#"{"request":"status"}"#),
            (
                Request::Signal { signal: 15 },
                r#"{"request":"signal","signal":15}"#,
            ),
            (Request::Subscribe, r#"{"request":"subscribe"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
        let reply = Reply::Signalled { delivered: true };
        let text = r#"{"reply":"signalled","delivered":true}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
    }

    #[test]
    fn a_launch_arrives_with_its_files() {
        let file = TaskFile {
            kind: FileKind::Secret,
            target: "key".into(),
            mode: 0o400,
            uid: 1,
            gid: 2,
            contents: Contents::new(vec![0, 255, b'\n']),
        };
        let launch = Launch {
            name: "web.1".into(),
            cgroup_parent: "essaim".into(),
            spec: ProcessSpec {
                files: vec![file.clone(), file],
                ..ProcessSpec::default()
            },
            netns: None,
            etc: Vec::new(),
            hidden: Vec::new(),
        };
        let mut bytes = Vec::new();
        send_launch(&mut bytes, &launch).unwrap();
        let back = receive_launch(&mut bytes.as_slice()).unwrap();
        for file in &back.spec.files {
            assert_eq!(file.contents.bytes(), Some(&[0, 255, b'\n'][..]));
        }
        // Whatever is missing at its end, nothing is started by half of it.
        for length in 0..bytes.len() {
            assert!(
                receive_launch(&mut bytes.get(..length).unwrap()).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn a_frame_that_is_too_long_or_no_message_is_refused() {
        let long = u32::try_from(MAX_MESSAGE + 1).unwrap().to_le_bytes();
        assert!(receive::<Request>(&mut long.as_slice()).is_err());
        let mut other = Vec::new();
        write_bytes(&mut other, b"{\"request\":\"sing\"}").unwrap();
        assert!(receive::<Request>(&mut other.as_slice()).is_err());
    }
}
