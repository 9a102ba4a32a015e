//! Requests that one server answers.

use std::{borrow::Cow, sync::Arc};

use axum::response::Response;
use service_kit::{cancel::Cancel, turns::in_place};

use super::{
    super::{
        params::{self, Parts, Shape},
        routed::{Routed, Unrouted},
        rpc::{INVALID_PARAMS, RpcError},
        searched::Addressed,
        tasks::UNKNOWN_TASK,
        visit::Visit,
    },
    answering::Answering,
    envelope::{complete, whole},
    failure, headers,
    messages::{Messages, Parked, park},
    meta::{self, Stated},
    question::{KEY, Question},
    state::{Binding, Bound, State},
};
use crate::{
    calls::{Call, Meta, Outcome, To, Visitor},
    json::{self, Object},
};

/// A request to be answered.
pub(super) struct Request<'a> {
    pub(super) visitor: &'a Visitor<'a>,
    pub(super) stated: &'a Stated,
    pub(super) method: &'a str,
    pub(super) id: &'a str,
    pub(super) extra: &'a [(Cow<'a, str>, &'a str)],
    /// Whether the client takes a stream.
    pub(super) streams: bool,
}

const STATE: &str = "requestState";
const RESPONSES: &str = "inputResponses";

impl Visit {
    /// Makes the call, or goes on with one that has waited for what the client sends now.
    pub(super) async fn modern_call(&self, request: Request<'_>, shape: &Shape, mut parts: Parts<'_>) -> Response {
        let (visitor, method, id) = (request.visitor, request.method, request.id);
        let invalid = |what: &str| failure::respond(&RpcError::new(INVALID_PARAMS, what), id);
        let of_tool = method == "tools/call";
        // Nobody is asked for a completion, and a task asks otherwise.
        let is_task = shape.key == params::TASK.key;
        let asks = shape.key != "ref" && !is_task;
        let mut given = (None, None);
        if asks {
            given = (take(&mut parts, STATE), take(&mut parts, RESPONSES));
        }
        let (state, responses) = given;
        let mut name = None;
        if of_tool {
            let tool = match self.addressed(visitor, parts).await {
                Ok(Addressed::Tool(tool)) => tool,
                Ok(Addressed::Answered(result)) => return whole(complete(id, result, None)),
                Err(error) => return failure::respond(&error, id),
            };
            // The arguments of `call_tool` are in no headers.
            if tool.directly {
                let mirrored = self.at.mcp.calls.mirrored(visitor, &tool.name);
                if let Err(error) = headers::check_arguments(visitor.headers, &mirrored, tool.parts.arguments()) {
                    return failure::refuse(&error, id);
                }
            }
            (name, parts) = (Some(tool.name), tool.parts);
        }
        // A call becomes a task because its server decides so.
        take(&mut parts, "task");
        let bound = Bound {
            subject: visitor.subject,
            consumer: visitor.consumer,
            method,
            key: parts.key,
            params: parts.params.clone(),
        };
        let mut answering = Answering {
            mcp: Arc::clone(&self.at.mcp),
            id: id.into(),
            subject: Arc::clone(visitor.subject),
            stated: request.stated.clone(),
            of_tool,
            tasks: self.tasks(),
            is_task,
            kept: method == "resources/read",
            asks,
            link_shown: false,
            binding: Binding::to(bound),
        };
        parts.meta = parts.meta.and_then(without_own);
        let token = parts.meta.as_ref().and_then(|meta| meta.progress_token);
        let own_state;
        if let Some(state) = state {
            let open = || {
                let state = json::unescape(state)?;
                self.at
                    .mcp
                    .states
                    .open(&answering.binding, &state, self.at.mcp.clock.now())
            };
            let opened = in_place(answering.binding.unread(), open).await;
            match opened {
                None => return invalid(NOT_KNOWN),
                Some(State::Parked(place)) => {
                    let parked = self.at.mcp.parking.take(&place);
                    let parked = parked.filter(|parked| match parked.asking.target() {
                        Some(target) => self.still_reaches(target),
                        None => self.reaches(parked.stream.installation()),
                    });
                    let Some(parked) = parked else {
                        return invalid(NOT_KNOWN);
                    };
                    return resume(answering.outlasting().await, *parked, responses, token, request.streams).await;
                }
                Some(State::Link) => answering.link_shown = true,
                Some(State::Server(state)) => {
                    own_state = serde_json::Value::from(state).to_string();
                    parts.params.push((STATE, &own_state));
                    parts.params.extend(responses.map(|responses| (RESPONSES, responses)));
                }
            }
        } else {
            parts.params.extend(responses.map(|responses| (RESPONSES, responses)));
        }
        let (routed, task);
        let to = if let Some(name) = &name {
            To::Tool(name)
        } else if is_task {
            match json::unescape(parts.key).and_then(|task| self.route_task(visitor, &task)) {
                Some(routed) => task = routed,
                None => return invalid(UNKNOWN_TASK),
            }
            To::Source(&task.found.source, Some((shape.key, &task.own)))
        } else {
            match self.route(visitor, method, shape, parts.key).await {
                Ok(Routed { found, own }) => routed = (found, own),
                Err(Unrouted::Invalid(what)) => return invalid(&what),
                Err(Unrouted::Failed(error)) => return answering.failed(&error, || false).await.respond(),
            }
            To::Source(&routed.0.source, Some((shape.key, &routed.1)))
        };
        let call = Call {
            visitor,
            method,
            to,
            params: &parts.params,
            meta: parts.meta,
            extra: request.extra,
            together: None,
            // A client that is not interested any more closes its connection, which drops this.
            cancel: Cancel::default(),
        };
        match self.at.mcp.calls.call(&call).await {
            Ok(Outcome::Whole(reply, by)) => {
                let installation = &by.running.installation.uid;
                answering.reply(&reply, installation).await.respond()
            }
            Ok(Outcome::Stream(stream)) => {
                Messages::new(*stream, answering.outlasting().await, token)
                    .respond(request.streams)
                    .await
            }
            Err(error) => {
                let declares_output = || self.at.mcp.calls.declares_output(&call);
                answering.failed(&error, declares_output).await.respond()
            }
        }
    }
}

