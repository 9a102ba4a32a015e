//! What clients of one session with a server hear, whatever becomes of the session.

use pretty_assertions::assert_eq;
use tokio::time::timeout;

use super::{
    events::{Events, notification, streams},
    *,
};

/// Longer than a stream is waited for that is opened again at once.
const PATIENCE: Duration = Duration::from_secs(20);

type Streams = mpsc::UnboundedReceiver<mpsc::UnboundedSender<Value>>;

/// A server with a resource, and the streams on which it speaks.
fn speaks() -> (Streams, impl Fn(Value, HeaderMap) -> Response + Send + Sync) {
    let (streams, respond) = streams();
    let answer = answers(
        r#"{"resultType":"complete","content":[],"resources":[{"uri":"x:/a","name":"a"},{"uri":"x:/b","name":"b"}],"resourceTemplates":[]}"#,
    );
    let speaks = move |message: Value, headers| match message["method"].as_str() {
        Some("GET" | "subscriptions/listen") => respond(),
        _ => answer(message, headers),
    };
    (streams, speaks)
}

fn about(method: &str, uri: &str) -> String {
    let method = format!("resources/{method}");
    json!({"jsonrpc": "2.0", "id": 3, "method": method, "params": {"uri": uri}}).to_string()
}

fn updated(uri: &str) -> Value {
    notification("resources/updated", json!({"uri": uri}))
}

fn changed() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"})
}

/// Lists may be others in another session.
async fn tells_of_another(events: &mut Events) {
    for list in ["prompts", "resources"] {
        let changed = json!({"jsonrpc": "2.0", "method": format!("notifications/{list}/list_changed")});
        assert_eq!(events.next().await, changed);
    }
}

async fn next(streams: &mut Streams) -> mpsc::UnboundedSender<Value> {
    let opened = timeout(PATIENCE, streams.recv()).await;
    opened.expect("a stream is opened").unwrap()
}

impl World {
    /// Alice's client, which listens.
    async fn listener(&self) -> (String, Events) {
        self.listener_of("alice").await
    }

    async fn listener_of(&self, who: &str) -> (String, Events) {
        let session = self.open(who, "2025-11-25", json!({"roots": {}})).await;
        let events = self.listen_by(who, &session).await;
        (session, events)
    }

    /// The next message of this method that the server gets, and its headers.
    async fn got_next(&mut self, method: &str) -> (Value, HeaderMap) {
        let got = async {
            loop {
                let got = self.seen.recv().await.unwrap();
                if got.0["method"] == method {
                    return got;
                }
            }
        };
        timeout(PATIENCE, got).await.expect("the server gets it")
    }
}

/// What a server asks while it answers the first call is refused, and does not wait for ever.
#[tokio::test]
async fn the_stream_stands_before_the_first_call() {
    let (mut streams, speaks) = speaks();
    let (stands, said) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let says = Arc::clone(&said);
    let mut world = world(move |message, headers| {
        match message["method"].as_str() {
            Some("GET") => stands.store(true, Ordering::SeqCst),
            Some("tools/call") => says.store(stands.load(Ordering::SeqCst), Ordering::SeqCst),
            _ => {}
        }
        speaks(message, headers)
    })
    .await;
    world.share().await;
    let (session, mut events) = world.listener().await;
    world.ask("alice", &session, CALL).await;
    assert!(said.load(Ordering::SeqCst));
    let (initialize, _) = world.got_next("initialize").await;
    assert_eq!(initialize["params"]["capabilities"], json!({}));
    let write = next(&mut streams).await;
    write
        .send(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}))
        .unwrap();
    assert_eq!(world.saw(|message| message["id"] == 7).await["error"]["code"], -32601);
    write.send(changed()).unwrap();
    assert_eq!(events.next().await, changed());
}

#[tokio::test]
async fn what_is_subscribed_to_outlives_a_credential() {
    let (mut streams, speaks) = speaks();
    let demanded = Arc::new(Mutex::new("Bearer secret-1"));
    let demands = Arc::clone(&demanded);
    let mut world = world(
        move |message, headers| match headers["authorization"] == **demands.lock().unwrap() {
            true => speaks(message, headers),
            false => StatusCode::UNAUTHORIZED.into_response(),
        },
    )
    .await;
    world.share().await;
    let (session, mut events) = world.listener().await;
    world.ask("alice", &session, &about("subscribe", "x:/a")).await;
    let first = next(&mut streams).await;
    world.got();
    *world.credentials.0.lock().unwrap() = Some(2);
    *demanded.lock().unwrap() = "Bearer secret-2";
    let (caller, _events) = world.listener().await;
    world.ask("alice", &caller, CALL).await;
    let (subscribed, headers) = world.got_next("resources/subscribe").await;
    assert_eq!(subscribed["params"], json!({"uri": "x:/a"}));
    assert_eq!(headers["authorization"], "Bearer secret-2");
    first.closed().await;
    let second = next(&mut streams).await;
    tells_of_another(&mut events).await;
    for said in [updated("x:/a"), changed()] {
        second.send(said.clone()).unwrap();
        assert_eq!(events.next().await, said);
    }
}

