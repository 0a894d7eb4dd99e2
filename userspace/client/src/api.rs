//! The thin shell for HTTP: one request after another to the daemon.

use crate::error::Error;
use crate::host::Endpoint;
use crate::tls::server_name;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// The newest API version that is spoken here.
const NEWEST: (u32, u32) = (1, 47);
/// The oldest one.
const OLDEST: (u32, u32) = (1, 41);
const OLDEST_TEXT: &str = "1.41";

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Text as part of a path or query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The daemon, in a version that both sides speak.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    version: String,
}

/// What a request sends.
#[derive(Debug)]
struct Body<'a> {
    object: Bytes,
    registry_auth: Option<&'a str>,
}

/// The query of a request, in the order given.
pub(crate) type Query<'a> = &'a [(&'a str, &'a str)];

impl Client {
    /// Asks the daemon which versions it speaks.
    pub(crate) async fn connect(endpoint: Endpoint) -> Result<Self, Error> {
        let mut client = Self {
            endpoint,
            version: String::new(),
        };
        let answer = client.send(Method::HEAD, "/_ping", &[], None).await?;
        let version = answer
            .headers()
            .get("api-version")
            .and_then(|value| value.to_str().ok());
        client.version = negotiate(version)?;
        Ok(client)
    }

    /// Reads an object.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: Query<'_>) -> Result<T, Error> {
        let bytes = self.get_bytes(path, query).await?;
        decode(&format!("GET {path}"), &bytes)
    }

    /// Reads an object as it is written.
    pub(crate) async fn get_bytes(&self, path: &str, query: Query<'_>) -> Result<Bytes, Error> {
        let answer = self.request(Method::GET, path, query, None).await?;
        self.body(answer).await
    }

    /// Reads what goes on for as long as it does.
    pub(crate) async fn stream(&self, path: &str, query: Query<'_>) -> Result<Stream, Error> {
        let answer = self.request(Method::GET, path, query, None).await?;
        Ok(Stream {
            host: self.endpoint.to_string(),
            body: answer.into_body(),
        })
    }

    /// Sends an object, and gives the answer as it is written.
    pub(crate) async fn post<T: Serialize + ?Sized>(
        &self,
        path: &str,
        query: Query<'_>,
        body: &T,
    ) -> Result<Bytes, Error> {
        self.post_as(path, query, body, None).await
    }

    /// As [`Client::post`], with what the images that the object names are to be pulled with.
    pub(crate) async fn post_as<T: Serialize + ?Sized>(
        &self,
        path: &str,
        query: Query<'_>,
        body: &T,
        registry_auth: Option<&str>,
    ) -> Result<Bytes, Error> {
        let body = Body {
            object: serde_json::to_vec(body).map_err(Error::Body)?.into(),
            registry_auth,
        };
        let answer = self.request(Method::POST, path, query, Some(body)).await?;
        self.body(answer).await
    }

    /// Sends an object, and reads the answer.
    pub(crate) async fn create<T: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &T,
    ) -> Result<A, Error> {
        let bytes = self.post(path, &[], body).await?;
        decode(&format!("POST {path}"), &bytes)
    }

    /// Posts without a body.
    pub(crate) async fn post_nothing(&self, path: &str, query: Query<'_>) -> Result<(), Error> {
        let answer = self.request(Method::POST, path, query, None).await?;
        self.body(answer).await.map(drop)
    }

    /// Removes an object.
    pub(crate) async fn delete(&self, path: &str, query: Query<'_>) -> Result<(), Error> {
        let answer = self.request(Method::DELETE, path, query, None).await?;
        self.body(answer).await.map(drop)
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<Body<'_>>,
    ) -> Result<Response<Incoming>, Error> {
        let answer = self
            .send(method, &format!("/v{}{path}", self.version), query, body)
            .await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.body(answer).await?;
        Err(Error::Daemon {
            status: status.as_u16(),
            message: message(status, &body),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<Body<'_>>,
    ) -> Result<Response<Incoming>, Error> {
        let target = with_query(path, query);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "essaim");
        let mut object = Bytes::new();
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json");
            if let Some(auth) = body.registry_auth {
                request = request.header("X-Registry-Auth", auth);
            }
            object = body.object;
        }
        let request = request
            .body(Full::new(object))
            .map_err(|error| Error::Usage(format!("no request can be made for {path}: {error}")))?;
        let connect = |source| Error::Connect {
            host: self.endpoint.to_string(),
            source,
        };
        match &self.endpoint {
            Endpoint::Unix(path) => {
                self.exchange(UnixStream::connect(path).await.map_err(connect)?, request)
                    .await
            }
            Endpoint::Tcp(address) => {
                self.exchange(TcpStream::connect(address).await.map_err(connect)?, request)
                    .await
            }
            Endpoint::Tls { address, files } => {
                let connector = TlsConnector::from(files.config()?);
                let name = server_name(address)?;
                let stream = TcpStream::connect(address).await.map_err(connect)?;
                let stream = connector.connect(name, stream).await.map_err(connect)?;
                self.exchange(stream, request).await
            }
        }
    }

    /// One request on a connection of its own, which ends with the answer.
    async fn exchange<S>(&self, socket: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|source| self.broken(source))?;
        // What breaks here is also told to whoever waits for the answer.
        tokio::spawn(connection);
        sender
            .send_request(request)
            .await
            .map_err(|source| self.broken(source))
    }

    async fn body(&self, answer: Response<Incoming>) -> Result<Bytes, Error> {
        let collected = answer.into_body().collect().await;
        Ok(collected.map_err(|source| self.broken(source))?.to_bytes())
    }

    fn broken(&self, source: hyper::Error) -> Error {
        Error::Http {
            host: self.endpoint.to_string(),
            source,
        }
    }
}

