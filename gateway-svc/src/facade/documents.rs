//! Client ID metadata documents: fetched from the URL that is the client's id, whatever answers there.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use moka::sync::Cache;
use serde::Deserialize;
use service_kit::{Clock, egress::EgressPolicy, per_caller::PerCaller};
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
/// Fetches at a time.
const AT_A_TIME: usize = 16;

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
    #[error("The client's metadata document cannot be read: {0}.")]
    Unreadable(String),
    #[error("The client's metadata document says something else: {0}.")]
    Wrong(String),
    #[error("Too many clients' metadata documents are being read. Try again in a moment.")]
    Busy,
}

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
    pub(super) fn new(policy: &EgressPolicy, clock: Clock) -> Self {
        Self {
            https: Pool::new(Some(Arc::new(policy.clone())), PATIENCE),
            plain: Pool::new(Some(Arc::new(policy.for_plain_secrets())), PATIENCE),
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
            (Err(DocumentError::Unreadable(_) | DocumentError::Busy), Some(last)) => Kept {
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
        self.policy
            .check_url_for_secrets(&url)
            .map_err(|why| DocumentError::Url(format!("{why}.")))?;
        Ok(url)
    }

    async fn fetch(&self, id: &str, url: &Url) -> Result<Registered, DocumentError> {
        let late = || DocumentError::Unreadable("its server did not answer in time".to_owned());
        let body = timeout(PATIENCE, self.read(url)).await.map_err(|_| late())??;
        let wrong = |why: &str| DocumentError::Wrong(why.to_owned());
        let document: Document =
            serde_json::from_slice(&body).map_err(|_| wrong("it is not the metadata of a client"))?;
        if document.client_id != id {
            return Err(wrong("its client_id is not the URL that it is at"));
        }
        if document
            .token_endpoint_auth_method
            .is_some_and(|method| method != "none")
        {
            return Err(wrong("its token_endpoint_auth_method must be none"));
        }
        Registered::new(&document.client_name, document.redirect_uris).map_err(|error| wrong(&error))
    }

    async fn read(&self, url: &Url) -> Result<Bytes, DocumentError> {
        let unreadable = |why: &str| DocumentError::Unreadable(why.to_owned());
        let pool = if url.scheme() == "https" {
            &self.https
        } else {
            &self.plain
        };
        let uri: Uri = url.as_str().parse().map_err(|_| unreadable("its URL is not one"))?;
        let request = Request::get(&uri)
            .header(header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|_| unreadable("its URL is not one"))?;
        // Without the cause: it may say what is in the operator's network.
        let response = pool.request(&uri, request).await.map_err(|error| {
            tracing::info!(client.id = %url, error = %error, "a client's metadata document was not fetched");
            unreadable("its server is not reachable, or not allowed (--allow-upstream-cidr)")
        })?;
        // Neither is a redirect followed: its target was not checked.
        if response.status() != StatusCode::OK {
            return Err(unreadable("its server did not answer with 200"));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|_| unreadable("it is longer than 5 KB, or did not arrive"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{
        Router,
        response::{IntoResponse as _, Response},
    };
    use serde_json::{Value, json};
    use service_kit::clock::ManualClock;

    use super::*;

    type Answering = Box<dyn Fn(&str) -> Response + Send>;
    type Answer = Arc<Mutex<Answering>>;

    struct Server {
        id: String,
        answer: Answer,
        fetches: Arc<AtomicUsize>,
    }

    impl Server {
        async fn start() -> Self {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let id = format!("http://{}/client.json", listener.local_addr().unwrap());
            let answer: Answer = Arc::new(Mutex::new(Box::new(|id| {
                axum::Json(document(id, json!({}))).into_response()
            })));
            let fetches = Arc::new(AtomicUsize::new(0));
            let (own, answers, count) = (id.clone(), Arc::clone(&answer), Arc::clone(&fetches));
            let router = Router::new().fallback(async move || {
                count.fetch_add(1, Ordering::Relaxed);
                (answers.lock().unwrap())(&own)
            });
            tokio::spawn(async move { axum::serve(listener, router).await });
            Self { id, answer, fetches }
        }

        fn answer(&self, answer: impl Fn(&str) -> Response + Send + 'static) {
            *self.answer.lock().unwrap() = Box::new(answer);
        }
    }

    fn document(id: &str, change: Value) -> Value {
        let mut document = json!({
            "client_id": id, "client_name": "Editor", "redirect_uris": ["http://127.0.0.1/cb"],
            "token_endpoint_auth_method": "none",
        });
        for (name, value) in change.as_object().unwrap() {
            document[name] = value.clone();
        }
        document
    }

    fn documents(clock: &ManualClock) -> Documents {
        let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]);
        Documents::new(&policy, Clock::Manual(clock.clone()))
    }

    #[tokio::test]
    async fn a_document_is_kept_and_served_stale() {
        let server = Server::start().await;
        let clock = ManualClock::at(Clock::System.now());
        let documents = documents(&clock);
        let first = documents.get(&server.id).await.unwrap();
        assert_eq!(first.name, "Editor");
        documents.get(&server.id).await.unwrap();
        assert_eq!(server.fetches.load(Ordering::Relaxed), 1);
        server.answer(|_| StatusCode::BAD_GATEWAY.into_response());
        clock.advance(FRESH);
        for _ in 0..3 {
            assert_eq!(documents.get(&server.id).await, Ok(Arc::clone(&first)));
        }
        assert_eq!(
            server.fetches.load(Ordering::Relaxed),
            2,
            "a server that is away is not asked each time"
        );
        clock.advance(ABSENT);
        assert_eq!(documents.get(&server.id).await, Ok(first));
        assert_eq!(server.fetches.load(Ordering::Relaxed), 3);
        clock.advance(STALE);
        assert!(documents.get(&server.id).await.is_err());
        // A failure is not kept for long.
        server.answer(|id| axum::Json(document(id, json!({}))).into_response());
        assert!(documents.get(&server.id).await.is_err());
        clock.advance(ABSENT);
        documents.get(&server.id).await.unwrap();
    }

    #[tokio::test]
    async fn hostile_documents_are_refused() {
        let server = Server::start().await;
        let elsewhere = Server::start().await;
        let target = elsewhere.id.clone();
        let long = json!({ "client_name": "x".repeat(MAX_DOCUMENT) });
        let answers: Vec<Answering> = vec![
            Box::new(move |_| axum::response::Redirect::temporary(&target).into_response()),
            Box::new(move |id| axum::Json(document(id, long.clone())).into_response()),
            Box::new(|id| axum::Json(document(&format!("{id}/"), json!({}))).into_response()),
            Box::new(|id| axum::Json(document(id, json!({ "redirect_uris": [] }))).into_response()),
            Box::new(|id| axum::Json(document(id, json!({ "redirect_uris": ["evil://x"] }))).into_response()),
            Box::new(|id| {
                axum::Json(document(
                    id,
                    json!({ "token_endpoint_auth_method": "client_secret_post" }),
                ))
                .into_response()
            }),
            Box::new(|_| "nonsense".into_response()),
        ];
        for (index, answer) in answers.into_iter().enumerate() {
            server.answer(answer);
            let documents = documents(&ManualClock::at(Clock::System.now()));
            assert!(documents.get(&server.id).await.is_err(), "{index}");
        }
        assert_eq!(
            elsewhere.fetches.load(Ordering::Relaxed),
            0,
            "a redirect is not followed"
        );
    }

    /// A document that became another's is not served stale.
    #[tokio::test]
    async fn a_document_that_became_wrong_is_not_used() {
        let server = Server::start().await;
        let clock = ManualClock::at(Clock::System.now());
        let documents = documents(&clock);
        documents.get(&server.id).await.unwrap();
        server.answer(|_| axum::Json(document("https://bank.example.com/client.json", json!({}))).into_response());
        clock.advance(FRESH);
        let wrong = documents.get(&server.id).await;
        assert!(matches!(wrong, Err(DocumentError::Wrong(_))), "{wrong:?}");
    }

    #[tokio::test]
    async fn a_document_may_have_five_kilobytes() {
        let server = Server::start().await;
        for (length, fits) in [(MAX_DOCUMENT, true), (MAX_DOCUMENT + 1, false)] {
            server.answer(move |id| {
                let mut text = document(id, json!({})).to_string();
                text.push_str(&" ".repeat(length - text.len()));
                text.into_response()
            });
            let documents = documents(&ManualClock::at(Clock::System.now()));
            assert_eq!(documents.get(&server.id).await.is_ok(), fits, "{length}");
        }
    }

    #[tokio::test]
    async fn a_server_that_hangs_delays_no_other() {
        let (hanging, other) = (Server::start().await, Server::start().await);
        hanging.answer(|_| {
            let nothing = futures::stream::pending::<std::io::Result<Bytes>>();
            Response::new(axum::body::Body::from_stream(nothing))
        });
        let documents = Arc::new(documents(&ManualClock::at(Clock::System.now())));
        let waiting: Vec<_> = (0..2 * AT_A_TIME)
            .map(|number| {
                let (documents, id) = (Arc::clone(&documents), format!("{}{number}", hanging.id));
                tokio::spawn(async move { documents.get(&id).await })
            })
            .collect();
        while hanging.fetches.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        documents.get(&other.id).await.unwrap();
        assert_eq!(hanging.fetches.load(Ordering::Relaxed), 1);
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn only_permitted_addresses_are_asked() {
        let server = Server::start().await;
        let clock = ManualClock::at(Clock::System.now());
        let strict = Documents::new(&EgressPolicy::default(), Clock::Manual(clock.clone()));
        // An http URL, a private address, and a name that has one.
        let named = server.id.replace("http://127.0.0.1", "https://localhost");
        for id in [&server.id, "https://10.0.0.1/client.json", &named] {
            assert!(strict.get(id).await.is_err(), "{id}");
        }
        let documents = documents(&clock);
        let query = format!("{}?a=b", server.id);
        for id in [
            "http://127.0.0.1/",
            "https://a.example/x/../y",
            "ftp://a.example/x",
            &query,
        ] {
            assert!(matches!(documents.get(id).await, Err(DocumentError::Url(_))), "{id}");
        }
        assert_eq!(server.fetches.load(Ordering::Relaxed), 0);
    }
}
