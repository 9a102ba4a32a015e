//! Which servers have tasks of a client, and what they list.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::{
    Calls, Found, To, Visitor,
    failure::upstream_failed,
    lists::{AT_A_TIME, MOST_CURSOR, WITHIN, own_call},
};
use crate::{
    domain::CallError,
    json::{self, Object},
    resolve,
    route::Source,
    upstream::{UpstreamError, modern_names::FOLLOW_TASK},
};

/// Of one page of a server.
const MOST_TASKS: usize = 1000;

/// A page of what one server lists.
#[derive(Debug)]
pub(crate) struct TaskPage {
    /// Each as the server writes it.
    pub(crate) tasks: Vec<Bytes>,
    /// Under which it lists more, as JSON.
    pub(crate) next: Option<String>,
}

impl Calls {
    /// Where the task is that the server of this installation knows by `own`; `None`: this caller does not reach the installation here.
    pub(crate) fn task(&self, visitor: &Visitor<'_>, installation: &str, own: &str) -> Option<Found> {
        Some(Found {
            source: self.source_of(visitor.caller, visitor.consumer, installation)?,
            own: own.into(),
        })
    }

    /// Whether the server of this source tells the client of this task from now on, whose id at it is `own`, as JSON.
    pub(crate) async fn follow_task(&self, visitor: &Visitor<'_>, source: &Arc<Source>, own: &str) -> bool {
        let to = To::Source(source, Some(("taskId", own)));
        self.result(&own_call(visitor, FOLLOW_TASK, to, &[])).await.is_ok()
    }

    /// The uids of the installations whose servers may list tasks to this client: those that are its caller's own, in a session that is its own. Of
    /// another, a server may list the tasks of others.
    pub(crate) fn listing_tasks(&self, visitor: &Visitor<'_>) -> Result<Vec<Arc<str>>, CallError> {
        let snapshot = self.store.load()?;
        resolve::own_sessions(&snapshot, visitor.caller, visitor.consumer)
    }

    /// A page of the tasks of each of these installations' servers, from a cursor of the server's own; nothing for one that lists none. Fails if all
    /// that could list some fail.
    pub(crate) async fn task_pages(
        &self,
        visitor: &Visitor<'_>,
        asked: Vec<(Arc<str>, Option<String>)>,
    ) -> Result<Vec<(Arc<str>, TaskPage)>, CallError> {
        let pages = stream::iter(asked).map(|(installation, cursor)| async move {
            let source = self.source_of(visitor.caller, visitor.consumer, &installation)?;
            let page = tokio::time::timeout(WITHIN, self.task_page(visitor, &source, cursor.as_deref())).await;
            Some((installation, page))
        });
        let mut pages = pages.buffered(AT_A_TIME);
        let (mut listed, mut failed) = (Vec::new(), None);
        while let Some(page) = pages.next().await {
            match page {
                Some((installation, Ok(Ok(page)))) => listed.push((installation, page)),
                None | Some((_, Ok(Err(CallError::NotOffered)))) => {}
                Some((installation, late_or_failed)) => {
                    tracing::info!(installation.uid = %installation, "a server did not list its tasks");
                    failed = late_or_failed.ok().and_then(Result::err).or(failed);
                }
            }
        }
        match failed {
            Some(error) if listed.is_empty() => Err(error),
            _ => Ok(listed),
        }
    }

    async fn task_page(
        &self,
        visitor: &Visitor<'_>,
        source: &Arc<Source>,
        cursor: Option<&str>,
    ) -> Result<TaskPage, CallError> {
        let params: Vec<(&str, &str)> = cursor.iter().map(|cursor| ("cursor", *cursor)).collect();
        let call = own_call(visitor, "tasks/list", To::Source(source, None), &params);
        let (entry, result) = self.result(&call).await?;
        page(&result).map_err(|error| upstream_failed(error, &entry))
    }
}

fn page(result: &Bytes) -> Result<TaskPage, UpstreamError> {
    let text = std::str::from_utf8(result).map_err(|_| UpstreamError::invalid("it is not UTF-8"))?;
    let page = Object::parse(text)?;
    let tasks = page
        .get("tasks")
        .ok_or_else(|| UpstreamError::invalid("its answer to tasks/list has no tasks"))?;
    let tasks = json::elements(tasks, MOST_TASKS)?;
    let next = page
        .get("nextCursor")
        .filter(|next| json::unescape(next).is_some_and(|next| !next.is_empty()));
    Ok(TaskPage {
        tasks: tasks
            .into_iter()
            .map(|task| result.slice_ref(task.as_bytes()))
            .collect(),
        next: next.filter(|next| next.len() <= MOST_CURSOR).map(str::to_owned),
    })
}
