//! Certificates that an authority elsewhere issues, asked as Swarm asks it (swarmkit, `ca/external.go`): CFSSL's request
//! to sign, over HTTPS, with the manager's own certificate.

use crate::links::Links;
use bytes::Bytes;
use essaim_ca::{
    Certificate, CertificateError, CertificateRequest, ForeignError, Issued, LinkError, RootCa, Subject,
    Timestamp,
};
use essaim_objects::{ClusterSpec, ExternalCa};
use essaim_rpc::chain;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

#[cfg(test)]
mod tests;

/// How long one authority may take (Swarm: 5 s).
const WITHIN: Duration = Duration::from_secs(5);
/// How long all may take together: the node that waits for its certificate gives up after 10 s.
pub(super) const ALL_WITHIN: Duration = Duration::from_secs(8);
/// The longest answer that is read, in bytes (Swarm's bound for a certificate).
const MAX_ANSWER: usize = 256 * 1024;

/// Why an authority elsewhere has issued nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExternalError {
    /// The URL cannot be called.
    #[error("the URL cannot be used")]
    Url(#[from] UrlError),
    /// No TLS configuration can be made.
    #[error("no link can be made")]
    Link(#[from] LinkError),
    /// It cannot be reached, or is not who it should be.
    #[error("it cannot be reached")]
    Reach(#[from] std::io::Error),
    /// It took too long.
    #[error("it has not answered within {0:?}")]
    Silent(Duration),
    /// It speaks no HTTP.
    #[error("the exchange failed")]
    Http(#[from] hyper::Error),
    /// The request cannot be written.
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    /// The answer is too long, or ends early.
    #[error("the answer cannot be read: {0}")]
    Body(String),
    /// It answered with an error.
    #[error("it answered {status}: {text}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of what came with it.
        text: String,
    },
    /// The answer is not CFSSL's.
    #[error("the answer is not CFSSL's")]
    Malformed(#[source] serde_json::Error),
    /// It refused.
    #[error("it refused: {0}")]
    Refused(String),
    /// The answer holds no single certificate.
    #[error("the answer is not one certificate")]
    Certificate(#[from] CertificateError),
    /// The certificate is not what was requested.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
}

/// Why a URL cannot be that of an authority.
#[derive(Debug, thiserror::Error)]
pub(super) enum UrlError {
    /// It is no URL.
    #[error("{0:?} is no URL")]
    Url(String),
    /// It is not https, or names no host.
    #[error("{0:?}")]
    Host(String),
}

/// Where an authority is.
#[derive(Clone, Debug)]
pub(super) struct Address {
    uri: Uri,
    /// For the connection.
    host: String,
    port: u16,
    /// What its certificate has to be valid for.
    name: ServerName<'static>,
}

/// Reads the URL of an authority.
pub(super) fn address_of(authority: &ExternalCa) -> Result<Address, UrlError> {
    let url = authority.url.as_deref().unwrap_or_default();
    let shown = || url.chars().take(200).collect::<String>();
    let uri: Uri = url.parse().map_err(|_| UrlError::Url(shown()))?;
    let host = uri.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| UrlError::Host(shown()))?;
    if uri.scheme_str() != Some("https") {
        return Err(UrlError::Host(shown()));
    }
    Ok(Address {
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(443),
        name,
        uri,
    })
}

/// The authorities elsewhere that have the key of the root that issues now; none where the managers issue.
pub(super) fn authorities(spec: &ClusterSpec, ca: &RootCa) -> Vec<ExternalCa> {
    let all = spec.ca_config.as_ref().and_then(|ca| ca.external_cas.clone());
    let signs = |authority: &ExternalCa| {
        let root = authority.ca_cert.as_deref().map(Certificate::from_pem);
        matches!(root, Some(Ok(root)) if root == *ca.issuer())
    };
    all.unwrap_or_default().into_iter().filter(signs).collect()
}

#[derive(Serialize)]
struct SignRequest<'a> {
    hosts: Vec<&'a str>,
    certificate_request: String,
    subject: SignSubject<'a>,
}

#[derive(Serialize)]
struct SignSubject<'a> {
    #[serde(rename = "CN")]
    common_name: &'a str,
    names: [SignName<'a>; 1],
}

#[derive(Serialize)]
struct SignName<'a> {
    #[serde(rename = "O")]
    organization: &'a str,
    #[serde(rename = "OU")]
    unit: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    success: bool,
    result: Option<Signed>,
    #[serde(default)]
    errors: Option<Vec<Problem>>,
}

#[derive(Deserialize)]
struct Signed {
    certificate: String,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

/// What is to be signed, and what it has to become.
pub(super) struct Asked<'a> {
    /// The cluster's authority: what certificates have to be of, and whom servers have to be of.
    pub(super) ca: &'a RootCa,
    /// The node's request.
    pub(super) request: &'a CertificateRequest,
    /// Whom the certificate is for.
    pub(super) subject: &'a Subject,
    /// The time.
    pub(super) now: Timestamp,
    /// How long all authorities may take together.
    pub(super) within: Duration,
}

impl Asked<'_> {
    /// Has one of the authorities sign, one after the other; each that did not is logged.
    pub(super) async fn sign(&self, authorities: &[ExternalCa], links: &Links) -> Option<Issued> {
        let share = self.within / u32::try_from(authorities.len()).unwrap_or(u32::MAX).max(1);
        let within = share.min(WITHIN);
        for authority in authorities {
            let url = authority.url.as_deref().unwrap_or_default();
            match self.sign_at(authority, links, within).await {
                Ok(issued) => return Some(issued),
                Err(error) => {
                    let (node, error) = (&self.subject.node_id, chain(&error));
                    tracing::error!(%node, url, error, "an external authority has not issued a certificate");
                }
            }
        }
        None
    }

    async fn sign_at(
        &self,
        authority: &ExternalCa,
        links: &Links,
        within: Duration,
    ) -> Result<Issued, ExternalError> {
        let address = address_of(authority)?;
        let config = links.to_external(&self.ca.trust())?;
        let answer = timeout(within, post(&address, config, self.body())).await;
        let answer = answer.map_err(|_| ExternalError::Silent(within))??;
        let certificate = read(&answer)?;
        Ok(self
            .ca
            .accept(certificate, self.request, self.subject, self.now)?)
    }

    fn body(&self) -> Bytes {
        let Subject {
            cluster_id,
            role,
            node_id,
        } = self.subject;
        let request = SignRequest {
            hosts: self.subject.names().collect(),
            certificate_request: self.request.to_pem(),
            subject: SignSubject {
                common_name: node_id.as_str(),
                names: [SignName {
                    organization: cluster_id.as_str(),
                    unit: role.unit(),
                }],
            },
        };
        // Texts only: JSON has them all.
        Bytes::from(serde_json::to_vec(&request).unwrap_or_default())
    }
}

