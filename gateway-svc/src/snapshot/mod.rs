//! What the registry says, in memory.
//!
//! To come, with these signatures:
//! ```text
//! snapshot::Store (shared as Arc<Store>)
//!   fn load(&self) -> Result<Arc<Snapshot>, CallError>         // RegistryUnavailable when never loaded or stale
//!   fn revisions(&self) -> tokio::sync::watch::Receiver<i64>    // changes whenever a snapshot is in force (for list_changed: recompare your list/hash)
//! snapshot::Snapshot
//!   fn consumer(&self, &ConsumerRef) -> Option<&Arc<Consumer>>      // raw, no authorization
//!   fn gateway_token(&self, hash: &[u8; 32]) -> Option<&Arc<GatewayToken>>
//!   fn is_deactivated(&self, &UserId) -> bool
//! snapshot::GatewayToken { name: Arc<str> (gatewayTokens/..), caller: Caller, expires: Option<SystemTime> }
//! ```
