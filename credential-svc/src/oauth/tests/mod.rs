//! Authorization servers and upstreams that misbehave.

mod canary;
mod discovery;
mod isolation;
mod metadata;
mod registration;
mod server;
mod tokens;

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use service_kit::{Clock, clock::ManualClock, egress::EgressPolicy, testing::install_tls_provider};

use self::server::Server;
use super::HttpServers;
use crate::domain::authorization::{
    plan,
    servers::{Authentication, AuthorizationServers as _, Client, Metadata, ServerError, TokenRequest, Tokens},
};

/// What connects to loopback alone, and its clock.
fn servers() -> (HttpServers, ManualClock) {
    servers_within(super::PATIENCE)
}

/// With this patience for one request.
fn servers_within(patience: Duration) -> (HttpServers, ManualClock) {
    install_tls_provider();
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let egress = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]);
    (
        HttpServers::within(patience, egress, Clock::Manual(clock.clone())),
        clock,
    )
}

/// The metadata of a server whose issuer is `issuer`, and whose endpoints are at its origin.
fn document(server: &Server, issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
        "code_challenge_methods_supported": ["plain", "S256"],
    })
}

fn issuer(url: &str) -> plan::Server {
    plan::Server::Issuer(url.to_owned())
}

/// Metadata with the endpoints of a server.
fn endpoints(server: &Server) -> Metadata {
    Metadata {
        issuer: server.url(""),
        token_endpoint: server.url("/token"),
        revocation_endpoint: server.url("/revoke"),
        registration_endpoint: server.url("/register"),
        may_be_internal: true,
        ..Metadata::default()
    }
}

fn client() -> Client {
    Client {
        id: "us".to_owned(),
        authentication: Authentication::None,
    }
}

fn request() -> TokenRequest {
    TokenRequest {
        parameters: vec![
            ("grant_type", "authorization_code".into()),
            ("code", "code-canary".into()),
            ("code_verifier", "verifier-canary".into()),
        ],
    }
}

/// Asks the token endpoint when it is its turn.
async fn ask(servers: &HttpServers, metadata: &Metadata, client: &Client) -> Result<Tokens, ServerError> {
    let turn = servers.turn(metadata).await?;
    servers.token(turn, metadata, client, &request()).await
}

#[track_caller]
fn assert_unusable<T: std::fmt::Debug>(result: Result<T, ServerError>, part: &str) {
    match result {
        Err(ServerError::Unusable(text)) if text.contains(part) => {}
        other => panic!("expected to be unusable because of {part:?}: {other:?}"),
    }
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, ServerError>, part: &str) {
    match result {
        Err(ServerError::Unavailable(text)) if text.contains(part) => {}
        other => panic!("expected to be unavailable because of {part:?}: {other:?}"),
    }
}
