//! The dependencies of reconcilers.

use std::sync::Arc;

use contracts::registry::RuntimeLease;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use crate::domain::runtime::Runtime;

/// How many cleanups are reported at a time: an entry with any number of installations may be deleted.
const CLEANUP_REPORTS: usize = 8;

/// The dependencies of every reconciler.
pub(crate) struct Context {
    pub(super) registry: Channel,
    pub(super) credential: Channel,
    pub(super) runtime: Arc<dyn Runtime>,
    /// The lease under which everything is reported.
    pub(super) lease: RuntimeLease,
    pub(super) cleanup_reports: Semaphore,
}

impl Context {
    pub(crate) fn new(registry: Channel, credential: Channel, runtime: Arc<dyn Runtime>, lease: RuntimeLease) -> Self {
        Self {
            registry,
            credential,
            runtime,
            lease,
            cleanup_reports: Semaphore::new(CLEANUP_REPORTS),
        }
    }
}
