//! Requests to servers that may be hostile: each URL and address is checked, no redirect is followed, sizes and times are bounded.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Certificate, Client, Method, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use service_kit::{egress::EgressPolicy, roots::OwnRoots};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    places::{AT_A_TIME, Place, Places},
    resolve::{ResolveError, Resolver},
};
use crate::domain::authorization::servers::{Metadata, ServerError};

/// How long connecting may take, with the look-up of the name and TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection is kept.
const IDLE: Duration = Duration::from_secs(55);
const MAX_URL: usize = 2_048;

/// Where a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// To public addresses by https, since a server that has one named the URL.
    Public,
    /// Also to the networks that the operator allows.
    Allowed,
}

impl Reach {
    /// Of requests to a server's endpoints.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self::within(metadata.may_be_internal)
    }

    /// Of what a server names that is, or is not, in a network that the operator allows.
    pub(super) fn within(is_internal: bool) -> Self {
        match is_internal {
            true => Self::Allowed,
            false => Self::Public,
        }
    }
}

/// Why a URL is not reached that a server with a public address names.
const NOT_PUBLIC: &str = "is of a network that --allow-upstream-cidr names, where only servers in these networks may lead; an admin can give the \
                          endpoints in the entry";

/// The same of a name, whose address nobody must learn.
const RESOLVES_TO_NOT_PUBLIC: &str = "it resolves to an address that is not public, where only servers in networks of --allow-upstream-cidr may lead; an \
                                      admin can give the endpoints in the entry";

/// How much of an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Status and headers alone.
    Head,
    /// Status, headers and at most this many bytes.
    Body(usize),
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Body>,
    pub(super) limit: Limit,
}

#[derive(Debug)]
pub(super) struct Body {
    pub(super) content_type: &'static str,
    pub(super) bytes: Bytes,
}

/// A place for one request to a URL, which has been checked as far as its text says.
#[derive(Debug)]
pub(crate) struct Turn {
    reach: Reach,
    url: Url,
    origin: Arc<str>,
    _place: Place,
}

pub(super) struct Answer {
    /// Who answered, for messages.
    pub(super) origin: Arc<str>,
    /// It came from a network that the operator allows.
    pub(super) is_internal: bool,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Http {
    egress: EgressPolicy,
    /// The networks that the operator allows.
    internal: EgressPolicy,
    https: Client,
    /// For [`Reach::Public`].
    public: Client,
    /// For plain HTTP, which goes to fewer addresses.
    plain: Client,
    places: Places,
    /// How long a request may wait for its place. From then on, how long it may take to the last byte of the answer; twice that where it changes
    /// something.
    patience: Duration,
}

impl Request {
    /// Asks for a JSON document.
    pub(super) fn get(limit: usize) -> Self {
        Self {
            method: Method::GET,
            headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]),
            body: None,
            limit: Limit::Body(limit),
        }
    }

    /// Sends a body, and asks for JSON.
    pub(super) fn post(body: Body, limit: usize) -> Self {
        Self {
            method: Method::POST,
            body: Some(body),
            ..Self::get(limit)
        }
    }
}

impl Http {
    pub(super) fn new(egress: EgressPolicy, patience: Duration) -> Self {
        let internal = egress.for_plain_secrets();
        Self {
            https: client(Resolver::new(egress.clone()), egress.roots()),
            public: client(
                Resolver {
                    policy: EgressPolicy::default(),
                    refusal: RESOLVES_TO_NOT_PUBLIC,
                },
                egress.roots(),
            ),
            plain: client(Resolver::new(internal.clone()), egress.roots()),
            egress,
            internal,
            places: Places::new(),
            patience,
        }
    }

