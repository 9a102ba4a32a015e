//! The layer that identifies the caller before any gRPC method runs.

use std::sync::Arc;

use axum::{extract::Request, middleware::Next, response::Response};
use tonic::{Code, Status};

use super::{
    messages::ISSUER_UNREACHABLE,
    user::User,
    verify::{TokenError, Use, Verifier},
};
use crate::{
    peer::{Peer, Workload},
    status::{Reason, StatusBuilder},
};

/// The caller, in the extensions of every request behind [`authenticate`].
#[derive(Clone, Debug)]
pub enum Caller {
    /// A person with a valid token, sent by themselves or forwarded by a workload.
    User(Arc<User>),
    /// The request has no bearer token.
    Anonymous,
    /// The token was rejected.
    Refused(TokenError),
}

/// Middleware for an `axum::Router` of gRPC services: verifies the bearer token and adds a [`Caller`] to the
/// extensions. A rejected token does not end the request here, because health and reflection require no token and each
/// method decides who may call it.
pub async fn authenticate(verifier: Arc<Verifier>, mut request: Request, next: Next) -> Response {
    let caller = match bearer(request.headers()) {
        None => Caller::Anonymous,
        Some(token) => match verifier.verify_for(shown_for(&request), token).await {
            Ok(user) => Caller::User(user),
            Err(error) => Caller::Refused(error),
        },
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// The pages of gateway-svc forward the token with which a person signed in, over a connection that only gateway-svc
/// has.
fn shown_for(request: &Request) -> Use {
    let workload = request.extensions().get::<Peer>().and_then(|peer| peer.workload());
    if workload == Some(Workload::Gateway) {
        Use::SignIn
    } else {
        Use::Call
    }
}

/// The bearer token of a request (RFC 6750, section 2.1).
fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The person who calls; fails with UNAUTHENTICATED if there is none.
pub fn require_user<T>(request: &tonic::Request<T>) -> Result<Arc<User>, Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::User(user)) => Ok(Arc::clone(user)),
        Some(Caller::Refused(error)) => Err(token_refused(*error)),
        Some(Caller::Anonymous) | None => Err(StatusBuilder::new(
            Code::Unauthenticated,
            Reason::UNAUTHENTICATED,
            "send a token of a configured issuer in the metadata: authorization: Bearer <token>",
        )
        .build()),
    }
}

/// The workload at the other end of the connection, if it is one of `allowed`. Metadata cannot claim it.
pub fn require_workload<T>(request: &tonic::Request<T>, allowed: &[Workload]) -> Result<Workload, Status> {
    request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.workload())
        .filter(|workload| allowed.contains(workload))
        .ok_or_else(|| {
            StatusBuilder::new(
                Code::PermissionDenied,
                Reason::WORKLOADS_ONLY,
                "only Chandlery's own services may call this, over their own connections",
            )
            .build()
        })
}

/// UNAUTHENTICATED with the reason; UNAVAILABLE while the issuer is unreachable.
pub fn token_refused(error: TokenError) -> Status {
    let (code, message) = match error {
        TokenError::IssuerUnreachable => (Code::Unavailable, ISSUER_UNREACHABLE.to_owned()),
        TokenError::InsufficientScope => (Code::PermissionDenied, format!("the token was refused: {error}")),
        _ => (Code::Unauthenticated, format!("the token was refused: {error}")),
    };
    StatusBuilder::new(code, Reason::TOKEN_INVALID, message)
        .with("detail", error.to_string())
        .build()
}
