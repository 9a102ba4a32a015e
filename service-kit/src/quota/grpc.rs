//! The layer that counts what people do over gRPC.

use std::sync::Arc;

use axum::{extract::Request, middleware::Next, response::Response};

use super::{Exceeded, Quotas, UnderWay, until_sent};
use crate::{identity::Caller, peer::Peer};

/// What the names of methods begin with that change nothing here.
const READS: [&str; 5] = ["Call", "Explain", "Get", "List", "Stream"];

/// Middleware behind [`authenticate`](crate::identity::authenticate): charges a person's request to them. What a workload asks for a person
/// was charged where the person came in; a request that is refused costs nobody.
pub async fn charge(quotas: Arc<Quotas>, request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let inner = extensions.get::<Peer>().is_some_and(|peer| peer.workload().is_some());
    match extensions.get::<Caller>() {
        Some(Caller::User(user)) if !inner => {
            let caller = user.id.resource_name().into();
            charge_to(&quotas, &caller, request, next).await
        }
        _ => next.run(request).await,
    }
}

/// Charges a gRPC request to this caller. It is under way until its answer has ended.
pub async fn charge_to(quotas: &Quotas, caller: &Arc<str>, request: Request, next: Next) -> Response {
    match take(quotas, caller, request.uri().path()) {
        Ok(under_way) => {
            let response = next.run(request).await;
            until_sent(under_way, response)
        }
        Err(exceeded) => exceeded.status().into_http(),
    }
}

fn take(quotas: &Quotas, caller: &Arc<str>, path: &str) -> Result<UnderWay, Exceeded> {
    let under_way = quotas.call(caller)?;
    quotas.requests(caller, 1)?;
    if writes(path) {
        quotas.write(caller)?;
    }
    Ok(under_way)
}

/// Whether a method may change something here, by its path: `/chandlery.registry.v1.EntryService/GetEntry` does not.
fn writes(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    !READS.iter().any(|read| method.starts_with(read))
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
