//! Which task a message is about (2025-11-25).

use crate::envelope::Members;

/// The member of `_meta` that names the task which a message is about.
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// The id of the task whose result a request asks for.
pub(super) fn awaited(request: &Members<'_>) -> Option<String> {
    let asks = request.string("method").as_deref() == Some("tasks/result");
    request.object("params").filter(|_| asks)?.string("taskId")
}

/// The id of the task that a message of the server is about.
pub(super) fn about(message: &Members<'_>) -> Option<String> {
    let params = message.object("params")?;
    if message.string("method").as_deref() == Some("notifications/tasks/status") {
        return params.string("taskId");
    }
    params.object("_meta")?.object(RELATED)?.string("taskId")
}
