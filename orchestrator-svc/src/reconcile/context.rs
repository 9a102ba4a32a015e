//! The dependencies of reconcilers.

use std::sync::Arc;

use contracts::registry::RuntimeLease;
use tonic::transport::Channel;

use crate::domain::runtime::Runtime;

/// The dependencies of every reconciler.
pub(crate) struct Context {
    pub(crate) registry: Channel,
    pub(crate) credential: Channel,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// The lease under which everything is reported.
    pub(crate) lease: RuntimeLease,
}