/// A client that listens and has subscribed, its session, and the stream of the server, which knows another session by now.
async fn forgotten() -> (World, String, Events, Streams, mpsc::UnboundedSender<Value>) {
    let (mut streams, speaks) = speaks();
    let mut world = world(speaks).await;
    world.share().await;
    world.session.store(1, Ordering::SeqCst);
    let (session, events) = world.listener().await;
    world.ask("alice", &session, &about("subscribe", "x:/a")).await;
    let first = next(&mut streams).await;
    world.got();
    world.session.store(2, Ordering::SeqCst);
    (world, session, events, streams, first)
}

#[tokio::test]
async fn a_session_that_a_call_opens_anew_is_received_at_once() {
    let (mut world, session, mut events, mut streams, _first) = forgotten().await;
    world.ask("alice", &session, CALL).await;
    let second = next(&mut streams).await;
    let (_, headers) = world.got_next("resources/subscribe").await;
    assert_eq!(headers["mcp-session-id"], "s2");
    tells_of_another(&mut events).await;
    second.send(updated("x:/a")).unwrap();
    assert_eq!(events.next().await, updated("x:/a"));
}

/// A client that only listens learns what its server says after it was started again.
#[tokio::test]
async fn a_session_that_its_server_has_lost_is_opened_anew() {
    let (mut world, _, mut events, mut streams, first) = forgotten().await;
    drop(first);
    let (_, headers) = world.got_next("resources/subscribe").await;
    assert_eq!(headers["mcp-session-id"], "s2");
    let second = next(&mut streams).await;
    tells_of_another(&mut events).await;
    second.send(updated("x:/a")).unwrap();
    assert_eq!(events.next().await, updated("x:/a"));
}

/// The old server gets nothing more, and what it was sent with least of all.
#[tokio::test]
async fn a_session_whose_entry_has_another_url_goes_on_there() {
    let (mut world, _session, mut events, mut streams, first) = forgotten().await;
    world.session.store(1, Ordering::SeqCst);
    let mut changes = Vec::new();
    for mut object in world.registry.objects.clone() {
        match &mut object.object {
            Some(Object::EntryRevision(revision)) => {
                object.key = "e-mail/2".to_owned();
                revision.number = 2;
                let Some(pb::entry_revision::Server::Remote(remote)) = &mut revision.server else {
                    panic!("it is remote");
                };
                remote.url = remote.url.replace("/mcp", "/moved");
                remote.set_session_model(pb::SessionModel::OneForAll);
            }
            Some(Object::Installation(installation)) => installation.running_entry_revision = 2,
            _ => continue,
        }
        changes.push(put_change(object));
    }
    world.feed.changes(3, changes).await;
    drop(first);
    let second = next(&mut streams).await;
    tells_of_another(&mut events).await;
    second.send(updated("x:/a")).unwrap();
    assert_eq!(events.next().await, updated("x:/a"));
    while let Ok((message, headers)) = world.seen.try_recv() {
        assert_eq!(headers["x-path"], "/moved", "{message}");
    }
}

#[tokio::test]
async fn what_is_subscribed_to_ends_with_the_client() {
    let (_streams, speaks) = speaks();
    let mut world = world(speaks).await;
    world.share().await;
    let (one, _ones) = world.listener().await;
    let (other, _others) = world.listener().await;
    for (session, uris) in [(&one, ["x:/a", "x:/b"].as_slice()), (&other, &["x:/b"])] {
        for uri in uris {
            world.ask("alice", session, &about("subscribe", uri)).await;
        }
    }
    world.send(method("DELETE").by("alice").session(&one)).await;
    let (ended, _) = world.got_next("resources/unsubscribe").await;
    assert_eq!(ended["params"], json!({"uri": "x:/a"}), "the other has what remains");
    world.send(method("DELETE").by("alice").session(&other)).await;
    let (ended, _) = world.got_next("resources/unsubscribe").await;
    assert_eq!(ended["params"], json!({"uri": "x:/b"}));

    // One without a session ends with its last stream.
    let wanted = json!({"notifications": {"resourceSubscriptions": ["x:/a"]}});
    let stream = world.modern_stream("alice", "subscriptions/listen", wanted).await;
    let mut events = Events::of(stream);
    events.next().await;
    drop(events);
    let (ended, _) = world.got_next("resources/unsubscribe").await;
    assert_eq!(ended["params"], json!({"uri": "x:/a"}));
}

