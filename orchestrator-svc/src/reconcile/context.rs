//! What every reconciler uses.

use std::sync::Arc;

use contracts::registry::RuntimeLease;
use tonic::transport::Channel;

use crate::domain::runtime::Runtime;

/// Whom reconcilers speak to.
pub(crate) struct Context {
    pub(crate) registry: Channel,
    pub(crate) credential: Channel,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Under which everything is reported.
    pub(crate) lease: RuntimeLease,
}
