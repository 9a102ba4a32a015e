//! An OAuth 2.1 authorization server in front of an identity provider that MCP clients cannot use by themselves: it knows neither client
//! metadata documents nor dynamic registration. The facade knows both, sends people to the provider to sign in, and hands out the
//! provider's tokens, sealed and bound to one client and one endpoint.
//!
//! Nothing is stored, so that any replica can serve any step: what a client brings back is what it was given, sealed. A replica keeps the
//! answers to its last refreshes in memory, for clients that did not get them.

mod answer;
mod authorization;
mod client;
mod documents;
mod metadata;
mod redirect;
mod refreshes;
mod register;
mod revoke;
mod sealed;
#[cfg(test)]
mod tests;
mod token;

use std::{sync::Arc, time::UNIX_EPOCH};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use service_kit::{
    Clock, Quotas,
    egress::EgressPolicy,
    identity::{IssuerConfig, Verifier},
    keys::Ring,
    per_caller::PerCaller,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub(crate) use authorization::{Asked, Authorization, Refused};
pub(crate) use sealed::{ACCESS_TOKEN, AccessTokens};

use self::{
    documents::Documents,
    refreshes::Refreshes,
    sealed::{Code, Sealed},
};
use crate::{domain::Links, snapshot::Store};

/// Where the facade's endpoints are, below the public URL. Its issuer identifier has this path, too: at the root of the public URL, clients
/// of gateways that take tokens only would find it.
const PATH: &str = "/oauth";
/// The longest request: it may hold a refresh token.
const MAX_BODY: usize = 64 << 10;
/// Requests to one identity provider at a time, for all clients together.
const AT_A_TIME: usize = 64;

/// What an operator decides.
pub(crate) struct FacadeConfig {
    pub(crate) links: Links,
    /// Which addresses client metadata documents may come from.
    pub(crate) documents: EgressPolicy,
    /// Seals what clients are given. All replicas share it.
    pub(crate) key: Ring,
}

/// The authorization server.
pub(crate) struct Facade {
    /// Without trailing slash.
    public: String,
    links: Links,
    sealed: Sealed,
    documents: Documents,
    refreshes: Refreshes,
    verifier: Arc<Verifier>,
    store: Arc<Store>,
    quotas: Arc<Quotas>,
    /// By issuer: one that does not answer takes none of the others'.
    places: PerCaller,
    /// Where requests to identity providers run.
    runtime: Handle,
    clock: Clock,
}

impl Facade {
    /// The one for the issuers that have a facade; `None` where none has. The runtime that this runs on must outlive those of requests.
    pub(crate) fn new(
        config: FacadeConfig,
        verifier: Arc<Verifier>,
        store: Arc<Store>,
        quotas: Arc<Quotas>,
        clock: Clock,
    ) -> Option<Arc<Self>> {
        verifier.issuers().any(|issuer| issuer.facade.is_some()).then(|| {
            Arc::new(Self {
                public: config.links.below(""),
                links: config.links,
                sealed: Sealed::new(config.key),
                documents: Documents::new(&config.documents, clock.clone()),
                refreshes: Refreshes::new(Handle::current(), clock.clone()),
                verifier: Arc::clone(&verifier),
                store,
                quotas,
                places: PerCaller::new(AT_A_TIME),
                runtime: Handle::current(),
                clock,
            })
        })
    }

    /// The identifier of the authorization server with this public URL (RFC 8414, section 2).
    pub(crate) fn identifier(links: &Links) -> String {
        links.below(PATH)
    }

    /// The identity providers in front of which it stands.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = &IssuerConfig> {
        self.verifier.issuers().filter(|issuer| issuer.facade.is_some())
    }

    /// The endpoints for programs. The one for browsers is among the pages.
    pub(crate) fn routes(self: Arc<Self>) -> Router {
        let mut router = Router::new()
            .route("/oauth/register", post(register::register))
            .route("/oauth/token", post(token::token))
            .route("/oauth/revoke", post(revoke::revoke));
        for path in metadata::paths(&self.links) {
            router = router.route(&path, get(metadata::show));
        }
        router
            .route(metadata::AT_THE_ROOT, get(metadata::show_at_the_root))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }

    /// Ends after `stop`, when no refresh is in progress: the provider's answer may be to a token that it takes only once.
    pub(crate) async fn complete(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
        self.refreshes.ended().await;
    }

    /// In seconds since 1970.
    fn now(&self) -> u64 {
        let now = self.clock.now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }

    /// The redirect URI that is registered with the identity provider: that of the pages.
    fn callback(&self) -> String {
        format!("{}/signin/callback", self.public)
    }
}
