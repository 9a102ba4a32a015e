//! The layer that rejects callers without access to a service before their message is decoded: decoding can take much
//! more memory than the message has bytes.

use axum::{extract::Request, middleware::Next, response::Response};
use tonic::Status;

use super::authenticate::{Caller, require_user, require_workload};
use crate::peer::{Peer, Workload};

/// Who may call a service. Each method decides which of these callers it accepts.
#[derive(Clone, Copy, Debug)]
pub enum Admitted {
    /// Anybody with a valid token.
    People,
    /// These workloads.
    Workloads(&'static [Workload]),
}

/// Middleware behind [`authenticate`](super::authenticate). `admitted` returns who may call the service with this full
/// name, or `None` if there is no such service.
pub async fn admit(admitted: fn(&str) -> Option<Admitted>, request: Request, next: Next) -> Response {
    let service = request.uri().path().trim_start_matches('/').split('/').next();
    let refused = match service.and_then(admitted) {
        None => None,
        Some(Admitted::People) => require_user(&who(&request)).err(),
        Some(Admitted::Workloads(workloads)) => require_workload(&who(&request), workloads).err(),
    };
    match refused {
        None => next.run(request).await,
        Some(status) => refuse(status),
    }
}

/// What is known about the caller.
fn who(request: &Request) -> tonic::Request<()> {
    let mut who = tonic::Request::new(());
    if let Some(caller) = request.extensions().get::<Caller>() {
        who.extensions_mut().insert(caller.clone());
    }
    if let Some(peer) = request.extensions().get::<Peer>() {
        who.extensions_mut().insert(*peer);
    }
    who
}

fn refuse(status: Status) -> Response {
    status.into_http()
}
