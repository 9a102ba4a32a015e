//! `subscriptions/listen` (2026-07-28): what comes under it names it by the id of the request.

use std::sync::Arc;

use super::{Pending, Session, notices::TOOLS_CHANGED};
use crate::{
    envelope::{Members, number},
    era::Era,
};

const METHOD: &str = "subscriptions/listen";
const ID: &str = "io.modelcontextprotocol/subscriptionId";

/// Whether a request is answered with notifications until its client has enough.
pub(crate) fn is_subscription(request: &Members<'_>) -> bool {
    request.string("method").as_deref() == Some(METHOD)
}

impl Pending {
    /// A message that names this request in `_meta` of its member, with the client's id there.
    pub(super) fn renamed(&self, message: &Members<'_>, member: &str) -> Option<String> {
        let object = message.object(member).filter(|_| self.subscribes)?;
        let meta = object.object("_meta")?;
        meta.get(ID)?;
        let object = object.with("_meta", &meta.with(ID, &self.id));
        Some(message.with(member, &object))
    }
}

impl Session {
    /// Has a server of 2026-07-28 tell when its list of tools changes. Others say so without being asked.
    pub(crate) fn follow_tools(self: &Arc<Self>, era: &Era) {
        let Some(params) = era.changes_of_tools() else {
            return;
        };
        let session = Arc::clone(self);
        tokio::spawn(async move {
            let request = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"{METHOD}","params":{params}}}"#);
            let request = Members::parse(request.as_bytes()).expect("valid JSON");
            let Ok(mut waiting) = session.request("", &request, false).await else {
                return;
            };
            while let Some(message) = waiting.messages.recv().await {
                let method = Members::parse(message.as_bytes()).and_then(|message| message.string("method"));
                if method.as_deref() == Some(TOOLS_CHANGED) {
                    session.tools_changed.send_replace(());
                }
            }
        });
    }

    /// Passes on a notification that comes under a request. False: it comes under none.
    pub(super) fn subscribed(&self, message: &Members<'_>) -> bool {
        let meta = message.object("params").and_then(|params| params.object("_meta"));
        let Some(id) = meta.as_ref().and_then(|meta| meta.get(ID)) else {
            return false;
        };
        let pending = self.pending();
        let pending = number(id.get()).and_then(|id| pending.get(&id));
        if let Some((pending, text)) = pending.and_then(|pending| Some((pending, pending.renamed(message, "params")?)))
        {
            // Whoever does not read learns of a change from the next one, or asks again.
            let _ = pending.messages.offer(text);
        }
        true
    }
}
