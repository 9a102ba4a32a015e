//! What servers report of the progress of requests.

use std::ops::Range;

use bytes::Bytes;

use super::room::changed;
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
        (self.own == token.own).then(|| changed(parts.concat(), &self.params))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures::FutureExt as _;

    use super::{
        super::room::{FREE, Rooms},
        *,
    };

    #[tokio::test]
    async fn a_long_one_holds_room_as_its_client_gets_it() {
        let alice = Arc::from("users/alice");
        let rooms = Rooms::new(2 * FREE, 2 * FREE, Duration::from_secs(60));
        let take = || rooms.take(&alice, 2 * FREE, None).now_or_never();
        let long = format!(r#"{{"progressToken":7,"message":"{}"}}"#, "x".repeat(FREE));
        let progress = Progress::of(&take().unwrap().unwrap().hold(long.into())).unwrap();
        let token = ProgressToken {
            own: 7,
            shown: Bytes::from_static(b"\"mine\""),
        };
        let shown = progress.under(&token).unwrap();
        drop(progress);
        assert!(take().is_none());
        drop(shown);
        assert!(take().is_some());
    }
}
