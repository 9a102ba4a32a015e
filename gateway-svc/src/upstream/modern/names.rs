//! What MCP 2026-07-28 calls things, for both edges.

/// The revision.
pub(crate) const REVISION: &str = "2026-07-28";

/// Headers that repeat what is in a message.
pub(crate) const METHOD_HEADER: &str = "mcp-method";
pub(crate) const NAME_HEADER: &str = "mcp-name";

/// Members of the `_meta` of each request.
pub(crate) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const INFO: &str = "io.modelcontextprotocol/clientInfo";
pub(crate) const LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// A member of `_meta` that names the stream which a notification belongs to.
pub(crate) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The extension for tasks, in the `extensions` of `capabilities`.
pub(crate) const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Stands for the wish to be told of a task. A server gets it with the request for the stream, and never under this name.
pub(crate) const FOLLOW_TASK: &str = "tasks/follow";

/// Opens a stream of what changes.
pub(crate) const LISTEN: &str = "subscriptions/listen";
