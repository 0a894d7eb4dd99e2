//! `service logs`: frames of a stream, and the lines in them with the task they come from.

use essaim_objects::{NodeId, ServiceId, TaskId};

/// What `service logs` takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LogsArgs {
    /// Show extra details provided to logs
    #[arg(long)]
    pub(crate) details: bool,
    /// Follow log output
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Do not map IDs to names in output
    #[arg(long)]
    pub(crate) no_resolve: bool,
    /// Do not include task IDs in output
    #[arg(long)]
    pub(crate) no_task_ids: bool,
    /// Do not truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Do not neatly format logs
    #[arg(long)]
    pub(crate) raw: bool,
    /// Show logs since a time (2013-01-02T13:23:37Z) or for so long (42m)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "NUMBER|all", default_value = "all", value_parser = tail)]
    pub(crate) tail: String,
    /// Show timestamps
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// The service, or the ID of one of its tasks
    #[arg(value_name = "SERVICE|TASK")]
    pub(crate) service: String,
}

fn tail(text: &str) -> Result<String, crate::parse::Expected> {
    if text == "all" || text.parse::<u64>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err(crate::parse::Expected::new("a number of lines, or all"))
    }
}

/// Which output of a task a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Standard,
    Error,
}

/// A stream that is no sequence of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadFrame {
    /// A kind of frame that is not known.
    Kind(u8),
    /// Longer than any frame may be, in bytes.
    Length(u32),
    /// The daemon's own complaint.
    Complaint(String),
}

/// A frame is at most so long, in bytes.
const LONGEST: u32 = 16 << 20;

/// Frames of a stream: a kind, three zeros, the length in four bytes, the data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Result<Option<(Output, Vec<u8>)>, BadFrame> {
        let Some(&[kind, _, _, _, a, b, c, d]) = self.buffer.first_chunk::<8>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if length > LONGEST {
            return Err(BadFrame::Length(length));
        }
        let end = 8 + length as usize;
        let Some(data) = self.buffer.get(8..end) else {
            return Ok(None);
        };
        let data = data.to_vec();
        self.buffer.drain(..end);
        match kind {
            0 | 1 => Ok(Some((Output::Standard, data))),
            2 => Ok(Some((Output::Error, data))),
            3 => Err(BadFrame::Complaint(
                String::from_utf8_lossy(&data).trim().to_owned(),
            )),
            other => Err(BadFrame::Kind(other)),
        }
    }

    /// Whether bytes are left that are no whole frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// A line with the task it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) time: Option<String>,
    pub(crate) task: TaskId,
    pub(crate) service: Option<ServiceId>,
    pub(crate) node: NodeId,
    /// Further details, as they came.
    pub(crate) details: String,
    pub(crate) text: Vec<u8>,
}

/// Reads `[TIME ]DETAILS TEXT`, the details being `name=value` with commas between; `None` where the task is not said.
pub(crate) fn line(data: &[u8], timestamps: bool) -> Option<Line> {
    let mut rest = data;
    let mut time = None;
    if timestamps {
        let (first, after) = split_at_space(rest)?;
        time = Some(String::from_utf8(first.to_vec()).ok()?);
        rest = after;
    }
    let (details, text) = split_at_space(rest)?;
    let details = std::str::from_utf8(details).ok()?;
    let (mut task, mut service, mut node, mut others) = (None, None, None, Vec::new());
    for detail in details.split(',') {
        match detail.split_once('=') {
            Some(("com.docker.swarm.task.id", id)) => task = id.parse().ok(),
            Some(("com.docker.swarm.service.id", id)) => service = id.parse().ok(),
            Some(("com.docker.swarm.node.id", id)) => node = id.parse().ok(),
            _ => others.push(detail),
        }
    }
    Some(Line {
        time,
        task: task?,
        service,
        node: node?,
        details: others.join(","),
        text: text.to_vec(),
    })
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b' ')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

impl Line {
    /// As it is printed: `[TIME ]PREFIX    | [DETAILS ]TEXT`.
    pub(crate) fn print(&self, prefix: &str, details: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(time) = &self.time {
            bytes.extend_from_slice(time.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.extend_from_slice(b"    | ");
        if details {
            bytes.extend_from_slice(self.details.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&self.text);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&[kind, 0, 0, 0], length.as_slice(), data].concat()
    }

    proptest! {
        #[test]
        fn frames_come_back_however_the_stream_is_cut(
            parts in proptest::collection::vec((1_u8..=2, proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
            cut in 1_usize..20,
        ) {
            let stream: Vec<u8> = parts.iter().flat_map(|(kind, data)| frame(*kind, data)).collect();
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                frames.push(piece);
                while let Some((output, data)) = frames.next().unwrap() {
                    found.push((if output == Output::Standard { 1 } else { 2 }, data));
                }
            }
            prop_assert_eq!(found, parts);
            prop_assert!(frames.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            let _ = frames.next();
            let _ = line(&bytes, true);
            let _ = line(&bytes, false);
        }
    }

    #[test]
    fn frames_that_cannot_be_are_refused() {
        let refused = |bytes: &[u8]| {
            let mut frames = Frames::default();
            frames.push(bytes);
            frames.next().unwrap_err()
        };
        assert_eq!(refused(&frame(7, b"x")), BadFrame::Kind(7));
        assert_eq!(
            refused(&frame(3, b"gone\n")),
            BadFrame::Complaint("gone".to_owned())
        );
        assert_eq!(
            refused(&[1, 0, 0, 0, 255, 255, 255, 255]),
            BadFrame::Length(u32::MAX)
        );
    }

    #[test]
    fn lines_tell_their_task() {
        let (node, task) = (NodeId::from_bits(1), TaskId::from_bits(2));
        let data = format!(
            "2026-01-01T00:00:00Z com.docker.swarm.node.id={node},a=b,com.docker.swarm.task.id={task} hello there\n"
        );
        let line_read = line(data.as_bytes(), true).unwrap();
        assert_eq!(
            (line_read.node, line_read.task, line_read.service),
            (node, task, None)
        );
        assert_eq!(
            line_read.print("web.1", false),
            b"2026-01-01T00:00:00Z web.1    | hello there\n"
        );
        assert_eq!(
            line_read.print("web.1", true),
            b"2026-01-01T00:00:00Z web.1    | a=b hello there\n"
        );
        assert_eq!(line(b"no details", false), None);
        assert_eq!(line(b"", true), None);
    }
}
