//! Sessions that one client alone uses, with a server that the orchestrator runs.

use axum::extract::State;
use http::{Method, StatusCode};
use pretty_assertions::assert_eq;
use tokio::sync::watch;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that numbers its sessions, and answers a call with the session that it came in. It refuses to tell of resources whose URI begins with `no`,
/// and says so in a stream where it begins with `no-stream`.
struct Server {
    url: String,
    /// How many `initialize` it has got.
    asked: watch::Receiver<usize>,
    /// Whether it answers them.
    answers: watch::Sender<bool>,
    /// What has come in its sessions: the session and the method.
    came: watch::Receiver<Vec<(String, String)>>,
    /// Whether it answers that.
    replies: watch::Sender<bool>,
    /// Sessions that it has lost.
    lost: watch::Sender<Vec<String>>,
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
    came: Arc<watch::Sender<Vec<(String, String)>>>,
    replies: watch::Receiver<bool>,
    lost: watch::Receiver<Vec<String>>,
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
        _ if shared.lost.borrow().contains(&session()) => StatusCode::NOT_FOUND.into_response(),
        method => {
            shared
                .came
                .send_modify(|came| came.push((session(), method.to_owned())));
            shared.replies.wait_for(|replies| *replies).await.unwrap();
            let uri = message["params"]["uri"].as_str().unwrap_or_default();
            if method == "resources/subscribe" && uri.starts_with("no") {
                let error = json!({"code": -32002, "message": "Resource not found"});
                let refusal = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
                return match uri.starts_with("no-stream") {
                    true => events(vec![format!("data: {refusal}\n\n")]),
                    false => axum::Json(refusal).into_response(),
                };
            }
            reply(json!({"session": session()})).into_response()
        }
    }
}

impl Server {
    async fn start() -> Self {
        Self::with("2025-11-25", StatusCode::ACCEPTED).await
    }

    async fn with(revision: &'static str, initialized: StatusCode) -> Self {
        let (asked, ended, answers) = (watch::channel(0), mpsc::unbounded_channel(), watch::channel(true));
        let (came, replies, lost) = (watch::channel(vec![]), watch::channel(true), watch::channel(vec![]));
        let shared = Shared {
            came: Arc::new(came.0),
            replies: replies.1,
            lost: lost.1,
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
            came: came.1,
            replies: replies.0,
            lost: lost.0,
            ended: ended.1,
        }
    }

    fn target(&self, client: Option<&Client>) -> Arc<Target> {
        self.target_of(client, 1)
    }

    fn target_of(&self, client: Option<&Client>, generation: i64) -> Arc<Target> {
        let scope = client.cloned().map_or(Scope::Shared, Scope::Client);
        target_at(
            Endpoint::hosted(&self.url).unwrap(),
            generation,
            HeaderMap::new(),
            scope,
        )
    }

