//! Answers one message of a session.

use std::sync::Arc;

use bytes::Bytes;
use service_kit::turns::in_place;

use super::{
    call::{self, Answer},
    failure,
    lists::Failed,
    params::{self, Parts, Shape},
    routed::{Routed, Unrouted},
    rpc::{self, INVALID_PARAMS, INVALID_REQUEST, Kind, METHOD_NOT_FOUND, Message, RpcError},
    searched::{Addressed, Named},
    session::Session,
    tasks::{NotListed, RoutedTask, UNKNOWN_TASK},
    visit::Visit,
};
use crate::{
    calls::{ListKind, To, Visitor},
    domain::CallError,
    json::{self, Object},
    upstream::{Asking, Era, Together},
};

/// The levels of log messages, as JSON (RFC 5424), from the least severe.
pub(super) const LEVELS: [&str; 8] = [
    "\"debug\"",
    "\"info\"",
    "\"notice\"",
    "\"warning\"",
    "\"error\"",
    "\"critical\"",
    "\"alert\"",
    "\"emergency\"",
];

impl Visit {
    /// Answers a message of a session.
    pub(super) async fn answer(
        &self,
        session: &Session,
        message: &Message<'_>,
        together: Option<&Arc<Together>>,
    ) -> Answer {
        let visitor = self.visitor(session);
        match &message.kind {
            Kind::Request { id, method } => self.request(session, &visitor, id, method, message, together).await,
            Kind::Notification { method } => {
                Box::pin(self.notified(session, &visitor, method, message)).await;
                Answer::Nothing
            }
            Kind::Response { id, outcome } => {
                let asked = self.at.mcp.asked.take(session.id, id);
                let reached = |asking: &Arc<Asking>| asking.target().is_none_or(|target| self.still_reaches(target));
                if let Some(asking) = asked.filter(reached) {
                    let (member, value) = *outcome;
                    let returned = (asking.task())
                        .and_then(|(installation, own)| self.tasks().returned(value, installation, &own));
                    let outcome = (member, returned.as_deref().unwrap_or(value));
                    let mut rest = json::members(std::iter::once(outcome).chain(message.extra()));
                    rest.push(b'}');
                    Box::pin(asking.answer(&rest)).await;
                }
                Answer::Nothing
            }
        }
    }

    fn visitor<'a>(&'a self, session: &'a Session) -> Visitor<'a> {
        Visitor {
            caller: &self.who.identified.caller,
            consumer: &self.who.consumer.name,
            headers: self.at.head.headers(),
            subject: &self.who.identified.subject,
            client: session.client(),
            profile: Some(&session.profile),
            era: Era::Legacy,
            revision: session.revision,
            prepared: self.known.as_ref().map(|known| &*known.prepared),
        }
    }

    async fn request(
        &self,
        session: &Session,
        visitor: &Visitor<'_>,
        id: &str,
        method: &str,
        message: &Message<'_>,
        together: Option<&Arc<Together>>,
    ) -> Answer {
        let request = call::Request {
            visitor,
            method,
            came: self.came,
            together,
            session,
            id,
            visit: self,
            extra: &message.extra,
        };
        let params = message.params.as_ref();
        match method {
            "tools/call" => self.tool(request, params).await,
            // Each call would take the memory that any of these does.
            _ => Box::pin(self.other(request, params)).await,
        }
    }

    async fn tool(&self, request: call::Request<'_>, params: Option<&Object<'_>>) -> Answer {
        let id = request.id;
        let parts = match self.parts(params, &params::TOOL).await {
            Ok(parts) => parts,
            Err(error) => return Answer::whole(error.under(Some(id))),
        };
        match self.addressed(request.visitor, parts).await {
            Ok(Addressed::Tool(Named { name, parts, .. })) => call::call(request, To::Tool(&name), parts).await,
            Ok(Addressed::Answered(result)) => Answer::whole(rpc::result(id, &result)),
            Err(error) => Answer::whole(error.under(Some(id))),
        }
    }

