//! HTTP/1.1 as far as a probe needs it: one request, and the status of the answer (RFC 9112).

use crate::HttpProbe;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Bytes of an answer that are looked at; a server that sends no status within them has none.
pub(crate) const MOST_READ: usize = 4096;

/// An answer that is none of HTTP/1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The first bytes are those of something else.
    #[error("the answer is not HTTP/1")]
    NotHttp,
    /// The status is no three-digit number from 100 to 599.
    #[error("the answer has no status from 100 to 599")]
    Status,
    /// No status within the bytes that are looked at.
    #[error("the first {MOST_READ} bytes of the answer hold no final status")]
    TooLong,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpResponse {
    /// Its final status is not there yet.
    Incomplete,
    /// The final status: 101, or 200 to 599.
    Status(u16),
}

impl HttpResponse {
    /// Reads the final status out of the first bytes of an answer; interim answers (1xx but 101) are skipped.
    ///
    /// What it says of some bytes it also says of every longer answer that begins with them, but for `Incomplete`.
    ///
    /// # Errors
    /// [`ResponseError`]: more bytes will not help.
    pub fn read(answer: &[u8]) -> Result<Self, ResponseError> {
        let looked_at = answer.get(..MOST_READ).unwrap_or(answer);
        let mut rest = looked_at;
        while let Some(status) = status(rest)? {
            if !is_interim(status) {
                return Ok(Self::Status(status));
            }
            match after_head(rest) {
                Some(next) => rest = next,
                None => break,
            }
        }
        if looked_at.len() == MOST_READ {
            return Err(ResponseError::TooLong);
        }
        Ok(Self::Incomplete)
    }
}

const fn is_interim(status: u16) -> bool {
    status < 200 && status != 101
}

/// The status of the head that begins here, as soon as its digits and what ends them are there.
fn status(head: &[u8]) -> Result<Option<u16>, ResponseError> {
    const PREFIX: &[u8] = b"HTTP/1.";
    let (seen, expected) = (head.iter(), PREFIX.iter());
    if seen.zip(expected).any(|(seen, expected)| seen != expected) {
        return Err(ResponseError::NotHttp);
    }
    let Some((minor, line)) = head.get(PREFIX.len()..).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    if !minor.is_ascii_digit() {
        return Err(ResponseError::NotHttp);
    }
    let mut status = 0;
    for (at, place) in [b' ', b'9', b'9', b'9', b'\r'].into_iter().enumerate() {
        let Some(&byte) = line.get(at) else {
            return Ok(None);
        };
        match place {
            b' ' if byte == b' ' => {}
            b' ' => return Err(ResponseError::NotHttp),
            b'9' if byte.is_ascii_digit() => status = status * 10 + u16::from(byte - b'0'),
            b'\r' if matches!(byte, b' ' | b'\r' | b'\n') => {}
            _ => return Err(ResponseError::Status),
        }
    }
    if (100..600).contains(&status) {
        Ok(Some(status))
    } else {
        Err(ResponseError::Status)
    }
}

/// What follows the empty line that ends a head; some servers end lines without the carriage return.
fn after_head(head: &[u8]) -> Option<&[u8]> {
    let mut line_start = 0;
    for (at, byte) in head.iter().enumerate() {
        if *byte != b'\n' {
            continue;
        }
        if matches!(head.get(line_start..at), Some([] | [b'\r'])) {
            return head.get(at + 1..);
        }
        line_start = at + 1;
    }
    None
}

/// The request of a probe that is sent to this address.
pub(crate) fn request(probe: &HttpProbe, address: IpAddr) -> Vec<u8> {
    let mut text = format!("GET {} HTTP/1.1\r\nHost: ", probe.path());
    // Writing to a string cannot fail.
    let _ = match (probe.host(), address) {
        (Some(host), _) => write!(text, "{host}"),
        (None, IpAddr::V4(address)) => write!(text, "{address}:{}", probe.port()),
        (None, IpAddr::V6(address)) => write!(text, "[{address}]:{}", probe.port()),
    };
    text.push_str("\r\nUser-Agent: essaim-health\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Probe;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<HttpResponse, ResponseError> {
        HttpResponse::read(text.as_bytes())
    }

    #[test]
    fn the_status_is_read_as_soon_as_it_is_there() {
        use HttpResponse::{Incomplete, Status};
        for (text, expected) in [
            ("", Ok(Incomplete)),
            ("HTT", Ok(Incomplete)),
            ("HTTP/1.1 20", Ok(Incomplete)),
            ("HTTP/1.1 200", Ok(Incomplete)),
            ("HTTP/1.1 200 ", Ok(Status(200))),
            ("HTTP/1.0 404\r", Ok(Status(404))),
            ("HTTP/1.1 599\n", Ok(Status(599))),
            ("HTTP/1.1 101 Switching Protocols\r\n", Ok(Status(101))),
            ("HTTP/2 200", Err(ResponseError::NotHttp)),
            ("HTTP/1.x 200 ", Err(ResponseError::NotHttp)),
            ("HTTP/1.1_200 ", Err(ResponseError::NotHttp)),
            ("SSH-2.0-OpenSSH", Err(ResponseError::NotHttp)),
            ("HTTP/1.1 2000", Err(ResponseError::Status)),
            ("HTTP/1.1 20 ", Err(ResponseError::Status)),
            ("HTTP/1.1 099 ", Err(ResponseError::Status)),
            ("HTTP/1.1 600 ", Err(ResponseError::Status)),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn interim_answers_are_skipped() {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(read(interim), Ok(HttpResponse::Incomplete));
        assert_eq!(
            read(&format!("{interim}HTTP/1.1 204 ")),
            Ok(HttpResponse::Status(204))
        );
        assert_eq!(
            read("HTTP/1.1 100 Continue\n\nHTTP/1.1 500 "),
            Ok(HttpResponse::Status(500))
        );
        assert_eq!(read(&format!("{interim}junk")), Err(ResponseError::NotHttp));
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let endless = format!("HTTP/1.1 103 {}", "a".repeat(MOST_READ));
        assert_eq!(read(&endless[..MOST_READ - 1]), Ok(HttpResponse::Incomplete));
        assert_eq!(read(&endless), Err(ResponseError::TooLong));
    }

    #[test]
    fn the_request_names_its_host() {
        let text = |host, address: &str| {
            let Probe::Http(probe) = Probe::http(8080, "/up?x=1", host).unwrap() else {
                unreachable!();
            };
            String::from_utf8(request(&probe, address.parse().unwrap())).unwrap()
        };
        assert_eq!(
            text(None, "10.0.1.3"),
            "GET /up?x=1 HTTP/1.1\r\nHost: 10.0.1.3:8080\r\nUser-Agent: essaim-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        assert!(text(None, "fd00::3").contains("\r\nHost: [fd00::3]:8080\r\n"));
        assert!(text(Some("web.example"), "10.0.1.3").contains("\r\nHost: web.example\r\n"));
    }

    proptest! {
        #[test]
        fn more_of_an_answer_does_not_change_what_was_read(
            interim in 0_usize..3,
            status in 100_u16..700,
            noise in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut answer = "HTTP/1.1 100 Continue\r\n\r\n".repeat(interim).into_bytes();
            answer.extend(format!("HTTP/1.1 {status} ").into_bytes());
            answer.extend(noise);
            let mut earlier = Ok(HttpResponse::Incomplete);
            for end in 0..=answer.len() {
                let now = HttpResponse::read(&answer[..end]);
                if earlier != Ok(HttpResponse::Incomplete) {
                    prop_assert_eq!(&now, &earlier);
                }
                earlier = now;
            }
        }
    }
}
