//! A request as the routes see it: version, path, query and body.

use crate::EngineError;
use bytes::Bytes;
use essaim_objects::Sensitive;
use http::request::Parts;
use http::{HeaderMap, Method, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::DeserializeOwned;

/// The API's version that is told to clients, as `1.MINOR`.
pub(crate) const API_VERSION: Minor = Minor(47);
/// The least that a path may name.
pub(crate) const LEAST_VERSION: Minor = Minor(24);
/// The greatest that a path may name: clients that do not negotiate name their own.
const GREATEST_VERSION: Minor = Minor(59);

/// A version of the API: 1 and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Minor(pub(crate) u32);

impl std::fmt::Display for Minor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// A request, and its body once that has been read.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) version: Minor,
    /// Whether the path names the version.
    pub(crate) names_version: bool,
    /// As it was sent.
    pub(crate) uri: Uri,
    /// The path's parts, decoded, without the version.
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    /// Reads a request's head.
    ///
    /// # Errors
    /// The path names a version that is not served.
    pub(crate) fn head(head: Parts) -> Result<Self, EngineError> {
        let mut path = parts(head.uri.path());
        let named = path.first().and_then(|first| version_of(first));
        let version = named.as_ref().map_or(Ok(API_VERSION), supported)?;
        if named.is_some() {
            path.remove(0);
        }
        Ok(Self {
            method: head.method,
            version,
            names_version: named.is_some(),
            path,
            query: Query::parse(head.uri.query().unwrap_or_default()),
            uri: head.uri,
            headers: head.headers,
            body: Bytes::new(),
        })
    }

    pub(crate) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Has the body, as it is passed on, be this one.
    pub(crate) fn set_body(&mut self, body: Bytes) {
        self.headers.remove(header::CONTENT_LENGTH);
        self.body = body;
    }

    /// Has a part of the path, counted from its end, be this one as the request is passed on.
    pub(crate) fn set_part(&mut self, from_the_end: usize, part: &str) {
        let mut parts: Vec<String> = self.uri.path().split('/').map(str::to_owned).collect();
        if let Some(found) = parts.iter_mut().rev().nth(from_the_end) {
            *found = utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        }
        let query = self
            .uri
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        if let Ok(uri) = format!("{}{query}", parts.join("/")).parse() {
            self.uri = uri;
        }
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Has the query, as it is passed on, say this of a name.
    pub(crate) fn set_query(&mut self, name: &str, value: &str) {
        self.query.0.retain(|(found, _)| found != name);
        self.query.0.push((name.to_owned(), value.to_owned()));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.query.0)
            .finish();
        // A path that was read and a query that is encoded are a URI.
        if let Ok(uri) = format!("{}?{query}", self.uri.path()).parse() {
            self.uri = uri;
        }
    }

    /// Who is to ask the registry for the images that the request names: `X-Registry-Auth`, where it says something.
    pub(crate) fn registry_auth(&self) -> Option<Sensitive> {
        let auth = self.headers.get("x-registry-auth")?.to_str().ok()?;
        (!auth.is_empty()).then(|| Sensitive(auth.to_owned()))
    }

    /// The body's object.
    ///
    /// # Errors
    /// It is none; says where it stops to be one.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, EngineError> {
        let kind = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let media = kind
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        if !(media.is_empty() || media.eq_ignore_ascii_case("application/json")) {
            return Err(EngineError::invalid(format_args!(
                "unsupported Content-Type header ({media}): must be 'application/json'"
            )));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| EngineError::invalid(format_args!("invalid JSON: {error}")))
    }
}

/// A path's parts, decoded one by one, so that a name may hold a slash.
fn parts(path: &str) -> Vec<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect()
}

/// The version that a path's first part names, as major and minor, if it names one.
fn version_of(part: &str) -> Option<(String, u64, u64)> {
    let number = part.strip_prefix('v')?;
    let (major, minor) = number.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(major) && digits(minor)).then(|| {
        let parsed = |text: &str| text.parse().unwrap_or(u64::MAX);
        (number.to_owned(), parsed(major), parsed(minor))
    })
}

fn supported((named, major, minor): &(String, u64, u64)) -> Result<Minor, EngineError> {
    let found = (*major, *minor);
    if found < (1, LEAST_VERSION.0.into()) {
        return Err(EngineError::invalid(format_args!(
            "client version {named} is too old. Minimum supported API version is {LEAST_VERSION}, please upgrade your \
             client to a newer version"
        )));
    }
    let too_new = || {
        EngineError::invalid(format_args!(
            "client version {named} is too new. Maximum supported API version is {GREATEST_VERSION}"
        ))
    };
    if found > (1, GREATEST_VERSION.0.into()) {
        return Err(too_new());
    }
    u32::try_from(*minor).map(Minor).map_err(|_| too_new())
}

