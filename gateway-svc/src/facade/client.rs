//! Clients: known by what they have registered, which is their id, or by the metadata document that is at their id.

use data_encoding::BASE64URL_NOPAD;
use masking::is_hidden;
use sha2::{Digest as _, Sha256};

use super::{Facade, documents::DocumentError, redirect, sealed::Registered};

/// The longest id.
pub(super) const MAX_ID: usize = 4 << 10;
/// Redirect URIs of one client.
const MAX_REDIRECTS: usize = 10;
/// Characters of a name.
const MAX_NAME: usize = 80;

/// A client that asks for an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// What its codes and tokens are bound to.
    pub(super) digest: String,
    /// As it calls itself; it may lie.
    pub(super) name: String,
    /// The host that its metadata document came from, which is known to be true.
    pub(super) host: Option<String>,
    /// Where authorizations may be sent to.
    pub(super) redirect_uris: Vec<String>,
}

/// Why there is no client of an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoClient {
    /// It is not one that was given out with the present keys.
    #[error(
        "It is not registered here, or was registered too long ago. Remove the connection in the client and add it again."
    )]
    Unknown,
    #[error("{0}")]
    Document(#[from] DocumentError),
}

impl Registered {
    /// Checks what a client says of itself; says what is wrong with its redirect URIs.
    pub(super) fn new(name: &str, redirect_uris: Vec<String>) -> Result<Self, String> {
        if redirect_uris.is_empty() || redirect_uris.len() > MAX_REDIRECTS {
            return Err(format!("redirect_uris must have 1 to {MAX_REDIRECTS} elements"));
        }
        if let Some(index) = redirect_uris.iter().position(|uri| !redirect::is_acceptable(uri)) {
            return Err(format!("redirect_uris[{index}] {}", redirect::RULE));
        }
        // It is shown to people who decide by it.
        let name: String = name
            .chars()
            .filter(|c| !is_hidden(*c) && !matches!(c, '\n' | '\t'))
            .take(MAX_NAME)
            .collect();
        let name = match name.trim() {
            "" => "A client without a name",
            name => name,
        };
        Ok(Self {
            name: name.to_owned(),
            redirect_uris,
        })
    }

    fn client(self, id: &str, host: Option<String>) -> Client {
        Client {
            digest: digest(id),
            name: self.name,
            host,
            redirect_uris: self.redirect_uris,
        }
    }
}

impl Client {
    /// Whether an authorization may be sent to this URI.
    pub(super) fn has(&self, redirect_uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|known| redirect::matches(known, redirect_uri))
    }
}

impl Facade {
    /// The client of this id.
    pub(super) async fn client(&self, id: &str) -> Result<Client, NoClient> {
        if id.len() > MAX_ID {
            return Err(NoClient::Unknown);
        }
        if let Some(registered) = self.sealed.open_client(id) {
            return Ok(registered.client(id, None));
        }
        if !id.contains("://") {
            return Err(NoClient::Unknown);
        }
        let document = self.documents.get(id).await?;
        let host = url::Url::parse(id)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        let registered = Registered {
            name: document.name.clone(),
            redirect_uris: document.redirect_uris.clone(),
        };
        Ok(registered.client(id, host))
    }
}

/// What stands for a client's id where that is too long.
pub(super) fn digest(id: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_checked() {
        let one = |uri: &str| vec![uri.to_owned()];
        let client = Registered::new("My\u{202e} edi\ntor ", one("http://127.0.0.1/cb")).unwrap();
        assert_eq!(client.name, "My editor");
        let client = Registered::new("\u{200b}", one("http://127.0.0.1/cb")).unwrap();
        assert_eq!(client.name, "A client without a name");
        for uris in [
            Vec::new(),
            one("https://a.example/#b"),
            vec!["http://127.0.0.1/".to_owned(); MAX_REDIRECTS + 1],
            vec!["http://127.0.0.1/".to_owned(), "evil://x".to_owned()],
        ] {
            assert!(Registered::new("a", uris).unwrap_err().starts_with("redirect_uris"));
        }
    }
}
