//! As much of HTTP/1.1 (RFC 9112) as the test server and the load generator need: heads, and bodies of known length.

use std::fmt::Write as _;

/// The longest head that is accepted, in bytes.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    /// The head does not end within [`MAX_HEAD`].
    #[error("the head is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// Not the shape of a head.
    #[error("malformed head: {0:?}")]
    Malformed(String),
    /// The length of the body is not a number.
    #[error("content-length is {0:?}, expected a number of bytes")]
    Length(String),
}

/// The header lines of a message, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first header of this name, compared without regard to case.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The body's length in bytes; 0 where the message does not say.
    pub(crate) fn content_length(&self) -> Result<usize, HttpError> {
        self.first("content-length").map_or(Ok(0), |text| {
            text.parse().map_err(|_| HttpError::Length(text.to_owned()))
        })
    }

    /// Whether the sender will use the connection again.
    fn keep_alive(&self, http_1_1: bool) -> bool {
        match self.first("connection") {
            Some(value) if value.eq_ignore_ascii_case("close") => false,
            Some(value) if value.eq_ignore_ascii_case("keep-alive") => true,
            Some(_) | None => http_1_1,
        }
    }
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `GET`, …
    pub(crate) method: String,
    /// The path, with its query.
    pub(crate) target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub(crate) version: String,
    /// The headers.
    pub(crate) headers: Headers,
}

impl Request {
    /// Reads a head; `None` while it is not complete, else the request and the head's length in bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpError> {
        let Some((first, headers, length)) = split_head(bytes)? else {
            return Ok(None);
        };
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(HttpError::Malformed(first));
        };
        if method.is_empty() || !target.starts_with('/') || !version.starts_with("HTTP/1.") {
            return Err(HttpError::Malformed(first));
        }
        let request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            version: version.to_owned(),
            headers,
        };
        Ok(Some((request, length)))
    }

    /// Whether the client will use the connection again.
    pub(crate) fn keep_alive(&self) -> bool {
        self.headers.keep_alive(self.version == "HTTP/1.1")
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// 200, …
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: Headers,
    http_1_1: bool,
}

impl Response {
    /// Reads a head; `None` while it is not complete, else the response and the head's length in bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpError> {
        let Some((first, headers, length)) = split_head(bytes)? else {
            return Ok(None);
        };
        let mut words = first.splitn(3, ' ');
        let (Some(version), Some(status)) = (words.next(), words.next().and_then(|code| code.parse().ok()))
        else {
            return Err(HttpError::Malformed(first));
        };
        if !version.starts_with("HTTP/1.") {
            return Err(HttpError::Malformed(first));
        }
        Ok(Some((
            Self {
                status,
                headers,
                http_1_1: version == "HTTP/1.1",
            },
            length,
        )))
    }

    /// Whether the server keeps the connection open.
    pub(crate) fn keep_alive(&self) -> bool {
        self.headers.keep_alive(self.http_1_1)
    }
}

/// Renders the head of a response.
pub(crate) fn response_head(status: u16, content_type: &str, length: usize, keep_alive: bool) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Unknown",
    };
    let mut head = format!("HTTP/1.1 {status} {reason}\r\n");
    // Writing to a String does not fail.
    let _ = write!(
        head,
        "Content-Type: {content_type}\r\nContent-Length: {length}\r\n"
    );
    head.push_str(if keep_alive {
        "Connection: keep-alive\r\n\r\n"
    } else {
        "Connection: close\r\n\r\n"
    });
    head
}

/// The first line, the headers and the length of a head that is complete.
fn split_head(bytes: &[u8]) -> Result<Option<(String, Headers, usize)>, HttpError> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD {
            Err(HttpError::HeadTooLong)
        } else {
            Ok(None)
        };
    };
    if end > MAX_HEAD {
        return Err(HttpError::HeadTooLong);
    }
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .map(|line| match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && !name.contains(' ') => {
                Ok((name.to_owned(), value.trim().to_owned()))
            }
            Some(_) | None => Err(HttpError::Malformed(line.to_owned())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some((first, Headers(headers), end + 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_read_with_its_headers() {
        let bytes = b"GET /json?x=1 HTTP/1.1\r\nHost: web\r\nX-Two: a: b\r\n\r\nrest";
        let (request, length) = Request::parse(bytes).unwrap().unwrap();
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("GET", "/json?x=1")
        );
        assert_eq!(request.headers.first("HOST"), Some("web"));
        assert_eq!(request.headers.first("x-two"), Some("a: b"));
        assert_eq!(bytes.get(length..), Some(&b"rest"[..]));
        assert!(request.keep_alive());
    }

    #[test]
    fn half_a_head_asks_for_more() {
        assert_eq!(Request::parse(b"GET / HTTP/1.1\r\nHost: web\r\n"), Ok(None));
        assert_eq!(Response::parse(b"HTTP/1.1 200"), Ok(None));
    }

    #[test]
    fn malformed_heads_are_refused() {
        for bytes in [
            &b"\r\n\r\n"[..],
            b"GET\r\n\r\n",
            b"GET / HTTP/2\r\n\r\n",
            b"GET x HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1 more\r\n\r\n",
        ] {
            assert!(
                matches!(Request::parse(bytes), Err(HttpError::Malformed(_))),
                "{bytes:?}"
            );
        }
        assert!(matches!(
            Response::parse(b"HTTP/1.1 abc\r\n\r\n"),
            Err(HttpError::Malformed(_))
        ));
        assert_eq!(
            Request::parse(&vec![b'a'; MAX_HEAD + 1]),
            Err(HttpError::HeadTooLong)
        );
    }

    #[test]
    fn connection_header_decides_over_the_version() {
        let kept = |bytes: &[u8]| Request::parse(bytes).unwrap().unwrap().0.keep_alive();
        assert!(!kept(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
        assert!(!kept(b"GET / HTTP/1.0\r\n\r\n"));
        assert!(kept(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn rendered_response_is_read_back() {
        let head = response_head(404, "text/plain", 12, false);
        let (response, length) = Response::parse(head.as_bytes()).unwrap().unwrap();
        assert_eq!((response.status, length), (404, head.len()));
        assert_eq!(response.headers.content_length(), Ok(12));
        assert!(!response.keep_alive());
    }

    #[test]
    fn length_that_is_no_number_is_refused() {
        let (response, _) = Response::parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(
            response.headers.content_length(),
            Err(HttpError::Length("x".to_owned()))
        );
    }
}
