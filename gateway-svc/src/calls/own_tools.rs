//! Tools of a client's own sessions: what a server shows one client, it need not show others.
//!
//! The registry knows what servers list in sessions of the gateway's own. Where a server has said in a session of one client that its list
//! changed, it is asked for the list in that session, once the client asks for its own. Then the client sees what the server shows it, where all
//! tools of the entry are assigned.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use futures::{StreamExt as _, stream};
use service_kit::turns::off_thread;
use sha2::{Digest as _, Sha256};

use super::{
    Calls, Visitor,
    lists::{AT_A_TIME, WITHIN},
};
use crate::{
    domain::{Definition, ListedTools, OwnTools},
    resolve,
    snapshot::Snapshot,
    upstream::ListedTool,
};

impl Calls {
    /// What servers have listed for this client alone.
    pub(crate) fn known_own_tools(&self, visitor: &Visitor<'_>) -> Arc<OwnTools> {
        self.own.of(&visitor.client)
    }

    /// What servers list for this client alone. Those that have said that it changed are asked first.
    pub(crate) async fn own_tools(&self, visitor: &Visitor<'_>) -> Arc<OwnTools> {
        let mut due = self.own.due(&visitor.client);
        if !due.is_empty() {
            let shows =
                |snapshot: &Snapshot, uid: &str| resolve::shows_all(snapshot, visitor.caller, visitor.consumer, uid);
            due.retain(|(uid, _)| self.store.load().is_ok_and(|snapshot| shows(&snapshot, uid)));
            let asked = stream::iter(due).map(|(uid, changes)| async move {
                let listed = tokio::time::timeout(WITHIN, self.list_own(visitor, &uid)).await;
                (uid, changes, listed.ok().flatten())
            });
            let mut asked = asked.buffer_unordered(AT_A_TIME);
            while let Some((uid, changes, listed)) = asked.next().await {
                match listed {
                    Some(tools) => self.own.listed(&visitor.client, &uid, changes, tools),
                    // It is asked again the next time.
                    None => {
                        tracing::info!(installation.uid = %uid, "a server did not list the tools of a client's session")
                    }
                }
            }
        }
        self.known_own_tools(visitor)
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
