//! Client ID metadata documents: fetched from the URL that is the client's id, whatever answers there.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use moka::sync::Cache;
use serde::Deserialize;
use service_kit::{Clock, egress::EgressPolicy, http1::HttpPath, per_caller::PerCaller};
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

use super::sealed::Registered;
use crate::upstream::Pool;

/// The longest URL of one.
const MAX_URL: usize = 1_000;
const MAX_DOCUMENT: usize = 5 << 10;
/// Documents that are kept.
const KEPT: u64 = 1_000;
/// For how long one is not fetched again.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// For how long one is used that cannot be fetched again.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// For how long one that could not be fetched is not looked for again.
const ABSENT: Duration = Duration::from_secs(10);
/// How long fetching may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Fetches at a time, each of another host. A stranger can give a server that hangs any number of names, but asks from few addresses, each of
/// which has about ten fetches in progress with all of its sign-ins (`Allowance::sign_ins`).
const AT_A_TIME: usize = 256;

/// Fetches and keeps documents.
pub(super) struct Documents {
    policy: EgressPolicy,
    https: Pool,
    /// For plain HTTP, which goes to fewer addresses.
    plain: Pool,
    kept: Cache<String, Kept>,
    hosts: PerCaller,
    under_way: Semaphore,
    clock: Clock,
}

#[derive(Clone)]
struct Kept {
    document: Result<Arc<Registered>, DocumentError>,
    /// When it was fetched.
    at: SystemTime,
    /// Until when it is not fetched again.
    until: SystemTime,
}

/// Why a document cannot be used, for the person who runs the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("The client's id {0}")]
    Url(String),
    /// Its server is away, or answers with nothing that could be one.
    #[error("{UNUSABLE}")]
    Unreadable,
    /// Its server answers with something else.
    #[error("{UNUSABLE}")]
    Foreign,
    /// It is the client's, which must change it.
    #[error("The client's metadata document is wrong: {0}.")]
    Wrong(String),
    #[error("Too many clients' metadata documents are being read. Try again in a moment.")]
    Busy,
}

/// Says no more: what tells one server that is none of a client from another tells anybody what is in the operator's network. The log says it.
const UNUSABLE: &str = "The client's metadata cannot be read from the URL that is its id. The people who run Chandlery find the cause in its log.";

/// RFC 7591, section 2.
#[derive(Deserialize)]
struct Document {
    client_id: String,
    #[serde(default)]
    client_name: String,
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_method: Option<String>,
}

impl Documents {
    /// Anybody can name a URL here, so the policy is not that of upstreams, which admins approve.
    pub(super) fn new(policy: &EgressPolicy, clock: Clock) -> Self {
        Self {
            https: Pool::new(Some(Arc::new(policy.clone())), PATIENCE, HttpPath::Hyper),
            plain: Pool::new(Some(Arc::new(policy.for_plain_secrets())), PATIENCE, HttpPath::Hyper),
            policy: policy.clone(),
            kept: Cache::builder().max_capacity(KEPT).time_to_idle(STALE).build(),
            hosts: PerCaller::new(1),
            under_way: Semaphore::new(AT_A_TIME),
            clock,
        }
    }