    /// A request that calls no tool.
    async fn other(&self, request: call::Request<'_>, params: Option<&Object<'_>>) -> Answer {
        let call::Request {
            visitor,
            session,
            id,
            method,
            ..
        } = request;
        let list = async |kind| match self.page(visitor, kind, params).await {
            Ok(page) => Answer::whole(rpc::result(id, &page)),
            Err(Failed::Cursor(error)) => Answer::whole(error.under(Some(id))),
            Err(Failed::Call(error)) => failed(&error, id, session),
        };
        match method {
            "prompts/get"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "completion/complete" => {
                let shape = match method {
                    "prompts/get" => &params::PROMPT,
                    "completion/complete" => &params::COMPLETION,
                    _ => &params::RESOURCE,
                };
                match self.parts(params, shape).await {
                    Ok(parts) => self.routed(request, shape, parts).await,
                    Err(error) => Answer::whole(error.under(Some(id))),
                }
            }
            "prompts/list" => list(ListKind::Prompts).await,
            "resources/list" => list(ListKind::Resources).await,
            "resources/templates/list" => list(ListKind::Templates).await,
            "tools/list" => Answer::whole(match self.list(visitor, params).await {
                Ok(page) => rpc::result(id, &page),
                Err(error) => error.under(Some(id)),
            }),
            "logging/setLevel" => match params.and_then(|params| params.get("level")) {
                Some(level) if LEVELS.contains(&level) => {
                    self.at.mcp.calls.set_level(visitor, level).await;
                    Answer::whole(rpc::result(id, b"{}"))
                }
                _ => invalid(
                    id,
                    "params.level must be one of debug, info, notice, warning, error, critical, alert, emergency",
                ),
            },
            "tasks/list" if session.has_tasks() => match self.list_tasks(session, visitor, params).await {
                Ok(page) => Answer::whole(rpc::result(id, &page)),
                Err(NotListed::Cursor(error)) => Answer::whole(error.under(Some(id))),
                Err(NotListed::Call(error)) => failed(&error, id, session),
            },
            "tasks/get" | "tasks/result" | "tasks/cancel" if session.has_tasks() => {
                match self.parts(params, &params::TASK).await {
                    Ok(parts) => match json::unescape(parts.key).and_then(|task| self.route_task(visitor, &task)) {
                        Some(RoutedTask { found, own }) => {
                            let to = To::Source(&found.source, Some((params::TASK.key, &own)));
                            call::call(request, to, parts).await
                        }
                        None => invalid(id, UNKNOWN_TASK),
                    },
                    Err(error) => Answer::whole(error.under(Some(id))),
                }
            }
            "ping" => Answer::whole(rpc::result(id, b"{}")),
            "initialize" => Answer::whole(RpcError::new(INVALID_REQUEST, "initialize stands alone").under(Some(id))),
            _ => Answer::whole(RpcError::new(METHOD_NOT_FOUND, format!("Method not found: {method}")).under(Some(id))),
        }
    }

    pub(super) async fn parts<'a>(&self, params: Option<&'a Object<'a>>, shape: &Shape) -> Result<Parts<'a>, RpcError> {
        let length = params.map_or(0, Object::len);
        let _own_turn = self.at.mcp.turns.take(length, &self.who.identified.subject).await;
        in_place(length, || params::parts(params, shape)).await
    }

    /// A request that goes to the server of a prompt or a resource.
    async fn routed(&self, request: call::Request<'_>, shape: &Shape, parts: Parts<'_>) -> Answer {
        let id = request.id;
        match self.route(request.visitor, request.method, shape, parts.key).await {
            Ok(Routed { found, own }) => {
                let to = To::Source(&found.source, Some((shape.key, &own)));
                call::call(request, to, parts).await
            }
            Err(Unrouted::Invalid(what)) => invalid(id, &what),
            Err(Unrouted::Failed(error)) => failed(&error, id, request.session),
        }
    }

    async fn notified(&self, session: &Session, visitor: &Visitor<'_>, method: &str, message: &Message<'_>) {
        let params = message.params.as_ref();
        let param = |name| params.and_then(|params| params.get(name));
        match method {
            "notifications/cancelled" => {
                if let Some(id) = param("requestId") {
                    self.at.mcp.in_flight.cancel(session.id, id);
                }
            }
            "notifications/progress" => {
                let asking = param("progressToken").and_then(|token| self.at.mcp.asked.find(session.id, token));
                if let (Some(asking), Some(params)) = (asking, params) {
                    let others = params.iter().filter(|(name, _)| *name != "progressToken");
                    asking.progress(&json::members(others)).await;
                }
            }
            // Each server has its own. Whose task a client tells of is not known here, and no other server may learn of it.
            "notifications/initialized" | "notifications/tasks/status" => {}
            _ => {
                self.at
                    .mcp
                    .calls
                    .tell_all(visitor, &notification(method, message))
                    .await
            }
        }
    }
}

fn failed(error: &CallError, id: &str, session: &Session) -> Answer {
    failure::answer(error, id, session.takes_links(), false, || false).map_or(Answer::Nothing, Answer::whole)
}

fn invalid(id: &str, what: &str) -> Answer {
    Answer::whole(RpcError::new(INVALID_PARAMS, what).under(Some(id)))
}

/// A client's notification, as servers get it.
fn notification(method: &str, message: &Message<'_>) -> Bytes {
    let mut out = Vec::from(&b"{\"jsonrpc\":\"2.0\",\"method\":"[..]);
    json::push_string(&mut out, method);
    let params = message.params.as_ref().map(|params| ("params", params.text()));
    json::push_members(&mut out, params.into_iter().chain(message.extra()));
    out.push(b'}');
    out.into()
}
