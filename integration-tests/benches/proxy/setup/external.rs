//! A gateway that runs already, and whose upstream is the one of this benchmark.

use http::{HeaderMap, Uri};

use crate::{
    client::{Client, headers},
    options::External,
};

/// The endpoint of the gateway, and a session at it.
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) path: Uri,
    pub(crate) headers: HeaderMap,
}

impl Endpoint {
    /// Begins a session.
    ///
    /// # Panics
    /// If the gateway refuses it.
    pub(crate) async fn open(gateway: &External) -> Self {
        let authority = gateway.url.authority().expect("a URL has a host");
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let path = gateway.url.path_and_query().expect("a URL has a path").clone();
        let path = Uri::from(path);
        let headers = headers(authority.as_str(), gateway.token.as_deref());
        let headers = Client::connect(&address).await.initialize(&path, &headers).await;
        Self { address, path, headers }
    }
}
