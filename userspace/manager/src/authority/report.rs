//! What nodes report of their certificates.

use data_encoding::BASE64;
use essaim_ca::{Certificate, Identity, TrustBundle};
use essaim_objects::TlsInfo;

/// The member that Swarm's API does not have: what the node shows beside its own certificate.
const INTERMEDIATES: &str = "Intermediates";

/// What a node reports of its certificate, to [`CERTIFICATE_INSTALLED`].
///
/// [`CERTIFICATE_INSTALLED`]: essaim_protocol::method::CERTIFICATE_INSTALLED
pub fn report(identity: &Identity) -> TlsInfo {
    let Some(info) = essaim_ca::TlsInfo::of(identity) else {
        return TlsInfo::default();
    };
    let mut report = TlsInfo {
        trust_root: Some(info.trust.to_pem()),
        cert_issuer_subject: Some(BASE64.encode(&info.issuer_subject)),
        cert_issuer_public_key: Some(BASE64.encode(&info.issuer_public_key)),
        ..TlsInfo::default()
    };
    if !info.intermediates.is_empty() {
        let chain: String = info.intermediates.iter().map(Certificate::to_pem).collect();
        report.extra.insert(INTERMEDIATES.to_owned(), chain.into());
    }
    report
}

/// The report, read; `None` where it says nothing that can be read.
pub(super) fn read(report: &TlsInfo) -> Option<essaim_ca::TlsInfo> {
    let bytes = |text: &Option<String>| BASE64.decode(text.as_deref()?.as_bytes()).ok();
    let chain = report.extra.get(INTERMEDIATES).and_then(|chain| chain.as_str());
    let intermediates = match chain {
        Some(chain) => Certificate::all_from_pem(chain).ok()?,
        None => Vec::new(),
    };
    Some(essaim_ca::TlsInfo {
        trust: TrustBundle::from_pem(report.trust_root.as_deref()?).ok()?,
        issuer_subject: bytes(&report.cert_issuer_subject)?,
        issuer_public_key: bytes(&report.cert_issuer_public_key)?,
        intermediates,
    })
}
