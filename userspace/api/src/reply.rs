//! Answers, in Docker's shapes.

use crate::{EngineError, ErrorKind};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use std::io;

/// The body of an answer, or of a request to the node's Docker Engine. Where it fails it is cut short.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub(crate) type Reply = Response<Body>;

/// An answer, or why there is none.
pub(crate) type Answer = Result<Reply, EngineError>;

/// A body that is there at once.
pub(crate) fn collected(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body of nothing.
pub(crate) fn no_body() -> Body {
    collected(Bytes::new())
}

/// An answer of bytes.
pub(crate) fn bytes(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(collected(body));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// An answer of JSON, ended by a line end as Docker's are.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut body = serde_json::to_vec(value)
        .map_err(|error| EngineError::internal(format_args!("the answer cannot be written: {error}")))?;
    body.push(b'\n');
    Ok(bytes(status, "application/json", body))
}

/// What was asked for.
pub(crate) fn found(value: &impl Serialize) -> Answer {
    json(StatusCode::OK, value)
}

/// What was made.
pub(crate) fn created(value: &impl Serialize) -> Answer {
    json(StatusCode::CREATED, value)
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(no_body());
    *reply.status_mut() = status;
    reply
}

/// An answer that comes bit by bit; its head is sent at once.
pub(crate) fn stream(
    kind: Option<&'static str>,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Reply {
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    let mut reply = Response::new(StreamBody::new(frames).boxed_unsync());
    if let Some(kind) = kind {
        reply
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    reply
}

/// The answer that an error is.
pub(crate) fn error(error: &EngineError) -> Reply {
    let message = serde_json::json!({ "message": error.message });
    json(status(error.kind), &message).unwrap_or_else(|_| empty(StatusCode::INTERNAL_SERVER_ERROR))
}

const fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
