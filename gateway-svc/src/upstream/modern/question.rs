//! What a modern server asks in a result, as requests that a client of an older revision can answer.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    json::{self, Object},
    upstream::error::UpstreamError,
};

/// Questions in one result.
const MOST: usize = 32;
/// What a server may ask its client.
const METHODS: [&str; 3] = ["elicitation/create", "sampling/createMessage", "roots/list"];

/// A question, as a request for the client.
#[derive(Debug)]
pub(in crate::upstream) struct Question {
    pub(in crate::upstream) method: Box<str>,
    /// As JSON; empty if there are none.
    params: Box<str>,
    answered: Mutex<Option<oneshot::Sender<Given>>>,
}

/// What a client has answered: its result, or its error, as JSON.
type Given = Result<Box<str>, Box<str>>;

impl Question {
    /// The request as the client gets it, under this id, which is JSON.
    pub(in crate::upstream) fn with_id(&self, id: &[u8]) -> Bytes {
        let mut out = Vec::from(&b"{\"jsonrpc\":\"2.0\",\"id\":"[..]);
        out.extend_from_slice(id);
        out.extend_from_slice(b",\"method\":");
        json::push_string(&mut out, &self.method);
        if !self.params.is_empty() {
            out.extend_from_slice(b",\"params\":");
            out.extend_from_slice(self.params.as_bytes());
        }
        out.push(b'}');
        out.into()
    }

    /// Takes the client's answer: what follows the id in its message, which begins with a comma. Only the first counts.
    pub(in crate::upstream) fn answer(&self, rest: &[u8]) {
        let sender = self.answered.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Nobody waits for it if the call has ended.
            let _ = sender.send(given(rest));
        }
    }
}

fn given(rest: &[u8]) -> Given {
    const UNREADABLE: &str =
        r#"{"code":-32603,"message":"The client's answer to the server's question cannot be read."}"#;
    let text = [b"{\"id\":0", rest].concat();
    let object = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| Object::parse(text).ok());
    let member = |name| {
        object
            .as_ref()
            .and_then(|object| object.get(name))
            .filter(|text| text.starts_with('{'))
    };
    match (member("result"), member("error")) {
        (Some(result), None) => Ok(result.into()),
        (None, Some(error)) => Err(error.into()),
        _ => Err(UNREADABLE.into()),
    }
}

/// The questions of one result.
#[derive(Debug)]
pub(in crate::upstream) struct Questions {
    /// Those that the client has not got yet.
    unasked: Vec<Question>,
    waiting: Vec<Waiting>,
    /// What the server gets back, as JSON.
    state: Option<Box<str>>,
}

#[derive(Debug)]
struct Waiting {
    key: Box<str>,
    answer: oneshot::Receiver<Given>,
    given: Option<Box<str>>,
}

impl Questions {
    /// Those of a result that is `input_required`.
    pub(super) fn read(result: &Object<'_>) -> Result<Self, UpstreamError> {
        let state = result.get("requestState").filter(|&state| state != "null");
        let requests = result.get("inputRequests").filter(|&requests| requests != "null");
        if state.is_none() && requests.is_none() {
            return Err(UpstreamError::invalid("it requires input and does not say which"));
        }
        let requests = requests.map(Object::parse).transpose()?;
        let mut read = Self {
            unasked: Vec::new(),
            waiting: Vec::new(),
            state: state.map(Into::into),
        };
        for (key, request) in requests.iter().flat_map(Object::iter) {
            if read.waiting.len() == MOST {
                return Err(UpstreamError::invalid(format!(
                    "it asks more than {MOST} questions at once"
                )));
            }
            let (sender, answer) = oneshot::channel();
            read.unasked.push(question(request, sender)?);
            read.waiting.push(Waiting {
                key: key.into(),
                answer,
                given: None,
            });
        }
        // Taken from the end.
        read.unasked.reverse();
        Ok(read)
    }

    /// The next one that the client has not got yet.
    pub(in crate::upstream) fn next(&mut self) -> Option<Question> {
        self.unasked.pop()
    }

    /// Waits for all answers: the members of `params` with which the request is sent again. The inner error, as JSON: the client has answered
    /// with it. Can be dropped and called again.
    pub(super) async fn inputs(&mut self) -> Result<Bytes, Box<str>> {
        const NOBODY: &str = r#"{"code":-32603,"message":"The client did not answer the server's question."}"#;
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.given.is_none()) {
            let given = (&mut waiting.answer).await.unwrap_or_else(|_| Err(NOBODY.into()))?;
            waiting.given = Some(given);
        }
        let mut out = Vec::new();
        if !self.waiting.is_empty() {
            out.extend_from_slice(b"\"inputResponses\":{");
            for (index, Waiting { key, given, .. }) in self.waiting.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json::push_string(&mut out, key);
                out.push(b':');
                out.extend_from_slice(given.as_deref().unwrap_or("{}").as_bytes());
            }
            out.push(b'}');
        }
        if let Some(state) = &self.state {
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(b"\"requestState\":");
            out.extend_from_slice(state.as_bytes());
        }
        Ok(out.into())
    }
}

