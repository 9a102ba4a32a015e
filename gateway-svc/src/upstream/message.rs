//! JSON-RPC messages from and to upstreams, parsed no deeper than decisions require.

use std::{borrow::Cow, io::Write as _, ops::Range, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    client::Era,
    error::UpstreamError,
    modern::mirrored::Mirrored,
    progress::{Progress, ProgressToken},
    room::{Together, changed},
};
use crate::json::{self, Object};

/// The member of `_meta` that names the task which a message is about (2025-11-25).
pub(crate) const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// No error in a longer message is quoted: the bridge of a self-hosted server masks secrets in messages of up to twice this (`screen/held.rs`), and
/// lets others pass.
const LONGEST_QUOTED: usize = 32 << 10;
const TOO_LONG: &str = "[its error is too long to be quoted]";

/// The method of most requests, which takes no memory.
const TOOLS_CALL: &str = "tools/call";

/// The `params` of a request: a JSON object, or nothing.
pub(crate) trait Params {
    /// How many bytes they are under this id, where nothing in them is escaped; 0: there are none.
    fn len(&self, id: u64) -> usize;

    /// Appends them.
    fn write(&self, id: u64, to: &mut Vec<u8>);
}

impl Params for &[u8] {
    fn len(&self, _: u64) -> usize {
        <[u8]>::len(self)
    }

    fn write(&self, _: u64, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
}

impl<const LENGTH: usize> Params for &[u8; LENGTH] {
    fn len(&self, _: u64) -> usize {
        LENGTH
    }

    fn write(&self, _: u64, to: &mut Vec<u8>) {
        to.extend_from_slice(*self);
    }
}

/// How many digits a number has.
pub(crate) fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or_default() as usize + 1
}

/// A request to an upstream, under an id of the gateway's.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(super) id: u64,
    pub(super) method: Cow<'static, str>,
    pub(super) body: Bytes,
    /// Where `params` are in `body`, or would be.
    params: Range<usize>,
    /// The client's progress token, verbatim, where it requested progress; the upstream gets `id` instead.
    pub(super) progress_token: Option<Bytes>,
    /// Who it is made for; `None`: the gateway itself.
    pub(super) caller: Option<Arc<str>>,
    /// The batch whose answers this one is kept with.
    pub(super) together: Option<Arc<Together>>,
    /// How the client speaks that gets the answer. An answer for the gateway itself is not changed.
    pub(super) era: Era,
    /// Arguments that a modern server gets in headers, too.
    pub(super) mirrored: Option<Arc<[Mirrored]>>,
    /// The members of `params` with what a modern server has asked for.
    pub(super) inputs: Option<Bytes>,
    /// Whether its client is told what the server says beside the answer.
    pub(super) hears: bool,
}

