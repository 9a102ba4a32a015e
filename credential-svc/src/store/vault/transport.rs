//! The HTTP client under `vaultrs`. Its own follows redirects with the token, reads answers of any size, logs every status that is not a
//! success as an error, and leaves secrets in memory.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use reqwest::redirect::Policy;
use rustify::errors::ClientError;
use zeroize::Zeroizing;

use super::{
    failure::{Failure, MAX_ANSWER},
    trust::Trust,
};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(3);

/// The state of the storage after a request, which standbys may not have yet. OpenBao 2.7 and Vault Enterprise.
const INDEX: &str = "x-vault-index";
/// What a node does that does not have the state of [`INDEX`].
const INCONSISTENT: &str = "x-vault-inconsistent";

/// Sends requests to one address.
#[derive(Debug)]
pub(super) struct Http {
    address: String,
    timeout: Duration,
    connection: Mutex<Connection>,
    /// After the last write. Nothing older may be read, whichever node answers.
    written: Mutex<Option<HeaderValue>>,
}

/// A client, and whom it trusts.
#[derive(Debug)]
struct Connection {
    client: reqwest::Client,
    /// `None`: what the machine trusts.
    trust: Option<Trust>,
}

impl Http {
    /// Trusts only these authorities, or where there are none, what the machine trusts.
    pub(super) fn new(address: String, trust: Option<Trust>, timeout: Duration) -> Result<Self, String> {
        let client = client(&address, trust.as_ref(), timeout)?;
        Ok(Self {
            address,
            timeout,
            connection: Mutex::new(Connection { client, trust }),
            written: Mutex::default(),
        })
    }

    /// Trusts what the file with the authorities has now. What cannot be read changes nothing.
    pub(super) fn renew_trust(&self) {
        let Some(trust) = self.connection().trust.clone() else {
            return;
        };
        let renewed = match trust.again() {
            Ok(renewed) if renewed == trust => return,
            Ok(renewed) => client(&self.address, Some(&renewed), self.timeout).map(|client| (client, renewed)),
            Err(fault) => Err(fault),
        };
        match renewed {
            Ok((client, renewed)) => {
                tracing::info!("the authorities that are trusted for Vault have changed");
                *self.connection() = Connection {
                    client,
                    trust: Some(renewed),
                };
            }
            Err(fault) => {
                tracing::warn!(error = %fault, "vault-ca has changed and cannot be used; those that it had before are trusted");
            }
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, whatever its status.
    async fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failure> {
        let (mut head, body) = request.into_parts();
        let of_type = match head.method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(of_type));
        if let Some(token) = head.headers.get_mut("x-vault-token") {
            token.set_sensitive(true);
        }
        if let Some(written) = self.written().clone() {
            head.headers.insert(INDEX, written);
            head.headers
                .insert(INCONSISTENT, HeaderValue::from_static("forward-active-node"));
        }
        // What a read answers may be older than what another request has written since it began.
        let writes = matches!(head.method, Method::POST | Method::PATCH | Method::DELETE);
        let client = self.connection().client.clone();
        let request = client
            .request(head.method, head.uri.to_string())
            .headers(head.headers)
            .body(Bytes::from_owner(Zeroizing::new(body)));
        let failed = |error: reqwest::Error| Failure::transport(&error);
        let mut answer = request.send().await.map_err(failed)?;
        if let Some(index) = answer.headers().get(INDEX)
            && writes
        {
            *self.written() = Some(index.clone());
        }
        let length = answer.content_length().and_then(|length| usize::try_from(length).ok());
        if length.is_some_and(|length| length > MAX_ANSWER) {
            return Err(Failure::TooLong);
        }
        // A buffer that grows leaves copies in memory.
        let mut body = Zeroizing::new(Vec::with_capacity(length.unwrap_or_default()));
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(Failure::TooLong);
            }
            body.extend_from_slice(&part);
        }
        let mut response = Response::new(std::mem::take(&mut *body));
        *response.status_mut() = answer.status();
        Ok(response)
    }

    fn written(&self) -> MutexGuard<'_, Option<HeaderValue>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(address: &str, trust: Option<&Trust>, timeout: Duration) -> Result<reqwest::Client, String> {
    let mut client = reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(timeout);
    if let Some(trust) = trust {
        client = client.tls_certs_only(trust.certificates()?);
    } else if address.starts_with("http:") {
        // Without TLS, no certificates are looked for.
        client = client.tls_certs_only([]);
    }
    client.build().map_err(|error| format!("cannot be used: {error}"))
}

#[async_trait::async_trait]
impl rustify::client::Client for Http {
    fn base(&self) -> &str {
        &self.address
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.answer(request)
            .await
            .map_err(|failure| ClientError::GenericError { source: failure.into() })
    }

    /// Returns every answer: what a status means depends on the request.
    async fn execute(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.send(request).await
    }
}
