//! Where messages have the ids of tasks.

use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use super::{
    super::pieces::{self, Change, Pieces},
    ids::OwnTasks,
};
use crate::{
    json::{self, Object},
    upstream::{RELATED_TASK, Reply},
};

/// Which result has the id of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mcp) enum Holder {
    /// That of a call that may become a task.
    Created,
    /// That of a request about a task, which is the task.
    Task,
    /// That of a call that was a task.
    Outcome,
}

/// The server's id of a task is longer than the gateway passes on.
#[derive(Debug)]
pub(in crate::mcp) struct TooLong;

impl Holder {
    /// The result of this method; `as_task`: the client has asked for a task.
    pub(in crate::mcp) fn of(method: &str, as_task: bool) -> Option<Self> {
        match method {
            "tools/call" if as_task => Some(Self::Created),
            "tasks/get" | "tasks/cancel" => Some(Self::Task),
            "tasks/result" => Some(Self::Outcome),
            _ => None,
        }
    }

    const fn place(self) -> &'static [&'static str] {
        match self {
            Self::Created => &["task", "taskId"],
            Self::Task => &["taskId"],
            Self::Outcome => &["_meta", RELATED_TASK, "taskId"],
        }
    }
}

impl OwnTasks {
    /// The reply of the server of this installation, under the client's ids.
    pub(in crate::mcp) fn reply(
        &self,
        reply: &Reply,
        holder: Option<Holder>,
        installation: &str,
        id: &str,
    ) -> Result<Pieces, TooLong> {
        let change = match holder {
            Some(holder) => self.change(reply, holder.place(), installation)?,
            None => None,
        };
        Ok(pieces::answer(reply, id, change))
    }

    fn change(&self, reply: &Reply, place: &[&str], installation: &str) -> Result<Option<Change>, TooLong> {
        let found = reply.result().and_then(|result| {
            let text = std::str::from_utf8(&result).ok()?;
            let at = json::place(text, 0..text.len(), place)?;
            Some((at.clone(), json::unescape(&text[at])?.into_owned()))
        });
        let Some((at, own)) = found else { return Ok(None) };
        let id = self.quoted(installation, &own).ok_or(TooLong)?;
        Ok(Some((at, id.into())))
    }

    /// A notification of the server of this installation, under the client's id of the task that it is about.
    pub(in crate::mcp) fn notification(&self, text: Bytes, installation: &str) -> Bytes {
        match self.renamed(&text, installation) {
            Some((place, id)) => json::replaced(&text, place, id.as_bytes()),
            None => text,
        }
    }

    fn renamed(&self, text: &[u8], installation: &str) -> Option<(Range<usize>, String)> {
        let text = std::str::from_utf8(text).ok()?;
        // Most have none. A name that is written otherwise is none that servers write.
        if !text.contains("/related-task") && !text.contains("notifications/tasks") {
            return None;
        }
        let object = Object::parse(text).ok()?;
        let place: &[&str] = match object.string("method").as_deref() {
            Some("notifications/tasks/status") => &["params", "taskId"],
            _ => &["params", "_meta", RELATED_TASK, "taskId"],
        };
        let at = json::place(text, 0..text.len(), place)?;
        let own = json::unescape(&text[at.clone()])?;
        Some((at, self.quoted(installation, &own)?))
    }

    /// Where the id of a task is in a server's list, and the client's, as JSON. `None`: clients could read it differently, or it is too long.
    pub(in crate::mcp) fn listed(&self, task: &[u8], installation: &str) -> Option<(Range<usize>, String)> {
        let text = std::str::from_utf8(task).ok()?;
        json::check(text).ok()?;
        let task = Object::parse(text).ok()?;
        let id = self.quoted(installation, &task.string("taskId")?)?;
        Some((task.range("taskId")?, id))
    }

    /// The client's id as JSON.
    pub(in crate::mcp) fn quoted(&self, installation: &str, own: &str) -> Option<String> {
        self.id(installation, own).map(|id| format!("\"{id}\""))
    }

    /// A client's answer to a request about this task, `result` or `error` as JSON, under the server's id of it.
    pub(in crate::mcp) fn returned(&self, outcome: &str, installation: &str, own: &str) -> Option<String> {
        let at = json::place(outcome, 0..outcome.len(), &["_meta", RELATED_TASK, "taskId"])?;
        let named = self.find(&json::unescape(&outcome[at.clone()])?)?;
        let is_of_it = named.installation == installation && named.own == own;
        is_of_it.then(|| format!("{}{}{}", &outcome[..at.start], Value::from(own), &outcome[at.end..]))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pretty_assertions::assert_eq;
    use service_kit::keys::Ring;

    use super::*;
    use crate::{
        domain::{ConsumerKind, ConsumerRef},
        mcp::tasks::TaskIds,
    };

    fn tasks() -> OwnTasks {
        let ids = Arc::new(TaskIds::new(&Ring::from([1; 32])));
        ids.of("users/a", &ConsumerRef::new(ConsumerKind::Gateway, "g"))
    }

    #[test]
    fn a_notification_has_the_clients_id_and_is_as_it_came_otherwise() {
        let id = tasks().id("i", "t").unwrap();
        let passed = |text: &str| tasks().notification(Bytes::copy_from_slice(text.as_bytes()), "i");
        for (text, renamed) in [
            (
                r#"{"method":"notifications/tasks/status", "params":{"n":1.0,"taskId":"t","status":"working"},"jsonrpc":"2.0"}"#,
                true,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"t","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}}"#,
                true,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"/related-task","taskId":"t"}}"#,
                false,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":5}}"#,
                false,
            ),
        ] {
            let expected = if renamed {
                text.replace(r#"taskId":"t""#, &format!(r#"taskId":"{id}""#))
            } else {
                text.to_owned()
            };
            assert_eq!(passed(text), expected);
        }
    }

    #[test]
    fn an_answer_has_the_servers_id_of_the_task_that_it_was_asked_for() {
        let of = |id: &str| format!(r#"{{"x":1.0,"_meta":{{"{RELATED_TASK}":{{"taskId":"{id}"}}}}}}"#);
        let answer = of(&tasks().id("i", "t\"").unwrap());
        assert_eq!(tasks().returned(&answer, "i", "t\"").unwrap(), of("t\\\""));
        assert_eq!(tasks().returned(&answer, "i", "other"), None);
        assert_eq!(tasks().returned(&answer, "j", "t\""), None);
        assert_eq!(tasks().returned(&of("t\\\""), "i", "t\""), None);
        assert_eq!(tasks().returned("{}", "i", "t\""), None);
    }
}
