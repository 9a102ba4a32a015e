//! What the client gets for a request that goes to a server.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use service_kit::{json_answer::json_response, turns::in_place};

use super::{
    super::{
        Mcp,
        failure::{Failure, URL_ELICITATION_REQUIRED},
        pieces,
        rpc::{INTERNAL_ERROR, RpcError},
        tasks::OwnTasks,
    },
    envelope::complete,
    failure,
    meta::Stated,
    question::{KEY, Question},
    reply::lacking,
    state::{Binding, State},
};
use crate::{
    domain::CallError,
    json::{self, Object},
    upstream::Reply,
};

/// The most links of one error that clients are asked to open.
const MOST_LINKS: usize = 8;

/// A request, as far as its answer depends on it.
pub(super) struct Answering<'a> {
    pub(super) mcp: Arc<Mcp>,
    pub(super) id: Box<str>,
    /// Who is charged for a call that waits.
    pub(super) subject: Arc<str>,
    pub(super) stated: Stated,
    /// Whether it is a tool's: failures are results then.
    pub(super) of_tool: bool,
    /// The tasks of the caller, and whether the answer is one of them.
    pub(super) tasks: OwnTasks,
    pub(super) is_task: bool,
    /// Whether the answer must say how long it may be kept.
    pub(super) kept: bool,
    /// Whether the answer may be that the client must be asked something.
    pub(super) asks: bool,
    /// Whether the client has been asked to open a link.
    pub(super) link_shown: bool,
    pub(super) binding: Binding<'a>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) pieces: Vec<Bytes>,
    status: StatusCode,
}

impl Answer {
    fn whole(message: Bytes) -> Self {
        Self {
            pieces: vec![message],
            status: StatusCode::OK,
        }
    }

    /// As the whole response.
    pub(super) fn respond(self) -> Response {
        let mut response = json_response(self.pieces);
        *response.status_mut() = self.status;
        response
    }
}

