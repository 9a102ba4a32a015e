//! Calls wait for servers that are being started.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Calls, call::Call, failure::upstream_failed, prepared::Way};
use crate::{
    domain::{CallError, Endpoint, RepairReason, Running, UpstreamFault},
    upstream::UpstreamError,
};

/// How long a call waits for a server that is starting. A restart first waits 30 s for calls in progress, and up to 7 s for the server to end.
/// Many clients give up after 60 s.
const START: Duration = Duration::from_secs(50);
/// How long a call waits for the successor of a server that cannot be reached, while the registry knows of none: nobody may know of its end.
const SUCCESSOR: Duration = Duration::from_secs(20);

/// A server did not receive a call.
#[derive(Debug)]
pub(super) struct Refusal {
    at: Instant,
    by: Running,
    why: UpstreamError,
}

impl Refusal {
    /// Refused just now.
    pub(super) fn new(by: Running, why: UpstreamError) -> Box<Self> {
        let at = Instant::now();
        Box::new(Self { at, by, why })
    }
}

/// How long a call waits, and for which server.
struct Wait {
    /// When the call was made, or when a server first refused it: how long that server kept it does not count.
    since: Instant,
    /// By the last server that it was sent to.
    refused: Option<Box<Refusal>>,
}

impl Wait {
    /// Of a call that begins to wait now.
    fn begun() -> Self {
        Self {
            since: Instant::now(),
            refused: None,
        }
    }

    /// Until when the call waits for a server that is starting.
    fn for_start(&self) -> Instant {
        self.since + START
    }

    /// Until when the call waits for the successor of this server. `None`: it did not refuse the call.
    fn for_successor(&self, server: Option<&Endpoint>) -> Option<Instant> {
        let refused = self.refused.as_ref()?;
        (refused.by.endpoint.as_ref() == server).then(|| match refused.why {
            UpstreamError::NotTaken => self.for_start(),
            _ => self.for_start().min(refused.at + SUCCESSOR),
        })
    }

    /// The wait that follows this refusal. Fails if it is over. The server that refused the call before gets it once more only then.
    fn after(self, refusal: Box<Refusal>) -> Result<Self, CallError> {
        let since = match &self.refused {
            None => refusal.at,
            Some(last) if last.by.endpoint == refusal.by.endpoint || refusal.at >= self.for_start() => {
                return Err(upstream_failed(refusal.why, &refusal.by.entry));
            }
            Some(_) => self.since,
        };
        let refused = Some(refusal);
        Ok(Self { since, refused })
    }
}

impl Calls {
    /// Sends the call to where it goes, again and again until a server receives it or the wait is over.
    pub(super) async fn deliver<T, F>(&self, call: &Call<'_>, send: impl Fn(Way) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Result<T, Box<Refusal>>, CallError>>,
    {
        // Most calls do not wait, and ask for no time.
        let mut wait = None;
        loop {
            let prepared = if wait.is_none() { self.prepared(call) } else { None };
            let way = match prepared {
                Some(way) => way,
                None => Box::pin(self.resolve(call, wait.get_or_insert_with(Wait::begun))).await?,
            };
            match send(way).await? {
                Ok(sent) => return Ok(sent),
                Err(refusal) => wait = Some(wait.unwrap_or_else(Wait::begun).after(refusal)?),
            }
        }
    }

    /// The credential for a call, which no server has carried out yet; unless it is not there and the gateway stops.
    pub(super) async fn unless_stopping<T>(&self, vending: impl Future<Output = T>) -> Result<T, CallError> {
        tokio::select! {
            biased;
            vended = vending => Ok(vended),
            // For the same reason as below.
            () = self.stop.cancelled() => Err(CallError::Stopping),
        }
    }

    /// Where the call goes, if that is known.
    fn prepared(&self, call: &Call<'_>) -> Option<Way> {
        call.prepared(&*self.store.peek().ok()?)
    }

    /// Where the call goes. Waits for a server that is starting, and for the successor of the one that refused the call.
    async fn resolve(&self, call: &Call<'_>, wait: &Wait) -> Result<Way, CallError> {
        let mut revisions = None;
        loop {
            let snapshot = self.store.load()?;
            let resolved = call.to.resolve(&snapshot, call.visitor, &self.own, &self.links);
            let until = match &resolved {
                Ok(target) => wait.for_successor(target.running.endpoint.as_ref()),
                Err(CallError::Repair(repair)) if repair.reason == RepairReason::InstallationUnavailable => call
                    .to
                    .is_starting(&snapshot, call.visitor, &self.own)
                    .then(|| wait.for_start()),
                Err(_) => None,
            };
            let Some(until) = until else {
                let prepared = call.visitor.prepared;
                // What servers list to the client alone may change at any time.
                let lasts = prepared.is_some_and(|prepared| prepared.is_of(&snapshot))
                    && self.own.of(&call.visitor.client).is_empty();
                let to = Arc::new(resolved?);
                let with = if lasts { call.server(&to.running) } else { None };
                return Ok(Way { to, with, lasts });
            };
            drop(snapshot);
            // Resolves once more after it has subscribed, so that no change in between is missed.
            let Some(revisions) = &mut revisions else {
                revisions = Some(self.store.revisions());
                continue;
            };
            tokio::select! {
                Ok(()) = revisions.changed() => {}
                () = sleep_until(until) => {
                    let (with, lasts) = (None, false);
                    let to = Arc::new(resolved.map_err(still_starting)?);
                    return Ok(Way { to, with, lasts });
                }
                () = call.cancel.cancelled() => return Err(CallError::Cancelled),
                // Open requests are cut soon, and whoever sent one would not know whether the tool was called.
                () = self.stop.cancelled() => return Err(CallError::Stopping),
            }
        }
    }
}

/// Without a link: the caller has nothing to repair.
fn still_starting(error: CallError) -> CallError {
    match error {
        CallError::Repair(repair) => CallError::Upstream {
            entry: repair.entry,
            fault: UpstreamFault::Unreachable,
            message: repair.message,
            again: None,
        },
        other => other,
    }
}
