//! One request to Vault, and its answer.

use reqwest::StatusCode;
use rustify::{Endpoint, enums::RequestMethod, errors::ClientError};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use vaultrs::api::EndpointMiddleware;
use zeroize::Zeroizing;

use super::{failure::Failure, transport::Http};

/// A server, and the secrets engine that is used of it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: Http,
    pub(super) namespace: Option<String>,
    pub(super) mount: String,
}

/// An answer of any status, wiped when dropped.
pub(super) struct Answer {
    status: StatusCode,
    body: Zeroizing<Vec<u8>>,
    asked: String,
    mount: String,
}

impl Client {
    /// Asks with a token, or without one where the request is a login.
    pub(super) async fn ask(&self, token: Option<&SecretString>, request: impl Endpoint) -> Result<Answer, Failure> {
        let asked = format!("{} on {}", verb(&request.method()), request.path());
        let middleware = EndpointMiddleware {
            token: token.map(|token| token.expose_secret().to_owned()).unwrap_or_default(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: self.namespace.clone(),
        };
        let answered = request.with_middleware(&middleware).exec(&self.http).await;
        let response = answered.map_err(|error| match error {
            ClientError::GenericError { source } => source.downcast::<Failure>().unwrap_or(Failure::NotVault),
            _ => Failure::NotVault,
        })?;
        Ok(Answer {
            status: response.response.status(),
            body: Zeroizing::new(response.response.into_body()),
            asked,
            mount: self.mount.clone(),
        })
    }
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        // Without what the parser says: it could repeat a value.
        serde_json::from_slice(&self.body).map_err(|_| Failure::NotVault)
    }

    /// Itself, where it is a success.
    pub(super) fn success(self) -> Result<Self, Failure> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(self.failure()),
        }
    }

    /// Why it is not a success.
    pub(super) fn failure(&self) -> Failure {
        Failure::answered(self.status, &self.body, &self.asked, &self.mount)
    }
}

/// The capability that a policy calls it by.
fn verb(method: &RequestMethod) -> &'static str {
    match method {
        RequestMethod::LIST => "list",
        RequestMethod::DELETE => "delete",
        RequestMethod::PATCH => "patch",
        RequestMethod::POST | RequestMethod::PUT => "create and update",
        _ => "read",
    }
}