impl Outgoing {
    pub(super) fn new(
        id: u64,
        method: &str,
        params: impl Params,
        extra: &[(Cow<'_, str>, &str)],
        progress_token: Option<Bytes>,
    ) -> Self {
        const BEGINNING: &str = r#"{"jsonrpc":"2.0","id":"#;
        let length = params.len(id);
        let members = [("method", method.len() + 2)].into_iter();
        let members = members.chain((length > 0).then_some(("params", length)));
        let members = members.chain(extra.iter().map(|(name, value)| (&**name, value.len())));
        let members: usize = members.map(|(name, value)| json::member_len(name, value)).sum();
        // As a rule exactly what is written: with room left, it would have another allocation beside it.
        let mut body = Vec::with_capacity(BEGINNING.len() + digits(id) + members + 1);
        body.extend_from_slice(BEGINNING.as_bytes());
        write!(body, "{id}").expect("a Vec takes every byte");
        body.extend_from_slice(b",\"method\":");
        json::push_string(&mut body, method);
        if length > 0 {
            body.extend_from_slice(b",\"params\":");
        }
        let start = body.len();
        params.write(id, &mut body);
        let params = start..body.len();
        json::push_members(&mut body, extra.iter().map(|(name, value)| (&**name, *value)));
        body.push(b'}');
        Self {
            id,
            method: match method {
                TOOLS_CALL => TOOLS_CALL.into(),
                other => other.to_owned().into(),
            },
            body: body.into(),
            params,
            progress_token,
            caller: None,
            together: None,
            era: Era::Modern,
            mirrored: None,
            inputs: None,
            hears: false,
        }
    }

    /// The token under which the server reports progress, if the client has requested it.
    pub(crate) fn progress_token(&self) -> Option<ProgressToken> {
        let (own, shown) = (self.id, self.progress_token.clone()?);
        Some(ProgressToken { own, shown })
    }

    /// Waits for the stream of the session before it is sent.
    pub(crate) fn hearing(self) -> Self {
        Self { hears: true, ..self }
    }

    /// Sets how the client speaks that it is made for, and which arguments a modern server gets in headers, too.
    pub(crate) fn speaking(self, era: Era, mirrored: Option<Arc<[Mirrored]>>) -> Self {
        Self { era, mirrored, ..self }
    }

    /// The same request once more, with what the server has asked for.
    pub(super) fn again(&self, id: u64, inputs: Bytes) -> Self {
        Self {
            id,
            inputs: Some(inputs),
            ..self.clone()
        }
    }

    /// `params`, a JSON object.
    pub(super) fn params(&self) -> &str {
        let params = std::str::from_utf8(&self.body[self.params.clone()]).unwrap_or_default();
        if params.is_empty() { "{}" } else { params }
    }

    /// The text behind `params`: the other members, and the end.
    pub(super) fn behind_params(&self) -> &[u8] {
        &self.body[self.params.end..]
    }

    /// Sets who is charged for the memory of the answer, and the batch whose answers it is kept with, if any.
    pub(crate) fn made_for(self, caller: &Arc<str>, together: Option<&Arc<Together>>) -> Self {
        Self {
            caller: Some(Arc::clone(caller)),
            together: together.cloned(),
            ..self
        }
    }
}

/// The answer to a request, verbatim.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    text: Bytes,
    id: Range<usize>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
}

impl Reply {
    /// The message with another id: the text before it, the id, the text after it. The result is not copied.
    pub(crate) fn with_id(&self, id: &[u8]) -> [Bytes; 3] {
        [
            self.text.slice(..self.id.start),
            Bytes::copy_from_slice(id),
            self.text.slice(self.id.end..),
        ]
    }

    /// The result, verbatim; `None` for an error.
    pub(crate) fn result(&self) -> Option<Bytes> {
        self.result.clone().map(|range| self.text.slice(range))
    }

    /// The JSON-RPC error, verbatim; `None` for a result.
    pub(crate) fn error(&self) -> Option<Bytes> {
        self.error.clone().map(|range| self.text.slice(range))
    }

    /// Whether it is the error of a server that does not know the method.
    pub(crate) fn is_unknown_method(&self) -> bool {
        self.code() == Some(-32601)
    }

    /// The code of the error; `None` for a result.
    pub(super) fn code(&self) -> Option<i64> {
        let error = self.error()?;
        let error = Object::parse(std::str::from_utf8(&error).ok()?).ok()?;
        error.get("code")?.parse().ok()
    }

    /// An answer with this result, a JSON object.
    pub(crate) fn of_result(result: &str) -> Self {
        const HEAD: &str = r#"{"id":0,"jsonrpc":"2.0","result":"#;
        Self {
            text: format!("{HEAD}{result}}}").into(),
            id: 6..7,
            result: Some(HEAD.len()..HEAD.len() + result.len()),
            error: None,
        }
    }

    /// An answer with this error, a JSON object.
    pub(crate) fn of_error(error: &str) -> Self {
        const HEAD: &str = r#"{"id":0,"jsonrpc":"2.0","error":"#;
        Self {
            text: format!("{HEAD}{error}}}").into(),
            id: 6..7,
            result: None,
            error: Some(HEAD.len()..HEAD.len() + error.len()),
        }
    }

    /// The same with another result. What is held for a long one is held until this is dropped.
    pub(crate) fn with_result(&self, result: &[u8]) -> Self {
        let Some(old) = self.result.clone() else {
            return self.clone();
        };
        let text = [&self.text[..old.start], result, &self.text[old.end..]].concat();
        let id = if self.id.start > old.end {
            text.len() - (self.text.len() - self.id.start)..text.len() - (self.text.len() - self.id.end)
        } else {
            self.id.clone()
        };
        Self {
            text: changed(text, &self.text),
            id,
            result: Some(old.start..old.start + result.len()),
            error: None,
        }
    }

