//! An answer of a modern server, for a client that speaks an older revision.

use super::question::Questions;
use crate::{
    json::{self, JsonError, Object},
    upstream::{error::UpstreamError, message::Reply},
};

/// Members of results that older revisions do not have.
const OF_RESULTS: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
/// Longer answers keep those members, which clients ignore: without them, they would be in memory twice.
const LONGEST_COPIED: usize = crate::upstream::room::FREE;

/// What an answer is.
#[derive(Debug)]
pub(in crate::upstream) enum Judged {
    /// Ready to be passed on.
    Complete(Reply),
    /// The server asks the client first.
    Asks(Questions),
}

/// Reads an answer.
pub(in crate::upstream) fn judge(reply: Reply) -> Result<Judged, UpstreamError> {
    let Some(result) = reply.result() else {
        return Ok(Judged::Complete(reply));
    };
    let text = std::str::from_utf8(&result).map_err(|_| UpstreamError::invalid("it is not UTF-8"))?;
    let object = Object::parse(text)?;
    match object.string("resultType").as_deref() {
        Some("input_required") => return Questions::read(&object).map(Judged::Asks),
        Some("task") => return Err(UpstreamError::invalid("it makes a task for a client that takes none")),
        _ => {}
    }
    let newer = OF_RESULTS.iter().any(|name| object.get(name).is_some());
    Ok(Judged::Complete(if newer && text.len() <= LONGEST_COPIED {
        reply.with_result(&older(&object))
    } else {
        reply
    }))
}

/// The result without what older revisions do not have.
fn older(result: &Object<'_>) -> Vec<u8> {
    json::object(result.iter().filter(|(name, _)| !OF_RESULTS.contains(name)))
}

/// Whether a refusal of `server/discover`, or of a request in a session, is one that only modern servers give.
pub(in crate::upstream) fn is_modern_refusal(reply: &Reply) -> bool {
    // A header that does not match the body, a capability that the client lacks, a revision that is not supported.
    matches!(reply.code(), Some(-32022..=-32020))
}

/// Whether a server that refuses a revision supports this one.
pub(super) fn supports(reply: &Reply, revision: &str) -> Result<bool, JsonError> {
    let error = reply.error().unwrap_or_default();
    let error = Object::parse(std::str::from_utf8(&error).unwrap_or_default())?;
    let data = error.get("data").map(Object::parse).transpose()?;
    data.map_or(Ok(false), |data| names(data.get("supported"), revision))
}

/// Whether a list, which is JSON, names this revision.
pub(super) fn names(list: Option<&str>, revision: &str) -> Result<bool, JsonError> {
    const MOST: usize = 100;
    let Some(list) = list else { return Ok(false) };
    let named = json::elements(list, MOST)?;
    Ok(named
        .into_iter()
        .any(|named| json::unescape(named).as_deref() == Some(revision)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::upstream::message::{Message, Outgoing};

    fn reply(text: &str) -> Reply {
        let request = Outgoing::new(7, "tools/call", b"{}", &[], None);
        match Message::parse(Bytes::copy_from_slice(text.as_bytes()), &request, false).unwrap() {
            Message::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Clients of 2025-11-25 ask for tasks otherwise.
    #[test]
    fn older_clients_get_no_task() {
        let made = reply(r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"task","taskId":"t"}}"#);
        assert!(matches!(judge(made), Err(UpstreamError::Invalid(_))));
    }

    #[test]
    fn older_clients_get_what_they_know() {
        for (text, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[{ "x" : 1.0 }],"ttlMs":5,"cacheScope":"public","new":2},"extra":1}"#,
                r#"{"jsonrpc":"2.0","id":"c","result":{"content":[{ "x" : 1.0 }],"new":2},"extra":1}"#,
            ),
            (
                r#"{"result":{"resultType":"complete"},"jsonrpc":"2.0","id":7}"#,
                r#"{"result":{},"jsonrpc":"2.0","id":"c"}"#,
            ),
            (
                r#"{"result":{ "content":[] },"jsonrpc":"2.0","id":7}"#,
                r#"{"result":{ "content":[] },"jsonrpc":"2.0","id":"c"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32021,"message":"m","data":{"requiredCapabilities":{}}}}"#,
                r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32021,"message":"m","data":{"requiredCapabilities":{}}}}"#,
            ),
        ] {
            let Ok(Judged::Complete(passed)) = judge(reply(text)) else {
                panic!("{text}")
            };
            assert_eq!(passed.with_id(b"\"c\"").concat(), expected.as_bytes());
        }
    }
}