    /// The URL, if secrets may be sent to it as far as its text says. `what` names it to people.
    pub(super) fn checked(&self, reach: Reach, what: &str, url: &str) -> Result<Url, ServerError> {
        let wrong = |why: &str| ServerError::Unusable(format!("{what}: {why}"));
        if url.len() > MAX_URL {
            return Err(wrong("its URL is longer than 2,048 bytes"));
        }
        let url = Url::parse(url).map_err(|error| wrong(&format!("its URL cannot be read: {error}")))?;
        if let Err(why) = self.egress.check_url_for_secrets(&url) {
            return Err(wrong(&format!("its URL {why}")));
        }
        if reach == Reach::Public && EgressPolicy::default().check_url_for_secrets(&url).is_err() {
            return Err(wrong(&format!("its URL {NOT_PUBLIC}")));
        }
        Ok(url)
    }

    /// Waits until a request to a URL may be sent. `what` names it to people.
    pub(super) async fn turn(&self, reach: Reach, what: &str, url: &str) -> Result<Turn, ServerError> {
        let url = self.checked(reach, what, url)?;
        let origin: Arc<str> = url.origin().ascii_serialization().into();
        let place = timeout(self.patience, self.places.take(&origin)).await;
        let place = place.unwrap_or_else(|_late| {
            let patience = self.patience;
            let text = format!("{origin} answers slowly, and no other request could be sent to it within {patience:?}");
            Err(ServerError::Unavailable(text))
        })?;
        Ok(Turn {
            reach,
            url,
            origin,
            _place: place,
        })
    }

    pub(super) async fn send(&self, turn: Turn, request: Request) -> Result<Answer, ServerError> {
        // A server that has rotated a token has done so whether or not its answer comes.
        let patience = if request.method == Method::POST {
            self.patience * 2
        } else {
            self.patience
        };
        let answer = timeout(patience, self.exchange(&turn, request)).await;
        answer.unwrap_or_else(|_late| {
            let text = format!("{} did not answer within {patience:?}", turn.origin);
            Err(ServerError::Unavailable(text))
        })
    }

