//! What is sent to a token endpoint.

use aws_lc_rs::digest;
use secrecy::SecretString;

use super::{
    grant::Grant,
    pending::Pending,
    plan::{AuthenticationPlan, ClientCredentials, Server},
    servers::TokenRequest,
};
use crate::domain::{plan::Plan, rendering::Secrets};

/// A code for tokens (RFC 6749, section 4.1.3; RFC 7636; RFC 8707).
pub(super) fn code(pending: &Pending, code: SecretString) -> TokenRequest {
    let mut request = TokenRequest::new("authorization_code");
    request.add_secret("code", code);
    request.add("redirect_uri", &pending.redirect_uri);
    request.add_secret("code_verifier", pending.verifier.clone());
    request.add("resource", &pending.resource);
    request
}

/// A refresh token for tokens, with the scopes that were granted (RFC 6749, section 6).
pub(super) fn refresh(grant: &Grant, token: &SecretString) -> TokenRequest {
    let mut request = TokenRequest::new("refresh_token");
    request.add_secret("refresh_token", token.clone());
    request.add("resource", &grant.resource);
    request
}

/// For a machine (RFC 6749, section 4.4.2).
pub(super) fn client_credentials(plan: &ClientCredentials) -> TokenRequest {
    let mut request = TokenRequest::new("client_credentials");
    request.add("scope", &plan.scopes.join(" "));
    request.add("resource", &plan.resource);
    request.add("audience", &plan.audience);
    request
}

/// Tells apart everything that decides which token client credentials give: one that was requested otherwise is not used. Secrets are
/// represented by the generation that brought them.
pub(super) fn basis(plan: &Plan, source: &ClientCredentials, secrets: &Secrets, client_id: &str) -> [u8; 32] {
    let ClientCredentials {
        server,
        client,
        scopes,
        resource,
        audience,
    } = source;
    let (kind, key, key_id) = match &client.authentication {
        AuthenticationPlan::None => ("none", "", ""),
        AuthenticationPlan::Basic(key) => ("basic", key.as_str(), ""),
        AuthenticationPlan::Post(key) => ("post", key.as_str(), ""),
        AuthenticationPlan::PrivateKey { field, id } => {
            ("private key", field.as_str(), id.as_deref().unwrap_or_default())
        }
    };
    let generation = secrets.generation(plan, key).to_string();
    let mut parts = match server {
        Server::Issuer(issuer) => vec!["issuer", issuer],
        Server::Endpoints {
            issuer,
            authorization,
            token,
            revocation,
        } => vec!["endpoints", issuer, authorization, token, revocation],
    };
    parts.extend([client_id, kind, key, key_id, &generation, resource, audience]);
    parts.extend(scopes.iter().map(String::as_str));
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // Each with its length, so that no two lists of parts give the same bytes.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut basis = [0; 32];
    basis.copy_from_slice(context.finish().as_ref());
    basis
}