    /// What the error says, for people; `None` for a result.
    pub(crate) fn refusal(&self) -> Option<String> {
        let error = self.error()?;
        if self.text.len() > LONGEST_QUOTED {
            return Some(TOO_LONG.to_owned());
        }
        let error = Object::parse(std::str::from_utf8(&error).ok()?).ok()?;
        Some(error.string("message")?.into_owned())
    }
}

/// A request of a server's own, verbatim.
#[derive(Debug)]
pub(super) struct ServerRequest {
    pub(super) method: Box<str>,
    text: Bytes,
    id: Range<usize>,
    /// Where the token is under which it is told of progress.
    progress_token: Option<Range<usize>>,
    /// Where the id of the task is that it is about.
    task: Option<Range<usize>>,
}

impl ServerRequest {
    /// The message, verbatim.
    pub(super) fn text(&self) -> Bytes {
        self.text.clone()
    }

    /// Its id, verbatim.
    pub(super) fn id(&self) -> Bytes {
        self.text.slice(self.id.clone())
    }

    /// The token under which it is told of progress, verbatim.
    pub(super) fn progress_token(&self) -> Option<Bytes> {
        self.progress_token.clone().map(|range| self.text.slice(range))
    }

    /// The id of the task that it is about, if it is about one.
    pub(super) fn task(&self) -> Option<Cow<'_, str>> {
        json::unescape(std::str::from_utf8(&self.text[self.task.clone()?]).ok()?)
    }

    /// The message with another id, and with this as the progress token, if it has one. `task`: the id of its task, as JSON, in place of the server's.
    pub(super) fn with_id(&self, id: &[u8], task: Option<&[u8]>) -> Bytes {
        let mut changes = vec![(self.id.clone(), id)];
        changes.extend(self.progress_token.clone().map(|place| (place, id)));
        changes.extend(self.task.clone().zip(task));
        changes.sort_unstable_by_key(|(place, _)| place.start);
        let mut out = BytesMut::with_capacity(self.text.len() + 2 * id.len() + task.map_or(0, <[u8]>::len));
        let mut copied = 0;
        for (place, with) in changes {
            out.put_slice(&self.text[copied..place.start]);
            out.put_slice(with);
            copied = place.end;
        }
        out.put_slice(&self.text[copied..]);
        out.freeze()
    }
}

/// What a server lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum List {
    Tools,
    Prompts,
    /// Resources and their templates.
    Resources,
}

impl List {
    /// The notification that it has changed.
    pub(crate) const fn changed(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Tools => br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            Self::Prompts => br#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#,
            Self::Resources => br#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#,
        })
    }
}

/// What an upstream says.
#[derive(Debug)]
pub(super) enum Message {
    /// The answer.
    Reply(Reply),
    /// A request of its own.
    Request(ServerRequest),
    /// For the client: a notification, ready to be passed on.
    Notification(Bytes),
    /// The progress of another request.
    Progress(Progress),
    /// A list of its has changed.
    ListChanged(List),
    /// It withdraws a request of its own, which has this id, verbatim; the notification, and where the id is in it.
    Withdrawn { text: Bytes, id: Range<usize> },
    /// Ignored.
    Nothing,
}

impl Message {
    /// Parses a message that is an answer to `request`. `refused`: the HTTP status was an error, and the answer may have no id.
    pub(super) fn parse(text: Bytes, request: &Outgoing, refused: bool) -> Result<Self, UpstreamError> {
        let decoded = simdutf8::basic::from_utf8(&text).map_err(|_| UpstreamError::invalid("it is not UTF-8"))?;
        let object = Object::parse(decoded)?;
        if object.get("jsonrpc") != Some("\"2.0\"") {
            return Err(UpstreamError::invalid("it is not a JSON-RPC 2.0 message"));
        }
        // The message is passed on as it is: clients must not read it differently than the gateway.
        if object.lookalike(&json::RPC_MEMBERS).is_some() {
            return Err(UpstreamError::invalid("a member can be mistaken for one of JSON-RPC"));
        }
        if let Some(method) = object.get("method") {
            let method = json::unescape(method).ok_or_else(|| UpstreamError::invalid("its method is not a string"))?;
            if let Some(id) = object.range("id") {
                let params = object.range("params");
                let meta = params.and_then(|params| json::place(decoded, params, &["_meta"]));
                let in_meta = |names: &[&str]| json::place(decoded, meta.clone()?, names);
                return Ok(Self::Request(ServerRequest {
                    method: method.into_owned().into(),
                    progress_token: in_meta(&["progressToken"]),
                    task: in_meta(&[RELATED_TASK, "taskId"]),
                    id,
                    text: text.clone(),
                }));
            }
            return Ok(Self::notification(
                &method,
                object.range("params"),
                decoded,
                &text,
                request,
            ));
        }
        let id = object
            .range("id")
            .ok_or_else(|| UpstreamError::invalid("its answer has no id"))?;
        let ours = decoded[id.clone()].parse() == Ok(request.id);
        if !(ours || refused && &decoded[id.clone()] == "null") {
            return Err(UpstreamError::invalid("its answer has another id than the request"));
        }
        let (result, error) = (object.range("result"), object.range("error"));
        let whole = match (&result, &error) {
            (Some(result), None) => decoded[result.clone()].starts_with('{'),
            (None, Some(error)) => is_error(&decoded[error.clone()]),
            _ => false,
        };
        if !whole {
            return Err(UpstreamError::invalid("its answer has neither a result nor an error"));
        }
        Ok(Self::Reply(Reply {
            id,
            result,
            error,
            text,
        }))
    }

