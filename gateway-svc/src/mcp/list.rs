//! `tools/list`, and when it has changed.

use std::{sync::Arc, time::Duration};

use service_kit::{page_token::PageTokens, turns::off_thread};
use tokio::time::{Instant, sleep_until};

use super::{
    Mcp,
    page::{PAGE, Pages},
    rpc::RpcError,
};
use crate::{
    domain::{Caller, ConsumerRef},
    identity::Identified,
    json::Object,
    resolve::{self, Page},
    snapshot::Watcher,
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

/// Watches the tools that a caller sees at a gateway or agent.
pub(super) struct ToolsWatch {
    mcp: Arc<Mcp>,
    visit: Arc<(Identified, ConsumerRef)>,
    watcher: Watcher,
    known: u64,
    /// What the caller sees may have changed since the last look.
    due: bool,
    next: Instant,
}

impl ToolsWatch {
    /// `None`: the caller may not see them.
    pub(super) async fn new(mcp: Arc<Mcp>, identified: Identified, consumer: ConsumerRef) -> Option<Self> {
        let mut watcher = mcp.store.watch(&identified.caller, &consumer);
        let visit = Arc::new((identified, consumer));
        Some(Self {
            known: look(&mcp, &mut watcher, &visit).await?,
            mcp,
            visit,
            watcher,
            due: false,
            next: Instant::now(),
        })
    }

    /// The fingerprint of the list that is known.
    pub(super) const fn known(&self) -> u64 {
        self.known
    }

    /// Whether the caller sees all tools of this installation's server.
    pub(super) fn shows_all(&self, installation: &str) -> bool {
        let (identified, consumer) = &*self.visit;
        let snapshot = self.mcp.store.load();
        snapshot.is_ok_and(|snapshot| resolve::shows_all(&snapshot, &identified.caller, consumer, installation))
    }

    /// Waits until the list has changed; `None`: the caller may see it no more. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn changed(&mut self) -> Option<u64> {
        loop {
            if !self.due {
                self.watcher.woken().await;
                self.due = true;
            }
            sleep_until(self.next).await;
            let now = look(&self.mcp, &mut self.watcher, &self.visit).await?;
            self.due = false;
            self.next = Instant::now() + PAUSE;
            if now != self.known {
                self.known = now;
                return Some(now);
            }
        }
    }
}

/// The fingerprint of what a caller sees at a gateway or agent; `None` if they may see it no more.
async fn look(mcp: &Mcp, watcher: &mut Watcher, visit: &Arc<(Identified, ConsumerRef)>) -> Option<u64> {
    let (identified, consumer) = &**visit;
    let snapshot = mcp.store.look(watcher, &identified.caller).ok()?;
    if !mcp.identity.still(&snapshot, identified) {
        return None;
    }
    let table = snapshot.table(consumer)?;
    let seen = resolve::seen(&snapshot, &identified.caller, consumer).ok()?;
    if let Some(known) = table.fingerprint(&seen) {
        return Some(known);
    }
    let routes = table.routes().len();
    let (viewed, visit) = (Arc::clone(&snapshot), Arc::clone(visit));
    // It goes through all tools, and this thread serves other connections.
    let fingerprint = off_thread(routes * COST_OF_A_TOOL, move || {
        let (identified, consumer) = &*visit;
        let tools = resolve::list(&viewed, &identified.caller, consumer).ok()?;
        Some(resolve::fingerprint(&tools))
    });
    let fingerprint = fingerprint.await?;
    snapshot.table(consumer)?.keep_fingerprint(seen, fingerprint);
    Some(fingerprint)
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
