//! `tools/list`, and when it has changed.

use std::{sync::Arc, time::Duration};

use service_kit::turns::off_thread;
use tokio::time::{Instant, sleep_until};

use super::{
    Mcp,
    page::{PAGE, Pages, invalid_cursor},
    rpc::RpcError,
    searched,
    visit::Visit,
};
use crate::{
    calls::{MayHear, Visitor},
    domain::ConsumerRef,
    identity::Identified,
    json::Object,
    listing::{COST_OF_A_TOOL, Use},
    resolve,
    snapshot::Watcher,
};

/// The shortest time between two looks at the list, however fast the registry changes.
const PAUSE: Duration = Duration::from_millis(50);

impl Visit {
    /// A page of tools as a result: definitions, verbatim, under their exposed names.
    pub(super) async fn list(&self, visitor: &Visitor<'_>, params: Option<&Object<'_>>) -> Result<Vec<u8>, RpcError> {
        let Visitor { caller, consumer, .. } = *visitor;
        let binding = format!("tools/list {consumer} {}", caller.subject_name());
        let pages = Pages::new(&self.at.mcp.cursors, binding);
        let after = pages.after(params)?;
        if self.who.consumer.searched {
            // There is one page. The cursor is of a time when all were listed.
            if after.is_some() {
                return Err(invalid_cursor());
            }
            let snapshot = self.at.mcp.store.load().map_err(RpcError::not_listed)?;
            let entries = resolve::entries(&snapshot, caller, consumer).map_err(RpcError::not_listed)?;
            return Ok(searched::listed(&entries));
        }
        let own = self.at.mcp.calls.own_tools(visitor).await;
        let snapshot = self.at.mcp.store.load().map_err(RpcError::not_listed)?;
        let known = self.known.as_ref().filter(|_| own.is_empty());
        let listing = match known.and_then(|known| known.listing(&snapshot)) {
            Some(listing) => listing,
            None => {
                let listing = self
                    .at
                    .mcp
                    .listings
                    .of(&snapshot, caller, consumer, Some(own), Use::Show);
                let listing = listing.await.map_err(RpcError::not_listed)?;
                if let Some(known) = known {
                    known.keep_listing(&snapshot, &listing);
                }
                listing
            }
        };
        drop(snapshot);
        let rest = listing.after(after.as_deref());
        // One more than a page has, which shows that others follow.
        let page = rest.iter().take(PAGE + 1);
        let named = self.at.mcp.calls.named_tools(visitor, page).await;
        Ok(pages.write("tools", named.as_deref().unwrap_or(rest)))
    }
}

/// A caller at a gateway or agent.
pub(super) type Viewer = Arc<(Identified, ConsumerRef)>;

/// Whether the caller reaches the installation of a uid at this moment.
pub(super) fn may_hear(mcp: &Arc<Mcp>, viewer: &Viewer) -> MayHear {
    let (mcp, viewer) = (Arc::clone(mcp), Arc::clone(viewer));
    Arc::new(move |installation| {
        let (identified, consumer) = &*viewer;
        mcp.calls.reaches(&identified.caller, consumer, installation)
    })
}

/// What a look at the registry has shown.
pub(super) enum Seen {
    /// Another list, of this fingerprint.
    List(u64),
    /// The same list. Which servers have its tools may have changed.
    SameList,
}

/// Watches the tools that a caller sees at a gateway or agent.
pub(super) struct ToolsWatch {
    mcp: Arc<Mcp>,
    viewer: Viewer,
    watcher: Watcher,
    known: u64,
    /// What the caller sees may have changed since the last look.
    due: bool,
    next: Instant,
}

impl ToolsWatch {
    /// `None`: the caller may not see them.
    pub(super) async fn new(mcp: Arc<Mcp>, viewer: Viewer) -> Option<Self> {
        let (identified, consumer) = &*viewer;
        let mut watcher = mcp.store.watch(&identified.subject, consumer);
        Some(Self {
            known: look(&mcp, &mut watcher, &viewer).await?,
            mcp,
            viewer,
            watcher,
            due: false,
            next: Instant::now(),
        })
    }

    /// The fingerprint of the list that is known.
    pub(super) const fn known(&self) -> u64 {
        self.known
    }

    /// Who sees them, and where.
    pub(super) const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// Whether the caller sees all tools of this installation's server.
    pub(super) fn shows_all(&self, installation: &str) -> bool {
        let (identified, consumer) = &*self.viewer;
        let snapshot = self.mcp.store.load();
        snapshot.is_ok_and(|snapshot| resolve::shows_all(&snapshot, &identified.caller, consumer, installation))
    }

    /// Waits until what the caller sees may have changed; `None`: they may see it no more. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn looked(&mut self) -> Option<Seen> {
        if !self.due {
            self.watcher.woken().await;
            self.due = true;
        }
        // Both by themselves: who waits to be woken has no room for them.
        Box::pin(sleep_until(self.next)).await;
        let now = Box::pin(look(&self.mcp, &mut self.watcher, &self.viewer)).await?;
        self.due = false;
        self.next = Instant::now() + PAUSE;
        if now == self.known {
            return Some(Seen::SameList);
        }
        self.known = now;
        Some(Seen::List(now))
    }
}

/// The fingerprint of what a caller sees at a gateway or agent; `None` if they may see it no more.
async fn look(mcp: &Mcp, watcher: &mut Watcher, viewer: &Viewer) -> Option<u64> {
    let (identified, consumer) = &**viewer;
    let snapshot = mcp.store.look(watcher, &identified.caller).ok()?;
    if !mcp.identity.still(&snapshot, identified) {
        return None;
    }
    if snapshot.consumer(consumer)?.searched {
        let entries = resolve::entries(&snapshot, &identified.caller, consumer).ok()?;
        return Some(searched::fingerprint(&entries));
    }
    let table = snapshot.table(consumer)?;
    let seen = resolve::seen(&snapshot, &identified.caller, consumer).ok()?;
    if let Some(known) = table.fingerprint(&seen) {
        return Some(known);
    }
    let routes = table.routes().len();
    let (viewed, viewer) = (Arc::clone(&snapshot), Arc::clone(viewer));
    // It goes through all tools, and this thread serves other connections.
    let fingerprint = off_thread(routes * COST_OF_A_TOOL, move || {
        let (identified, consumer) = &*viewer;
        let tools = resolve::list(&viewed, &identified.caller, consumer).ok()?;
        Some(resolve::fingerprint(&tools))
    });
    let fingerprint = fingerprint.await?;
    snapshot.table(consumer)?.keep_fingerprint(seen, fingerprint);
    Some(fingerprint)
}
