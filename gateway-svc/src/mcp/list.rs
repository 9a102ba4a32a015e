//! `tools/list`, and the notification that it has changed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use service_kit::{page_token::PageTokens, quota::InFlight, turns::off_thread};

use super::{
    Mcp,
    page::{PAGE, Pages},
    rpc::RpcError,
    session::Listening,
};
use crate::{
    domain::{Caller, ConsumerRef},
    identity::Identified,
    json::Object,
    resolve::{self, Page},
    upstream::Revision,
};

/// The shortest time between two looks at the list, however fast the registry changes.
const PAUSE: Duration = Duration::from_millis(50);
/// The cost of a tool in a list, as the number of bytes that take as long to parse (measured: 500 ns).
const COST_OF_A_TOOL: usize = 64;

/// A page of tools as a result: definitions, verbatim, under their exposed names. `find` returns this many tools after the one of a name.
pub(super) fn page(
    find: impl FnOnce(Option<&str>, usize) -> Result<Page, RpcError>,
    cursors: &PageTokens,
    caller: &Caller,
    consumer: &ConsumerRef,
    params: Option<&Object<'_>>,
) -> Result<Vec<u8>, RpcError> {
    let pages = Pages::new(cursors, format!("tools/list {consumer} {}", caller.subject_name()));
    let Page { tools, more } = find(pages.after(params)?.as_deref(), PAGE)?;
    Ok(pages.write("tools", &tools, more))
}