    /// The document at this URL, not much older than [`FRESH`] if it can be fetched.
    pub(super) async fn get(&self, id: &str) -> Result<Arc<Registered>, DocumentError> {
        let url = self.check(id)?;
        if let Some(kept) = self.decided(id) {
            return kept.document;
        }
        // One at a time of each host: those who wait for one that hangs leave the places to others, and find what it said meanwhile.
        let host: Arc<str> = url.origin().ascii_serialization().into();
        let turn = timeout(PATIENCE, self.hosts.of(&host).acquire_owned()).await;
        if let Some(kept) = self.decided(id) {
            return kept.document;
        }
        let fetched = match (turn, self.under_way.try_acquire()) {
            (Ok(_turn), Ok(_place)) => self.fetch(id, &url).await.map(Arc::new),
            _ => Err(DocumentError::Busy),
        };
        let now = self.clock.now();
        let last = self
            .kept
            .get(id)
            .filter(|last| last.document.is_ok() && now < last.at + STALE);
        let kept = match (fetched, last) {
            (Ok(document), _) => Kept {
                document: Ok(document),
                at: now,
                until: now + FRESH,
            },
            // Its own word that it is another's ends it; not that its server is away.
            (Err(DocumentError::Unreadable | DocumentError::Busy), Some(last)) => Kept {
                until: now + ABSENT,
                ..last
            },
            (Err(DocumentError::Busy), None) => return Err(DocumentError::Busy),
            (Err(error), _) => Kept {
                document: Err(error),
                at: now,
                until: now + ABSENT,
            },
        };
        self.kept.insert(id.to_owned(), kept.clone());
        kept.document
    }

    /// What is kept, unless it is to be fetched again.
    fn decided(&self, id: &str) -> Option<Kept> {
        self.kept.get(id).filter(|kept| self.clock.now() < kept.until)
    }

    /// A URL that is a client's id: its text is compared, so there is one way to write it.
    fn check(&self, id: &str) -> Result<Url, DocumentError> {
        let wrong = |why: &str| DocumentError::Url(why.to_owned());
        if id.len() > MAX_URL {
            return Err(wrong("is too long for a URL."));
        }
        let url = Url::parse(id).map_err(|_| wrong("is not a URL."))?;
        if url.as_str() != id || url.path() == "/" || url.query().is_some() {
            return Err(wrong("must be a URL with a path, without a query, in its normal form."));
        }
        self.policy.check_url_for_secrets(&url).map_err(|_| {
            wrong(
                "must be an https URL at a public address; an operator can allow others with --allow-client-document-cidr.",
            )
        })?;
        Ok(url)
    }

    async fn fetch(&self, id: &str, url: &Url) -> Result<Registered, DocumentError> {
        let body = timeout(PATIENCE, self.read(url)).await;
        let body = body.unwrap_or_else(|_| Err("its server did not answer in time".to_owned()));
        let body = body.map_err(|error| {
            tracing::info!(
                client.id = %url, error,
                "a client's metadata document was not fetched; private networks that may have some are named with --allow-client-document-cidr"
            );
            DocumentError::Unreadable
        })?;
        let foreign = |error: &str| {
            tracing::info!(client.id = %url, error, "what is at a client's id is not its metadata document");
            DocumentError::Foreign
        };
        let document: Document =
            serde_json::from_slice(&body).map_err(|_| foreign("it is not the metadata of a client"))?;
        if document.client_id != id {
            return Err(foreign("its client_id is not the URL that it is at"));
        }
        let wrong = |why: &str| DocumentError::Wrong(why.to_owned());
        if document
            .token_endpoint_auth_method
            .is_some_and(|method| method != "none")
        {
            return Err(wrong("its token_endpoint_auth_method must be none"));
        }
        Registered::new(&document.client_name, document.redirect_uris).map_err(|error| wrong(&error))
    }

    async fn read(&self, url: &Url) -> Result<Bytes, String> {
        let pool = if url.scheme() == "https" {
            &self.https
        } else {
            &self.plain
        };
        let uri: Uri = url.as_str().parse().map_err(|_| "its URL is not one")?;
        let request = Request::get(&uri)
            .header(header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|_| "its URL is not one")?;
        let response = pool.request(&uri, request).await.map_err(|error| {
            let causes = std::iter::successors(Some(&error as &dyn Error), |&error| error.source());
            causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        })?;
        // Neither is a redirect followed: its target was not checked.
        if response.status() != StatusCode::OK {
            return Err(format!("its server answered with {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|_| "it is longer than 5 KB, or did not arrive".to_owned())
    }
}

#[cfg(test)]
mod tests;
