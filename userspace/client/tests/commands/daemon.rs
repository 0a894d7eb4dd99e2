//! A daemon that gives answers which are known beforehand, and remembers what it was asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Without the version.
    pub(crate) path: String,
    /// Decoded.
    pub(crate) query: BTreeSet<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    /// `METHOD PATH?QUERY`, the query in order.
    pub(crate) fn line(&self) -> String {
        let query: Vec<_> = self
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", self.method, self.path, query.join("&"))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An answer: its status and its body.
pub(crate) type Answer = (u16, Vec<u8>);

pub(crate) struct Daemon {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Daemon {
    /// Starts one that answers as `answer` says; what it does not know is not found.
    pub(crate) fn start(mut answer: impl FnMut(&Asked) -> Option<Answer> + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("api.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read(&mut stream).await else {
                    continue;
                };
                let ping = request.path == "/_ping";
                let (status, body) = if ping {
                    (200, Vec::new())
                } else {
                    answer(&request).unwrap_or((404, br#"{"message":"not found"}"#.to_vec()))
                };
                if !ping {
                    remembered.lock().unwrap().push(request);
                }
                let head = format!(
                    "HTTP/1.1 {status} X\r\nApi-Version: 1.41\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                // A client that is gone needs no answer.
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        });
        Self { folder, asked, task }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("api.sock").display())
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// As [`Self::asked`], in lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(stream: &mut UnixStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let (head, body_start) = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break (String::from_utf8(bytes[..at].to_vec()).ok()?, at + 4);
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < body_start + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.lines().next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix("/v1.41").unwrap_or(path).to_owned();
    let body = String::from_utf8(bytes[body_start..].to_vec()).ok()?;
    Some(Asked {
        method,
        path,
        query: pairs(query),
        body,
    })
}

/// A query's pairs, decoded.
pub(crate) fn pairs(query: &str) -> BTreeSet<(String, String)> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}
