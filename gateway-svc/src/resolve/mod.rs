//! Assignment to installation.
//!
//! To come, with these signatures:
//! ```text
//! resolve (free functions; one resolver for call, list, discovery, explain)
//!   fn consumer(&Snapshot, &Caller, &ConsumerRef) -> Result<Arc<Consumer>, CallError>           // may they use it
//!   fn list(&Snapshot, &Caller, &ConsumerRef) -> Result<Vec<ExposedTool>, CallError>            // sorted by exposed name
//!   fn call(&Snapshot, &Caller, &ConsumerRef, exposed_name: &str, &Links) -> Result<Target, CallError>
//!   struct Target { installation: Arc<Installation>, entry: Arc<Entry>, tool: Arc<str>, consumer: Arc<Consumer>, definition: Option<Arc<str>> }
//!   fn repair(&Entry, &ConsumerRef, RepairReason, &Links) -> CallError   // for 401s that stay
//! ```
