use crate::{CallError, Caller, Code};
use bytes::Bytes;
use essaim_ca::{Peer, Role};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nodes without a certificate, too: the method checks a token, or says nothing that is secret.
    Anybody,
    /// Nodes of the cluster whose role is this at least: [`Role::Worker`] for all of them.
    Members(Role),
}

impl Admission {
    /// Whether the caller may, else why not.
    fn check(self, caller: &Caller) -> Result<(), String> {
        match (self, &caller.peer) {
            (Self::Anybody, _) => Ok(()),
            (Self::Members(role), Some(peer)) => {
                Peer::require(peer, role).map_err(|refusal| refusal.to_string())
            }
            (Self::Members(role), None) => {
                Err(format!("no certificate was shown, expected that of a {role}"))
            }
        }
    }
}

pub(crate) type One =
    Arc<dyn Fn(Caller, Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> + Send + Sync>;
pub(crate) type Many =
    Arc<dyn Fn(Caller, Bytes) -> BoxFuture<'static, Result<Replies, CallError>> + Send + Sync>;

/// The messages of an answer that goes on.
pub(crate) type Replies = BoxStream<'static, Result<Bytes, CallError>>;

#[derive(Clone)]
pub(crate) enum Handler {
    One(One),
    Many(Many),
}

/// Whether a member may call what is for members of a role, beside what its certificate says; else why not.
type Guard = Arc<dyn Fn(&Peer, Role, &str) -> Result<(), String> + Send + Sync>;

/// What can be called, and by whom.
#[derive(Clone, Default)]
pub struct Methods {
    by_name: BTreeMap<&'static str, (Admission, Handler)>,
    guard: Option<Guard>,
}

impl Methods {
    /// Nothing can be called.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method that answers once. The name stands in a path: letters and digits.
    #[must_use]
    pub fn one<F>(
        mut self,
        name: &'static str,
        who: Admission,
        handler: impl Fn(Caller, Bytes) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Bytes, CallError>> + Send + 'static,
    {
        let handler: One = Arc::new(move |caller, message| Box::pin(handler(caller, message)));
        self.by_name.insert(name, (who, Handler::One(handler)));
        self
    }

    /// Adds a method whose answer goes on: each message is sent as it comes, as fast as the caller takes them.
    #[must_use]
    pub fn many<F>(
        mut self,
        name: &'static str,
        who: Admission,
        handler: impl Fn(Caller, Bytes) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<BoxStream<'static, Result<Bytes, CallError>>, CallError>> + Send + 'static,
    {
        let handler: Many = Arc::new(move |caller, message| Box::pin(handler(caller, message)));
        self.by_name.insert(name, (who, Handler::Many(handler)));
        self
    }

    /// Asks this before each call that is for members only, with the caller, the role that the method is for and its
    /// name: whether the certificate still counts. One that was asked before is asked no more.
    #[must_use]
    pub fn guarded(
        mut self,
        guard: impl Fn(&Peer, Role, &str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.guard = Some(Arc::new(guard));
        self
    }

    fn check(&self, name: &str, who: Admission, caller: &Caller) -> Result<(), String> {
        who.check(caller)?;
        match (who, &caller.peer, &self.guard) {
            (Admission::Members(role), Some(peer), Some(guard)) => guard(peer, role, name),
            (Admission::Anybody | Admission::Members(_), _, _) => Ok(()),
        }
    }

    /// The handler of a method, where the caller may call it.
    pub(crate) fn find(&self, name: &str, caller: &Caller) -> Result<Handler, CallError> {
        let Some((who, handler)) = self.by_name.get(name) else {
            let message = format!("there is no method {name:?}; is this node of another version?");
            return Err(CallError::new(Code::Unimplemented, message));
        };
        self.check(name, *who, caller).map_err(|why| {
            tracing::warn!(method = name, from = %caller.address, why, "call refused");
            CallError::new(Code::PermissionDenied, format!("not allowed to call {name}"))
        })?;
        Ok(handler.clone())
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.by_name.iter().map(|(name, (who, _))| (name, who));
        formatter.debug_map().entries(names).finish()
    }
}
