//! A call as a client makes it, and the request that the upstream gets for it.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use crate::{
    json,
    upstream::{self, Outgoing, Revision, Together, Upstreams},
};

/// A call as a client makes it.
pub(crate) struct ToolCall<'a> {
    /// The name the client knows.
    pub(crate) exposed_name: &'a str,
    /// The other members of `params`, verbatim.
    pub(crate) params: &'a [(&'a str, &'a str)],
    /// The client's `progressToken` and the other members of `_meta`.
    pub(crate) meta: Option<Meta<'a>>,
    /// Members of the message besides those of JSON-RPC.
    pub(crate) extra: &'a [(Cow<'a, str>, &'a str)],
    /// Of the client's request.
    pub(crate) headers: &'a HeaderMap,
    /// Who is charged for the memory of the answer: a person or a team.
    pub(crate) subject: &'a Arc<str>,
    /// The batch that the call belongs to, whose answers are kept until all have arrived.
    pub(crate) together: Option<&'a Arc<Together>>,
    /// Which client this is to servers with a session for each: the client's MCP session, or a caller without one.
    pub(crate) client: upstream::Client,
    /// The revision of the client's session.
    pub(crate) revision: Revision,
    /// Cancels the call.
    pub(crate) cancel: CancellationToken,
}

/// `_meta` of a request, apart from the progress token.
pub(crate) struct Meta<'a> {
    /// `progressToken`, verbatim.
    pub(crate) progress_token: Option<&'a str>,
    /// The other members, verbatim.
    pub(crate) members: Vec<(Cow<'a, str>, &'a str)>,
}

impl ToolCall<'_> {
    /// The request for the upstream, which knows the tool by this name.
    pub(super) fn outgoing(&self, upstreams: &Upstreams, tool: &str) -> Outgoing {
        let params = |token: Option<u64>| params(self, tool, token);
        let request = match self.meta.as_ref().and_then(|meta| meta.progress_token) {
            Some(token) => {
                let token = Bytes::copy_from_slice(token.as_bytes());
                upstreams.request_with_progress("tools/call", token, |id| params(Some(id)), self.extra)
            }
            None => upstreams.request("tools/call", &params(None), self.extra),
        };
        request.made_for(self.subject, self.together)
    }
}

/// `params` for the upstream: its own name of the tool, the gateway's progress token, and the rest byte for byte.
fn params(call: &ToolCall<'_>, tool: &str, token: Option<u64>) -> Vec<u8> {
    let size: usize = call
        .params
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    let mut out = Vec::with_capacity(size + tool.len() + 128);
    out.extend_from_slice(b"{\"name\":");
    json::push_string(&mut out, tool);
    let member = |out: &mut Vec<u8>, name: &str, value: &str, first: bool| {
        if !first {
            out.push(b',');
        }
        json::push_string(out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    };
    for (name, value) in call.params {
        member(&mut out, name, value, false);
    }
    if let Some(meta) = &call.meta {
        out.extend_from_slice(b",\"_meta\":{");
        let mut first = true;
        if let Some(token) = token {
            member(&mut out, "progressToken", &token.to_string(), true);
            first = false;
        }
        for (name, value) in &meta.members {
            member(&mut out, name, value, first);
            first = false;
        }
        out.push(b'}');
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_keep_everything_but_name_and_token() {
        let call = ToolCall {
            exposed_name: "e__t",
            params: &[("arguments", r#"{"n":12345678901234567890,"x":1.0}"#), ("new", "[1]")],
            meta: Some(Meta {
                progress_token: Some("\"p\""),
                members: vec![("a/b".into(), "1e3")],
            }),
            extra: &[],
            headers: &HeaderMap::new(),
            subject: &"users/alice".into(),
            together: None,
            client: upstream::Client::Caller("users/alice".into()),
            revision: Revision::LATEST,
            cancel: CancellationToken::new(),
        };
        assert_eq!(
            String::from_utf8(params(&call, "t", Some(5))).unwrap(),
            r#"{"name":"t","arguments":{"n":12345678901234567890,"x":1.0},"new":[1],"_meta":{"progressToken":5,"a/b":1e3}}"#
        );
    }
}
