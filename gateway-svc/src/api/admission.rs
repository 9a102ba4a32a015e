//! Refuses callers without access before a message is read.

use std::sync::Arc;

use axum::{extract::Request, middleware::Next, response::Response};
use bytes::Bytes;
use service_kit::{
    Quotas,
    quota::{self, Callers, until_sent},
};

use super::status;
use crate::identity::Identity;

/// Middleware around [`Tools`](super::Tools): admits callers with a valid token of a person or gateway token who have made no more
/// requests than they may.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(crate) identity: Arc<Identity>,
    pub(crate) quotas: Arc<Quotas>,
}

/// An upstream's answer, in the extensions of a response: its room is held until the response is sent.
#[derive(Clone, Debug)]
pub(super) struct Held(pub(super) Bytes);

impl Admission {
    /// Leaves the caller in the extensions.
    pub(crate) async fn admit(self, mut request: Request, next: Next) -> Response {
        match self.identity.identify(request.headers(), None).await {
            Ok(identified) => {
                request.extensions_mut().insert(identified.caller);
                let callers = Callers {
                    minute: &identified.charged_to,
                    at_a_time: &identified.subject,
                };
                let mut response = quota::charge_to(&self.quotas, callers, request, next).await;
                match response.extensions_mut().remove::<Held>() {
                    Some(Held(answer)) => until_sent(answer, response),
                    None => response,
                }
            }
            Err(refusal) => status::of_refusal(refusal).into_http(),
        }
    }
}
