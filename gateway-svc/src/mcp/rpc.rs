//! JSON-RPC messages from and to clients.

use std::borrow::Cow;

use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::StatusCode;
use service_kit::json_answer;

use crate::{
    domain::CallError,
    json::{self, JsonError, Object, RPC_MEMBERS},
};

pub(super) const PARSE_ERROR: i64 = -32700;
pub(super) const INVALID_REQUEST: i64 = -32600;
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
pub(super) const INVALID_PARAMS: i64 = -32602;
pub(super) const INTERNAL_ERROR: i64 = -32603;
/// What servers of these revisions answer where the transport, not the message, is at fault.
pub(super) const TRANSPORT_ERROR: i64 = -32000;
/// An ended or foreign session, as servers of these revisions say it.
pub(super) const SESSION_NOT_FOUND: i64 = -32001;

/// A request id is kept and repeated; no legitimate one is longer.
const MAX_ID: usize = 1024;

/// A message of a client, with its parts as they are in the text.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind<'a>,
    /// `params`, parsed one level deep; empty where there are none.
    pub(super) params: Option<Object<'a>>,
    /// Members besides those of JSON-RPC, which no reader takes for one of those.
    pub(super) extra: Vec<(Cow<'a, str>, &'a str)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Request {
        id: &'a str,
        method: Cow<'a, str>,
    },
    Notification {
        method: Cow<'a, str>,
    },
    /// An answer to a request of a server's, with the name and value of the member that has it: `result` or `error`.
    Response {
        id: &'a str,
        outcome: (&'static str, &'a str),
    },
}

/// A JSON-RPC error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    /// JSON, where there is more to say.
    pub(super) data: Option<String>,
}

/// A message that is not valid, and the id to answer under, if it has one.
#[derive(Debug)]
pub(super) struct Malformed<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) error: RpcError,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// That a list cannot be made now.
    #[expect(clippy::needless_pass_by_value, reason = "it is what errors are converted with")]
    pub(super) fn not_listed(error: CallError) -> Self {
        Self::new(INTERNAL_ERROR, error.to_string())
    }

    /// The message, under this id.
    pub(super) fn under(&self, id: Option<&str>) -> Bytes {
        let mut out = Vec::with_capacity(self.message.len() + 96);
        out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
        out.extend_from_slice(id.unwrap_or("null").as_bytes());
        out.extend_from_slice(b",\"error\":{\"code\":");
        out.extend_from_slice(self.code.to_string().as_bytes());
        out.extend_from_slice(b",\"message\":");
        json::push_string(&mut out, &self.message);
        if let Some(data) = &self.data {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data.as_bytes());
        }
        out.extend_from_slice(b"}}");
        out.into()
    }

    /// A response of this status.
    pub(super) fn respond(&self, status: StatusCode, id: Option<&str>) -> Response {
        let mut response = json_response(self.under(id));
        *response.status_mut() = status;
        response
    }
}

impl<'a> Message<'a> {
    /// The members besides those of JSON-RPC.
    pub(super) fn extra(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.extra.iter().map(|(name, value)| (&**name, *value))
    }