    /// Begins a request of this target, and returns when the server has got it.
    async fn begun(
        &mut self,
        upstreams: &Upstreams,
        target: &Arc<Target>,
        method: &'static str,
    ) -> tokio::task::JoinHandle<Result<Reply, UpstreamError>> {
        let before = self.came(method);
        let (upstreams, target) = (upstreams.clone(), Arc::clone(target));
        let begun = tokio::spawn(async move { upstreams.ask(&target, method, br#"{"uri":"x:/0"}"#).await });
        self.have_come(method, before + 1).await;
        begun
    }

    /// How many requests of this method have come.
    fn came(&self, method: &str) -> usize {
        self.came.borrow().iter().filter(|(_, came)| came == method).count()
    }

    /// Waits until so many have.
    async fn have_come(&mut self, method: &str, number: usize) {
        let all = |came: &Vec<(String, String)>| came.iter().filter(|(_, came)| came == method).count() >= number;
        let come = tokio::time::timeout(PATIENCE, self.came.wait_for(all)).await;
        come.expect("they come").unwrap();
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

/// Else the client would have one for each change of its values, and be told everything as often.
#[tokio::test]
async fn a_session_that_another_has_taken_the_place_of_ends_after_its_calls() {
    let mut server = Server::start().await;
    let upstreams = upstreams(patient());
    let [client, _] = &clients();
    server.replies.send_replace(false);
    let [before, after] = [1, 2].map(|generation| server.target_of(Some(client), generation));
    let first = server.begun(&upstreams, &before, "tools/call").await;
    let second = server.begun(&upstreams, &after, "tools/call").await;
    let sessions = upstreams.sessions_of(client);
    let keys: Vec<_> = sessions.iter().map(OpenSession::key).collect();
    assert_eq!(keys, [after.key()]);
    assert!(server.ended.try_recv().is_err());
    server.replies.send_replace(true);
    for begun in [first, second] {
        begun.await.unwrap().unwrap();
    }
    assert_eq!(server.next_ended().await, "s0");
    assert_eq!(server.session(&upstreams, Some(client)).await.unwrap(), "s2");
    assert_eq!(server.next_ended().await, "s1");
}

/// A server that takes long to subscribe keeps no call waiting, and what its client unsubscribes from meanwhile is not subscribed to.
#[tokio::test]
async fn what_a_lost_session_had_subscribed_to_is_subscribed_to_beside_calls() {
    let mut server = Server::start().await;
    let upstreams = upstreams(Limits {
        side_message: Duration::from_secs(3600),
        ..patient()
    });
    let [client, _] = &clients();
    let target = server.target(Some(client));
    let ask = async |method: &str, number: usize| {
        let params = json!({"uri": format!("x:/{number}")}).to_string();
        upstreams.ask(&target, method, params.as_bytes()).await.unwrap();
    };
    for number in 0..3 {
        ask("resources/subscribe", number).await;
    }
    server.lost.send_replace(vec!["s0".to_owned()]);
    server.replies.send_replace(false);
    let call = server.begun(&upstreams, &target, "tools/call").await;
    server.have_come("resources/subscribe", 6).await;
    let unsubscribed = server.begun(&upstreams, &target, "resources/unsubscribe").await;
    server.replies.send_replace(true);
    for begun in [call, unsubscribed] {
        begun.await.unwrap().unwrap();
    }
    // It may have come before the request to subscribe.
    server.have_come("resources/unsubscribe", 2).await;
}

/// What could not be subscribed to again is refused, and its server is not asked.
#[tokio::test]
async fn a_client_with_a_session_of_its_own_subscribes_to_so_much() {
    let server = Server::start().await;
    let upstreams = upstreams(patient());
    let [client, _] = &clients();
    let target = server.target(Some(client));
    let ask = async |method: &str, uri: &str| {
        let params = json!({"uri": uri}).to_string();
        upstreams.ask(&target, method, params.as_bytes()).await.unwrap()
    };
    for number in 0..MOST_SUBSCRIBED {
        let subscribed = ask("resources/subscribe", &format!("x:/{number}")).await;
        assert!(subscribed.result().is_some(), "{subscribed:?}");
    }
    let too_long = format!("x:{}", "a".repeat(LONGEST_URI));
    for (uri, why) in [("x:/more", TOO_MANY_SUBSCRIBED), (&too_long, URI_TOO_LONG)] {
        let refused = ask("resources/subscribe", uri).await;
        assert_eq!(refused.refusal(), Reply::of_error(why).refusal());
    }
    assert_eq!(server.came("resources/subscribe"), MOST_SUBSCRIBED);
    ask("resources/unsubscribe", "x:/0").await;
    assert!(
        ask("resources/subscribe", "x:/more").await.result().is_some(),
        "there is room again"
    );
}

/// Else a client would have no place left by resources that do not exist, and each further session would ask for them.
#[tokio::test]
async fn what_the_server_refuses_is_not_subscribed_to() {
    let server = Server::start().await;
    let upstreams = upstreams(patient());
    let [client, _] = &clients();
    let target = server.target(Some(client));
    let subscribe = async |uri: String| {
        let params = json!({"uri": uri}).to_string();
        let reply = upstreams.ask(&target, "resources/subscribe", params.as_bytes()).await;
        reply.unwrap().result().is_some()
    };
    for number in 0..MOST_SUBSCRIBED {
        let scheme = ["no", "no-stream"][number % 2];
        assert!(!subscribe(format!("{scheme}:/{number}")).await);
    }
    assert!(subscribe("x:/0".to_owned()).await);
    server.lost.send_replace(vec!["s0".to_owned()]);
    assert_eq!(server.session(&upstreams, Some(client)).await.unwrap(), "s1");
    let came = server.came.borrow();
    let anew = came
        .iter()
        .filter(|came| **came == ("s1".to_owned(), "resources/subscribe".to_owned()));
    assert_eq!(anew.count(), 1);
}

/// The server may have carried it out, and would tell of the resource for as long as the session lasts.
#[tokio::test]
async fn a_request_to_subscribe_that_is_given_up_is_taken_back() {
    let mut server = Server::start().await;
    let upstreams = upstreams(patient());
    let [client, _] = &clients();
    let target = server.target(Some(client));
    let subscribed = || upstreams.inner.subscribed.has(client, target.installation(), "x:/0");
    server.replies.send_replace(false);
    let begun = server.begun(&upstreams, &target, "resources/subscribe").await;
    assert!(subscribed(), "another session would be to have it");
    begun.abort();
    assert!(begun.await.unwrap_err().is_cancelled());
    server.have_come("resources/unsubscribe", 1).await;
    assert!(!subscribed());
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
