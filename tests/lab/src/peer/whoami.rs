//! The HTTP server: who am I, and who are you?

use super::args::WhoamiArgs;
use super::http::{HttpError, Request, response_head};
use super::{echo, listen, told_to_end};
use nix::ifaddrs::getifaddrs;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The header that names the server, so that a client of `/bytes/N` knows it too.
pub(crate) const NAME_HEADER: &str = "X-Whoami-Name";

/// How long an idle connection may still bring a request after SIGTERM: that one is answered with "close".
const LINGER: Duration = Duration::from_secs(1);

/// How long requests in flight may take after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// How long a client may take to close after the server has.
const CLOSE: Duration = Duration::from_secs(5);

/// How much of a body is sent at a time.
const CHUNK: usize = 64 * 1024;

/// Serves until told to end, then finishes what is in flight.
pub(crate) async fn run(args: WhoamiArgs) -> anyhow::Result<()> {
    let name: Arc<str> = echo::server_name(args.echo.name.as_deref()).into();
    echo::start(&args.echo, &name).await?;
    let listener = listen::tcp(args.port)?;
    let (end, ending) = watch::channel(false);
    let mut connections = JoinSet::new();
    let told = told_to_end();
    tokio::pin!(told);
    loop {
        tokio::select! {
            result = &mut told => {
                result?;
                break;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let server = Server { name: Arc::clone(&name), peer: listen::canonical(peer), ending: ending.clone() };
                    connections.spawn(server.serve(stream));
                }
                Err(error) => eprintln!("failed to accept a connection: {error}"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let _ = end.send(true);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finish).await.is_err() {
        eprintln!("requests still in flight after {GRACE:?} are dropped");
    }
    Ok(())
}

/// One connection's server.
struct Server {
    name: Arc<str>,
    peer: SocketAddr,
    ending: watch::Receiver<bool>,
}

impl Server {
    async fn serve(self, mut stream: TcpStream) {
        if let Err(error) = self.requests(&mut stream).await {
            eprintln!("connection of {} broke: {error}", self.peer);
        }
        let _ = stream.shutdown().await;
        // What is sent is on its way until the client closes too; with the last process goes the network namespace.
        let mut rest = [0; 1024];
        let closed = async { while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {} };
        let _ = tokio::time::timeout(CLOSE, closed).await;
    }

    async fn requests(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut ending = self.ending.clone();
        let lingered = async move {
            // An error means that the server is gone, which ends the connection just so.
            let _ = ending.wait_for(|ending| *ending).await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::pin!(lingered);
        let mut bytes = Vec::new();
        loop {
            let (request, head) = match Request::parse(&bytes) {
                Ok(Some(complete)) => complete,
                Ok(None) => {
                    tokio::select! {
                        length = stream.read_buf(&mut bytes) => if length? == 0 { return Ok(()) },
                        () = &mut lingered => return Ok(()),
                    }
                    continue;
                }
                Err(error) => return refuse(stream, &error).await,
            };
            let body = match request.headers.content_length() {
                Ok(length) => length,
                Err(error) => return refuse(stream, &error).await,
            };
            while bytes.len() < head.saturating_add(body) {
                if stream.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
            }
            bytes.drain(..head.saturating_add(body));
            let keep_alive = request.keep_alive() && !*self.ending.borrow();
            self.answer(stream, &request, keep_alive).await?;
            if !keep_alive {
                return Ok(());
            }
        }
    }

    async fn answer(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        keep_alive: bool,
    ) -> std::io::Result<()> {
        let (status, content_type, body) = match (request.method.as_str(), path(&request.target)) {
            ("GET" | "HEAD" | "POST", Path::Text) => {
                (200, "text/plain; charset=utf-8", Body::Text(self.text(request)))
            }
            ("GET" | "HEAD" | "POST", Path::Json) => {
                (200, "application/json", Body::Text(self.json(request)))
            }
            ("GET" | "HEAD" | "POST", Path::Bytes(length)) => {
                (200, "application/octet-stream", Body::Fill(length))
            }
            ("GET" | "HEAD" | "POST", Path::Unknown) => (
                404,
                "text/plain; charset=utf-8",
                Body::Text(format!("nothing at {}\n", request.target)),
            ),
            (method, _) => (
                405,
                "text/plain; charset=utf-8",
                Body::Text(format!("{method} is not served\n")),
            ),
        };
        let mut head = response_head(status, content_type, body.len(), keep_alive);
        head.insert_str(head.len() - 2, &format!("{NAME_HEADER}: {}\r\n", self.name));
        if request.method == "HEAD" {
            return stream.write_all(head.as_bytes()).await;
        }
        match body {
            Body::Text(text) => stream.write_all((head + &text).as_bytes()).await,
            Body::Fill(length) => {
                stream.write_all(head.as_bytes()).await?;
                let chunk = vec![b'e'; CHUNK.min(length)];
                let mut left = length;
                while left > 0 {
                    let part = chunk.get(..left.min(CHUNK)).unwrap_or_default();
                    stream.write_all(part).await?;
                    left -= part.len();
                }
                Ok(())
            }
        }
    }

    fn text(&self, request: &Request) -> String {
        let mut text = format!("Name: {}\nHostname: {}\n", self.name, echo::hostname());
        // Writing to a String does not fail.
        for address in addresses() {
            let _ = writeln!(text, "IP: {address}");
        }
        let _ = writeln!(text, "RemoteAddr: {}", self.peer);
        let _ = writeln!(text, "{} {} {}", request.method, request.target, request.version);
        for (name, value) in request.headers.iter() {
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }

    fn json(&self, request: &Request) -> String {
        let headers: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| serde_json::json!([name, value]))
            .collect();
        let answer = serde_json::json!({
            "name": &*self.name,
            "hostname": echo::hostname(),
            "ip": addresses(),
            "remote_addr": self.peer.to_string(),
            "remote_ip": self.peer.ip(),
            "method": request.method,
            "url": request.target,
            "headers": headers,
        });
        format!("{answer}\n")
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Path {
    Text,
    Json,
    Bytes(usize),
    Unknown,
}

fn path(target: &str) -> Path {
    let path = target.split('?').next().unwrap_or(target);
    match path {
        "/" => Path::Text,
        "/json" => Path::Json,
        other => other
            .strip_prefix("/bytes/")
            .and_then(|length| length.parse().ok())
            .map_or(Path::Unknown, Path::Bytes),
    }
}

enum Body {
    Text(String),
    Fill(usize),
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Fill(length) => *length,
        }
    }
}

async fn refuse(stream: &mut TcpStream, error: &HttpError) -> std::io::Result<()> {
    let text = format!("{error}\n");
    let head = response_head(400, "text/plain; charset=utf-8", text.len(), false);
    stream.write_all((head + &text).as_bytes()).await
}

/// All addresses of the namespace's interfaces.
fn addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return BTreeSet::new();
    };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        assert_eq!(path("/"), Path::Text);
        assert_eq!(path("/?a=b"), Path::Text);
        assert_eq!(path("/json"), Path::Json);
        assert_eq!(path("/bytes/70000"), Path::Bytes(70_000));
        assert_eq!(path("/bytes/x"), Path::Unknown);
        assert_eq!(path("/bytes/-1"), Path::Unknown);
    }
}