fn question(request: &str, sender: oneshot::Sender<Given>) -> Result<Question, UpstreamError> {
    let unknown = || UpstreamError::invalid("it asks its client something that no client is asked");
    let request = Object::parse(request)?;
    let method = request.string("method").ok_or_else(unknown)?;
    if !METHODS.contains(&&*method) {
        return Err(unknown());
    }
    let params = request.get("params").unwrap_or_default();
    if !params.is_empty() && !params.starts_with('{') {
        return Err(unknown());
    }
    Ok(Question {
        params: with_elicitation_id(params)?.map_or_else(|| params.into(), String::into_boxed_str),
        method: method.into(),
        answered: Mutex::new(Some(sender)),
    })
}

/// 2025-11-25 requires an id where a user is to open a link, which 2026-07-28 does not have.
fn with_elicitation_id(params: &str) -> Result<Option<String>, UpstreamError> {
    if params.is_empty() {
        return Ok(None);
    }
    let object = Object::parse(params)?;
    let opens_link = object.string("mode").as_deref() == Some("url") && object.get("elicitationId").is_none();
    let id = || service_kit::random::uuid();
    Ok(opens_link.then(|| params.replacen('{', &format!("{{\"elicitationId\":\"{}\",", id()), 1)))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    use super::*;

    fn questions(result: &str) -> Result<Questions, UpstreamError> {
        Questions::read(&Object::parse(result).unwrap())
    }

    #[tokio::test]
    async fn answers_go_back_under_their_keys_with_the_state_as_it_was() {
        let result = r#"{"inputRequests":{"a\n":{"method":"elicitation/create","params":{"message":"m","x":1.0}},"b":{"method":"roots/list"}},"requestState":"s\u0020\/"}"#;
        let mut questions = questions(result).unwrap();
        let [first, second] = [(); 2].map(|()| questions.next().unwrap());
        assert!(questions.next().is_none());
        assert_eq!(
            first.with_id(b"\"i\""),
            r#"{"jsonrpc":"2.0","id":"i","method":"elicitation/create","params":{"message":"m","x":1.0}}"#
        );
        assert_eq!(
            second.with_id(b"1"),
            r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#
        );
        second.answer(br#","result":{"roots":[]},"extra":1}"#);
        first.answer(br#","result":{"action":"accept","n":12345678901234567890}}"#);
        first.answer(br#","result":{"action":"decline"}}"#);
        assert_eq!(
            questions.inputs().await.unwrap(),
            r#""inputResponses":{"a\n":{"action":"accept","n":12345678901234567890},"b":{"roots":[]}},"requestState":"s\u0020\/""#
        );
    }

    #[tokio::test]
    async fn a_client_that_does_not_answer_ends_the_call() {
        let result = r#"{"inputRequests":{"a":{"method":"sampling/createMessage","params":{}}}}"#;
        let code = |error: &str| serde_json::from_str::<Value>(error).unwrap()["code"].clone();
        for (rest, expected) in [
            (
                Some(&br#","error":{"code":-1,"message":"User rejected sampling request"}}"#[..]),
                -1,
            ),
            (Some(br#","result":5}"#), -32603),
            (None, -32603),
        ] {
            let mut questions = questions(result).unwrap();
            let question = questions.next().unwrap();
            if let Some(rest) = rest {
                question.answer(rest);
            }
            drop(question);
            assert_eq!(code(&questions.inputs().await.unwrap_err()), expected);
        }
    }

    #[test]
    fn a_state_alone_is_no_question() {
        assert!(questions(r#"{"requestState":"s"}"#).unwrap().next().is_none());
    }

    #[test]
    fn clients_are_asked_only_what_they_know() {
        for result in [
            "{}".to_owned(),
            r#"{"inputRequests":null}"#.to_owned(),
            r#"{"inputRequests":[]}"#.to_owned(),
            r#"{"inputRequests":{"a":{"method":"tools/call"}}}"#.to_owned(),
            r#"{"inputRequests":{"a":{"params":{}}}}"#.to_owned(),
            r#"{"inputRequests":{"a":{"method":"roots/list","params":[]}}}"#.to_owned(),
            {
                let request = |n: usize| (n.to_string(), json!({"method": "roots/list"}));
                let many: serde_json::Map<_, _> = (0..=MOST).map(request).collect();
                json!({"inputRequests": many}).to_string()
            },
        ] {
            assert!(matches!(questions(&result), Err(UpstreamError::Invalid(_))), "{result}");
        }
    }

    #[test]
    fn a_link_has_the_id_that_older_revisions_require() {
        let result =
            r#"{"inputRequests":{"a":{"method":"elicitation/create","params":{"mode":"url","url":"https://x/"}}}}"#;
        let asked: Value = serde_json::from_slice(&questions(result).unwrap().next().unwrap().with_id(b"1")).unwrap();
        assert_eq!(asked["params"]["url"], "https://x/");
        assert_eq!(asked["params"]["elicitationId"].as_str().unwrap().len(), 36);
    }
}
