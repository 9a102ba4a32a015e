//! Tools of a client's own sessions: what a server shows one client, it need not show others.
//!
//! The registry knows what servers list in sessions of the gateway's own. Where a server has said in a session of one client that its list
//! changed, or the client listens to nothing and could not hear it, the server is asked for the list in that session, once the client asks for its own. Then
//! the client sees what the server shows it, where all tools of the entry are assigned.

mod kept;
mod known;

use std::sync::Arc;

use data_encoding::HEXLOWER;
use futures::{StreamExt as _, stream};
use service_kit::turns::off_thread;
use sha2::{Digest as _, Sha256};
use tokio::{select, time::timeout};

use super::{
    Calls, Visitor,
    call::Guest,
    lists::{AT_A_TIME, WITHIN},
};
use crate::{
    domain::{Definition, ListedTools, OwnTools},
    resolve,
    snapshot::Snapshot,
    upstream::{Client, Heard, ListedTool, OpenSession},
};
use known::Due;
pub(super) use known::KnownTools;

impl Calls {
    /// What servers have listed for this client alone.
    pub(crate) fn known_own_tools(&self, visitor: &Visitor<'_>) -> Arc<OwnTools> {
        self.own.of(&visitor.client)
    }

    /// What servers list for this client alone. Those that have said that it changed are asked first, and those that could not have said it. One that
    /// takes long keeps nobody waiting: what it lists then is for the next time.
    pub(crate) async fn own_tools(self: &Arc<Self>, visitor: &Visitor<'_>) -> Arc<OwnTools> {
        let snapshot = self.store.load().ok();
        let shows = |uid: &str| {
            let shows = |snapshot: &Arc<Snapshot>| resolve::shows_all(snapshot, visitor.caller, visitor.consumer, uid);
            snapshot.as_ref().is_some_and(shows)
        };
        let (due, asked) = self.own.due(&visitor.client, &self.unheard(&visitor.client), shows);
        drop(snapshot);
        if !due.is_empty() {
            let (this, guest) = (Arc::clone(self), Guest::of(visitor, true));
            self.upstreams.in_background(async move {
                let asked = stream::iter(due).for_each_concurrent(AT_A_TIME, |due| this.ask_own(&guest, due));
                select! {
                    () = asked => {}
                    () = this.stop.cancelled() => {}
                }
            });
        }
        for asked in asked {
            asked.wait().await;
        }
        self.known_own_tools(visitor)
    }

    /// The servers with a session of this client whose changes it does not hear of, since it does not listen.
    fn unheard(&self, client: &Client) -> Vec<Arc<str>> {
        if self.listeners.listens(client) {
            return Vec::new();
        }
        let sessions = self.upstreams.sessions_of(client).into_iter();
        let sessions = sessions.filter(OpenSession::may_change_tools);
        sessions
            .map(|session| Arc::clone(session.target.installation()))
            .collect()
    }

    async fn ask_own(&self, guest: &Guest, due: Due) {
        let visitor = guest.visitor();
        let client = &visitor.client;
        let Ok(Some(tools)) = timeout(WITHIN, self.list_own(&visitor, &due.installation)).await else {
            tracing::info!(installation.uid = %due.installation, "a server did not list the tools of a client's session");
            self.own.failed(client, &due.installation);
            return;
        };
        if self.own.listed(client, visitor.subject, &due, tools) && due.is_late() {
            // It was given a list without them.
            let installation = Arc::clone(&due.installation);
            drop(due);
            let changed = Heard::ToolsChanged(Arc::clone(&installation));
            self.listeners.pass_on(client, &installation, changed).await;
        }
    }

    /// The tools of this client's session with an installation's server; the inner `None`: those that the registry knows.
    async fn list_own(&self, visitor: &Visitor<'_>, uid: &str) -> Option<Option<ListedTools>> {
        let (running, vended) = self.vended(uid, visitor.caller.token.as_deref()).await?;
        let snapshot = self.store.load().ok()?;
        let consumer = snapshot.consumer(visitor.consumer)?;
        let target = self.targets.get(&running, &vended, consumer, visitor).ok()?;
        target.client()?;
        let listed = self.upstreams.list_tools(&target).await.ok()?.tools;
        let size = listed.iter().map(|tool| tool.definition.len()).sum();
        let installation = Arc::clone(&running.installation);
        off_thread(size, move || {
            let tools = read(&snapshot, listed);
            let known = installation.tools.as_ref().and_then(|known| snapshot.tools(known));
            Some(if known.is_some_and(|known| tools.are(known)) {
                None
            } else {
                Some(tools)
            })
        })
        .await
    }
}

/// Definitions that the registry has are not kept twice.
fn read(snapshot: &Snapshot, listed: Vec<ListedTool>) -> ListedTools {
    let tools = listed.into_iter().filter_map(|ListedTool { name, definition }| {
        // As the registry makes it.
        let hash = HEXLOWER.encode(&Sha256::digest(&definition));
        let known = snapshot.definition(&hash).map(Arc::clone);
        let definition = known.or_else(|| Definition::parse(&definition).map(Arc::new))?;
        Some((name.into(), (hash.into(), definition)))
    });
    tools.collect()
}
