//! The end of the subscriptions of a client that listens no longer.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::time::timeout;

use super::{
    client::Client, open_session::OpenSession, session::Session, subscribed::Uris, target::Target, upstreams::Upstreams,
};
use crate::json;

/// How long a server may take to be told of all.
const WITHIN: Duration = Duration::from_secs(60);

/// A session, and what its server tells of for nobody.
#[derive(Debug)]
pub(crate) struct Unheard {
    /// The session.
    pub(crate) session: OpenSession,
    uris: Uris,
}

impl Upstreams {
    /// Forgets what this client has subscribed to. What is returned has not been told to the servers.
    pub(crate) fn forget_subscribed(&self, client: &Client) -> Vec<Unheard> {
        let unheard = self.sessions_of(client).into_iter().map(|session| {
            let uris = self.inner.subscribed.take(client, session.target.installation());
            Unheard { session, uris }
        });
        unheard.filter(|unheard| !unheard.uris.is_empty()).collect()
    }

    /// Unsubscribes, with these headers in place of those that the session was opened with. What the client subscribes to anew meanwhile stays.
    pub(crate) async fn unsubscribe(&self, client: &Client, unheard: Unheard, headers: &HeaderMap) {
        let OpenSession { target, session } = &unheard.session;
        let target = target.with_headers(headers);
        let all = async {
            for uri in &unheard.uris {
                self.end_subscription(client, uri, &target, session).await;
            }
        };
        // A server that takes longer tells of the rest until its session is over.
        let _ = timeout(WITHIN, all).await;
    }

    /// Has a server tell of a resource no longer, unless this client subscribes to it anew meanwhile.
    pub(super) async fn end_subscription(&self, client: &Client, uri: &str, target: &Target, session: &Arc<Session>) {
        self.about_resource("resources/unsubscribe", uri, target, session).await;
        self.settle(client, uri, target, session).await;
    }

    /// Has a server that does not tell of a resource do so just if this client has subscribed to it, also if that changes meanwhile: these requests may
    /// overtake the client's.
    pub(super) async fn settle(&self, client: &Client, uri: &str, target: &Target, session: &Arc<Session>) {
        let mut told = false;
        while self.inner.subscribed.has(client, target.installation(), uri) != told {
            told = !told;
            let method = if told {
                "resources/subscribe"
            } else {
                "resources/unsubscribe"
            };
            self.about_resource(method, uri, target, session).await;
        }
    }

    /// Sends a request of this method about a resource. Its answer makes no difference.
    pub(super) async fn about_resource(&self, method: &str, uri: &str, target: &Target, session: &Arc<Session>) {
        let mut params = Vec::from(&b"{\"uri\":"[..]);
        json::push_string(&mut params, uri);
        params.push(b'}');
        let request = self.request(method, &params, &[]);
        self.send(target, session, request.body).await;
    }

    /// Runs this for as long as the service lasts, whichever connection it began with.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.inner.runtime.spawn(work);
    }
}
