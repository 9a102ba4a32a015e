//! Where a call goes: the endpoint, on whose account, with which headers.

use std::{fmt, sync::Arc};

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderValue, Uri};
use masking::{Needles, without_hidden};
use service_kit::http1::remove_hop_by_hop;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{
    client::{Client, Profile},
    connect,
    in_use::InUse,
};

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
/// No longer text is masked and quoted.
const LONGEST_QUOTED: usize = 32 << 10;
const TOO_LONG: &str = "[a text that is too long to be quoted]";
const MASK: &str = "***";

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

/// Who sends headers or a credential of their own: what those come to says nothing to others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Whose {
    /// Name of the person or team.
    pub(crate) subject: Arc<str>,
    /// As [`Scope::Headers`], where they pass headers of their own through.
    pub(crate) headers: Option<[u8; 32]>,
}

/// What must be the same for two calls to share a session with an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(super) endpoint: Endpoint,
    pub(super) installation: Arc<str>,
    pub(super) generation: [i64; 3],
    pub(super) revision: Revision,
    pub(super) scope: Scope,
}

/// What a session that clients share has in common with the one that takes its place when its server is started again, or gets another credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    installation: Arc<str>,
    revision: Revision,
    scope: Scope,
}

impl Place {
    /// Uid of the one whose server is spoken to there.
    pub(crate) const fn installation(&self) -> &Arc<str> {
        &self.installation
    }
}

impl SessionKey {
    /// Where a session of this key is.
    pub(crate) fn place(&self) -> Place {
        Place {
            installation: Arc::clone(&self.installation),
            revision: self.revision,
            scope: self.scope.clone(),
        }
    }

    /// Who shares it.
    pub(crate) const fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// An installation's server, as one caller reaches it now.
#[derive(Clone)]
pub(crate) struct Target {
    pub(super) key: SessionKey,
    /// None of a connection: who sends them need not look.
    pub(super) headers: HeaderMap,
    /// Whether a header is sensitive.
    pub(super) secret: bool,
    /// Who the calls are made for, as a bridge distinguishes callers.
    pub(crate) caller: Option<HeaderValue>,
    /// What the client says of itself, whose session this is alone; `None`: the gateway speaks for itself.
    pub(super) profile: Option<Profile>,
    /// Whether the server is told that it can ask nothing.
    pub(super) takes_no_questions: bool,
    /// Whose the headers are alone; `None`: all who use the installation send the same.
    pub(super) whose: Option<Whose>,
    /// See [`Target::in_background`].
    pub(super) background: bool,
    pub(super) in_use: InUse,
}

impl Target {
    /// The client whose session this is alone; `None`: several share it.
    pub(crate) const fn client(&self) -> Option<&Client> {
        match &self.key.scope {
            Scope::Client(client) => Some(client),
            _ => None,
        }
    }

    /// What those who share its session have in common.
    pub(crate) const fn key(&self) -> &SessionKey {
        &self.key
    }

    /// A text from the server, without hidden characters, and with the secrets that it was sent masked: it may repeat them, and goes to logs
    /// and conditions.
    pub(super) fn masked(&self, text: &str) -> String {
        if text.len() > LONGEST_QUOTED {
            return TOO_LONG.to_owned();
        }
        // Before secrets are looked for: one that hidden characters interrupt would be whole without them.
        let text = without_hidden(text);
        masking::mask(&text, MASK, &[&self.needles()], 0).unwrap_or_else(|| text.into_owned())
    }

    /// What masks the secrets that the server was sent in a definition of a tool, which others see, too.
    pub(super) fn definitions_mask(&self) -> impl Fn(&str, usize) -> Option<String> + use<> {
        let needles = self.needles();
        move |text, shortest| masking::mask(text, MASK, &[&needles], shortest)
    }

    fn needles(&self) -> Needles {
        let sensitive = self.headers.values().filter(|value| value.is_sensitive());
        let secrets = sensitive
            .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
            .flat_map(masking::of_header);
        Needles::new(secrets.filter(|secret| secret.trim().len() >= SHORTEST_SECRET))
    }

    /// `generation` is that of the installation, of its credential and of its entry's; `headers` hold everything to send but what MCP itself
    /// needs.
    /// Those that are secrets are marked as sensitive.
    pub(crate) fn new(
        endpoint: Endpoint,
        installation: Arc<str>,
        generation: [i64; 3],
        revision: Revision,
        mut headers: HeaderMap,
        scope: Scope,
    ) -> Self {
        remove_hop_by_hop(&mut headers);
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
            profile: None,
            takes_no_questions: false,
            whose: None,
            background: false,
            in_use: InUse::default(),
        }
    }

    /// For sessions of several clients: what a server asks there would be for nobody in particular.
    pub(crate) fn taking_no_questions(self) -> Self {
        Self {
            takes_no_questions: true,
            ..self
        }
    }

