//! The install page, its sign-in and the way to authorization servers and back: server-rendered HTML that works without JavaScript, except for live progress.
//!
//! The pages have no privileges. They sign the opener in by OIDC and call the other services with the opener's own token;
//! what the opener may do is decided there, as for any other client.

mod assets;
mod authorize;
mod callback;
mod client_document;
mod connect;
mod cookies;
mod form;
#[cfg(test)]
mod fuzz;
mod guard;
mod home;
mod install;
mod link;
mod load;
mod model;
mod not_connected;
mod problem;
mod progress;
mod revoked;
mod services;
mod session;
mod signin;
mod submit;
mod view;

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post},
};
use service_kit::{Clock, Hosts, Quotas, identity::Verifier, keys::Ring};
use tokio::{runtime::Handle, sync::Semaphore};
use tonic::transport::Channel;
use url::Url;

use self::{revoked::Revoked, services::Services};
use crate::{
    buffers::Buffers,
    facade::Facade,
    seal::{self, Sealer},
};

/// Less than 64 fields of 64 KiB, but a secret of 1 MB is read and refused by name.
const MAX_FORM: usize = 8 << 20;
/// Bytes of forms that are in memory at a time; and those of one person.
const MAX_FORMS: usize = 64 << 20;
const MAX_FORMS_EACH: usize = 16 << 20;
/// Progress streams open at a time; who gets none reloads by hand.
const MAX_STREAMS: usize = 256;

/// What an operator decides.
pub(crate) struct PagesConfig {
    /// Where browsers reach the pages.
    pub(crate) public_url: Url,
    /// Further values of `Host` that are taken.
    pub(crate) allowed_hosts: Vec<String>,
    /// Seals cookies and forms. All replicas share it.
    pub(crate) cookie_key: Ring,
    /// Where gRPC clients connect; the page at the root names it.
    pub(crate) grpc_port: Option<u16>,
    /// Health paths; the page at the root names them.
    pub(crate) probes: &'static [&'static str],
}

/// What the pages work with.
pub(crate) struct PagesDeps {
    /// registry-svc.
    pub(crate) registry: Channel,
    /// credential-svc.
    pub(crate) credential: Channel,
    /// The authorization server for MCP clients, where an issuer needs one.
    pub(crate) facade: Option<Arc<Facade>>,
    /// Verifies ID tokens, and knows the issuers.
    pub(crate) verifier: Arc<Verifier>,
    /// Counts what callers do.
    pub(crate) quotas: Arc<Quotas>,
    /// Tells the time.
    pub(crate) clock: Clock,
}

/// What the handlers share.
struct Pages {
    /// Without trailing slash.
    public: String,
    /// Scheme, host and port of the public URL, as browsers send them in `Origin`.
    origin: String,
    /// The public URL's path without trailing slash; empty at the root of its host.
    prefix: String,
    /// Whether browsers come over https.
    secure: bool,
    sealer: Sealer,
    revoked: Revoked,
    services: Services,
    facade: Option<Arc<Facade>>,
    verifier: Arc<Verifier>,
    quotas: Arc<Quotas>,
    /// Where requests to issuers run.
    runtime: Handle,
    clock: Clock,
    streams: Arc<Semaphore>,
    forms: Buffers,
    hosts: Hosts,
    grpc_port: Option<u16>,
    probes: &'static [&'static str],
}

impl Pages {
    /// How the URLs of MCP endpoints are made: a gateway's, and an agent's.
    fn mcp_endpoints(&self) -> [String; 2] {
        ["/mcp/GATEWAY", "/agents/AGENT/mcp"].map(|path| format!("{}{path}", self.public))
    }
}

/// `/`, `/install/…`, `/oauth/…`, `/signin…`, `/signout` and `/static/…`. The runtime that this runs on must outlive those of requests.
pub(crate) fn router(config: PagesConfig, deps: PagesDeps) -> Router {
    let public = config.public_url.as_str().trim_end_matches('/').to_owned();
    let pages = Pages {
        public,
        origin: config.public_url.origin().ascii_serialization(),
        prefix: config.public_url.path().trim_end_matches('/').to_owned(),
        secure: config.public_url.scheme() == "https",
        sealer: Sealer::new(&config.cookie_key),
        revoked: Revoked::default(),
        services: Services::new(deps.registry, deps.credential),
        facade: deps.facade,
        verifier: deps.verifier,
        quotas: deps.quotas,
        runtime: Handle::current(),
        clock: deps.clock,
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        forms: Buffers::new(MAX_FORMS, MAX_FORMS_EACH),
        hosts: Hosts::new(config.public_url, &config.allowed_hosts),
        grpc_port: config.grpc_port,
        probes: config.probes,
    };
    let pages = Arc::new(pages);
    Router::new()
        .route("/", get(home::show).fallback(home::not_an_endpoint))
        .route("/install/{entry}", get(install::show).post(submit::submit))
        .route("/install/{entry}/progress/{installation}", get(progress::show))
        .route("/install/{entry}/progress/{installation}/events", get(progress::events))
        .route("/install/{entry}/connect/{installation}", post(connect::connect))
        .route("/install/{entry}/disconnect/{installation}", post(connect::disconnect))
        .route("/oauth/authorize", get(authorize::ask).post(authorize::decide))
        .route("/oauth/callback", get(callback::callback))
        .route("/oauth/callback/{server}", get(callback::callback))
        .route("/oauth/problem", get(callback::problem))
        .route("/oauth/client/{document}", get(client_document::show))
        .route("/signin", get(signin::begin))
        .route("/signin/callback", get(signin::callback))
        .route("/signout", post(signin::sign_out))
        .route("/static/pages.css", get(assets::style))
        .route("/static/progress.js", get(assets::script))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&pages),
            guard::only_our_hosts,
        ))
        .with_state(pages)
}

#[cfg(test)]
mod tests;
