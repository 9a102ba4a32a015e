//! The layer that counts the gRPC requests of people.

use std::sync::Arc;

use axum::{extract::Request, middleware::Next, response::Response};

use super::{Callers, Quotas, until_sent};
use crate::{identity::Caller, peer::Peer};

/// Prefixes of the names of methods that change nothing in Chandlery.
const CHANGES_NOTHING: [&str; 6] = ["Call", "Explain", "Get", "List", "Search", "Stream"];

/// Middleware behind [`authenticate`](crate::identity::authenticate). Counts the request of a person, even if it is
/// denied or fails. A request that a workload makes for a person was counted when the person's request arrived; a
/// request without a valid token is not counted.
pub async fn charge(quotas: Arc<Quotas>, request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let inner = extensions.get::<Peer>().is_some_and(|peer| peer.workload().is_some());
    match extensions.get::<Caller>() {
        Some(Caller::User(user)) if !inner => {
            let caller = user.id.resource_name().into();
            charge_to(&quotas, Callers::one(&caller), request, next).await
        }
        _ => next.run(request).await,
    }
}

/// Counts a gRPC request, which is in progress until its response has ended.
pub async fn charge_to(quotas: &Quotas, callers: Callers<'_>, request: Request, next: Next) -> Response {
    match quotas.request(callers, writes(request.uri().path())) {
        Ok(in_flight) => {
            let response = next.run(request).await;
            until_sent(in_flight, response)
        }
        Err(exceeded) => exceeded.status().into_http(),
    }
}

/// Whether the method with this path may change something. `/chandlery.registry.v1.EntryService/GetEntry` does not.
fn writes(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    !CHANGES_NOTHING.iter().any(|read| method.starts_with(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_that_is_not_a_read_is_a_write() {
        for read in [
            "GetEntry",
            "ListTools",
            "SearchTools",
            "ExplainResolution",
            "StreamRuntimeLogs",
            "CallTool",
        ] {
            assert!(!writes(&format!("/chandlery.x.v1.Y/{read}")), "{read}");
        }
        for write in ["CreateEntry", "RestartRuntime", "RevokeGatewayToken", "", "Whatever"] {
            assert!(writes(&format!("/chandlery.x.v1.Y/{write}")), "{write}");
        }
    }
}