/// The events of a stream that a client holds open: one each time its list of tools has changed.
///
/// An event id names the list that the client was notified of, so that a client that reconnects with `Last-Event-ID` learns what it missed,
/// from any replica. The stream ends with its session, and when the caller's token is no longer valid.
pub(super) fn changes(
    mcp: Arc<Mcp>,
    identified: Identified,
    consumer: ConsumerRef,
    revision: Revision,
    last_event: Option<String>,
    (open, session): (InFlight, Listening),
) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut revisions = mcp.store.revisions();
    async_stream::stream! {
        let _open = open;
        let visit = Arc::new((identified, consumer));
        let (identified, _) = &*visit;
        revisions.mark_unchanged();
        let Some(mut known) = look(&mcp, &visit).await else { return };
        match last_event.as_deref().and_then(|id| u64::from_str_radix(id, 16).ok()) {
            Some(told) if told != known => yield changed(known),
            // Clients of older revisions fail on events without data.
            _ if revision >= Revision::V2025_11_25 => yield format!("id: {known:016x}\nretry: 3000\ndata:\n\n").into(),
            _ => yield Bytes::from_static(b": open\n\n"),
        }
        let good = mcp.identity.remaining(identified).unwrap_or(Duration::MAX).min(Duration::from_secs(365 * 24 * 3600));
        let over = tokio::time::sleep(good);
        tokio::pin!(over);
        loop {
            tokio::select! {
                changed = revisions.changed() => if changed.is_err() { return },
                () = &mut over => return,
                () = session.ended() => return,
                () = mcp.stop.cancelled() => return,
            }
            let Some(now) = look(&mcp, &visit).await else { return };
            if now != known {
                known = now;
                yield changed(now);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The fingerprint of what a caller sees at a gateway or agent; `None` if they may see it no more.
async fn look(mcp: &Mcp, visit: &Arc<(Identified, ConsumerRef)>) -> Option<u64> {
    let snapshot = mcp.store.load().ok()?;
    let (identified, consumer) = &**visit;
    if !mcp.identity.still(&snapshot, identified) {
        return None;
    }
    let routes = snapshot.table(consumer)?.routes().len();
    let visit = Arc::clone(visit);
    // It goes through all tools, and this thread serves other connections.
    off_thread(routes * COST_OF_A_TOOL, move || {
        let (identified, consumer) = &*visit;
        let tools = resolve::list(&snapshot, &identified.caller, consumer).ok()?;
        Some(resolve::fingerprint(&tools))
    })
    .await
}

fn changed(list: u64) -> Bytes {
    format!("id: {list:016x}\nevent: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}}\n\n").into()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        domain::{ConsumerKind, Definition, ExposedTool, Subject},
        mcp::{page::PAGE_BYTES, rpc::INVALID_PARAMS},
    };

    fn tool(name: &str) -> ExposedTool {
        ExposedTool {
            exposed_name: name.into(),
            entry: "e".into(),
            tool: name.into(),
            hash: name.into(),
            definition: Definition::parse(r#"{"name":"x","inputSchema":{"n":12345678901234567890}}"#)
                .unwrap()
                .into(),
            connected: true,
        }
    }

    /// A list longer than a page is complete over all pages.
    #[test]
    fn pages_are_whole_and_follow_each_other() {
        let cursors = PageTokens::new([1; 32]);
        let tools: Vec<ExposedTool> = (0..450).map(|n| tool(&format!("t{n:04}"))).collect();
        let caller = Caller {
            subject: Subject::Team("a".into()),
            consumers: None,
            token: None,
            creator: None,
        };
        let consumer = ConsumerRef::new(ConsumerKind::Gateway, "g");
        let find = |after: Option<&str>, size: usize| {
            let behind = |tool: &&ExposedTool| after.is_none_or(|after| *tool.exposed_name > *after);
            let mut rest = tools.iter().filter(behind);
            Ok(Page {
                tools: rest.by_ref().take(size).cloned().collect(),
                more: rest.next().is_some(),
            })
        };
        let (mut seen, mut params) = (Vec::new(), String::from("{}"));
        loop {
            let object = Object::parse(&params).unwrap();
            let text = page(find, &cursors, &caller, &consumer, Some(&object)).unwrap();
            let result: Value = serde_json::from_slice(&text).unwrap();
            seen.extend(
                result["tools"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|tool| tool["name"].as_str().unwrap().to_owned()),
            );
            match result["nextCursor"].as_str() {
                Some(cursor) => params = format!(r#"{{"cursor":"{cursor}"}}"#),
                None => break,
            }
        }
        assert_eq!(
            seen,
            tools
                .iter()
                .map(|tool| tool.exposed_name.to_string())
                .collect::<Vec<_>>()
        );
        let first = page(find, &cursors, &caller, &consumer, None).unwrap();
        assert!(
            String::from_utf8(first.clone())
                .unwrap()
                .contains("12345678901234567890")
        );
        let cursor = serde_json::from_slice::<Value>(&first).unwrap()["nextCursor"]
            .as_str()
            .unwrap()
            .to_owned();
        let large = |_: Option<&str>, size: usize| {
            let definition = format!(r#"{{"name":"x","description":"{}"}}"#, "d".repeat(PAGE_BYTES / 4));
            let definition = Arc::new(Definition::parse(&definition).unwrap());
            let tools = (0..size).map(|n| ExposedTool {
                definition: Arc::clone(&definition),
                ..tool(&format!("t{n}"))
            });
            Ok(Page {
                tools: tools.collect(),
                more: false,
            })
        };
        let ended = page(large, &cursors, &caller, &consumer, None).unwrap();
        let ended: Value = serde_json::from_slice(&ended).unwrap();
        assert_eq!(ended["tools"].as_array().unwrap().len(), 4);
        assert!(ended["nextCursor"].is_string(), "the others follow");
        let other = Caller {
            subject: Subject::Team("b".into()),
            consumers: None,
            token: None,
            creator: None,
        };
        for (caller, params) in [
            (&other, format!(r#"{{"cursor":"{cursor}"}}"#)),
            (&caller, r#"{"cursor":"x"}"#.to_owned()),
            (&caller, r#"{"cursor":5}"#.to_owned()),
        ] {
            let object = Object::parse(&params).unwrap();
            assert_eq!(
                page(find, &cursors, caller, &consumer, Some(&object)).unwrap_err().code,
                INVALID_PARAMS
            );
        }
    }
}
