//! The resources that clients have subscribed to: for the streams of modern servers (`subscriptions/listen`), and for sessions that take the place of
//! lost ones.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::{sync::watch, time::timeout};

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
/// How long a client waits for a server to acknowledge.
const ACKNOWLEDGED: Duration = Duration::from_secs(3);
/// What the subscriptions of a client at a server cost besides the URIs.
const OWN_BYTES: usize = 256;

/// A client, and the uid of an installation.
type Key = (Client, Arc<str>);

/// Resources, by their URIs.
pub(super) type Uris = BTreeSet<Box<str>>;

/// What clients have subscribed to.
pub(super) struct Subscribed(Cache<Key, Arc<Own>>);

/// What one client has subscribed to at one server.
#[derive(Debug, Default)]
pub(super) struct Own {
    uris: watch::Sender<Uris>,
    /// What a modern server has acknowledged.
    told: watch::Sender<Uris>,
}

impl Own {
    /// What the client has subscribed to, now and later.
    pub(super) fn watch(&self) -> watch::Receiver<Uris> {
        self.uris.subscribe()
    }

    /// The server tells of these from now on.
    pub(super) fn acknowledge(&self, uris: &Uris) {
        self.told.send_if_modified(|told| {
            let changed = told != uris;
            told.clone_from(uris);
            changed
        });
    }
}

impl Default for Subscribed {
    fn default() -> Self {
        let weight = |_: &Key, own: &Arc<Own>| {
            let bytes = OWN_BYTES + 2 * own.uris.borrow().iter().map(|uri| 32 + uri.len()).sum::<usize>();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().eviction_policy(EvictionPolicy::lru());
        Self(cache.weigher(weight).max_capacity(BYTES).time_to_idle(IDLE).build())
    }
}

impl Subscribed {
    /// What this client has subscribed to at this installation's server.
    pub(super) fn of_lost(&self, client: &Client, installation: &Arc<str>) -> Uris {
        let known = self.0.get(&(client.clone(), Arc::clone(installation)));
        known.map(|own| own.uris.borrow().clone()).unwrap_or_default()
    }

    /// Waits until a modern server has acknowledged what this client has subscribed to at this moment.
    pub(super) async fn acknowledged(&self, client: &Client, installation: &Arc<str>) {
        let own = self.of(client, installation);
        let wanted = own.uris.borrow().clone();
        // A server that takes long tells of changes later.
        let _ = timeout(ACKNOWLEDGED, own.told.subscribe().wait_for(|told| *told == wanted)).await;
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
        subscribed.uris.send_if_modified(|uris| {
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

    pub(super) fn of(&self, client: &Client, installation: &Arc<str>) -> Arc<Own> {
        let key = (client.clone(), Arc::clone(installation));
        self.0.get_with(key, Arc::default)
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
