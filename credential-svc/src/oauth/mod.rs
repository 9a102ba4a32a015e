//! Authorization servers over HTTP.

mod account;
mod answer;
mod assertion;
mod cache;
mod challenge;
mod client;
mod fields;
mod form;
mod http;
mod metadata;
mod places;
mod registration;
mod resolve;
mod revocation;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod upstream;
mod well_known;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use secrecy::SecretString;
use service_kit::{Clock, egress::EgressPolicy};

use self::{
    cache::Cache,
    http::{Http, Reach, Turn},
};
use crate::domain::authorization::{
    plan::Server,
    servers::{
        AuthorizationServers, Client, Metadata, Registration, ServerError, TokenKind, TokenRequest, Tokens, Upstream,
    },
};

/// How long a request to a server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Implements the domain's port.
#[derive(Debug)]
pub(crate) struct HttpServers {
    http: Arc<Http>,
    clock: Clock,
    metadata: Cache<Arc<Metadata>>,
    upstreams: Cache<Option<Arc<Upstream>>>,
}

impl HttpServers {
    /// Connects where `egress` permits. The TLS provider must be installed.
    pub(crate) fn new(egress: EgressPolicy, clock: Clock) -> Self {
        Self::within(PATIENCE, egress, clock)
    }

    fn within(patience: Duration, egress: EgressPolicy, clock: Clock) -> Self {
        Self {
            http: Arc::new(Http::new(egress, patience)),
            metadata: Cache::new(clock.clone(), patience),
            upstreams: Cache::new(clock.clone(), patience),
            clock,
        }
    }
}

impl AuthorizationServers for HttpServers {
    type Turn = Turn;

    async fn upstream(&self, url: &str, since: Option<SystemTime>) -> Result<Option<Arc<Upstream>>, ServerError> {
        self.http.checked(Reach::Allowed, "the upstream", url)?;
        let fetch = || {
            let (http, url) = (Arc::clone(&self.http), url.to_owned());
            async move { Ok(upstream::discover(&http, &url).await?.map(Arc::new)) }
        };
        self.upstreams.get(url, since, fetch).await
    }

    async fn metadata(&self, server: &Server) -> Result<Arc<Metadata>, ServerError> {
        let issuer = match server {
            Server::Issuer(issuer) => issuer,
            Server::Endpoints {
                issuer,
                authorization,
                token,
                revocation,
            } => {
                return Ok(Arc::new(Metadata {
                    issuer: issuer.clone(),
                    authorization_endpoint: authorization.clone(),
                    token_endpoint: token.clone(),
                    revocation_endpoint: revocation.clone(),
                    has_pkce: true,
                    may_be_internal: true,
                    ..Metadata::default()
                }));
            }
        };
        let url = self.http.checked(Reach::Allowed, "the issuer", issuer)?;
        if url.query().is_some() {
            // RFC 8414, section 2.
            return Err(ServerError::Unusable(format!(
                "{} is no issuer: it has a query",
                http::shown(&url)
            )));
        }
        let fetch = || {
            let (http, issuer) = (Arc::clone(&self.http), issuer.clone());
            async move {
                let found = metadata::discover(&http, &url, |named| named == issuer).await;
                found.map(Arc::new)
            }
        };
        self.metadata.get(issuer, None, fetch).await
    }

    async fn register(&self, metadata: &Metadata, redirect_uri: &str) -> Result<Registration, ServerError> {
        registration::register(&self.http, metadata, redirect_uri).await
    }

    async fn turn(&self, metadata: &Metadata) -> Result<Turn, ServerError> {
        token::turn(&self.http, metadata).await
    }

    async fn token(
        &self,
        turn: Turn,
        metadata: &Metadata,
        client: &Client,
        request: &TokenRequest,
    ) -> Result<Tokens, ServerError> {
        token::ask(&self.http, turn, metadata, client, request, self.clock.now()).await
    }

    async fn revoke(
        &self,
        metadata: &Metadata,
        client: &Client,
        token: &SecretString,
        hint: TokenKind,
    ) -> Result<(), ServerError> {
        revocation::revoke(&self.http, metadata, client, token, hint, self.clock.now()).await
    }
}
