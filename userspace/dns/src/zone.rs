//! The cluster's names.

use essaim_model::{Catalog, Liveness};

/// Every name of the cluster, with what it stands for: made of one part a service, shared by pointer with the zone
/// before it.
#[derive(Clone, Debug)]
pub struct Zone {}

impl Zone {
    /// The names of a catalog, which [`Catalog::check`] must have accepted, and of what is alive.
    pub fn new(_catalog: &Catalog, _liveness: &Liveness) -> Self {
        todo!()
    }

    /// As [`Zone::new`] of `now`, where this is the zone of `before`: only the parts of services that changed are
    /// made anew.
    #[must_use]
    pub fn rebuild(&self, _before: (&Catalog, &Liveness), _now: (&Catalog, &Liveness)) -> Self {
        todo!()
    }
}