    async fn exchange(&self, turn: &Turn, request: Request) -> Result<Answer, ServerError> {
        let origin = &turn.origin;
        let client = match (turn.reach, turn.url.scheme()) {
            (Reach::Public, _) => &self.public,
            (Reach::Allowed, "https") => &self.https,
            (Reach::Allowed, _) => &self.plain,
        };
        let mut sent = reqwest::Request::new(request.method, turn.url.clone());
        *sent.headers_mut() = request.headers;
        if let Some(body) = request.body {
            let content_type = HeaderValue::from_static(body.content_type);
            sent.headers_mut().insert(CONTENT_TYPE, content_type);
            *sent.body_mut() = Some(body.bytes.into());
        }
        let mut response = match client.execute(sent).await {
            Ok(response) => response,
            Err(error) => return Err(no_answer(origin, &error)),
        };
        let mut answer = Answer {
            origin: Arc::clone(origin),
            is_internal: response
                .remote_addr()
                .is_some_and(|peer| self.internal.permits(peer.ip())),
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: Zeroizing::default(),
        };
        let Limit::Body(limit) = request.limit else {
            return Ok(answer);
        };
        // Room for all of it: a vector that grows leaves copies behind.
        let expected = response.content_length().unwrap_or(limit as u64);
        answer.body = Zeroizing::new(Vec::with_capacity(
            usize::try_from(expected).unwrap_or(limit).min(limit),
        ));
        let broken = |_| ServerError::Unavailable(format!("{origin} did not finish its answer"));
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if answer.body.len() + chunk.len() > limit {
                return Err(ServerError::Unusable(format!(
                    "{origin} answered with more than {} KiB",
                    limit >> 10
                )));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }
}

/// A URL for messages: its query may hold a secret.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Proxies that the environment names are ignored, as for the issuers of callers: a proxy would connect where the policy forbids.
fn client(resolver: Resolver, own: &OwnRoots) -> Client {
    // Those were read when the program began.
    let own = own
        .certificates()
        .filter_map(|certificate| Certificate::from_der(certificate).ok());
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .user_agent("chandlery")
        .dns_resolver(resolver)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(AT_A_TIME)
        .tls_certs_merge(own)
        .build()
        .expect("the TLS provider is installed first in main")
}

/// Why there is no answer. The cause says neither an address nor a URL.
fn no_answer(origin: &str, error: &reqwest::Error) -> ServerError {
    let mut cause: &(dyn StdError + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
        match cause.downcast_ref::<ResolveError>() {
            Some(refused @ ResolveError::Refused(_)) => {
                return ServerError::Unusable(format!("{origin} is not connected to: {refused}"));
            }
            Some(nothing) => return ServerError::Unreachable(format!("{origin} cannot be reached: {nothing}")),
            None => {}
        }
    }
    let why = match error.is_timeout() {
        true => "it did not accept the connection in time".to_owned(),
        false if error.source().is_none() => "the connection broke".to_owned(),
        false => cause.to_string(),
    };
    let text = format!("{origin} cannot be reached: {why}");
    match error.is_connect() || error.is_timeout() {
        true => ServerError::Unreachable(text),
        // A connection that broke may have carried the request.
        false => ServerError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use service_kit::testing::install_tls_provider;
    use tokio::net::TcpListener;

    use super::*;

    async fn unchecked(http: &Http, reach: Reach, url: &str) -> Turn {
        let origin = Arc::from("its origin");
        Turn {
            reach,
            url: url.parse().unwrap(),
            _place: http.places.take(&origin).await.unwrap(),
            origin,
        }
    }

    #[tokio::test]
    async fn what_a_name_resolves_to_is_checked_at_the_connect() {
        install_tls_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let http = Http::new(
            EgressPolicy::new(vec!["10.0.0.0/8".parse().unwrap()]),
            Duration::from_secs(10),
        );
        for scheme in ["http", "https"] {
            // As if the name were one of the Internet, whose text nobody objects to.
            let turn = unchecked(&http, Reach::Allowed, &format!("{scheme}://localhost:{port}/")).await;
            let result = tokio::select! {
                result = http.send(turn, Request::get(0)) => result,
                _ = listener.accept() => panic!("it was connected to"),
            };
            match result.map(|answer| answer.status) {
                Err(ServerError::Unusable(text)) => {
                    assert!(
                        text.contains("--allow-upstream-cidr") && !text.contains("127"),
                        "{text}"
                    );
                }
                other => panic!("expected a refusal: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_a_public_server_names_is_not_in_an_allowed_network() {
        install_tls_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let http = Http::new(policy, Duration::from_secs(10));
        for host in ["127.0.0.1", "localhost"] {
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{host}:{port}/");
                assert!(http.checked(Reach::Allowed, "it", &url).is_ok(), "{url}");
                match http.checked(Reach::Public, "it", &url) {
                    Err(ServerError::Unusable(text)) => assert!(text.contains("an admin can give"), "{text}"),
                    other => panic!("{url}: {other:?}"),
                }
            }
        }
        // As if the name were one of the Internet.
        let turn = unchecked(&http, Reach::Public, &format!("https://localhost:{port}/")).await;
        let result = tokio::select! {
            result = http.send(turn, Request::get(0)) => result,
            _ = listener.accept() => panic!("it was connected to"),
        };
        match result.map(|answer| answer.status) {
            Err(ServerError::Unusable(text)) => assert!(text.contains("an admin can give"), "{text}"),
            other => panic!("expected a refusal: {other:?}"),
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_place_for_ever() {
        install_tls_provider();
        let http = Http::new(
            EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]),
            Duration::from_millis(100),
        );
        let url = "http://127.0.0.1:1";
        let mut taken = Vec::new();
        for _ in 0..AT_A_TIME {
            taken.push(http.places.take(&url.into()).await.unwrap());
        }
        match http.turn(Reach::Allowed, "it", url).await {
            Err(ServerError::Unavailable(text)) => assert!(text.contains("could be sent to it within 100ms"), "{text}"),
            other => panic!("expected to wait in vain: {other:?}"),
        }
    }
}
