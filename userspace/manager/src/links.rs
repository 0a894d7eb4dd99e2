use bytes::Bytes;
use essaim_ca::{Callee, LinkError, LiveIdentity, TrustBundle, client_config, external_client_config};
use essaim_raft::{NodeId, Transport, TransportError};
use essaim_rpc::{CallError, Client, Code};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use rustls::time_provider::TimeProvider;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The method that carries Raft's messages.
pub(crate) const RAFT: &str = "Raft";

/// Raft drops a call that interests nobody any more; this only bounds what nobody drops.
const WITHIN: Duration = Duration::from_secs(30);

/// Connections to the other managers, each made with the first call.
pub(crate) struct Links {
    identity: Arc<LiveIdentity>,
    time: Arc<dyn TimeProvider>,
    clients: Mutex<BTreeMap<String, Client>>,
}

impl Links {
    pub(crate) fn new(identity: Arc<LiveIdentity>, time: Arc<dyn TimeProvider>) -> Arc<Self> {
        Arc::new(Self {
            identity,
            time,
            clients: Mutex::default(),
        })
    }

    /// The TLS configuration towards an authority elsewhere, with this manager's own certificate.
    pub(crate) fn to_external(&self, trust: &TrustBundle) -> Result<ClientConfig, LinkError> {
        external_client_config(&self.identity, trust, self.time.clone())
    }

    /// The client of the manager at an address.
    pub(crate) fn to(&self, address: &str) -> Result<Client, LinkError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(address) {
            return Ok(client.clone());
        }
        let config = client_config(&self.identity, self.time.clone())?;
        let client = Client::new(address, config, &Callee::AnyManager)?;
        clients.insert(address.to_owned(), client.clone());
        Ok(client)
    }
}

/// As Raft's transport.
pub(crate) struct RaftLinks(pub(crate) Arc<Links>);

impl Transport for RaftLinks {
    fn send(
        &self,
        _to: NodeId,
        address: &str,
        message: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, TransportError>> {
        let client = self.0.to(address);
        async move {
            let client = client.map_err(|error| TransportError::Failed(error.to_string()))?;
            let reply = client.call(RAFT, Bytes::from(message), WITHIN).await;
            Ok(reply.map_err(failed)?.into())
        }
        .boxed()
    }
}

fn failed(error: CallError) -> TransportError {
    match error.code {
        Code::Unavailable | Code::DeadlineExceeded => TransportError::Unreachable(error.message),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal => TransportError::Failed(error.message),
    }
}
