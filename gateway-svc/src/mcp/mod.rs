//! The MCP endpoints, `/mcp/{gateway}` and `/agents/{agent}/mcp`: streamable HTTP, revisions 2025-03-26 to 2026-07-28.
//!
//! Up to 2025-11-25, clients have sessions, which are not stored: a handle contains its session. Only what was cancelled or ended is
//! remembered. Since 2026-07-28, each request stands alone (`modern/`).

mod asked;
mod batch;
mod body;
mod call;
mod caller_at;
mod endpoint;
mod failure;
#[cfg(test)]
mod fuzz;
mod head;
mod in_flight;
mod initialize;
mod known;
mod list;
mod lists;
mod media;
mod message;
mod modern;
mod page;
mod params;
mod pieces;
mod post;
mod recent;
mod refusal;
mod resumable;
mod routed;
mod rpc;
mod searched;
mod serve;
mod session;
mod shards;
mod standing;
mod tasks;
#[cfg(test)]
mod tests;
mod visit;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    response::Response,
    routing::any,
};
use http::Method;
use service_kit::{
    Clock, Hosts, Quotas,
    app::{Direct, RequestBody},
    page_token::PageTokens,
    turns::OwnTurns,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{
    buffers::Buffers,
    calls::Calls,
    config::Config,
    domain::{ConsumerKind, ConsumerRef},
    identity::{Identity, Metadata},
    listing::Listings,
    snapshot::Store,
};
use asked::Asked;
pub use batch::MAX_BATCH;
use endpoint::Endpoint;
use in_flight::InFlight;
use known::KnownClients;
use modern::{Parked, Parking, States};
use resumable::Resumable;
use session::Sessions;
use tasks::TaskIds;

/// Bytes of messages that are in memory at a time; and those of one caller.
const MAX_BODIES: usize = 256 << 20;
const MAX_BODIES_EACH: usize = 32 << 20;

/// What the endpoints work with.
#[derive(Debug)]
pub(crate) struct Mcp {
    calls: Arc<Calls>,
    identity: Arc<Identity>,
    metadata: Arc<Metadata>,
    store: Arc<Store>,
    listings: Arc<Listings>,
    quotas: Arc<Quotas>,
    sessions: Sessions,
    known: KnownClients,
    cursors: PageTokens,
    hosts: Hosts,
    in_flight: InFlight,
    asked: Arc<Asked>,
    resumable: Arc<Resumable>,
    states: States,
    task_ids: Arc<TaskIds>,
    parking: Arc<Parking<Box<Parked>>>,
    bodies: Buffers,
    /// For messages that take long to parse.
    turns: OwnTurns,
    clock: Clock,
    /// Does long work.
    runtime: Handle,
    /// Ends the streams that clients hold open.
    stop: CancellationToken,
}

impl Mcp {
    /// `stop` ends the streams that clients hold open, which would otherwise keep the server from ending. Within the runtime that has threads
    /// for what is long.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the service, made once")]
    pub(crate) fn new(
        config: &Config,
        calls: Arc<Calls>,
        identity: Arc<Identity>,
        metadata: Arc<Metadata>,
        store: Arc<Store>,
        listings: Arc<Listings>,
        quotas: Arc<Quotas>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        // Begins what clients name later: streams, and requests of servers.
        let replica = service_kit::random::uuid().simple().to_string()[..8].to_owned();
        Self {
            calls,
            identity,
            metadata,
            store,
            listings,
            quotas,
            sessions: Sessions::new(&config.session_key),
            known: KnownClients::default(),
            cursors: PageTokens::new(&config.page_token_key),
            hosts: Hosts::new(config.public_url.clone(), &config.allowed_hosts),
            in_flight: InFlight::default(),
            asked: Arc::new(Asked::new(replica.clone())),
            resumable: Arc::new(Resumable::new(replica)),
            states: States::new(&config.session_key),
            task_ids: Arc::new(TaskIds::new(&config.session_key)),
            parking: Arc::new(Parking::new(stop.clone())),
            bodies: Buffers::new(MAX_BODIES, MAX_BODIES_EACH),
            turns: OwnTurns::default(),
            clock,
            runtime: Handle::current(),
            stop,
        }
    }
}

/// The endpoints, for what most requests are: messages, at paths in which nothing is encoded.
pub(crate) fn direct(mcp: Arc<Mcp>) -> Direct {
    Direct {
        begins: &["POST /mcp/", "POST /agents/"],
        find: Arc::new(move |head| {
            let (kind, slug) = ConsumerRef::of_mcp_path(head.uri.path()).filter(|_| head.method == Method::POST)?;
            let endpoint = Endpoint::new(&mcp, ConsumerRef::new(kind, slug), Arc::clone(head));
            Some(Arc::new(endpoint))
        }),
    }
}

/// The endpoints.
pub(crate) fn routes(mcp: Arc<Mcp>) -> Router {
    let serve = async |mcp: &Arc<Mcp>, kind, slug: &str, request: Request| {
        let (head, body) = request.into_parts();
        let endpoint = Endpoint::new(mcp, ConsumerRef::new(kind, slug), Arc::new(head));
        Response::from(Arc::new(endpoint).serve(RequestBody::Coming(body)).await)
    };
    let gateway = async move |State(mcp): State<Arc<Mcp>>, Path(slug): Path<String>, request: Request| -> Response {
        serve(&mcp, ConsumerKind::Gateway, &slug, request).await
    };
    let agent = async move |State(mcp): State<Arc<Mcp>>, Path(slug): Path<String>, request: Request| -> Response {
        serve(&mcp, ConsumerKind::Agent, &slug, request).await
    };
    Router::new()
        .route("/mcp/{gateway}", any(gateway))
        .route("/agents/{agent}/mcp", any(agent))
        .with_state(mcp)
}
