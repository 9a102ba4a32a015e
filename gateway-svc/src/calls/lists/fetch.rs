//! Asks servers for their lists.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::Value;
use service_kit::cancel::Cancel;

use super::{
    Item, ListKind, item,
    listing::{Listed, Listing},
};
use crate::{
    calls::{Call, Calls, To, Visitor, failure::upstream_failed},
    domain::{CallError, Entry},
    resolve::{self, Reached},
    route::Source,
    upstream::UpstreamError,
};

/// How many servers are asked at a time for one client; how long each may take.
pub(in crate::calls) const AT_A_TIME: usize = 16;
pub(in crate::calls) const WITHIN: Duration = Duration::from_secs(15);
/// A server that continues its list under a longer cursor is not asked for more.
pub(in crate::calls) const MOST_CURSOR: usize = 4 << 10;
/// Of one server.
const MOST_ITEMS: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;
const MOST_PAGES: usize = 500;

impl Calls {
    /// The list as it is now, of all servers that the visitor reaches. One that fails keeps what it listed last; if all fail, so does this.
    pub(crate) async fn list(&self, visitor: &Visitor<'_>, kind: ListKind) -> Result<Arc<Listing>, CallError> {
        let before = self.lists.get(visitor, kind);
        let asked = stream::iter(resolve::whole(&*self.store.load()?, visitor.caller, visitor.consumer)?).map(
            |reached| async move {
                let listed = tokio::time::timeout(WITHIN, self.list_of(visitor, kind, &reached.source)).await;
                (reached, listed)
            },
        );
        let snapshot = self.store.load()?;
        let entry_of = |source: &Source| snapshot.entry(&source.entry_uid).cloned();
        let mut asked = asked.buffered(AT_A_TIME);
        let (mut lists, mut failed) = (Vec::new(), None);
        while let Some((reached, listed)) = asked.next().await {
            let Reached { source, entry, .. } = &reached;
            let (items, answered) = match listed {
                Ok(Ok(items)) => (Some(items), true),
                // It offers none.
                Ok(Err(CallError::NotOffered)) => (None, true),
                late_or_failed => {
                    let late = UpstreamError::Timeout {
                        what: "list what it has",
                        within: WITHIN,
                    };
                    let error = match late_or_failed {
                        Ok(failed) => failed.err(),
                        Err(_) => entry_of(source).map(|entry| upstream_failed(late, &entry)),
                    };
                    tracing::info!(entry = %entry, list = kind.method(), error = ?error, "a server did not list what it has");
                    failed = error.or(failed);
                    (before.as_ref().and_then(|before| before.of_source(source)), false)
                }
            };
            let listed = Listed::new(reached, kind, items);
            lists.push(if answered { listed } else { listed.failed() });
        }
        drop(asked);
        if let Some(error) = failed.filter(|_| lists.iter().all(|list| list.items.is_none())) {
            return Err(error);
        }
        let snapshot = self.store.load()?;
        let prefixed = snapshot
            .consumer(visitor.consumer)
            .is_none_or(|consumer| !consumer.omit_entry_prefix);
        let all = snapshot.table(visitor.consumer).map_or(0, |table| table.whole().len());
        let listing = Arc::new(Listing::of(kind, prefixed, lists));
        listing.tell_sources(kind, all);
        self.lists.remember(visitor, kind, &listing);
        Ok(listing)
    }

    async fn list_of(
        &self,
        visitor: &Visitor<'_>,
        kind: ListKind,
        source: &Arc<Source>,
    ) -> Result<Vec<Item>, CallError> {
        let (mut items, mut size): (Vec<Item>, usize) = (Vec::new(), 0);
        let (mut cursor, mut pages): (Option<String>, usize) = (None, 0);
        loop {
            pages += 1;
            let params: Vec<(&str, &str)> = cursor.iter().map(|cursor| ("cursor", cursor.as_str())).collect();
            let to = To::Source(source, None);
            let (entry, result) = self.result(&own_call(visitor, kind.method(), to, &params)).await?;
            let failed = |error| upstream_failed(error, &entry);
            size += result.len();
            let page = item::read(&result, kind, source, MOST_ITEMS).map_err(failed)?;
            items.extend(page.items);
            if items.len() > MOST_ITEMS || size > MOST_BYTES {
                return Err(failed(UpstreamError::invalid(format!(
                    "its answer to {} is too long",
                    kind.method()
                ))));
            }
            match page.next_cursor {
                None => return Ok(items),
                Some(next) if next.len() > MOST_CURSOR || cursor.as_ref() == Some(&next) || pages == MOST_PAGES => {
                    return Err(failed(UpstreamError::invalid(format!(
                        "its answers to {} do not end",
                        kind.method()
                    ))));
                }
                Some(next) => cursor = Some(next),
            }
        }
    }

    /// Whether the server of this resource tells the client of its changes from now on.
    pub(crate) async fn subscribe(&self, visitor: &Visitor<'_>, uri: &str) -> bool {
        let Ok(found) = self.subscribable(visitor, uri, true).await else {
            return false;
        };
        let own = Value::from(&*found.own).to_string();
        let to = To::Source(&found.source, Some(("uri", &own)));
        self.result(&own_call(visitor, "resources/subscribe", to, &[]))
            .await
            .is_ok()
    }

    /// Makes a request of the gateway's own and waits for the result: the entry, and JSON.
    pub(in crate::calls) async fn result(&self, call: &Call<'_>) -> Result<(Arc<Entry>, Bytes), CallError> {
        let (answered, _) = self.relay(call, None).await?;
        let answered = answered.reply("this request is not a client's");
        let (entry, reply) = answered.await?;
        match reply.result() {
            Some(result) => Ok((entry, result)),
            None if reply.is_unknown_method() => Err(CallError::NotOffered),
            None => {
                let refused = UpstreamError::invalid(format!("it refuses {}", call.method));
                Err(upstream_failed(refused, &entry))
            }
        }
    }
}

/// A request of the gateway's own for a client.
pub(in crate::calls) fn own_call<'a>(
    visitor: &'a Visitor<'a>,
    method: &'a str,
    to: To<'a>,
    params: &'a [(&'a str, &'a str)],
) -> Call<'a> {
    Call {
        visitor,
        method,
        to,
        params,
        meta: None,
        extra: &[],
        together: None,
        cancel: Cancel::default(),
    }
}