/// Posts JSON, and gives the answer of a call that succeeded.
async fn post(address: &Address, config: ClientConfig, body: Bytes) -> Result<Bytes, ExternalError> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let tls = TlsConnector::from(Arc::new(config));
    let stream = tls.connect(address.name.clone(), stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let host = address
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .unwrap_or_default();
    let path = address
        .uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let request = Request::post(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(Full::new(body))?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body
            .map_err(|error| ExternalError::Body(error.to_string()))?
            .to_bytes();
        Ok::<_, ExternalError>((head.status, body))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let answered = tokio::select! {
        answered = &mut exchange => answered,
        // The connection may end with the answer.
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    };
    let (status, body) = answered?;
    if status != StatusCode::OK {
        // CFSSL says why in its usual form.
        return Err(match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) if answer.errors.as_ref().is_some_and(|errors| !errors.is_empty()) => refused(&answer),
            Ok(_) | Err(_) => {
                let text = String::from_utf8_lossy(&body);
                let text = text.chars().filter(|c| !c.is_control()).take(200).collect();
                ExternalError::Status { status, text }
            }
        });
    }
    Ok(body)
}

fn read(answer: &[u8]) -> Result<Certificate, ExternalError> {
    let answer: Answer = serde_json::from_slice(answer).map_err(ExternalError::Malformed)?;
    match &answer.result {
        Some(signed) if answer.success => Ok(Certificate::from_pem(&signed.certificate)?),
        Some(_) | None => Err(refused(&answer)),
    }
}

fn refused(answer: &Answer) -> ExternalError {
    let problems = answer.errors.iter().flatten();
    let text: Vec<_> = problems
        .map(|Problem { code, message }| format!("{message} (code {code})"))
        .collect();
    let text = if text.is_empty() {
        "no reason is given".to_owned()
    } else {
        text.join("; ")
    };
    ExternalError::Refused(text.chars().filter(|c| !c.is_control()).take(500).collect())
}
