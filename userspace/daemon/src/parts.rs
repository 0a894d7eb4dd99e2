//! What a manager does beside its copy of the store: sessions, decisions, logs.

use essaim_manager::{Leadership, Replica, catalog_since};
use essaim_node::{ManagerParts, Stop};
use essaim_rpc::Methods;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};

/// Remembers the leadership of the manager that runs now, for whoever asks for logs.
#[derive(Debug, Default)]
pub(crate) struct Parts(Mutex<Option<Leadership>>);

impl Parts {
    /// That of the manager that runs now.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ManagerParts for Parts {
    fn begin(
        &self,
        replica: &Replica,
        methods: Methods,
    ) -> (Methods, Box<dyn FnOnce(Stop) -> BoxFuture<'static, ()> + Send>) {
        let catalog = Arc::new(catalog_since);
        let leadership = Leadership::new(replica.clone(), catalog);
        let methods = leadership.methods(methods);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(leadership.clone());
        (methods, Box::new(move |stop| leadership.run(stop).boxed()))
    }
}