/// An answer that goes on.
#[derive(Debug)]
pub(crate) struct Stream {
    host: String,
    body: Incoming,
}

impl Stream {
    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| Error::Http {
                host: self.host.clone(),
                source,
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Filters as the API takes them: for each key the values that are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, BTreeMap<String, bool>>);

impl Filters {
    /// Those of flags.
    pub(crate) fn of(pairs: &[(String, String)]) -> Self {
        let mut filters = Self::default();
        for (key, value) in pairs {
            filters.add(key, value);
        }
        filters
    }

    pub(crate) fn add(&mut self, key: &str, value: &str) {
        self.0
            .entry(key.to_owned())
            .or_default()
            .insert(value.to_owned(), true);
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.add(key, value);
        self
    }

    /// As the query carries them; none where nothing is asked for.
    pub(crate) fn to_query(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        serde_json::to_string(&self.0).ok()
    }
}

/// A query of nothing but filters, where there are any.
pub(crate) fn filtered(filters: Option<&str>) -> Vec<(&'static str, &str)> {
    filters.map(|filters| ("filters", filters)).into_iter().collect()
}

fn with_query(path: &str, query: Query<'_>) -> String {
    let mut target = path.to_owned();
    for (at, (name, value)) in query.iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        target.push_str(&encode(value));
    }
    target
}

pub(crate) fn decode<T: DeserializeOwned>(request: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Answer {
        request: request.to_owned(),
        source,
    })
}

/// What the daemon says of a refusal, else the status.
fn message(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) if !refusal.message.trim().is_empty() => refusal.message.trim().to_owned(),
        _ => format!("the daemon answered {status}"),
    }
}

/// The lower of the daemon's version and ours.
fn negotiate(version: Option<&str>) -> Result<String, Error> {
    let refused = || Error::Version {
        found: version.unwrap_or("not given").to_owned(),
        expected: OLDEST_TEXT,
    };
    let (major, minor) = version
        .and_then(|version| version.split_once('.'))
        .ok_or_else(refused)?;
    let parse = |number: &str| number.parse::<u32>().map_err(|_| refused());
    let chosen = (parse(major)?, parse(minor)?).min(NEWEST);
    if chosen < OLDEST {
        return Err(refused());
    }
    Ok(format!("{}.{}", chosen.0, chosen.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_version_is_spoken_and_old_ones_are_refused() {
        let cases = [
            (Some("1.41"), Some("1.41")),
            (Some("1.45"), Some("1.45")),
            (Some("1.56"), Some("1.47")),
            (Some("2.0"), Some("1.47")),
            (Some("1.40"), None),
            (Some("x"), None),
            (None, None),
        ];
        for (found, expected) in cases {
            assert_eq!(negotiate(found).ok().as_deref(), expected, "{found:?}");
        }
    }

    #[test]
    fn queries_are_encoded_as_dockers_are() {
        let filters = Filters::default()
            .with("_up-to-date", "true")
            .with("service", "x y")
            .to_query()
            .unwrap();
        assert_eq!(
            with_query("/tasks", &[("filters", &filters), ("a", "")]),
            "/tasks?filters=%7B%22_up-to-date%22%3A%7B%22true%22%3Atrue%7D%2C%22service%22%3A%7B%22x%20y%22%3Atrue%7D%7D&a="
        );
        assert_eq!(Filters::default().to_query(), None);
    }

    #[test]
    fn a_refusal_is_told_in_the_daemons_words() {
        let status = StatusCode::NOT_FOUND;
        assert_eq!(
            message(status, br#"{"message":"service x not found\n"}"#),
            "service x not found"
        );
        for body in ["", "{}", "<html>", r#"{"message":" "}"#] {
            assert_eq!(
                message(status, body.as_bytes()),
                "the daemon answered 404 Not Found"
            );
        }
    }
}
