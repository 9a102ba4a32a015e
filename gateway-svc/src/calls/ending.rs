//! The end of a client, which ends its sessions with upstreams.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use http::HeaderMap;

use super::{Calls, everywhere::AT_A_TIME};
use crate::{
    domain::CallerToken,
    upstream::{Client, OpenSession, Unheard},
};

impl Calls {
    /// Ends the sessions with upstreams that are this client's alone, in the background, and any that a call of it still opens. `token` is
    /// what the client calls with.
    pub(crate) fn end_client(self: &Arc<Self>, client: Client, token: Option<Arc<CallerToken>>) {
        self.shared.end(&client);
        self.own.forget(&client);
        let own = self.upstreams.end_client(client);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if own.is_empty() {
            return;
        }
        let this = Arc::clone(self);
        runtime.spawn(async move {
            let (this, token) = (&this, token.as_deref());
            let end = |own: OpenSession| async move {
                let headers = this.headers_to_end(&own, token).await;
                this.upstreams.end(own, headers).await;
            };
            stream::iter(own).for_each_concurrent(AT_A_TIME, end).await;
        });
    }

    /// Unsubscribes from all that this client has subscribed to, in the background.
    pub(super) fn unsubscribe(self: &Arc<Self>, client: Client) {
        let unheard = self.upstreams.forget_subscribed(&client);
        if unheard.is_empty() {
            return;
        }
        let this = Arc::clone(self);
        self.upstreams.in_background(async move {
            let (this, client) = (&this, &client);
            let end = |unheard: Unheard| async move {
                let headers = this.headers_to_end(&unheard.session, None).await;
                this.upstreams.unsubscribe(client, unheard, &headers).await;
            };
            stream::iter(unheard).for_each_concurrent(AT_A_TIME, end).await;
        });
    }

    /// What a request to this server carries; nothing where that is unknown by now, and a server may still accept it.
    async fn headers_to_end(&self, own: &OpenSession, token: Option<&CallerToken>) -> HeaderMap {
        if own.target.is_hosted() {
            return HeaderMap::new();
        }
        let vended = self.vended_for(own, token).await;
        vended.map(|vended| vended.headers.clone()).unwrap_or_default()
    }
}
