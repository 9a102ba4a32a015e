//! Clients of 2026-07-28: each request stands alone, and says which revision it is of and what its client can do.

mod answering;
mod call;
mod discover;
mod envelope;
mod failure;
mod headers;
mod listen;
mod messages;
mod meta;
mod parking;
mod question;
mod reply;
mod state;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use service_kit::quota::until_sent;

use self::{
    envelope::{complete, whole},
    meta::Stated,
};
use super::{
    lists::Failed,
    params,
    refusal::too_many,
    rpc::{INVALID_REQUEST, Kind, METHOD_NOT_FOUND, Message, RpcError},
    visit::Visit,
};
use crate::{
    calls::{ListKind, Visitor},
    upstream::{Client, Era, Revision, modern_names::LISTEN},
};
pub(super) use messages::Parked;
pub(super) use parking::Parking;
pub(super) use state::States;

/// How long clients may keep lists, in milliseconds: one that changes is announced only to those who listen.
const LISTS_KEPT: u32 = 5_000;

/// Whether a message says that it is of this revision or a later one. Only these say their revision in `_meta`.
pub(super) fn speaks(message: &Message<'_>) -> bool {
    meta::version(message.params.as_ref()).is_some_and(|version| Revision::parse(&version).is_none())
}

/// The methods of this revision.
const METHODS: [&str; 13] = [
    "server/discover",
    LISTEN,
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "completion/complete",
    "tasks/get",
    "tasks/update",
    "tasks/cancel",
];

impl Visit {
    /// Answers a message of this revision.
    pub(super) async fn modern(&self, message: &Message<'_>) -> Response {
        let (id, method) = match &message.kind {
            Kind::Request { id, method } => (*id, &**method),
            // There are none over HTTP that mean anything: a request is cancelled by closing its stream.
            Kind::Notification { .. } => return StatusCode::ACCEPTED.into_response(),
            Kind::Response { .. } => {
                let why = "a response is not accepted: servers of this revision send no requests";
                return RpcError::new(INVALID_REQUEST, why).respond(StatusCode::BAD_REQUEST, None);
            }
        };
        let stated = match self.stated(method, message) {
            Ok(stated) => stated,
            Err(error) => return failure::refuse(&error, id),
        };
        if method == LISTEN {
            return match self.at.mcp.quotas.stream(&self.who.identified.subject) {
                Ok(open) => self.listen(id, message, &stated, open).await,
                Err(exceeded) => too_many(&exceeded, Some(id)),
            };
        }
        match self.begin_call() {
            Ok(in_flight) => until_sent(in_flight, self.modern_request(id, method, message, stated).await),
            Err(exceeded) => too_many(&exceeded, Some(id)),
        }
    }

    /// What a request says of its client. Fails if it contradicts itself, or is of another revision.
    fn stated(&self, method: &str, message: &Message<'_>) -> Result<Stated, RpcError> {
        let (params, headers) = (message.params.as_ref(), self.at.head.headers());
        headers::check_version(headers, meta::version(params).as_deref())?;
        // First: clients tell by this answer to `initialize` or `ping` that those are not of this revision.
        if !METHODS.contains(&method) {
            return Err(RpcError::new(METHOD_NOT_FOUND, format!("Method not found: {method}")));
        }
        let stated = meta::read(params)?;
        headers::check(headers, method, params)?;
        if method.starts_with("tasks/") {
            stated.require_tasks()?;
        }
        Ok(stated)
    }

    async fn modern_request(&self, id: &str, method: &str, message: &Message<'_>, stated: Stated) -> Response {
        let visitor = self.modern_visitor(&stated);
        if let Some(level) = stated.level() {
            self.at.mcp.calls.remember_level(&visitor, level);
        }
        let params = message.params.as_ref();
        let list = async |kind| match self.page(&visitor, kind, params).await {
            Ok(page) => whole(complete(id, page, Some(LISTS_KEPT))),
            Err(Failed::Cursor(error)) => failure::respond(&error, id),
            Err(Failed::Call(error)) => failure::answer(&error, id),
        };
        let shape = match method {
            "server/discover" => return whole(discover::result(id, &self.who.consumer)),
            "tools/list" => {
                return match self.list(&visitor, params).await {
                    Ok(page) => whole(complete(id, page, Some(LISTS_KEPT))),
                    Err(error) => failure::respond(&error, id),
                };
            }
            "prompts/list" => return list(ListKind::Prompts).await,
            "resources/list" => return list(ListKind::Resources).await,
            "resources/templates/list" => return list(ListKind::Templates).await,
            "tools/call" => &params::TOOL,
            "prompts/get" => &params::PROMPT,
            "completion/complete" => &params::COMPLETION,
            "tasks/get" | "tasks/update" | "tasks/cancel" => &params::TASK,
            _ => &params::RESOURCE,
        };
        let parts = match self.parts(params, shape).await {
            Ok(parts) => parts,
            Err(error) => return failure::respond(&error, id),
        };
        let request = call::Request {
            visitor: &visitor,
            stated: &stated,
            method,
            id,
            extra: &message.extra,
            streams: self.at.head.takes_events,
        };
        self.modern_call(request, shape, parts).await
    }

    fn modern_visitor<'a>(&'a self, stated: &'a Stated) -> Visitor<'a> {
        let subject = &self.who.identified.subject;
        Visitor {
            caller: &self.who.identified.caller,
            consumer: &self.who.consumer.name,
            headers: self.at.head.headers(),
            subject,
            client: Client::Stateless {
                subject: Arc::clone(subject),
                profile: Arc::new(stated.digest()),
            },
            profile: Some(&stated.profile),
            era: Era::Modern,
            revision: Revision::LATEST,
            prepared: self.known.as_ref().map(|known| &*known.prepared),
        }
    }
}
