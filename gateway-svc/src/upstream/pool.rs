//! Connections that are kept and used again: one pool a thread.
//!
//! A call stays on the thread that serves its client (see `http_server.rs`). A connection that another thread has opened would
//! have to wake that thread for every answer: with one pool for all threads, one caller's calls took 144-194 µs in the median
//! beyond the upstream's own time, with one pool a thread 98-107 µs (`just bench`, two cores, 20 rounds).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use service_kit::{egress::EgressPolicy, http1::HttpPath};
use thread_local::ThreadLocal;

pub(crate) use super::{body::Body, pool_error::PoolError};
use super::{
    connect::{Connector, Plain},
    http1::{Client, Limits, PreparedPost},
    response::Response,
};

/// How long a connection may be idle and still be used again: servers and intermediaries close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(55);
/// How old a connection may be and still be used again, over our own path: calls must not go to a server for ever that its name leads to no longer.
const AGE: Duration = Duration::from_secs(300);
/// Connections kept for each server and thread.
const KEPT: usize = 128;

type HyperClient = legacy::Client<Connector, Full<Bytes>>;

/// A pool of connections for each thread.
#[derive(Clone)]
pub(crate) struct Pool(Inner);

#[derive(Clone)]
enum Inner {
    Own(Client),
    Hyper {
        connector: Connector,
        clients: Arc<ThreadLocal<HyperClient>>,
    },
}

impl Pool {
    /// A pool that connects only where `policy` permits; anywhere, and to Unix sockets, without one.
    pub(crate) fn new(policy: Option<Arc<EgressPolicy>>, connect: Duration, path: HttpPath) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // Without a policy, it is for servers of this machine, which have no TLS.
        let roots = policy.as_ref().map(|policy| policy.roots().with_system());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default protocol versions")
            .with_root_certificates(roots.unwrap_or_else(RootCertStore::empty))
            .with_no_client_auth();
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            // Not HTTP/2: on a shared connection one caller who reads slowly would hold up all others of the same server.
            .enable_http1()
            .wrap_connector(Plain::new(policy, connect));
        // All threads have the same one, and so the tickets by which handshakes are resumed; each policy has its own.
        let connector = Connector::new(https, connect);
        Self(match path {
            HttpPath::Own => {
                let limits = Limits {
                    idle: IDLE,
                    age: AGE,
                    each: KEPT,
                };
                Inner::Own(Client::new(connector, limits))
            }
            HttpPath::Hyper => Inner::Hyper {
                connector,
                clients: Arc::default(),
            },
        })
    }

    /// A POST with these fields, to be sent with one body after another, as [`Pool::request`] sends it; `None` over a path that has nothing to prepare,
    /// or if it cannot be sent.
    pub(crate) fn prepare(&self, uri: &Uri, headers: &HeaderMap) -> Option<PreparedPost> {
        match &self.0 {
            Inner::Own(client) => PreparedPost::new(client.clone(), uri, headers),
            Inner::Hyper { .. } => None,
        }
    }

    /// Sends a request to an absolute URI; `request` has none, and gets `Host` where it lacks it. It must have no fields of a connection
    /// ([`remove_hop_by_hop`](service_kit::http1::remove_hop_by_hop)). A kept connection
    /// that the server has closed meanwhile is replaced, if nothing of the request was sent on it.
    pub(crate) async fn request(
        &self,
        uri: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, PoolError> {
        match &self.0 {
            Inner::Own(client) => {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap_or_else(|never| match never {}).to_bytes();
                let response = client.request(uri, Request::from_parts(head, body)).await?;
                Ok(response.map(Body::Own))
            }
            Inner::Hyper { connector, clients } => {
                *request.uri_mut() = uri.clone();
                let response = clients.get_or(|| hyper_client(connector)).request(request).await;
                let response = response.map_err(|error| match error.is_connect() {
                    true => PoolError::Connect(error.into()),
                    false => PoolError::Exchange(error.into()),
                })?;
                Ok(Response::from(response).map(Body::Hyper))
            }
        }
    }
}

fn hyper_client(connector: &Connector) -> HyperClient {
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(KEPT)
        .build(connector.clone())
}

#[cfg(test)]
mod tests;
