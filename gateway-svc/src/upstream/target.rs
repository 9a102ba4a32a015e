//! Where a call goes: the endpoint, on whose account, with which headers.

use std::{fmt, sync::Arc};

use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use http::{HeaderMap, HeaderValue, Uri};
use sha2::{Digest as _, Sha256};
use url::Url;
use zeroize::Zeroizing;

use super::connect;

/// A legacy revision of MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) enum Revision {
    /// 2025-03-26, the only one with batches.
    #[serde(rename = "2025-03-26")]
    V2025_03_26,
    /// 2025-06-18.
    #[serde(rename = "2025-06-18")]
    V2025_06_18,
    /// 2025-11-25.
    #[serde(rename = "2025-11-25")]
    V2025_11_25,
}

impl Revision {
    /// The newest one spoken.
    pub(crate) const LATEST: Self = Self::V2025_11_25;

    /// As it is written in messages and headers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
        }
    }

    /// The revision of this name, if it is spoken here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25]
            .into_iter()
            .find(|revision| revision.as_str() == text)
    }
}

/// Shorter values are not masked: they occur in many texts.
const SHORTEST_SECRET: usize = 4;
/// The same for a part of the base64 of one.
const SHORTEST_ENCODED: usize = 6;
const SCHEMES: [&str; 6] = ["Bearer", "Basic", "Token", "ApiKey", "Api-Key", "Key"];

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(super) uri: Uri,
    /// Started by the orchestrator, which also chose its address.
    pub(super) hosted: bool,
}

impl Endpoint {
    /// A remote server. Its addresses are checked at each connect.
    pub(crate) fn remote(url: &Url) -> Option<Self> {
        let mut url = url.clone();
        url.set_fragment(None);
        let allowed = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        allowed
            .then(|| url.as_str().parse().ok())
            .flatten()
            .map(|uri| Self { uri, hosted: false })
    }

    /// One that the orchestrator reports: `http://HOST:PORT/PATH` or `unix:/PATH/OF/SOCKET`.
    pub(crate) fn hosted(endpoint: &str) -> Option<Self> {
        let uri = match endpoint.strip_prefix("unix:") {
            Some(socket) if socket.starts_with('/') => connect::unix_uri(socket)?,
            Some(_) => return None,
            None => endpoint
                .parse::<Uri>()
                .ok()
                .filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some())?,
        };
        Some(Self { uri, hosted: true })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }
}

/// Who shares a session with an installation's server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// All who use the installation.
    Shared,
    /// Those who pass the same headers of their own through: a SHA-256 of them, since they may be secrets and sessions are kept for long.
    Headers([u8; 32]),
    /// One caller alone, since the credential is theirs, whichever of their tokens it was made from.
    Caller {
        /// Name of the person.
        subject: Arc<str>,
        /// As [`Scope::Headers`], where they pass headers of their own through.
        headers: Option<[u8; 32]>,
    },
    /// One client alone, whatever headers it passes through with each call.
    Client(Client),
}

/// What must be the same for two calls to share a session with an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    pub(super) endpoint: Endpoint,
    pub(super) installation: Arc<str>,
    pub(super) generation: [i64; 3],
    pub(super) revision: Revision,
    pub(super) scope: Scope,
}

/// A client, as an upstream with a session for each client distinguishes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// A client's session, by its id.
    Session([u8; 12]),
    /// A caller without one, by the name of the person or team.
    Caller(Arc<str>),
}

/// An installation's server, as one caller reaches it now.
#[derive(Clone)]
pub(crate) struct Target {
    pub(super) key: SessionKey,
    pub(super) headers: HeaderMap,
    /// Whether a header is sensitive.
    pub(super) secret: bool,
    /// Who the calls are made for, as a bridge distinguishes callers.
    pub(super) caller: Option<HeaderValue>,
}

impl Target {
    /// A text from the server, without control characters, and with the secrets that it was sent masked: it may repeat them, and goes to logs
    /// and conditions.
    pub(super) fn masked(&self, text: &str) -> String {
        // Before secrets are looked for: one that is interrupted by control characters would be whole without them.
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let sensitive = self.headers.values().filter(|value| value.is_sensitive());
        let mut secrets: Vec<Zeroizing<String>> = sensitive
            .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
            .map(without_scheme)
            .filter(|secret| secret.len() >= SHORTEST_SECRET)
            .flat_map(forms)
            .collect();
        // One may contain another.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text, |text, secret| replaced(&text, &secret))
    }

    /// `generation` is that of the installation, of its credential and of its entry's; `headers` hold everything to send but what MCP itself
    /// needs.
    /// Those that are secrets are marked as sensitive.
    pub(crate) fn new(
        endpoint: Endpoint,
        installation: Arc<str>,
        generation: [i64; 3],
        revision: Revision,
        headers: HeaderMap,
        scope: Scope,
    ) -> Self {
        let secret = headers.values().any(HeaderValue::is_sensitive);
        Self {
            key: SessionKey {
                endpoint,
                installation,
                generation,
                revision,
                scope,
            },
            headers,
            secret,
            caller: None,
        }
    }

