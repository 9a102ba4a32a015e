//! The layer that counts what people do over gRPC.

use std::sync::Arc;

use axum::{extract::Request, middleware::Next, response::Response};

use super::{Callers, Quotas, until_sent};
use crate::{identity::Caller, peer::Peer};

/// What the names of methods begin with that change nothing in Chandlery.
const CHANGES_NOTHING: [&str; 5] = ["Call", "Explain", "Get", "List", "Stream"];

/// Middleware behind [`authenticate`](crate::identity::authenticate): charges a person's request to them, also one that is denied or fails. What
/// a workload asks for a person was charged where the person came in; what comes without a valid token is charged to nobody.
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

/// Charges a gRPC request. It is under way until its answer has ended.
pub async fn charge_to(quotas: &Quotas, callers: Callers<'_>, request: Request, next: Next) -> Response {
    match quotas.request(callers, writes(request.uri().path())) {
        Ok(under_way) => {
            let response = next.run(request).await;
            until_sent(under_way, response)
        }
        Err(exceeded) => exceeded.status().into_http(),
    }
}

/// Whether a method may change something here, by its path: `/chandlery.registry.v1.EntryService/GetEntry` does not.
fn writes(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    !CHANGES_NOTHING.iter().any(|read| method.starts_with(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_read_writes() {
        for read in [
            "GetEntry",
            "ListTools",
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
