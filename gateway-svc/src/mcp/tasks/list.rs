//! `tasks/list`: of all servers that have tasks of this client alone.

use std::sync::Arc;

use super::{
    super::{page::invalid_cursor, rpc::RpcError, session::Session, visit::Visit},
    ids::OwnTasks,
};
use crate::{
    calls::{TaskPage, Visitor},
    domain::CallError,
    json::{self, Object},
};

/// The servers that are asked for one page.
const SERVERS: usize = 16;

/// Whom the next page is asked of, and from which of their cursors.
type Rest = Vec<(Arc<str>, Option<String>)>;

/// Why there is no page.
pub(in crate::mcp) enum NotListed {
    Cursor(RpcError),
    Call(CallError),
}

impl Visit {
    /// A page, as a result: the next of each server that has one.
    pub(in crate::mcp) async fn list_tasks(
        &self,
        session: &Session,
        visitor: &Visitor<'_>,
        params: Option<&Object<'_>>,
    ) -> Result<Vec<u8>, NotListed> {
        let (subject, consumer) = (visitor.subject, visitor.consumer);
        let binding = format!("tasks/list {consumer} {subject} {:?}", session.id);
        let calls = &self.at.mcp.calls;
        let mut asked: Rest = match params.and_then(|params| params.get("cursor")) {
            None | Some("null") => {
                let all = calls.listing_tasks(visitor).map_err(NotListed::Call)?;
                all.into_iter().map(|installation| (installation, None)).collect()
            }
            Some(cursor) => {
                let opened =
                    json::unescape(cursor).and_then(|cursor| self.at.mcp.cursors.open(&binding, &cursor).ok()?);
                let opened: Vec<(String, Option<String>)> =
                    opened.ok_or_else(|| NotListed::Cursor(invalid_cursor()))?;
                opened.into_iter().map(|(uid, cursor)| (uid.into(), cursor)).collect()
            }
        };
        let later = asked.split_off(asked.len().min(SERVERS));
        let pages = calls.task_pages(visitor, asked).await.map_err(NotListed::Call)?;
        let mut out = Vec::from(b"{");
        write(&mut out, &self.tasks(), &pages);
        let next = pages
            .into_iter()
            .filter_map(|(uid, page)| Some((uid, Some(page.next?))));
        let rest: Rest = next.chain(later).collect();
        if !rest.is_empty() {
            let rest: Vec<(&str, Option<&str>)> = rest.iter().map(|(uid, next)| (&**uid, next.as_deref())).collect();
            json::push_comma(&mut out);
            out.extend_from_slice(b"\"nextCursor\":");
            json::push_string(&mut out, &self.at.mcp.cursors.seal(&binding, &rest));
        }
        out.push(b'}');
        Ok(out)
    }
}

/// Appends the tasks, under the client's ids.
fn write(out: &mut Vec<u8>, tasks: &OwnTasks, pages: &[(Arc<str>, TaskPage)]) {
    out.extend_from_slice(b"\"tasks\":[");
    let mut first = true;
    for (installation, page) in pages {
        for task in &page.tasks {
            let Some((at, id)) = tasks.listed(task, installation) else {
                continue;
            };
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            out.extend_from_slice(&task[..at.start]);
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&task[at.end..]);
        }
    }
    out.push(b']');
}