    /// Parses one message. One that parsers could read differently is an error.
    pub(super) fn parse(text: &'a str) -> Result<Self, Malformed<'a>> {
        let malformed = |id, error| {
            let code = match error {
                JsonError::Syntax(_) => PARSE_ERROR,
                _ => INVALID_REQUEST,
            };
            Malformed {
                id,
                error: RpcError::new(code, format!("the message is not valid: {error}")),
            }
        };
        let object = match Object::parse_alike(text) {
            Ok(object) => object,
            // The client learns what is first wrong with the message as such, and gets its id as far as it has one.
            Err(_) => {
                let object = Object::parse(text).map_err(|error| malformed(None, error))?;
                let id = object.get("id").filter(|id| is_id(id));
                json::check(text).map_err(|error| malformed(id, error))?;
                object
            }
        };
        let id = object.get("id");
        let usable = id.filter(|id| is_id(id));
        let invalid = |what: &str| Malformed {
            id: usable,
            error: RpcError::new(INVALID_REQUEST, what),
        };
        if object.get("jsonrpc") != Some("\"2.0\"") {
            return Err(invalid("jsonrpc must be \"2.0\""));
        }
        if let Some(name) = object.lookalike(&RPC_MEMBERS) {
            // A lenient server would read it as that member, whose value is not checked here.
            return Err(invalid(&format!(
                "the member {name:?} can be mistaken for one of JSON-RPC"
            )));
        }
        let params = match object.get("params") {
            None => None,
            Some(params) => Some(Object::parse(params).map_err(|error| Malformed {
                id: usable,
                error: RpcError::new(INVALID_PARAMS, format!("params is not valid: {error}")),
            })?),
        };
        let kind = match (object.get("method"), id) {
            (Some(method), id) => {
                let method = json::unescape(method).ok_or_else(|| invalid("method must be a string"))?;
                match id {
                    None => Kind::Notification { method },
                    Some(_) => Kind::Request {
                        id: usable.ok_or_else(|| invalid("id must be a string or an integer"))?,
                        method,
                    },
                }
            }
            (None, Some(_)) => match (usable, object.get("result"), object.get("error")) {
                (Some(id), Some(result), None) => Kind::Response {
                    id,
                    outcome: ("result", result),
                },
                (Some(id), None, Some(error)) => Kind::Response {
                    id,
                    outcome: ("error", error),
                },
                _ => return Err(invalid("it is neither a request, a notification nor a response")),
            },
            (None, None) => return Err(invalid("it is neither a request, a notification nor a response")),
        };
        let extra = object
            .into_members()
            .filter(|(name, _)| !RPC_MEMBERS.contains(&&**name))
            .collect();
        Ok(Self { kind, params, extra })
    }
}

/// A string or an integer, as MCP requires of ids.
pub(super) fn is_id(id: &str) -> bool {
    id.len() <= MAX_ID && (id.starts_with('"') || id.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}

/// A result under an id; `result` is a JSON object.
pub(super) fn result(id: &str, result: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(result.len() + id.len() + 40);
    out.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.put_slice(id.as_bytes());
    out.put_slice(b",\"result\":");
    out.put_slice(result);
    out.put_u8(b'}');
    out.freeze()
}

/// 200 with a message.
pub(super) fn json_response(message: Bytes) -> Response {
    json_answer::json_response([message])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_kinds_apart() {
        let kind = |text| Message::parse(text).map(|message| message.kind);
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#).unwrap(),
            Kind::Request {
                id: "\"a\"",
                method: "ping".into()
            }
        );
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#).unwrap(),
            Kind::Notification {
                method: "notifications/x".into()
            }
        );
        for (member, value) in [("result", "{}"), ("error", r#"{"code":1,"message":"m"}"#)] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":"a","{member}":{value}}}"#);
            assert_eq!(
                Message::parse(&text).unwrap().kind,
                Kind::Response {
                    id: "\"a\"",
                    outcome: (member, value)
                }
            );
        }
        let message =
            Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1},"later":[1.0]}"#).unwrap();
        assert_eq!(message.extra, [("later".into(), "[1.0]")]);
        assert_eq!(message.params.unwrap().get("x"), Some("1"));
    }

    #[test]
    fn refuses_what_is_no_message() {
        for (text, code, id) in [
            ("{", PARSE_ERROR, None),
            ("5", INVALID_REQUEST, None),
            (r#"{"id":1,"method":"a"}"#, INVALID_REQUEST, Some("1")),
            (r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, INVALID_REQUEST, None),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#, INVALID_REQUEST, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, INVALID_REQUEST, Some("1")),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}"#,
                INVALID_REQUEST,
                Some("1"),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","param\u017f":{}}"#,
                INVALID_REQUEST,
                Some("1"),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":[{"y":1,"y":2}]}}"#,
                INVALID_REQUEST,
                Some("1"),
            ),
            ("\u{feff}{}", PARSE_ERROR, None),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}"#,
                INVALID_PARAMS,
                Some("1"),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#, INVALID_REQUEST, None),
            (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST, Some("1")),
        ] {
            let refused = Message::parse(text).unwrap_err();
            assert_eq!((refused.error.code, refused.id), (code, id), "{text}");
        }
    }

    #[test]
    fn errors_are_json_whatever_they_say() {
        let error = RpcError {
            data: Some("{\"a\":1}".to_owned()),
            ..RpcError::new(-1, "say \"x\"\n")
        };
        assert_eq!(
            error.under(None),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"say \"x\"\n","data":{"a":1}}}"#
        );
    }
}
