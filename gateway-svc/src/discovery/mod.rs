//! Asks servers for their tools.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::domain::{CallError, DiscoveredTool, Installation};

/// Asks an installation's server for all its tools, on all pages, with the installation's own credential.
/// `upstream` does this for real.
pub(crate) trait ListTools: Send + Sync + 'static {
    /// All of them, in the server's order. No tools is an answer too.
    fn list_tools(&self, installation: Arc<Installation>) -> BoxFuture<'_, Result<Vec<DiscoveredTool>, CallError>>;
}