    fn notification(
        method: &str,
        params: Option<Range<usize>>,
        decoded: &str,
        text: &Bytes,
        request: &Outgoing,
    ) -> Self {
        match method {
            "notifications/progress" => {
                let Some(progress) = params.and_then(|params| Progress::of(&text.slice(params))) else {
                    return Self::Nothing;
                };
                let own = request.progress_token().and_then(|token| progress.under(&token));
                own.map_or(Self::Progress(progress), Self::Notification)
            }
            "notifications/tools/list_changed" => Self::ListChanged(List::Tools),
            "notifications/prompts/list_changed" => Self::ListChanged(List::Prompts),
            "notifications/resources/list_changed" => Self::ListChanged(List::Resources),
            "notifications/cancelled" => match params.and_then(|params| json::place(decoded, params, &["requestId"])) {
                Some(id) => Self::Withdrawn { text: text.clone(), id },
                None => Self::Nothing,
            },
            // Clients say this, not servers.
            "notifications/roots/list_changed" | "notifications/initialized" => Self::Nothing,
            _ => Self::Notification(text.clone()),
        }
    }
}

/// A JSON-RPC error: an integer code and a message.
fn is_error(text: &str) -> bool {
    Object::parse(text).is_ok_and(|error| {
        error.get("code").is_some_and(|code| code.parse::<i64>().is_ok()) && error.string("message").is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Outgoing {
        Outgoing::new(7, "tools/call", b"{}", &[], Some(Bytes::from_static(b"\"mine\"")))
    }

    fn parse(text: &str) -> Result<Message, UpstreamError> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), &request(), false)
    }

    #[test]
    fn an_answer_keeps_all_but_its_id() {
        let text = r#"{"result":{"content":[],"_meta":{"n":12345678901234567890},"x":1.0},"jsonrpc":"2.0","id":7,"extra":true}"#;
        let Message::Reply(reply) = parse(text).unwrap() else {
            panic!()
        };
        let whole: Vec<u8> = reply.with_id(b"\"c-1\"").concat();
        assert_eq!(whole, text.replace("\"id\":7", "\"id\":\"c-1\"").as_bytes());
        assert_eq!(
            reply.result().unwrap(),
            r#"{"content":[],"_meta":{"n":12345678901234567890},"x":1.0}"#
        );
    }

    #[test]
    fn an_answer_to_something_else_is_refused() {
        for text in [
            r#"{"jsonrpc":"2.0","id":8,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"7","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7.0,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":[]}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":""}}"#,
            "[]",
            "<html>",
            r#"{"jsonrpc":"2.0","id":7,"id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{},"Result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{},"re\u017fult":{}}"#,
        ] {
            assert!(matches!(parse(text), Err(UpstreamError::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn progress_reaches_only_who_asked() {
        let progress = |token: &str| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":0.5,"progressToken":{token},"x":1}}}}"#
            );
            parse(&text).unwrap()
        };
        let Message::Notification(message) = progress("7") else {
            panic!()
        };
        assert_eq!(
            message,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":0.5,"progressToken":"mine","x":1}}"#
        );
        assert!(matches!(progress("6"), Message::Progress(_)));
        assert!(matches!(progress("\"7\""), Message::Nothing));
    }
}
