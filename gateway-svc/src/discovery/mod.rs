//! Asks servers for their tools.
//!
//! To come, with these signatures:
//! ```text
//! discovery::Discovery (Arc): fn changed(&self, installation_uid: &str)   // an upstream announced list_changed; async fn now(&self, uid) -> Result<Vec<String>, CallError>
//! gateway-a's `Calls` as api/ will use it: async fn call(&self, &Caller, &ConsumerRef, tool: &str, arguments: Box<RawValue>, client_headers: &HeaderMap) -> Result<Box<RawValue> /*CallToolResult*/, CallError>
//! identity (gateway-a) as api/ will use it: async fn caller(&self, headers: &HeaderMap) -> Result<Caller, IdentityError>  (IdentityError: Missing | Refused(TokenError) | ... | RegistryUnavailable)
//! ```

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::domain::{CallError, DiscoveredTool, Installation};

/// Asks an installation's server for all its tools, on all pages, with the installation's own credential.
/// `upstream` does this for real.
pub(crate) trait ListTools: Send + Sync + 'static {
    /// All of them, in the server's order. No tools is an answer too.
    fn list_tools(&self, installation: Arc<Installation>) -> BoxFuture<'_, Result<Vec<DiscoveredTool>, CallError>>;
}
