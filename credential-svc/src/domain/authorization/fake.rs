//! A fake authorization server for tests: it does as RFC 6749 says, with rotated refresh tokens whose reuse it detects, unless a test
//! scripts another answer.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Notify;

use super::{
    plan::Server,
    servers::{
        Authentication, AuthorizationServers, Client, Metadata, Registration, ServerError, TokenKind, TokenRequest,
        Tokens, Upstream,
    },
};

/// Where it is.
pub(crate) const ISSUER: &str = "https://as.example.com";
/// How long its access tokens are valid.
pub(crate) const LIFE: Duration = Duration::from_secs(3600);

/// Clones are the same server.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeServers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    metadata: Metadata,
    upstream: Option<Upstream>,
    /// What the upstream said when it was asked last.
    said: Option<Option<Arc<Upstream>>>,
    scripts: VecDeque<Script>,
    requests: Vec<Request>,
    revoked: Vec<(TokenKind, String)>,
    /// Its revocation endpoint does not answer.
    is_revocation_down: bool,
    registered: usize,
    registered_secret: Option<SecretString>,
    issued: usize,
    /// The refresh token that is valid, and those that were.
    valid: Option<String>,
    used: Vec<String>,
    account: Option<String>,
}

/// What it does with the next request at its token endpoint.
pub(crate) enum Script {
    /// This comes before the turn of the next request.
    Queue(BoxFuture<'static, ()>),
    /// It refuses.
    Fail(ServerError),
    /// This comes first, and then what comes without a script.
    Before(BoxFuture<'static, ()>),
    /// It answers as without a script, and then this comes before anybody gets the answer.
    After(BoxFuture<'static, ()>),
    /// It issues, with changes.
    Issue(fn(&mut Tokens)),
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

/// A request at the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) client: String,
    /// The client's secret; empty for a public client.
    pub(crate) secret: String,
    pub(crate) parameters: BTreeMap<&'static str, String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            metadata: Metadata {
                issuer: ISSUER.to_owned(),
                authorization_endpoint: format!("{ISSUER}/authorize?tenant=1"),
                token_endpoint: format!("{ISSUER}/token"),
                revocation_endpoint: format!("{ISSUER}/revoke"),
                registration_endpoint: format!("{ISSUER}/register"),
                sends_issuer: true,
                has_pkce: true,
                scopes: vec!["read".to_owned(), "offline_access".to_owned()],
                ..Metadata::default()
            },
            upstream: Some(Upstream {
                resource: "https://example.com/mcp".to_owned(),
                authorization_servers: vec![ISSUER.to_owned(), "https://other.example.com".to_owned()],
                scopes: vec!["read".to_owned()],
            }),
            said: None,
            scripts: VecDeque::new(),
            requests: Vec::new(),
            revoked: Vec::new(),
            is_revocation_down: false,
            registered: 0,
            registered_secret: None,
            issued: 0,
            valid: None,
            used: Vec::new(),
            account: Some("alice@example.com".to_owned()),
        }
    }
}

impl FakeServers {
    pub(crate) fn script(&self, scripts: impl IntoIterator<Item = Script>) {
        self.state().scripts.extend(scripts);
    }

    pub(crate) fn change_metadata(&self, change: impl FnOnce(&mut Metadata)) {
        change(&mut self.state().metadata);
    }

    pub(crate) fn set_upstream(&self, upstream: Option<Upstream>) {
        self.state().upstream = upstream;
    }

    pub(crate) fn set_account(&self, account: &str) {
        self.state().account = Some(account.to_owned());
    }

    /// Registered clients get a secret.
    pub(crate) fn register_with(&self, secret: &str) {
        self.state().registered_secret = Some(secret.into());
    }

    /// The requests for tokens with this grant type.
    pub(crate) fn requests(&self, grant_type: &str) -> Vec<Request> {
        let of = |request: &&Request| request.parameters["grant_type"] == grant_type;
        self.state().requests.iter().filter(of).cloned().collect()
    }

    pub(crate) fn registrations(&self) -> usize {
        self.state().registered
    }

    /// From now on, it revokes tokens, or does not answer.
    pub(crate) fn revokes(&self, revokes: bool) {
        self.state().is_revocation_down = !revokes;
    }

