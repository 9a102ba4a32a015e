//! The resources that clients have subscribed to: for the streams of modern servers (`subscriptions/listen`), and for sessions that take the place of
//! lost ones.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::sync::watch;

use super::{
    client::Client,
    message::{Outgoing, Reply},
};
use crate::json::{self, Object};

/// Of one client at one server.
const MOST: usize = 128;
const LONGEST: usize = 2 << 10;
/// Those of a client that neither listens nor subscribes for this time are forgotten.
const IDLE: Duration = Duration::from_secs(20 * 60);
/// Bytes of all clients. Of more, those that were used last are kept.
const BYTES: u64 = 64 << 20;
/// What the subscriptions of a client at a server cost besides the URIs.
const OWN_BYTES: usize = 256;

/// A client, and the uid of an installation.
type Key = (Client, Arc<str>);

/// Resources, by their URIs.
pub(super) type Uris = BTreeSet<Box<str>>;

/// What clients have subscribed to.
pub(super) struct Subscribed(Cache<Key, Arc<watch::Sender<Uris>>>);

impl Default for Subscribed {
    fn default() -> Self {
        let weight = |_: &Key, uris: &Arc<watch::Sender<Uris>>| {
            let bytes = OWN_BYTES + uris.borrow().iter().map(|uri| 32 + uri.len()).sum::<usize>();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().eviction_policy(EvictionPolicy::lru());
        Self(cache.weigher(weight).max_capacity(BYTES).time_to_idle(IDLE).build())
    }
}

impl Subscribed {
    /// What this client has subscribed to at this installation's server, now and later.
    pub(super) fn watch(&self, client: &Client, installation: &Arc<str>) -> watch::Receiver<Uris> {
        self.of(client, installation).subscribe()
    }

    /// What this client has subscribed to at this installation's server.
    pub(super) fn of_lost(&self, client: &Client, installation: &Arc<str>) -> Uris {
        let known = self.0.get(&(client.clone(), Arc::clone(installation)));
        known.map(|uris| uris.borrow().clone()).unwrap_or_default()
    }

    /// Keeps them while the client listens.
    pub(super) fn touch(&self, client: &Client, installation: &Arc<str>) {
        self.0.get(&(client.clone(), Arc::clone(installation)));
    }

    /// Carries out `resources/subscribe` or `resources/unsubscribe`.
    pub(super) fn answer(&self, client: &Client, installation: &Arc<str>, request: &Outgoing) -> Reply {
        let params = Object::parse(request.params()).ok();
        let uri = params.and_then(|params| params.string("uri").map(Box::<str>::from));
        let Some(uri) = uri.filter(|uri| uri.len() <= LONGEST) else {
            return Reply::of_error(r#"{"code":-32602,"message":"params.uri must be a URI of at most 2048 bytes"}"#);
        };
        let mut full = false;
        let subscribed = self.of(client, installation);
        subscribed.send_if_modified(|uris| {
            if &*request.method != "resources/subscribe" {
                return uris.remove(&uri);
            }
            full = uris.len() >= MOST && !uris.contains(&uri);
            !full && uris.insert(uri)
        });
        // It weighs more or less now.
        self.0.insert((client.clone(), Arc::clone(installation)), subscribed);
        if full {
            let why = r#"{"code":-32602,"message":"128 resources of this server are subscribed to: unsubscribe from others first"}"#;
            return Reply::of_error(why);
        }
        Reply::of_result("{}")
    }

    fn of(&self, client: &Client, installation: &Arc<str>) -> Arc<watch::Sender<Uris>> {
        let key = (client.clone(), Arc::clone(installation));
        self.0.get_with(key, || Arc::new(watch::Sender::default()))
    }
}

/// `params` of the request for the stream: all lists, and these resources.
pub(super) fn wanted(uris: &Uris) -> Vec<u8> {
    let mut out = Vec::from(
        &br#"{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true"#[..],
    );
    if !uris.is_empty() {
        out.extend_from_slice(b",\"resourceSubscriptions\":[");
        for (index, uri) in uris.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            json::push_string(&mut out, uri);
        }
        out.push(b']');
    }
    out.extend_from_slice(b"}}");
    out
}
