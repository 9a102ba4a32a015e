//! An authorization server that an entry names.

use contracts::registry::AuthorizationServer;
use service_kit::{egress::EgressPolicy, status::Violations};

use crate::domain::text::parse_url;

/// What the server does for the credential model.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// People sign in there.
    SignsIn,
    /// It is asked for tokens only.
    IssuesTokens,
}

/// Checks the server; secrets are sent to its endpoints.
pub(super) fn check_server(
    violations: &mut Violations,
    path: &str,
    server: &AuthorizationServer,
    role: Role,
    egress: &EgressPolicy,
) {
    let mut part = Violations::new();
    let AuthorizationServer {
        issuer,
        authorization_endpoint,
        token_endpoint,
        revocation_endpoint,
    } = server;
    if issuer.is_empty() && token_endpoint.is_empty() {
        part.add("issuer", "must be set, unless token_endpoint is");
    }
    let has_query = parse_url(issuer).is_ok_and(|url| url.query().is_some());
    if has_query {
        part.add("issuer", "must not have a query");
    }
    for (field, url) in [
        ("issuer", issuer),
        ("authorization_endpoint", authorization_endpoint),
        ("token_endpoint", token_endpoint),
        ("revocation_endpoint", revocation_endpoint),
    ] {
        if !url.is_empty()
            && let Err(wrong) = parse_url(url).and_then(|url| egress.check_url_for_secrets(&url))
        {
            part.add(field, wrong);
        }
    }
    match (role, authorization_endpoint.is_empty(), token_endpoint.is_empty()) {
        (Role::SignsIn, true, false) => part.add("authorization_endpoint", "must be set where token_endpoint is"),
        (Role::SignsIn, false, true) => part.add("token_endpoint", "must be set where authorization_endpoint is"),
        (Role::IssuesTokens, false, _) => part.add("authorization_endpoint", "must be empty: nobody signs in there"),
        _ => {}
    }
    if token_endpoint.is_empty() && !revocation_endpoint.is_empty() {
        part.add(
            "revocation_endpoint",
            "must be empty unless token_endpoint is set: the metadata names it",
        );
    }
    violations.extend(path, part);
}
