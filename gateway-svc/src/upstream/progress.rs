//! What servers report of the progress of requests.

use std::ops::Range;

use bytes::Bytes;

use crate::json::Object;

/// The token of a request: the gateway's own, which the server gets, and the client's, as JSON.
#[derive(Clone, Debug)]
pub(crate) struct ProgressToken {
    pub(super) own: u64,
    pub(super) shown: Bytes,
}

/// A notification under a token of the gateway's.
#[derive(Debug)]
pub(crate) struct Progress {
    params: Bytes,
    /// Where the token is.
    at: Range<usize>,
    pub(super) own: u64,
}

impl Progress {
    /// Of these parameters; `None`: there is no token of the gateway's.
    pub(super) fn of(params: &Bytes) -> Option<Self> {
        let object = Object::parse(std::str::from_utf8(params).ok()?).ok()?;
        if object.lookalike(&["progressToken"]).is_some() {
            return None;
        }
        Some(Self {
            params: params.clone(),
            at: object.range("progressToken")?,
            own: object.get("progressToken")?.parse().ok()?,
        })
    }

    /// As the client gets it, if it is about the request with this token.
    pub(crate) fn under(&self, token: &ProgressToken) -> Option<Bytes> {
        const HEAD: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":";
        let parts = [
            HEAD,
            &self.params[..self.at.start],
            &token.shown,
            &self.params[self.at.end..],
            b"}",
        ];
        (self.own == token.own).then(|| parts.concat().into())
    }
}
