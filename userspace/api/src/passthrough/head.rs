//! Which headers go on to the next hop (RFC 9110, section 7.6).

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers that are between two ends of one connection, beside those that `Connection` names.
const OF_THE_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// How this API is named in `Via`.
const US: &str = "essaim";

/// The protocol that a connection is to change to, if it is.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_asked = tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| is_asked).cloned()
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::CONNECTION).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim))
}

/// Takes away what is not for the other end.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named = tokens(headers).filter_map(|token| token.parse().ok());
    let named: Vec<HeaderName> = named.collect();
    for name in named.iter().chain(&OF_THE_HOP) {
        headers.remove(name);
    }
}

/// The headers of a request as the engine gets them.
pub(super) fn to_the_engine(mut headers: HeaderMap) -> HeaderMap {
    let upgrade = upgrade(&headers);
    strip(&mut headers);
    // This server has answered it.
    headers.remove(header::EXPECT);
    headers.insert(header::HOST, HeaderValue::from_static("docker"));
    headers.append(header::VIA, HeaderValue::from_static("1.1 essaim"));
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    headers
}

/// Whether a request was passed on by such an API already: then the engine's socket is an API's.
pub(crate) fn came_through_us(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::VIA).into_iter();
    let mut hops = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    hops.any(|hop| hop.split_whitespace().nth(1) == Some(US))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn what_is_of_the_hop_stays_there() {
        let sent = to_the_engine(headers(&[
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("upgrade", "h2c"),
            ("host", "node:2376"),
            ("x-registry-auth", "e30="),
            ("content-type", "application/x-tar"),
        ]));
        let expected = headers(&[
            ("host", "docker"),
            ("x-registry-auth", "e30="),
            ("content-type", "application/x-tar"),
            ("via", "1.1 essaim"),
        ]);
        assert_eq!(sent, expected, "an Upgrade that Connection does not name is none");
    }

    #[test]
    fn an_upgrade_is_asked_for_anew() {
        for connection in ["Upgrade", "keep-alive, upgrade"] {
            let sent = to_the_engine(headers(&[("connection", connection), ("upgrade", "tcp")]));
            assert_eq!(sent["connection"], "Upgrade");
            assert_eq!(sent["upgrade"], "tcp");
        }
        assert!(!to_the_engine(headers(&[("connection", "upgrade")])).contains_key("connection"));
    }

    #[test]
    fn a_loop_is_seen() {
        assert!(came_through_us(&to_the_engine(HeaderMap::new())));
        let both = headers(&[("via", "1.0 fred, 1.1 essaim (comment)")]);
        assert!(came_through_us(&both));
        for other in [&[][..], &[("via", "1.1 essaim.example")], &[("via", "essaim")]] {
            assert!(!came_through_us(&headers(other)), "{other:?}");
        }
    }
}
