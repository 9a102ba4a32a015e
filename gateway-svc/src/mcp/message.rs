//! Answers one message of a session.

use std::sync::Arc;

use super::{
    call::{self, Answer},
    list,
    rpc::{self, INTERNAL_ERROR, INVALID_REQUEST, Kind, METHOD_NOT_FOUND, Message, RpcError},
    session::Session,
    visit::Visit,
};
use crate::{resolve, upstream::Together};

impl Visit {
    /// Answers a message of a session.
    pub(super) async fn answer(
        &self,
        session: Session,
        message: &Message<'_>,
        together: Option<&Arc<Together>>,
    ) -> Answer {
        let (id, method) = match &message.kind {
            Kind::Request { id, method } => (*id, method),
            Kind::Notification { method } => {
                if method == "notifications/cancelled"
                    && let Some(id) = message.params.as_ref().and_then(|params| params.get("requestId"))
                {
                    self.mcp.in_flight.cancel(session.id, id);
                }
                return Answer::Nothing;
            }
            Kind::Response => return Answer::Nothing,
        };
        match method.as_ref() {
            "tools/call" => {
                let request = call::Request {
                    came: self.came,
                    caller: &self.identified.caller,
                    subject: &self.identified.subject,
                    together,
                    consumer: &self.consumer.name,
                    session,
                    id,
                    params: message.params.as_ref(),
                    extra: &message.extra,
                    headers: &self.headers,
                };
                call::call(&self.mcp, request).await
            }
            "tools/list" => Answer::whole(match self.list(message) {
                Ok(page) => rpc::result(id, &page),
                Err(error) => error.under(Some(id)),
            }),
            "ping" => Answer::whole(rpc::result(id, b"{}")),
            "initialize" => Answer::whole(RpcError::new(INVALID_REQUEST, "initialize stands alone").under(Some(id))),
            _ => Answer::whole(RpcError::new(METHOD_NOT_FOUND, format!("Method not found: {method}")).under(Some(id))),
        }
    }

    fn list(&self, message: &Message<'_>) -> Result<Vec<u8>, RpcError> {
        let (caller, consumer) = (&self.identified.caller, &self.consumer.name);
        let find = |after: Option<&str>, size| {
            let snapshot = self.mcp.store.load();
            snapshot
                .and_then(|snapshot| resolve::page(&snapshot, caller, consumer, after, size))
                .map_err(|error| RpcError::new(INTERNAL_ERROR, error.to_string()))
        };
        list::page(find, &self.mcp.cursors, caller, consumer, message.params.as_ref())
    }
}