    /// For calls of a person or a team, of whose processes at a self-hosted server there are only so many. The server and what runs it do not get
    /// the name, but a digest that differs from one installation to another. It is the same at all replicas of the gateway.
    pub(crate) fn made_for(self, subject: &str) -> Self {
        if !self.key.endpoint.hosted {
            return self;
        }
        let mut hash = Sha256::new();
        // A uid contains no line feed.
        hash.update(self.key.installation.as_bytes());
        hash.update("\n");
        hash.update(subject);
        let digest = HEXLOWER.encode(&hash.finalize()[..16]);
        Self {
            caller: HeaderValue::try_from(digest).ok(),
            ..self
        }
    }

    /// Uid of the installation.
    pub(crate) fn installation(&self) -> &Arc<str> {
        &self.key.installation
    }
}

/// A credential without the scheme before it (RFC 9110, section 11.1), where that is one in use: in a header of another kind, a blank is part
/// of the secret.
fn without_scheme(value: &str) -> &str {
    let Some((scheme, credential)) = value.trim().split_once(' ') else {
        return value.trim();
    };
    let known = SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    if known { credential.trim() } else { value.trim() }
}

/// The secret, and how it is written in base64: alone, and inside the base64 of a longer text, where it can begin at one of three offsets. There,
/// the characters that also encode its neighbours are left out.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let mut forms = vec![Zeroizing::new(secret.to_owned())];
    for encoding in [&BASE64, &BASE64URL] {
        forms.push(Zeroizing::new(encoding.encode(secret.as_bytes())));
        for skipped in 0..3 {
            let padded = Zeroizing::new([&[0; 2][..skipped], secret.as_bytes()].concat());
            let whole = padded.len() / 3 * 3;
            let encoded = Zeroizing::new(encoding.encode(&padded[..whole]));
            let inner = encoded.get(if skipped == 0 { 0 } else { 4 }..).unwrap_or_default();
            if inner.len() >= SHORTEST_ENCODED {
                forms.push(Zeroizing::new(inner.to_owned()));
            }
        }
    }
    forms
}

/// The text with `***` for each occurrence of `secret`, in any case: header values are often repeated in lower case.
fn replaced(text: &str, secret: &str) -> String {
    // ASCII lower case keeps the position of each byte.
    let (text_small, secret) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (start, found) in text_small.match_indices(&secret) {
        out.push_str(&text[end..start]);
        out.push_str("***");
        end = start + found.len();
    }
    out.push_str(&text[end..]);
    out
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers carry credentials.
        f.debug_struct("Target").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secret: &'static str, text: &str) -> String {
        let mut headers = HeaderMap::new();
        let mut value = HeaderValue::from_static(secret);
        value.set_sensitive(true);
        headers.insert("x-key", value);
        headers.insert("x-harmless", HeaderValue::from_static("harmless"));
        let endpoint = Endpoint::remote(&"https://example.com".parse().unwrap()).unwrap();
        Target::new(
            endpoint,
            "inst".into(),
            [1, 1, 0],
            Revision::LATEST,
            headers,
            Scope::Shared,
        )
        .masked(text)
    }

    #[test]
    fn secrets_are_masked() {
        for (secret, text, expected) in [
            ("Bearer abcdef", "no abcdef, Bearer abcdef", "no ***, Bearer ***"),
            ("token abcdef", "no abcdef", "no ***"),
            // What precedes the blank is no scheme.
            ("Super horse battery", "key=Super horse battery", "key=***"),
            (
                "SuperSecret",
                "it is of type x/supersecret; SUPERSECRET",
                "it is of type x/***; ***",
            ),
            ("Token 1", "HTTP 401, 1 of 1", "HTTP 401, 1 of 1"),
            ("Bearer abcdefghi", "\u{fc} abcdefghi \u{130}", "\u{fc} *** \u{130}"),
            ("abcdef", "harmless", "harmless"),
            // Control characters in a secret, as in a text that is UTF-16.
            ("Bearer abcdefgh", "abc\rdef\u{7}gh", "***"),
            ("abcdef", "a\0b\0c\0d\0e\0f\0", "***"),
            // Base64 of the secret, of `Bearer abcdefghij`, and of `user:abcdefghij`.
            ("Bearer abcdefghij", "no YWJjZGVmZ2hpag==", "no ***"),
            ("Bearer abcdefghij", "QmVhcmVyIGFiY2RlZmdoaWo=", "QmVhcmVyIGFi***aWo="),
            ("Bearer abcdefghij", "dXNlcjphYmNkZWZnaGlq", "dXNlcjph***"),
        ] {
            assert_eq!(masked(secret, text), expected);
        }
    }

    #[test]
    fn endpoints_are_what_they_say() {
        let remote = |url: &str| Endpoint::remote(&url.parse().unwrap());
        assert!(remote("https://mcp.example.com/mcp?x=1").is_some());
        assert!(remote("ftp://example.com/").is_none());
        assert!(remote("http://user:pass@example.com/").is_none());
        assert!(Endpoint::hosted("unix:/run/a b.sock").is_some());
        assert!(Endpoint::hosted("unix:relative").is_none());
        assert!(Endpoint::hosted("http://127.0.0.1:4000/mcp").is_some());
        assert!(Endpoint::hosted("https://example.com/").is_none());
        assert_ne!(
            remote("http://127.0.0.1:4000/mcp"),
            Endpoint::hosted("http://127.0.0.1:4000/mcp")
        );
    }
}
