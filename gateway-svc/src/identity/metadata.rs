//! How an MCP client finds out where to sign in: OAuth 2.0 protected resource metadata (RFC 9728), and the challenges that point to it.

use std::sync::Arc;

use axum::{Json, Router, extract::Path, response::IntoResponse, routing::get};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use service_kit::identity::Verifier;

use super::Refusal;
use crate::{
    domain::{ConsumerKind, ConsumerRef, Links},
    facade::Facade,
    snapshot::Store,
};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Which authorization servers' tokens the endpoints accept, and with which scopes.
#[derive(Debug)]
pub(crate) struct Metadata {
    links: Links,
    store: Arc<Store>,
    servers: Vec<String>,
    /// Every scope that some issuer's tokens must have.
    scopes: Vec<String>,
    /// Those of the first authorization server, which is the one that clients choose.
    requested: String,
}

impl Metadata {
    /// Of these issuers' tokens.
    pub(crate) fn new(verifier: &Verifier, links: Links, store: Arc<Store>) -> Self {
        let mut scopes: Vec<String> = Vec::new();
        for scope in verifier.issuers().flat_map(|issuer| &issuer.required_scopes) {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        let mut servers: Vec<String> = Vec::new();
        for issuer in verifier.issuers() {
            let server = match &issuer.facade {
                Some(_) => Facade::identifier(&links),
                None => issuer.issuer.clone(),
            };
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        let first = verifier.issuers().next();
        Self {
            links,
            store,
            servers,
            scopes,
            requested: first.map(|first| first.required_scopes.join(" ")).unwrap_or_default(),
        }
    }

    /// The metadata of each MCP endpoint, and of all together. Names that do not exist have metadata, too, since the client has not
    /// signed in yet. A gateway that takes tokens only has none.
    pub(crate) fn routes(self: Arc<Self>) -> Router {
        let (gateway, agent) = (Arc::clone(&self), Arc::clone(&self));
        let below = self.links.public_url().path().trim_end_matches('/').to_owned();
        let mut router = Router::new().route(WELL_KNOWN, get(async move || self.of_all()));
        let gateway = async move |Path(slug): Path<String>| gateway.of(ConsumerKind::Gateway, &slug);
        let agent = async move |Path(slug): Path<String>| agent.of(ConsumerKind::Agent, &slug);
        // The well-known part comes before the whole path, also that part of it which a proxy otherwise takes off.
        let mut prefixes = vec![String::new(), below];
        prefixes.dedup();
        for prefix in prefixes {
            router = router
                .route(&format!("{WELL_KNOWN}{prefix}/mcp/{{gateway}}"), get(gateway.clone()))
                .route(
                    &format!("{WELL_KNOWN}{prefix}/agents/{{agent}}/mcp"),
                    get(agent.clone()),
                );
        }
        router
    }

    fn of(&self, kind: ConsumerKind, slug: &str) -> axum::response::Response {
        let name = ConsumerRef::new(kind, slug);
        match ConsumerRef::parse(&name.to_string()) {
            Some(name) if !self.takes_tokens_only(&name) => Json(self.document(&name.mcp_path())).into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    /// Clients look here when an endpoint has no metadata of its own. They do not say which endpoint they mean, so there is nothing here as
    /// long as one takes tokens only.
    fn of_all(&self) -> axum::response::Response {
        if self.store.last().some_take_tokens_only() {
            return StatusCode::NOT_FOUND.into_response();
        }
        Json(self.document("")).into_response()
    }

    fn document(&self, path: &str) -> Value {
        let mut document = json!({
            "resource": self.links.below(path),
            "authorization_servers": self.servers,
            "bearer_methods_supported": ["header"],
            "resource_name": "Chandlery",
        });
        if !self.scopes.is_empty() {
            document["scopes_supported"] = self.scopes.clone().into();
        }
        document
    }

    fn takes_tokens_only(&self, name: &ConsumerRef) -> bool {
        self.store
            .last()
            .consumer(name)
            .is_some_and(|consumer| consumer.tokens_only)
    }

    /// `WWW-Authenticate` of a 401 or 403 at an MCP endpoint (RFC 9728, section 5.1; RFC 6750, section 3).
    pub(crate) fn challenge(&self, name: &ConsumerRef, refusal: &Refusal) -> HeaderValue {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        let mut scopes = self.requested.as_str();
        let invalid = "invalid_token".to_owned();
        match refusal {
            Refusal::Token(why) => parameters.extend([("error", invalid), ("error_description", why.clone())]),
            Refusal::Deactivated => {
                let why = "its user was deactivated".to_owned();
                parameters.extend([("error", invalid), ("error_description", why)]);
            }
            Refusal::Scope(required) => {
                parameters.push(("error", "insufficient_scope".to_owned()));
                scopes = required;
            }
            Refusal::Anonymous | Refusal::Unavailable(_) | Refusal::IssuerUnreachable => {}
        }
        if !self.takes_tokens_only(name) {
            parameters.push(("resource_metadata", url(&self.links, &name.mcp_path())));
            if !scopes.is_empty() {
                parameters.push(("scope", scopes.to_owned()));
            }
        }
        let parameters: Vec<String> = parameters
            .into_iter()
            .map(|(name, value)| format!("{name}=\"{}\"", value.replace(['"', '\\'], "'")))
            .collect();
        let challenge = format!("Bearer {}", parameters.join(", "));
        HeaderValue::from_str(challenge.trim_end()).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
    }
}

/// The URL of the metadata of the endpoint at `path`: the well-known part precedes the path (RFC 9728, section 3.1).
fn url(links: &Links, path: &str) -> String {
    let mut url = links.public_url().clone();
    let below = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{WELL_KNOWN}{below}{path}"));
    url.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use pretty_assertions::assert_eq;
    use service_kit::Clock;
    use tokio::sync::mpsc;
    use tower::ServiceExt as _;

    use super::*;
    use crate::snapshot::{
        Feed,
        testing::{Registry, fill, gateway, plain_gateway},
    };

    /// Of a gateway `open`; of one that takes tokens only, if it is named.
    async fn metadata(public_url: &str, tokens_only: Option<&str>) -> Arc<Metadata> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let issuer = |issuer: &str, scopes: &[&str]| {
            let config = json!({ "issuer": issuer, "audiences": ["chandlery"], "required_scopes": scopes });
            serde_json::from_value(config).unwrap()
        };
        let issuers = vec![
            issuer("https://login.example.com", &["tools", "api://chandlery/call"]),
            issuer("https://other.example.com", &["tools", "more"]),
        ];
        let verifier = Verifier::new(issuers, Clock::System).unwrap();
        let store = Store::new(Duration::from_secs(60), Clock::System);
        let mut registry = Registry::default().with(gateway(plain_gateway("open")));
        if let Some(slug) = tokens_only {
            registry = registry.with(gateway(contracts::registry::Gateway {
                tokens_only: Some(true),
                ..plain_gateway(slug)
            }));
        }
        let mut feed = Feed::new(Arc::clone(&store), mpsc::unbounded_channel().0);
        fill(&mut feed, 1, registry.objects).await;
        Arc::new(Metadata::new(&verifier, Links::new(public_url.parse().unwrap()), store))
    }

    async fn read(metadata: &Arc<Metadata>, path: &str) -> Option<Value> {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = Arc::clone(metadata).routes().oneshot(request).await.unwrap();
        let found = response.status() == 200;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        found.then(|| serde_json::from_slice(&body).unwrap())
    }

    fn at(slug: &str) -> ConsumerRef {
        ConsumerRef::new(ConsumerKind::Gateway, slug)
    }

    #[tokio::test]
    async fn the_resource_is_the_endpoint_to_the_last_slash() {
        let plain = metadata("https://example.com", None).await;
        for (path, resource) in [
            ("", "https://example.com"),
            ("/mcp/open", "https://example.com/mcp/open"),
            ("/agents/a/mcp", "https://example.com/agents/a/mcp"),
        ] {
            let document = read(&plain, &format!("{WELL_KNOWN}{path}")).await.unwrap();
            assert_eq!(
                document,
                json!({
                    "resource": resource,
                    "authorization_servers": ["https://login.example.com", "https://other.example.com"],
                    "scopes_supported": ["tools", "api://chandlery/call", "more"],
                    "bearer_methods_supported": ["header"],
                    "resource_name": "Chandlery",
                })
            );
        }
        assert_eq!(read(&plain, &format!("{WELL_KNOWN}/mcp/-")).await, None);
        // Below a path, a proxy may or may not take it off here.
        let below = metadata("https://example.com/tools/", None).await;
        for path in ["/mcp/open", "/tools/mcp/open"] {
            let document = read(&below, &format!("{WELL_KNOWN}{path}")).await.unwrap();
            assert_eq!(document["resource"], "https://example.com/tools/mcp/open");
        }
        let challenge = below.challenge(&at("open"), &Refusal::Anonymous);
        let expected = "resource_metadata=\"https://example.com/.well-known/oauth-protected-resource/tools/mcp/open\"";
        assert!(challenge.to_str().unwrap().contains(expected));
    }

    #[tokio::test]
    async fn challenges_name_the_metadata_and_the_scopes() {
        let metadata = metadata("https://example.com", None).await;
        let here = "resource_metadata=\"https://example.com/.well-known/oauth-protected-resource/mcp/open\"";
        let refused = |why: &str| Refusal::Token(why.to_owned());
        for (refusal, challenge) in [
            (
                Refusal::Anonymous,
                format!("Bearer {here}, scope=\"tools api://chandlery/call\""),
            ),
            (
                refused("it \"is\" bad"),
                format!(
                    "Bearer error=\"invalid_token\", error_description=\"it 'is' bad\", {here}, scope=\"tools api://chandlery/call\""
                ),
            ),
            (
                Refusal::Scope("tools more".to_owned()),
                format!("Bearer error=\"insufficient_scope\", {here}, scope=\"tools more\""),
            ),
        ] {
            assert_eq!(metadata.challenge(&at("open"), &refusal), challenge);
        }
    }

    #[tokio::test]
    async fn a_gateway_that_takes_tokens_only_shows_no_way_to_sign_in() {
        let metadata = metadata("https://example.com", Some("ci")).await;
        assert_eq!(metadata.challenge(&at("ci"), &Refusal::Anonymous), "Bearer");
        assert_eq!(
            metadata.challenge(&at("ci"), &Refusal::Token("no".to_owned())),
            "Bearer error=\"invalid_token\", error_description=\"no\""
        );
        assert_eq!(read(&metadata, &format!("{WELL_KNOWN}/mcp/ci")).await, None);
        assert_eq!(
            read(&metadata, WELL_KNOWN).await,
            None,
            "a client that looks there may mean it"
        );
        assert!(read(&metadata, &format!("{WELL_KNOWN}/mcp/open")).await.is_some());
        assert_ne!(metadata.challenge(&at("open"), &Refusal::Anonymous), "Bearer");
    }
}
