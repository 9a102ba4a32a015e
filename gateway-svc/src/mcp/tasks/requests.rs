//! Requests about one task: they go to the server that has it.

use serde_json::Value;

use super::{super::visit::Visit, ids::OwnTasks};
use crate::calls::{Found, Visitor};

/// What a client gets for an id of no task of its own, whether there is a task or not.
pub(in crate::mcp) const UNKNOWN_TASK: &str = "Task not found";

/// Where a request about a task goes.
pub(in crate::mcp) struct RoutedTask {
    pub(in crate::mcp) found: Found,
    /// The id that the server knows the task by, as JSON.
    pub(in crate::mcp) own: String,
}

impl Visit {
    /// The tasks of this caller.
    pub(in crate::mcp) fn tasks(&self) -> OwnTasks {
        self.at
            .mcp
            .task_ids
            .of(&self.who.identified.subject, &self.who.consumer.name)
    }

    /// Where a request goes about the task of this id; `None`: it is none of this caller's, or its server is out of reach.
    pub(in crate::mcp) fn route_task(&self, visitor: &Visitor<'_>, id: &str) -> Option<RoutedTask> {
        let named = self.tasks().find(id)?;
        let found = self.at.mcp.calls.task(visitor, &named.installation, &named.own)?;
        Some(RoutedTask {
            own: Value::from(&*found.own).to_string(),
            found,
        })
    }
}
