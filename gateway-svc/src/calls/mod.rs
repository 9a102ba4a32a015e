//! A call from its name to its answer: route, resolve, vend, forward. Both APIs, `mcp` and `api`, use it.

mod call;
mod delays;
mod during;
mod ending;
mod everywhere;
mod explain;
mod failure;
mod hearing;
mod late;
mod links;
mod listeners;
mod listening;
mod lists;
mod mailbox;
mod naming;
mod outcome;
mod own_tools;
mod prepared;
mod renewal;
mod reopening;
mod shared;
mod targets;
mod tasks;
#[cfg(test)]
mod tests;
mod unary;
mod wait;

use std::{pin::pin, sync::Arc};

use service_kit::{boxed::boxed, turns::in_place};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{CallError, Links},
    snapshot::Store,
    upstream::{Answer, UpstreamError, Upstreams},
    vend::{Refused, VendError, Vended, Vendor},
};
pub(crate) use call::{Call, Meta, To, Visitor};
pub(crate) use explain::Pause;
use failure::upstream_failed;
use hearing::IdleStreams;
pub(crate) use late::Late;
use listeners::Listeners;
pub(crate) use listeners::{Listener, MayHear};
use lists::Lists;
pub(crate) use lists::{Found, Item, ListKind};
use naming::{Naming, Speaker};
use outcome::{At, Others, Own, unless_late};
pub(crate) use outcome::{CallEvent, CallStream, Outcome};
use own_tools::KnownTools;
pub(crate) use prepared::Prepared;
use prepared::{Server, Way};
use renewal::Renewal;
use reopening::Lost;
use shared::Hub;
use targets::Targets;
pub(crate) use targets::target;
pub(crate) use tasks::TaskPage;
use wait::Refusal;

/// Called with the uid of an installation when its upstream announces that its tools have changed.
pub(crate) type ToolsChanged = Arc<dyn Fn(&Arc<str>) + Send + Sync>;

/// What a call is sent with.
enum With {
    /// What earlier calls of the client were sent with.
    Server(Arc<Server>),
    Vended(Arc<Vended>),
}

/// Makes calls.
pub(crate) struct Calls {
    store: Arc<Store>,
    vendor: Arc<Vendor>,
    upstreams: Upstreams,
    links: Links,
    targets: Targets,
    lists: Lists,
    listeners: Arc<Listeners>,
    own: Arc<KnownTools>,
    lost: Lost,
    shared: Arc<Hub>,
    idle: IdleStreams,
    tools_changed: ToolsChanged,
    stop: CancellationToken,
    late: Late,
}

impl Calls {
    /// `tools_changed` is called when an upstream announces it. `stop` is cancelled when the gateway begins to stop: from then on, no call waits
    /// for a server, or for its credential. `late` comes a little later: then no call waits for its answer.
    pub(crate) fn new(
        store: Arc<Store>,
        vendor: Arc<Vendor>,
        upstreams: Upstreams,
        links: Links,
        tools_changed: ToolsChanged,
        stop: CancellationToken,
        late: Late,
    ) -> Self {
        let listeners: Arc<Listeners> = Arc::default();
        let own: Arc<KnownTools> = Arc::default();
        let opened = (Arc::downgrade(&listeners), Arc::downgrade(&own));
        upstreams.when_opened(move |client| {
            if let Some(own) = opened.1.upgrade() {
                own.reopened(client);
            }
            opened.0.upgrade().is_some_and(|listeners| listeners.wake(client))
        });
        let shared = Hub::new(
            upstreams.clone(),
            Arc::clone(&listeners),
            Arc::clone(&store),
            Arc::clone(&vendor),
            Arc::clone(&tools_changed),
            stop.clone(),
        );
        Self {
            listeners,
            own,
            lost: Lost::default(),
            shared,
            idle: IdleStreams::default(),
            store,
            vendor,
            upstreams,
            links,
            targets: Targets::default(),
            lists: Lists::default(),
            tools_changed,
            stop,
            late,
        }
    }

    /// Makes the call and begins to read the answer, in which the server names its resources as the client knows them.
    pub(crate) async fn call(self: &Arc<Self>, call: &Call<'_>) -> Result<Outcome, CallError> {
        Ok(match self.relay(call, Some(self)).await? {
            (outcome, None) => outcome,
            (Outcome::Whole(reply, by), Some(speaker)) => {
                Outcome::Whole(Box::pin(self.named(call, &speaker, reply)).await, by)
            }
            (Outcome::Stream(stream), Some(speaker)) => {
                Outcome::Stream(Box::new(stream.named(Naming::new(self, call, *speaker))))
            }
        })
    }

    /// Makes the call and begins to read the answer as the server gives it, and who that is if others have resources beside it. A call that a
    /// self-hosted server did not receive, since it is stopping or has ended, is sent again to its successor. `hears`: its client may be asked
    /// beside the answer.
    async fn relay(
        &self,
        call: &Call<'_>,
        hears: Option<&Arc<Self>>,
    ) -> Result<(Outcome, Option<Box<Speaker>>), CallError> {
        let answered = pin!(self.deliver(call, |way| self.call_at(way, call, hears)));
        unless_late(&self.late, answered).await
    }