    /// The tokens that are revoked, once there are this many.
    pub(crate) async fn revoked(&self, count: usize) -> Vec<(TokenKind, String)> {
        loop {
            let changed = self.0.changed.notified();
            let revoked = self.state().revoked.clone();
            if revoked.len() >= count {
                return revoked;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn answer(&self, request: &Request) -> Result<Tokens, ServerError> {
        let mut state = self.state();
        let parameter = |name: &str| request.parameters.get(name).cloned().unwrap_or_default();
        let refreshes = match request.parameters["grant_type"].as_str() {
            "authorization_code" if parameter("code").starts_with("canary-code") => true,
            "refresh_token" if state.valid == Some(parameter("refresh_token")) => true,
            "refresh_token" => {
                // A used one tells of a theft (RFC 9700, section 4.14.2).
                if state.used.contains(&parameter("refresh_token")) {
                    state.valid = None;
                }
                return Err(refused("invalid_grant"));
            }
            "client_credentials" | "urn:ietf:params:oauth:grant-type:token-exchange" => false,
            _ => return Err(refused("invalid_grant")),
        };
        state.issued += 1;
        let number = state.issued;
        let refresh = refreshes.then(|| format!("canary-refresh-{number}"));
        if let Some(former) = state.valid.take().filter(|_| refreshes) {
            state.used.push(former);
        }
        state.valid.clone_from(&refresh);
        Ok(Tokens {
            access: format!("canary-access-{number}").into(),
            refresh: refresh.map(SecretString::from),
            expires_in: Some(LIFE),
            scopes: None,
            account: state.account.clone().filter(|_| refreshes),
            issued_token_type: String::new(),
        })
    }
}

impl AuthorizationServers for FakeServers {
    type Turn = ();

    async fn upstream(&self, _: &str, since: Option<SystemTime>) -> Result<Option<Arc<Upstream>>, ServerError> {
        let mut state = self.state();
        if since.is_some() || state.said.is_none() {
            state.said = Some(state.upstream.clone().map(Arc::new));
        }
        Ok(state.said.clone().flatten())
    }

    async fn metadata(&self, _: &Server) -> Result<Arc<Metadata>, ServerError> {
        Ok(Arc::new(self.state().metadata.clone()))
    }

    async fn register(&self, _: &Metadata, _: &str) -> Result<Registration, ServerError> {
        let mut state = self.state();
        state.registered += 1;
        Ok(Registration {
            client: Client {
                id: format!("registered-{}", state.registered),
                authentication: match &state.registered_secret {
                    Some(secret) => Authentication::Basic(secret.clone()),
                    None => Authentication::None,
                },
            },
            secret_expires: None,
        })
    }

    async fn turn(&self, _: &Metadata) -> Result<(), ServerError> {
        let is_queue = |script: &mut Script| matches!(script, Script::Queue(_));
        let queue = self.state().scripts.pop_front_if(is_queue);
        if let Some(Script::Queue(queue)) = queue {
            queue.await;
        }
        Ok(())
    }

    async fn token(
        &self,
        (): (),
        _: &Metadata,
        client: &Client,
        request: &TokenRequest,
    ) -> Result<Tokens, ServerError> {
        let parameters = request.parameters.iter();
        let request = Request {
            client: client.id.clone(),
            secret: match &client.authentication {
                Authentication::None => String::new(),
                Authentication::Basic(secret) | Authentication::Post(secret) => secret.expose_secret().to_owned(),
                Authentication::PrivateKey { key, .. } => key.expose_secret().to_owned(),
            },
            parameters: parameters
                .map(|(name, value)| (*name, value.expose_secret().to_owned()))
                .collect(),
        };
        self.state().requests.push(request.clone());
        let script = self.state().scripts.pop_front();
        match script {
            None | Some(Script::Queue(_)) => self.answer(&request),
            Some(Script::Fail(error)) => Err(error),
            Some(Script::Before(other)) => {
                other.await;
                self.answer(&request)
            }
            Some(Script::After(other)) => {
                let answer = self.answer(&request);
                other.await;
                answer
            }
            Some(Script::Issue(change)) => self.answer(&request).map(|mut tokens| {
                change(&mut tokens);
                tokens
            }),
        }
    }

    async fn revoke(&self, _: &Metadata, _: &Client, token: &SecretString, kind: TokenKind) -> Result<(), ServerError> {
        let mut state = self.state();
        if state.is_revocation_down {
            return Err(ServerError::Unavailable("as.example.com does not answer".to_owned()));
        }
        state.revoked.push((kind, token.expose_secret().to_owned()));
        drop(state);
        self.0.changed.notify_waiters();
        Ok(())
    }
}

/// An OAuth error.
pub(crate) fn refused(code: &str) -> ServerError {
    ServerError::Refused {
        code: code.to_owned(),
        description: format!("{code}: it says no"),
    }
}