/// What follows a path's question mark.
#[derive(Clone, Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a name; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value)
    }

    /// Whether a name is set to something true, as Docker reads it.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.get(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The version of the object that the client read.
    ///
    /// # Errors
    /// It is missing, or no number. `what` is the object's kind.
    pub(crate) fn version(&self, what: &str) -> Result<essaim_objects::Version, EngineError> {
        let text = self.get("version");
        text.parse()
            .map(|index| essaim_objects::Version { index })
            .map_err(|_| {
                EngineError::invalid(format_args!(
                    "invalid {what} version '{text}': expected the number that was read as Version.Index"
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> Result<Request, EngineError> {
        let (head, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        Request::head(head)
    }

    #[test]
    fn a_path_may_name_a_version_that_is_served() {
        for (uri, version, path) in [
            ("/services", 47, vec!["services"]),
            ("/v1.24/services/a%2Fb", 24, vec!["services", "a/b"]),
            ("/v1.59/", 59, vec![""]),
            ("/v1/x", 47, vec!["v1", "x"]),
            ("/v1.x/x", 47, vec!["v1.x", "x"]),
            ("/", 47, vec![""]),
        ] {
            let found = request(uri).unwrap();
            assert_eq!(
                (found.version, found.path.clone()),
                (Minor(version), path.iter().map(ToString::to_string).collect()),
                "{uri}"
            );
        }
        for (uri, says) in [
            (
                "/v1.23/x",
                "client version 1.23 is too old. Minimum supported API version is 1.24",
            ),
            ("/v0.99/x", "too old"),
            ("/v1.60/x", "client version 1.60 is too new"),
            ("/v2.0/x", "too new"),
            ("/v1.99999999999999999999999/x", "too new"),
        ] {
            let error = request(uri).unwrap_err();
            assert!(error.message.contains(says), "{uri}: {error}");
            assert_eq!(error.kind, crate::ErrorKind::Invalid);
        }
    }

    #[test]
    fn a_query_is_changed_in_one_name_only() {
        let mut changed = request("/v1.41/events?filters=%7B%7D&since=1&until=9").unwrap();
        changed.set_query("since", "7.5");
        assert_eq!(changed.uri, "/v1.41/events?filters=%7B%7D&until=9&since=7.5");
        assert_eq!(changed.query.get("since"), "7.5");
    }

    #[test]
    fn flags_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("", false),
            ("a", false),
            ("a=", false),
            ("a=0", false),
            ("a=No", false),
            ("a=false", false),
            ("a=none", false),
            ("a=1", true),
            ("a=TRUE", true),
            ("a=whatever", true),
            ("b=1", false),
        ] {
            assert_eq!(Query::parse(text).flag("a"), expected, "{text}");
        }
    }

    #[test]
    fn a_version_that_is_missing_or_no_number_is_refused_with_what_it_was() {
        assert_eq!(Query::parse("version=7").version("node").unwrap().index, 7);
        for text in [
            "",
            "version=",
            "version=x",
            "version=-1",
            "version=18446744073709551616",
        ] {
            let error = Query::parse(text).version("node").unwrap_err();
            assert!(error.message.starts_with("invalid node version '"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_is_read_or_refused(path in "/?[/v0-9.%a-z]{0,20}", query in "\\PC{0,40}", now in 0_i64..1 << 40) {
            let _ = parts(&path).first().and_then(|first| version_of(first)).map(|named| supported(&named));
            let query = Query::parse(&query);
            let _ = (query.flag("a"), query.version("node").is_ok());
            let _ = crate::filter::Filters::of(&query, &["id"]);
            let now = essaim_objects::Timestamp::from_millisecond(now).unwrap();
            let _ = crate::moment::parse(query.get(""), now);
        }

        #[test]
        fn whatever_filters_are_they_are_read_or_refused(text in "[{}\\[\\]\",:a-z0-9 ]{0,30}") {
            let encoded = form_urlencoded::Serializer::new(String::new()).append_pair("filters", &text).finish();
            if let Ok(filters) = crate::filter::Filters::of(&Query::parse(&encoded), &["id"]) {
                // Only what is named is there.
                proptest::prop_assert!(filters.values("other").is_empty());
                proptest::prop_assert!(text.is_empty() || serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }

        #[test]
        fn whatever_a_moment_is_it_is_read_or_refused(text in "[0-9a-zTZ:.+ -]{0,25}") {
            let now = essaim_objects::Timestamp::UNIX_EPOCH;
            match crate::moment::parse(&text, now) {
                Ok(None) => proptest::prop_assert!(text.is_empty() || text == "0"),
                Ok(Some(_)) => proptest::prop_assert!(!text.is_empty()),
                Err(error) => proptest::prop_assert!(error.contains("invalid time")),
            }
        }
    }
}