    /// Sends the call to the installation that it was resolved to. The inner error: its server did not receive the call, and a successor may.
    async fn call_at(
        &self,
        way: Way,
        call: &Call<'_>,
        hears: Option<&Arc<Self>>,
    ) -> Result<Result<(Outcome, Option<Box<Speaker>>), Box<Refusal>>, CallError> {
        let Visitor { caller, consumer, .. } = call.visitor;
        let Way {
            to: resolved,
            with,
            lasts,
        } = way;
        let running = &resolved.running;
        let entry = &running.entry;
        let fail = |error: VendError| error.into_call_error(running, consumer, &self.links);
        let vend = async |refused: Option<Refused<'_>>| {
            let vending = self.vendor.headers(running, caller.token.as_deref(), refused);
            self.unless_stopping(vending).await?.map_err(fail)
        };
        let mut with = match with {
            Some(server) => With::Server(server),
            None => With::Vended(Box::pin(vend(None)).await?),
        };
        let (mut renewed, mut widened) = (false, false);
        let mut change = None;
        loop {
            let server = match &with {
                With::Server(server) => Arc::clone(server),
                With::Vended(vended) => Arc::new(Server {
                    client: call.visitor.client.clone(),
                    revision: call.visitor.revision,
                    running: running.clone(),
                    vended: Arc::clone(vended),
                    target: self.targets.get(running, vended, &resolved.consumer, call.visitor)?,
                }),
            };
            let (vended, target) = (&server.vended, &server.target);
            if lasts {
                call.keep(&resolved, Arc::clone(&server));
            }
            if target.client().is_none() {
                match Box::pin(self.shared.before(target, call)).await {
                    Ok(begun) => change = change.or(begun),
                    Err(reply) => return Ok(Ok((Outcome::Whole(reply, resolved), None))),
                }
            }
            let length = call.params.iter().map(|(_, value)| value.len()).sum();
            let request = in_place(length, || call.outgoing(&self.upstreams, &resolved)).await;
            let hearing = hears.and_then(|calls| calls.hear_during(call, target, &request));
            let cancel = call.cancel.clone();
            let answered = match &hearing {
                Some(hearing) => {
                    let upstreams = self.upstreams.clone();
                    Box::pin(hearing.call(upstreams, Arc::clone(target), request, cancel)).await
                }
                // All that wait for it would be as large, and each is moved into the next.
                None => boxed(|| self.upstreams.call(target, request, cancel)).await,
            };
            match answered {
                Ok(answer) => {
                    if let Some(change) = change.take() {
                        let is_refused = matches!(&answer, Answer::Whole(reply) if reply.result().is_none());
                        Box::pin(change.answered(is_refused)).await;
                    }
                    let speaker = Speaker::of(call, &resolved);
                    let messages = match answer {
                        Answer::Whole(reply) => return Ok(Ok((Outcome::Whole(reply, resolved), speaker))),
                        Answer::Stream(messages) => messages,
                    };
                    let at = At {
                        own: Own::of(target, resolved.whole, &self.own),
                        hearing: hearing.map(Box::new),
                        others: Others::of(&call.visitor.client, &self.listeners),
                        to: Arc::clone(&resolved),
                        tools_changed: Arc::clone(&self.tools_changed),
                        late: self.late.clone(),
                    };
                    let renewal = || Renewal {
                        vendor: Arc::clone(&self.vendor),
                        token: caller.token.clone(),
                        consumer: (*consumer).clone(),
                        links: self.links.clone(),
                        generations: Some(vended.generations),
                    };
                    let stream = Box::new(CallStream::new(messages, at, renewal));
                    return Ok(Ok((Outcome::Stream(stream), speaker)));
                }
                Err(error @ UpstreamError::NotTaken) => return Ok(Err(Refusal::new(running.clone(), error))),
                // The registry may not know yet that the server has ended.
                Err(error @ UpstreamError::Unreachable(_)) if running.revision.self_hosted => {
                    return Ok(Err(Refusal::new(running.clone(), error)));
                }
                // Servers refuse credentials before they carry anything out, so that the call may be sent again.
                Err(UpstreamError::Unauthorized) if running.revision.vends_headers => {
                    if std::mem::replace(&mut renewed, true) {
                        return Err(fail(VendError::Expired));
                    }
                    vended.set_refused();
                    let refused = Refused::Credential(vended.generations);
                    with = With::Vended(Box::pin(vend(Some(refused))).await?);
                }
                Err(UpstreamError::InsufficientScope { scopes }) if running.revision.vends_headers => {
                    let wider = if scopes.is_empty() || std::mem::replace(&mut widened, true) {
                        None
                    } else {
                        let refused = Refused::Scopes(vended.generations, &scopes);
                        let wider = Box::pin(vend(Some(refused))).await?;
                        Some(wider).filter(|wider| wider.headers != vended.headers)
                    };
                    let wider = wider.ok_or_else(|| fail(VendError::ScopesRequired(scopes.into())))?;
                    // Where no wider ones are to be had, these are good for what demands less.
                    vended.set_refused();
                    with = With::Vended(wider);
                }
                Err(error) => return Err(upstream_failed(error, entry)),
            }
        }
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}