#[tokio::test]
async fn who_leaves_the_team_hears_nothing_more_of_its_server() {
    let (mut streams, speaks) = speaks();
    let mut world = world(speaks).await;
    for object in &mut world.registry.objects {
        if let Some(Object::Installation(installation)) = &mut object.object {
            installation.scope = Some(pb::installation::Scope::Team("teams/core".to_owned()));
        }
    }
    world.registry = world.registry.clone().team("core", &["alice", "bob"]);
    world.share().await;
    let (alice, mut alices) = world.listener_of("alice").await;
    let (bob, mut bobs) = world.listener_of("bob").await;
    for (who, session) in [("alice", &alice), ("bob", &bob)] {
        world.ask(who, session, &about("subscribe", "x:/a")).await;
    }
    let write = next(&mut streams).await;
    write.send(updated("x:/a")).unwrap();
    for events in [&mut alices, &mut bobs] {
        assert_eq!(events.next().await, updated("x:/a"));
    }
    let leaves = |who: &str| {
        let key = format!("t-core/{}", crate::snapshot::testing::user_id(who));
        vec![removal(pb::ObjectKind::TeamMember, &key)]
    };
    world.feed.changes(3, leaves("alice")).await;
    for said in [updated("x:/a"), changed()] {
        write.send(said.clone()).unwrap();
        assert_eq!(bobs.next().await, said);
    }
    let tools = "notifications/tools/list_changed";
    assert_eq!(alices.next().await["method"], tools);
    // With the last of them, its stream ends. Theirs are read meanwhile.
    world.feed.changes(4, leaves("bob")).await;
    loop {
        tokio::select! {
            () = write.closed() => break,
            message = alices.next() => panic!("{message}"),
            message = bobs.next() => assert_eq!(message["method"], tools),
        }
    }
    world.got_next("resources/unsubscribe").await;
    world.stop.cancel();
    alices.ended().await;
}

/// Else the server would tell nobody of what both have been told that it does.
#[tokio::test]
async fn the_end_of_one_subscription_does_not_overtake_another() {
    let (mut streams, speaks) = speaks();
    let (reply, held) = mpsc::unbounded_channel::<String>();
    let (held, subscribed) = (Mutex::new(Some(held)), AtomicUsize::new(0));
    let mut world = world(move |message, headers| {
        if message["method"] != "resources/subscribe" || subscribed.fetch_add(1, Ordering::SeqCst) == 0 {
            return speaks(message, headers);
        }
        let held = held.lock().unwrap().take().expect("one is held");
        let body = tokio_stream::wrappers::UnboundedReceiverStream::new(held);
        let body = futures::StreamExt::map(body, Ok::<_, std::convert::Infallible>);
        ([("content-type", "application/json")], Body::from_stream(body)).into_response()
    })
    .await;
    world.share().await;
    let (one, mut ones) = world.listener().await;
    let (other, _others) = world.listener().await;
    world.ask("alice", &other, &about("subscribe", "x:/a")).await;
    world.got();
    let asks = post(about("subscribe", "x:/a")).by("alice").session(&one);
    let asked = tokio::spawn(world.router.clone().oneshot(Request::from(asks)));
    let (message, _) = world.got_next("resources/subscribe").await;
    let answered = world.ask("alice", &other, &about("unsubscribe", "x:/a")).await;
    assert_eq!(answered, json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    assert_eq!(world.got(), [""; 0]);
    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {}}).to_string();
    reply.send(answer).unwrap();
    drop(reply);
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    let write = next(&mut streams).await;
    write.send(updated("x:/a")).unwrap();
    assert_eq!(ones.next().await, updated("x:/a"));
}

#[tokio::test]
async fn a_server_without_sessions_is_asked_for_what_all_have_subscribed_to() {
    let (mut streams, speaks) = speaks();
    let mut world = world(speaks).await;
    world.modern.store(true, Ordering::SeqCst);
    world.share().await;
    let (one, mut ones) = world.listener().await;
    let (other, mut others) = world.listener().await;
    let acknowledged = |listened: &Value| {
        let meta = json!({"io.modelcontextprotocol/subscriptionId": listened["id"]});
        notification(
            "subscriptions/acknowledged",
            json!({"_meta": meta, "notifications": {}}),
        )
    };
    let mut asked = Vec::new();
    let mut write = None;
    for (session, uri) in [(&one, "x:/a"), (&other, "x:/b")] {
        asked.push(uri);
        let asks = post(about("subscribe", uri)).by("alice").session(session);
        let answered = tokio::spawn(world.router.clone().oneshot(Request::from(asks)));
        loop {
            let (listened, _) = world.got_next("subscriptions/listen").await;
            let opened = next(&mut streams).await;
            opened.send(acknowledged(&listened)).unwrap();
            write = Some(opened);
            if listened["params"]["notifications"]["resourceSubscriptions"] == json!(asked) {
                break;
            }
        }
        let answer: Value = serde_json::from_str(&text(answered.await.unwrap().unwrap()).await).unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    }
    let write = write.unwrap();
    for said in [updated("x:/a"), updated("x:/b"), changed()] {
        write.send(said).unwrap();
    }
    for (events, uri) in [(&mut ones, "x:/a"), (&mut others, "x:/b")] {
        for expected in [updated(uri), changed()] {
            assert_eq!(events.next().await, expected);
        }
    }
}