    /// The legacy revision that the server is spoken to in.
    pub(crate) const fn revision(&self) -> Revision {
        self.key.revision
    }

    /// Whether it has headers or a credential that are its caller's own.
    pub(crate) const fn is_callers_own(&self) -> bool {
        self.whose.is_some()
    }

    /// With headers that are this caller's own.
    pub(crate) fn sent_by(self, whose: Option<Whose>) -> Self {
        Self { whose, ..self }
    }

    /// For what no caller waits for, as a stream that is opened again: it does not count where the server fails, and is not refused while calls are.
    pub(crate) fn in_background(&self) -> Arc<Self> {
        Arc::new(Self {
            background: true,
            ..self.clone()
        })
    }

    /// For what callers wait for.
    pub(super) fn in_foreground(self: &Arc<Self>) -> Arc<Self> {
        if !self.background {
            return Arc::clone(self);
        }
        Arc::new(Self {
            background: false,
            ..Self::clone(self)
        })
    }

    /// For calls of a client that says this of itself, in sessions of its own.
    pub(crate) fn speaking_for(self, profile: Profile) -> Self {
        Self {
            profile: Some(profile),
            ..self
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

    /// With these headers in place of those of the same names.
    pub(crate) fn with_headers(&self, headers: &HeaderMap) -> Self {
        let mut target = self.clone();
        target.headers.extend(headers.clone());
        remove_hop_by_hop(&mut target.headers);
        target.secret = target.headers.values().any(HeaderValue::is_sensitive);
        target
    }

    /// Whether the orchestrator runs the server: it requires no headers.
    pub(crate) fn is_hosted(&self) -> bool {
        self.key.endpoint.hosted
    }

    /// Whether what is for the installation's server at this endpoint is for this one: it is the same, or runs in its place.
    pub(crate) fn is_at(&self, endpoint: &Endpoint) -> bool {
        self.key.endpoint == *endpoint || self.key.endpoint.hosted && endpoint.hosted
    }

    /// The same server where it is `now`, with these headers; `None`: it is called with something else by now, or is another.
    pub(crate) fn moved(&self, now: &Self, headers: &HeaderMap) -> Option<Self> {
        let (before, after) = (&self.key, &now.key);
        (self.is_at(&after.endpoint) && before.generation == after.generation).then(|| Self {
            key: after.clone(),
            ..self.with_headers(headers)
        })
    }

    /// The same server without what callers send it.
    pub(super) fn bare(&self) -> Self {
        Self {
            headers: HeaderMap::new(),
            secret: false,
            ..self.clone()
        }
    }

    /// Whether a client answers the server's requests.
    pub(super) fn speaks_for_client(&self) -> bool {
        self.profile.is_some()
    }

    /// Uid of the installation.
    pub(crate) fn installation(&self) -> &Arc<str> {
        &self.key.installation
    }
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

    #[test]
    fn headers_of_a_connection_are_not_sent() {
        let headers = |names: [&'static str; 3]| {
            let values = names.map(|name| (name.parse().unwrap(), HeaderValue::from_static("x-named")));
            HeaderMap::from_iter(values)
        };
        let endpoint = Endpoint::remote(&"https://example.com".parse().unwrap()).unwrap();
        let first = headers(["connection", "x-named", "x-kept"]);
        let target = Target::new(
            endpoint,
            "inst".into(),
            [1, 1, 0],
            Revision::LATEST,
            first,
            Scope::Shared,
        );
        let renewed = target.with_headers(&headers(["transfer-encoding", "content-length", "x-kept"]));
        for target in [target, renewed] {
            assert_eq!(
                target.headers,
                HeaderMap::from_iter([("x-kept".parse().unwrap(), HeaderValue::from_static("x-named"))])
            );
        }
    }

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
            ("Bearer abcdef", "no abcdef, Bearer abcdef", "no ***, ***"),
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
            ("abcdef", "a\u{200b}bc\u{2028}d\u{202e}ef", "***"),
            (
                "Basic bWU6cGFzc3dvcmQ=",
                "no user me with password",
                "no user me with ***",
            ),
            // Base64 of the secret, of `Bearer abcdefghij`, and of `user:abcdefghij`.
            ("Bearer abcdefghij", "no YWJjZGVmZ2hpag==", "no ***"),
            ("Bearer abcdefghij", "QmVhcmVyIGFiY2RlZmdoaWo=", "***"),
            ("Bearer abcdefghij", "dXNlcjphYmNkZWZnaGlq", "dXNlcjph***"),
        ] {
            assert_eq!(masked(secret, text), expected);
        }
    }

    #[test]
    fn a_long_text_is_not_quoted() {
        let long = "abcdef ".repeat(LONGEST_QUOTED / 7);
        assert!(masked("abcdef", &long).starts_with("*** ***"));
        assert_eq!(masked("abcdef", &format!("{long}abcdef ")), TOO_LONG);
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
