//! Sessions that one client alone uses, with a server that the orchestrator runs.

use axum::extract::State;
use http::{Method, StatusCode};
use pretty_assertions::assert_eq;
use tokio::sync::watch;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that numbers its sessions, and answers a call with the session that it came in.
struct Server {
    url: String,
    /// How many `initialize` it has got.
    asked: watch::Receiver<usize>,
    /// Whether it answers them.
    answers: watch::Sender<bool>,
    /// Sessions that were ended.
    ended: mpsc::UnboundedReceiver<String>,
}

#[derive(Clone)]
struct Shared {
    /// The revision that it speaks.
    revision: &'static str,
    /// The status with which it takes `notifications/initialized`.
    initialized: StatusCode,
    asked: Arc<watch::Sender<usize>>,
    answers: watch::Receiver<bool>,
    ended: mpsc::UnboundedSender<String>,
}

async fn respond(State(mut shared): State<Shared>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let session = || headers["mcp-session-id"].to_str().unwrap().to_owned();
    if method == Method::DELETE {
        shared.ended.send(session()).unwrap();
        return StatusCode::NO_CONTENT.into_response();
    }
    let message: Value = serde_json::from_slice(&body).unwrap();
    let reply = |result: Value| axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
    match message["method"].as_str().unwrap() {
        "initialize" => {
            let mut number = 0;
            shared.asked.send_modify(|asked| {
                number = *asked;
                *asked += 1;
            });
            shared.answers.wait_for(|answers| *answers).await.unwrap();
            let id = [("mcp-session-id", format!("s{number}"))];
            (id, reply(json!({"protocolVersion": shared.revision}))).into_response()
        }
        "server/discover" => unknown(&message),
        "notifications/initialized" => shared.initialized.into_response(),
        _ => reply(json!({"session": session()})).into_response(),
    }
}

impl Server {
    async fn start() -> Self {
        Self::with("2025-11-25", StatusCode::ACCEPTED).await
    }

    async fn with(revision: &'static str, initialized: StatusCode) -> Self {
        let (asked, ended, answers) = (watch::channel(0), mpsc::unbounded_channel(), watch::channel(true));
        let shared = Shared {
            revision,
            initialized,
            asked: Arc::new(asked.0),
            answers: answers.1,
            ended: ended.0,
        };
        Self {
            url: serve(Router::new().fallback(any(respond)).with_state(shared)).await,
            asked: asked.1,
            answers: answers.0,
            ended: ended.1,
        }
    }

    fn target(&self, client: Option<&Client>) -> Arc<Target> {
        let scope = client.cloned().map_or(Scope::Shared, Scope::Client);
        target_at(Endpoint::hosted(&self.url).unwrap(), 1, HeaderMap::new(), scope)
    }

    /// The session in which a call of this client comes.
    async fn session(&self, upstreams: &Upstreams, client: Option<&Client>) -> Result<String, UpstreamError> {
        let reply = call(upstreams, &self.target(client)).await?;
        let result: Value = serde_json::from_slice(&reply.result().unwrap()).unwrap();
        Ok(result["session"].as_str().unwrap().to_owned())
    }

    /// Begins a call of this client, and returns when the server has got its `initialize`.
    async fn initializing(
        &mut self,
        upstreams: &Upstreams,
        client: &Client,
    ) -> tokio::task::JoinHandle<Result<Reply, UpstreamError>> {
        self.answers.send_replace(false);
        let before = *self.asked.borrow();
        let (upstreams, target) = (upstreams.clone(), self.target(Some(client)));
        let begun = tokio::spawn(async move { call(&upstreams, &target).await });
        self.asked.wait_for(|asked| *asked > before).await.unwrap();
        begun
    }

    async fn next_ended(&mut self) -> String {
        let ended = tokio::time::timeout(PATIENCE, self.ended.recv()).await;
        ended.expect("a session is ended").unwrap()
    }
}

/// Ends a client's sessions.
async fn end(upstreams: &Upstreams, client: Client) {
    for own in upstreams.end_client(client) {
        upstreams.end(own, HeaderMap::new()).await;
    }
}

fn clients() -> [Client; 2] {
    [1, 2].map(|id| Client::Session([id; 12]))
}

#[tokio::test]
async fn clients_with_sessions_of_their_own_share_none_and_end_theirs() {
    let mut server = Server::start().await;
    let upstreams = upstreams(patient());
    let [one, two] = &clients();
    let alice = &Client::Caller("users/alice".into());
    let all = [Some(one), Some(two), Some(alice), None];
    for (client, expected) in all.into_iter().zip(["s0", "s1", "s2", "s3"]) {
        assert_eq!(server.session(&upstreams, client).await.unwrap(), expected);
    }
    end(&upstreams, one.clone()).await;
    assert_eq!(server.next_ended().await, "s0");
    for (client, expected) in [(Some(two), "s1"), (Some(alice), "s2"), (None, "s3")] {
        assert_eq!(server.session(&upstreams, client).await.unwrap(), expected);
    }
    // A call that was under way when its client ended opens no session.
    assert_eq!(
        server.session(&upstreams, Some(one)).await,
        Err(UpstreamError::Cancelled)
    );
    assert_eq!(*server.asked.borrow(), 4);
}

/// Else its process would run until it was idle for long.
#[tokio::test]
async fn a_session_that_opens_when_its_client_has_ended_is_ended() {
    let mut server = Server::start().await;
    let upstreams = upstreams(patient());
    let [client, other] = clients();
    let begun = server.initializing(&upstreams, &client).await;
    end(&upstreams, client).await;
    server.answers.send_replace(true);
    assert_eq!(server.next_ended().await, "s0");
    assert_eq!(begun.await.unwrap().unwrap_err(), UpstreamError::Cancelled);
    assert_eq!(server.session(&upstreams, Some(&other)).await.unwrap(), "s1");
}

/// Else its process would run until it was idle for long.
#[tokio::test]
async fn a_session_that_cannot_be_used_is_ended_at_once() {
    for (revision, initialized) in [
        ("1999-01-01", StatusCode::ACCEPTED),
        ("2025-11-25", StatusCode::UNAUTHORIZED),
    ] {
        let mut server = Server::with(revision, initialized).await;
        let [client, _] = &clients();
        server.session(&upstreams(patient()), Some(client)).await.unwrap_err();
        assert_eq!(server.next_ended().await, "s0");
    }
}

/// A client that ends often gives up its calls first.
#[tokio::test]
async fn a_session_whose_call_was_given_up_meanwhile_ends_with_its_client() {
    let mut server = Server::start().await;
    let upstreams = upstreams(patient());
    let [client, _] = clients();
    let begun = server.initializing(&upstreams, &client).await;
    begun.abort();
    assert!(begun.await.unwrap_err().is_cancelled());
    server.answers.send_replace(true);
    // Waits for the session that is being opened.
    assert_eq!(server.session(&upstreams, Some(&client)).await.unwrap(), "s0");
    end(&upstreams, client).await;
    assert_eq!(server.next_ended().await, "s0");
}

#[tokio::test]
async fn a_session_that_is_no_longer_kept_leaves_the_index() {
    let server = Server::start().await;
    let upstreams = upstreams(patient());
    let [client, other] = &clients();
    for client in [client, other] {
        server.session(&upstreams, Some(client)).await.unwrap();
    }
    upstreams
        .inner
        .sessions
        .invalidate(&server.target(Some(client)).key)
        .await;
    let clients = upstreams.inner.by_client.clients();
    assert_eq!(clients, std::slice::from_ref(other));
}