const NOT_KNOWN: &str = "params.requestState is not of this request, or the request waits no longer: send it again without requestState and inputResponses";

/// Passes the client's answer on to the server, and goes on with the call.
async fn resume(
    answering: Answering<'static>,
    parked: Parked,
    responses: Option<&str>,
    token: Option<&str>,
    streams: bool,
) -> Response {
    let responses = responses.and_then(|responses| Object::parse(responses).ok());
    let answer = responses.as_ref().and_then(|responses| responses.get(KEY));
    let Some(answer) = answer.filter(|answer| answer.starts_with('{')) else {
        // What is missing is asked for again.
        let asked = Question::of(&parked.asking);
        let asked = asked.and_then(|question| park(&answering, parked, question.into_request()).ok());
        return match asked {
            Some(answer) => answer.respond(),
            None => answering.rpc(&RpcError::new(INVALID_PARAMS, NOT_KNOWN)).respond(),
        };
    };
    if !parked.stream.is_withdrawn() {
        let mut rest = Vec::from(&b",\"result\":"[..]);
        rest.extend_from_slice(answer.as_bytes());
        rest.push(b'}');
        parked.asking.answer(&rest).await;
    }
    Messages::resumed(parked.stream, answering, parked.token, token)
        .respond(streams)
        .await
}

/// Takes a member of `params` out.
fn take<'a>(parts: &mut Parts<'a>, name: &str) -> Option<&'a str> {
    let index = parts.params.iter().position(|(known, _)| *known == name)?;
    Some(parts.params.remove(index).1)
}

/// Without what a request says of its client: servers learn that in the way of their own revision.
fn without_own(meta: Meta<'_>) -> Option<Meta<'_>> {
    let Meta {
        progress_token,
        mut members,
    } = meta;
    members.retain(|(name, _)| !meta::OWN.contains(&&**name));
    (progress_token.is_some() || !members.is_empty()).then_some(Meta {
        progress_token,
        members,
    })
}