impl Answering<'_> {
    /// For what outlasts the request.
    pub(super) async fn outlasting(self) -> Answering<'static> {
        let Self {
            mcp,
            id,
            subject,
            stated,
            of_tool,
            tasks,
            is_task,
            kept,
            asks,
            link_shown,
            binding,
        } = self;
        Answering {
            mcp,
            id,
            subject,
            stated,
            of_tool,
            tasks,
            is_task,
            kept,
            asks,
            link_shown,
            binding: in_place(binding.unread(), || binding.made()).await,
        }
    }

    /// For the reply of the server of this installation.
    pub(super) async fn reply(&self, reply: &Reply, installation: &str) -> Answer {
        let Some(result) = reply.result() else {
            return in_place(self.binding.unread(), || self.error(reply)).await;
        };
        let changes = || {
            let result = Object::parse(std::str::from_utf8(&result).ok()?).ok()?;
            let kind = result.get("resultType");
            if kind == Some("\"input_required\"") {
                let (range, state) = (result.range("requestState")?, result.string("requestState")?);
                let sealed = self.seal(&State::Server(state.into_owned()));
                return Some(vec![(range, json!(sealed).to_string().into())]);
            }
            let mut changes = lacking(&result, self.kept);
            if (self.is_task || kind == Some("\"task\""))
                && let (Some(range), Some(own)) = (result.range("taskId"), result.string("taskId"))
            {
                // One that is too long for an id of ours is no task of anybody's here.
                let id = self.tasks.id(installation, &own).unwrap_or_default();
                changes.insert(0, (range, json!(id).to_string().into()));
                changes.sort_unstable_by_key(|(range, _)| range.start);
            }
            Some(changes)
        };
        let changes = in_place(result.len() + self.binding.unread(), changes)
            .await
            .unwrap_or_default();
        Answer {
            pieces: pieces::changed(reply, &self.id, changes),
            status: StatusCode::OK,
        }
    }

    /// For a call that failed. `declares_output`: the tool has an output schema.
    pub(super) async fn failed(&self, error: &CallError, declares_output: impl FnOnce() -> bool) -> Answer {
        if let CallError::Repair(repair) = error
            && self.shows_links()
        {
            let links = [(repair.install_url.clone(), repair.message.clone())];
            return in_place(self.binding.unread(), || self.open(&links)).await;
        }
        match failure::of(error, self.of_tool, declares_output) {
            Failure::Result(result) => Answer::whole(complete(&self.id, result.into_bytes(), None)),
            Failure::Error(error) => self.rpc(&error),
        }
    }

    /// That the client is to be asked this, and the call waits as this state says.
    pub(super) fn ask(&self, question: Vec<Bytes>, state: &State) -> Answer {
        let mut requests = vec![format!("{{\"{KEY}\":").into()];
        requests.extend(question);
        requests.push(Bytes::from_static(b"}"));
        self.input_required(requests, state)
    }

    /// Whether the client can be asked this now.
    pub(super) fn can_ask(&self, question: &Question) -> bool {
        self.asks && question.is_for(self.stated.profile.capabilities())
    }

    fn error(&self, reply: &Reply) -> Answer {
        let error = reply.error().unwrap_or_default();
        let error = std::str::from_utf8(&error)
            .ok()
            .and_then(|text| Object::parse(text).ok());
        let code = error
            .as_ref()
            .and_then(|error| error.get("code")?.parse::<i64>().ok())
            .unwrap_or(INTERNAL_ERROR);
        let message = || {
            error
                .as_ref()
                .and_then(|error| error.string("message"))
                .unwrap_or_default()
                .into_owned()
        };
        let data = || error.as_ref().and_then(|error| error.get("data"));
        let changed = failure::known(RpcError {
            data: data().map(str::to_owned),
            ..RpcError::new(code, message())
        });
        if code == URL_ELICITATION_REQUIRED {
            return self.links(&message(), &data().map(links).unwrap_or_default());
        }
        if changed.code != code {
            return self.rpc(&changed);
        }
        Answer {
            pieces: reply.with_id(self.id.as_bytes()).into(),
            status: failure::status(code),
        }
    }

    /// For a server's error that says that links must be opened.
    fn links(&self, message: &str, links: &[(String, String)]) -> Answer {
        if self.shows_links() && !links.is_empty() {
            return self.open(links);
        }
        let mut text = message.to_owned();
        for (url, why) in links {
            text += &format!("\n{why} {url}");
        }
        if !self.of_tool {
            return self.rpc(&RpcError::new(INTERNAL_ERROR, text));
        }
        let value = json!({"content": [{"type": "text", "text": text}], "isError": true});
        Answer::whole(complete(&self.id, value.to_string().into_bytes(), None))
    }

    /// Once: a client that repeats the request at once would ask its user without end.
    fn shows_links(&self) -> bool {
        self.asks && self.stated.opens_links && !self.link_shown
    }

    /// That the client is to open these, each with the reason.
    fn open(&self, links: &[(String, String)]) -> Answer {
        let requests: serde_json::Map<_, _> = (1..)
            .zip(links)
            .map(|(number, (url, message))| {
                let params = json!({"mode": "url", "url": url, "message": message});
                (
                    format!("link-{number}"),
                    json!({"method": "elicitation/create", "params": params}),
                )
            })
            .collect();
        let requests = serde_json::Value::from(requests).to_string();
        self.input_required(vec![requests.into()], &State::Link)
    }

    /// `requests` is JSON, in pieces.
    fn input_required(&self, requests: Vec<Bytes>, state: &State) -> Answer {
        let (id, state) = (&self.id, json!(self.seal(state)));
        let begin = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":"#);
        let mut pieces = vec![begin.into()];
        pieces.extend(requests);
        pieces.push(format!(r#","requestState":{state}}}}}"#).into());
        Answer {
            pieces,
            status: StatusCode::OK,
        }
    }

    fn seal(&self, state: &State) -> String {
        self.mcp.states.seal(&self.binding, state, self.mcp.clock.now())
    }

    pub(super) fn rpc(&self, error: &RpcError) -> Answer {
        Answer {
            pieces: vec![error.under(Some(&self.id))],
            status: failure::status(error.code),
        }
    }
}

/// The links in the `data` of the error, each with the reason.
fn links(data: &str) -> Vec<(String, String)> {
    let link = |text: &str| {
        let link = Object::parse(text).ok()?;
        let message = link.string("message").unwrap_or_default();
        Some((link.string("url")?.into_owned(), message.into_owned()))
    };
    let data = Object::parse(data).ok();
    let elicitations = data.as_ref().and_then(|data| data.get("elicitations"));
    let elicitations = elicitations.and_then(|list| json::elements(list, MOST_LINKS).ok());
    elicitations.into_iter().flatten().filter_map(link).collect()
}
