//! Documents from servers that answer what they like.

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

/// Else anybody could find out what is in a network that the operator allows.
#[tokio::test]
async fn what_is_no_document_of_the_client_is_told_by_the_log_alone() {
    let server = Server::start().await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unreachable = format!("http://{}/client.json", closed.local_addr().unwrap());
    drop(closed);
    let clock = ManualClock::at(Clock::System.now());
    let first = documents(&clock).get(&unreachable).await.unwrap_err().to_string();
    let answers: Vec<Answering> = vec![
        Box::new(|_| StatusCode::NOT_FOUND.into_response()),
        Box::new(|_| axum::response::Redirect::temporary("http://127.0.0.1/").into_response()),
        Box::new(|_| "nonsense".into_response()),
        Box::new(|_| " ".repeat(MAX_DOCUMENT + 1).into_response()),
        Box::new(|id| axum::Json(document(&format!("{id}/"), json!({}))).into_response()),
    ];
    for answer in answers {
        server.answer(answer);
        let error = documents(&clock).get(&server.id).await.unwrap_err();
        assert_eq!(error.to_string(), first);
    }
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
    assert_eq!(wrong, Err(DocumentError::Foreign));
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

/// A name costs nothing: all of a domain may be one server's.
#[tokio::test]
async fn a_server_that_hangs_under_many_names_delays_no_other() {
    let other = Server::start().await;
    let documents = Arc::new(documents(&ManualClock::at(Clock::System.now())));
    let (mut waiting, mut hanging) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let id = format!("http://{}/client.json", listener.local_addr().unwrap());
        let documents = Arc::clone(&documents);
        let mut fetched = tokio::spawn(async move { documents.get(&id).await });
        tokio::select! {
            connection = listener.accept() => hanging.push(connection.unwrap()),
            answer = &mut fetched => panic!("its server was not asked: {answer:?}"),
        }
        waiting.push(fetched);
    }
    documents.get(&other.id).await.unwrap();
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
