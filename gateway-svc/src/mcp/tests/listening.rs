//! What a server says outside the answers to calls.

use pretty_assertions::assert_eq;

use super::{
    events::{Events, notification, streams, written},
    *,
};

/// Answers requests, and a GET with a stream that the test writes to.
fn speaks(respond: impl Fn() -> Response + Send + Sync) -> impl Fn(Value, HeaderMap) -> Response + Send + Sync {
    let answer = answers(r#"{"content":[],"resources":[{"uri":"x:/a","name":"a"}],"resourceTemplates":[]}"#);
    move |message, headers| match message["method"].as_str() {
        Some("GET") => {
            assert_eq!(headers["accept"], "text/event-stream");
            respond()
        }
        _ => answer(message, headers),
    }
}

#[tokio::test]
async fn a_client_with_a_stream_gets_what_its_servers_say() {
    let (write, respond) = written();
    let mut world = world(speaks(respond)).await;
    world.streams.store(true, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({"roots": {}})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    // The server is listened to from the first call on.
    world.ask("alice", &session, CALL).await;
    let log = notification("message", json!({"level": "info", "data": 12345678901234567890_u64}));
    let updated = notification("resources/updated", json!({"uri": "x:/a", "title": "t"}));
    let new = json!({"jsonrpc": "2.0", "method": "notifications/new", "x": 1.0});
    for said in [&log, &updated, &new] {
        write.send(said.clone()).unwrap();
        assert_eq!(events.next().await, *said);
    }
    write
        .send(notification("prompts/list_changed", json!({"x": 1})))
        .unwrap();
    assert_eq!(events.next().await["method"], "notifications/prompts/list_changed");

    // A request is answered, once; another is withdrawn.
    write
        .send(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}))
        .unwrap();
    let asked = events.next().await;
    assert_eq!(asked["method"], "roots/list");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}}).to_string();
    for _ in 0..2 {
        assert_eq!(world.post("alice", &session, answer.clone()).await.status(), 202);
    }
    let got = world.saw(|message| message.get("result").is_some()).await;
    assert_eq!(got, json!({"jsonrpc": "2.0", "id": 7, "result": {"roots": []}}));
    write
        .send(json!({"jsonrpc": "2.0", "id": 8, "method": "roots/list"}))
        .unwrap();
    let asked = events.next().await;
    write.send(notification("cancelled", json!({"requestId": 8}))).unwrap();
    assert_eq!(events.next().await["params"]["requestId"], asked["id"]);

    // With the stream, the one to the server ends.
    drop(events);
    write.closed().await;
    while let Ok((message, _)) = world.seen.try_recv() {
        assert!(message.get("result").is_none(), "it was answered twice: {message}");
    }
}

/// What a server says while it answers the first call finds its stream open.
#[tokio::test]
async fn a_client_gets_what_its_server_says_during_the_first_call() {
    let (write, respond) = written();
    let (stands, answer) = (AtomicBool::new(false), speaks(respond));
    let said = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&said);
    let world = world(move |message, headers| {
        match message["method"].as_str() {
            Some("GET") => stands.store(true, Ordering::SeqCst),
            Some("tools/call") => says.store(stands.load(Ordering::SeqCst), Ordering::SeqCst),
            _ => {}
        }
        answer(message, headers)
    })
    .await;
    world.streams.store(true, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    let heard = tokio::spawn(async move { events.next().await });
    world.ask("alice", &session, CALL).await;
    assert!(said.load(Ordering::SeqCst), "the stream stands before the call is sent");
    write.send(notification("message", json!({"n": 1}))).unwrap();
    assert_eq!(heard.await.unwrap()["params"]["n"], 1);
}

/// A client that makes no call would hear nothing more.
#[tokio::test]
async fn a_client_that_only_listens_goes_on_with_a_server_that_was_started_again() {
    let ((write, first), (write_again, second)) = (written(), written());
    let answer = answers("{}");
    let mut world = world(move |message, headers| match message["method"].as_str() {
        Some("GET") if headers["mcp-session-id"] == "s1" => first(),
        Some("GET") => second(),
        _ => answer(message, headers),
    })
    .await;
    world.streams.store(true, Ordering::SeqCst);
    world.session.store(1, Ordering::SeqCst);
    let more = world.registry.clone().assign("default", "mail", "*");
    fill(&mut world.feed, 2, more.objects.clone()).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    events.primed().await;
    world.ask("alice", &session, CALL).await;
    world.session.store(2, Ordering::SeqCst);
    drop(write);
    let mut changed = Vec::new();
    for _ in 0..3 {
        let heard = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
        changed.push(heard.expect("its lists may be others")["method"].clone());
    }
    let lists = ["tools", "prompts", "resources"].map(|list| format!("notifications/{list}/list_changed"));
    assert_eq!(changed, lists);
    let log = notification("message", json!({"n": 1}));
    write_again.send(log.clone()).unwrap();
    assert_eq!(events.next().await, log);
}

/// Also where a server is silent, and could ask or say something only later.
#[tokio::test]
async fn a_client_hears_nothing_more_of_a_server_that_it_does_not_reach() {
    let assignment = "a-default-mail-send";
    let moved = |objects: &[pb::WatchedObject]| {
        objects
            .iter()
            .cloned()
            .filter_map(|mut object| {
                match object.object.as_mut()? {
                    Object::EntryRevision(revision) => {
                        object.key = "e-mail/2".to_owned();
                        revision.number = 2;
                        let url = "http://127.0.0.1:1/mcp".to_owned();
                        let remote = pb::RemoteServer {
                            url,
                            ..pb::RemoteServer::default()
                        };
                        revision.server = Some(pb::entry_revision::Server::Remote(remote));
                    }
                    Object::Installation(installation) => installation.running_entry_revision = 2,
                    _ => return None,
                }
                Some(put_change(object))
            })
            .collect()
    };
    for how in ["uninstalled", "unassigned", "moved", "deleted"] {
        let (write, respond) = written();
        let mut world = world(speaks(respond)).await;
        world.streams.store(true, Ordering::SeqCst);
        let session = world.open("alice", "2025-11-25", json!({"roots": {}})).await;
        let mut events = world.listen(&session).await;
        world.ask("alice", &session, CALL).await;
        write.send(notification("message", json!({"n": 1}))).unwrap();
        assert_eq!(events.next().await["params"]["n"], 1, "{how}");
        let changes = match how {
            "uninstalled" => vec![removal(pb::ObjectKind::Installation, "i-alice")],
            "unassigned" => vec![removal(pb::ObjectKind::ToolAssignment, assignment)],
            "moved" => moved(&world.registry.objects),
            _ => vec![removal(pb::ObjectKind::Entry, "e-mail")],
        };
        world.feed.changes(2, changes).await;
        // The client's stream is read meanwhile.
        loop {
            tokio::select! {
                () = write.closed() => break,
                message = events.next() => assert_eq!(message["method"], "notifications/tools/list_changed", "{how}"),
            }
        }
    }
}

/// What is between the gateway and the upstream, until this is aborted.
fn way(from: tokio::net::TcpListener, to: String) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        loop {
            let (mut from, _) = from.accept().await.unwrap();
            let to = to.clone();
            open.spawn(async move {
                let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    })
}

/// Clients that only listen, whose sessions are shared or not, and a server that is started again.
async fn idle_clients_do_not_keep_others_from_a_server_that_is_back(is_shared: bool) {
    const IDLE: usize = 12;
    // Longer than until each stream is opened again for the first time.
    const AWAY: Duration = Duration::from_millis(2500);
    let (mut streams, respond) = streams();
    let mut world = world(speaks(respond)).await;
    world.streams.store(true, Ordering::SeqCst);
    world.session.store(1, Ordering::SeqCst);
    if is_shared {
        world.share().await;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut objects = world.registry.clone().assign("default", "mail", "*").objects;
    let mut upstream = String::new();
    for object in &mut objects {
        if let Some(Object::EntryRevision(revision)) = &mut object.object
            && let Some(pb::entry_revision::Server::Remote(server)) = &mut revision.server
        {
            let url = Url::parse(&server.url).unwrap();
            upstream = format!("127.0.0.1:{}", url.port().unwrap());
            server.url = format!("http://{address}/mcp");
            if is_shared {
                server.set_session_model(pb::SessionModel::OneForAll);
            }
        }
    }
    fill(&mut world.feed, 3, objects).await;
    let before = way(listener, upstream.clone());
    let (tell, mut told) = mpsc::unbounded_channel();
    for number in 0..IDLE {
        let session = world.open("alice", "2025-11-25", json!({})).await;
        let mut events = world.listen(&session).await;
        let tell = tell.clone();
        // Servers are listened to for a client that reads.
        tokio::spawn(async move {
            loop {
                if events.next().await["method"] == "notifications/prompts/list_changed" {
                    let _ = tell.send(number);
                }
            }
        });
        world.ask("alice", &session, CALL).await;
    }
    let opened = if is_shared { 1 } else { IDLE };
    let mut kept = Vec::new();
    for _ in 0..opened {
        kept.push(streams.recv().await.unwrap());
    }
    let other = world.open("alice", "2025-11-25", json!({})).await;

    before.abort();
    let _ = before.await;
    world.session.store(2, Ordering::SeqCst);
    tokio::time::sleep(AWAY).await;
    let _back = way(tokio::net::TcpListener::bind(address).await.unwrap(), upstream);
    let answer = world.ask("alice", &other, CALL).await;
    assert_eq!(answer["result"]["isError"], Value::Null, "it is not refused: {answer}");
    assert!(answer["result"].is_object(), "{answer}");
    let mut all_hear = async || {
        let mut heard = std::collections::BTreeSet::new();
        while heard.len() < IDLE {
            let number = tokio::time::timeout(Duration::from_secs(30), told.recv()).await;
            heard.insert(number.expect("all hear of the session that they have now").unwrap());
        }
    };
    all_hear().await;
    // On the streams of these.
    for _ in 0..opened {
        let write = tokio::time::timeout(Duration::from_secs(30), streams.recv()).await;
        kept.push(write.expect("a stream is opened").unwrap());
    }
    for write in &kept[opened..] {
        write.send(notification("prompts/list_changed", json!({}))).unwrap();
    }
    all_hear().await;
}

#[tokio::test]
async fn clients_that_only_listen_do_not_keep_others_from_a_server_that_is_back() {
    idle_clients_do_not_keep_others_from_a_server_that_is_back(false).await;
}

#[tokio::test]
async fn clients_that_only_listen_in_one_session_do_not_keep_others_from_a_server_that_is_back() {
    idle_clients_do_not_keep_others_from_a_server_that_is_back(true).await;
}

#[tokio::test]
async fn what_a_client_answers_is_for_no_server_that_it_does_not_reach() {
    let (write, respond) = written();
    let mut world = world(speaks(respond)).await;
    world.streams.store(true, Ordering::SeqCst);
    world.session.store(1, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({"roots": {}})).await;
    let mut events = world.listen(&session).await;
    world.ask("alice", &session, CALL).await;
    write
        .send(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}))
        .unwrap();
    let asked = events.next().await;
    let uninstalled = removal(pb::ObjectKind::Installation, "i-alice");
    world.feed.changes(2, vec![uninstalled]).await;
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}}).to_string();
    assert_eq!(world.post("alice", &session, answer).await.status(), 202);
    let changed = notification("roots/list_changed", json!({})).to_string();
    assert_eq!(world.post("alice", &session, changed).await.status(), 202);
    world.send(method("DELETE").by("alice").session(&session)).await;
    let next = world
        .saw(|message| {
            message["method"] != "tools/call"
                && message["method"] != "initialize"
                && message["method"] != "notifications/initialized"
        })
        .await;
    assert_eq!(next["method"], "DELETE");
}

/// A server that cannot answer for a moment has a stream all the same.
#[tokio::test]
async fn a_stream_that_is_refused_for_a_while_is_opened_again() {
    let (write, respond) = written();
    let (speaks, asked) = (speaks(respond), AtomicUsize::new(0));
    let world = world(move |message, headers| {
        if message["method"] == "GET" && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            let says = json!({"message": "try again"}).to_string();
            return (StatusCode::SERVICE_UNAVAILABLE, raw(says)).into_response();
        }
        speaks(message, headers)
    })
    .await;
    world.streams.store(true, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let mut events = world.listen(&session).await;
    world.ask("alice", &session, CALL).await;
    let log = notification("message", json!({"n": 1}));
    write.send(log.clone()).unwrap();
    assert_eq!(events.next().await, log);
}

/// A message is for one stream of a client: the one that it has opened last.
#[tokio::test]
async fn of_two_streams_of_a_client_the_later_gets_what_servers_say() {
    let (write, respond) = written();
    let world = world(speaks(respond)).await;
    world.streams.store(true, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = || {
        method("GET")
            .by("alice")
            .session(&session)
            .header("accept", "text/event-stream")
    };
    let mut first = Events::of(world.send(get()).await);
    world.ask("alice", &session, CALL).await;
    write.send(notification("message", json!({"n": 1}))).unwrap();
    assert_eq!(first.next().await["params"]["n"], 1);
    let mut second = Events::of(world.send(get()).await);
    // It listens once it has sent the first event.
    second.primed().await;
    write.send(notification("message", json!({"n": 2}))).unwrap();
    assert_eq!(second.next().await["params"]["n"], 2);
    drop(second);
    write.send(notification("message", json!({"n": 3}))).unwrap();
    assert_eq!(first.next().await["params"]["n"], 3);
}

#[tokio::test]
async fn a_client_without_sessions_subscribes_to_a_server_with_sessions() {
    let (write, respond) = written();
    let mut world = world(speaks(respond)).await;
    world.streams.store(true, Ordering::SeqCst);
    let more = world.registry.clone().assign("default", "mail", "*");
    fill(&mut world.feed, 2, more.objects.clone()).await;
    let wanted = json!({"promptsListChanged": true, "resourceSubscriptions": ["x:/a", "x:/unknown"], "later": true});
    let listen = world
        .modern_stream("alice", "subscriptions/listen", json!({"notifications": wanted}))
        .await;
    let mut events = Events::of(listen);
    let id = json!({"io.modelcontextprotocol/subscriptionId": 1});
    let honored = json!({"promptsListChanged": true, "resourceSubscriptions": ["x:/a", "x:/unknown"]});
    let acknowledged = notification(
        "subscriptions/acknowledged",
        json!({"_meta": id, "notifications": honored}),
    );
    assert_eq!(events.next().await, acknowledged);
    let subscribed = world.saw(|message| message["method"] == "resources/subscribe").await;
    assert_eq!(subscribed["params"], json!({"uri": "x:/a"}));

    // What it has not asked for is not for it.
    for said in [
        notification("message", json!({"level": "info", "data": 1})),
        notification("resources/list_changed", json!({})),
        notification("resources/updated", json!({"uri": "x:/b"})),
        json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}),
        notification("resources/updated", json!({"uri": "x:/a", "title": "t"})),
        notification("prompts/list_changed", json!({})),
    ] {
        write.send(said).unwrap();
    }
    let updated = notification("resources/updated", json!({"uri": "x:/a", "title": "t", "_meta": id}));
    assert_eq!(events.next().await, updated);
    assert_eq!(
        events.next().await,
        notification("prompts/list_changed", json!({"_meta": id}))
    );
    let refused = world.saw(|message| message.get("error").is_some()).await;
    assert_eq!(refused["id"], 7);

    // At a stop, it is told that the stream is over.
    world.stop.cancel();
    assert_eq!(
        events.next().await,
        json!({"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "_meta": id}})
    );
    events.ended().await;
}

#[tokio::test]
async fn a_client_with_sessions_subscribes_to_a_server_without() {
    let (write, respond) = written();
    let answer = answers(
        r#"{"resultType":"complete","content":[],"resources":[{"uri":"x:/a","name":"a"}],"resourceTemplates":[]}"#,
    );
    let mut world = world(move |message, headers| {
        let uris = &message["params"]["notifications"]["resourceSubscriptions"];
        match message["method"].as_str() {
            // The first stream, before there is a subscription, stays silent.
            Some("subscriptions/listen") if uris.is_null() => {
                let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
                ([("content-type", "text/event-stream")], Body::from_stream(never)).into_response()
            }
            Some("subscriptions/listen") => respond(),
            _ => answer(message, headers),
        }
    })
    .await;
    world.modern.store(true, Ordering::SeqCst);
    let more = world.registry.clone().assign("default", "mail", "*");
    fill(&mut world.feed, 2, more.objects.clone()).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    let subscribe = json!({"jsonrpc": "2.0", "id": 3, "method": "resources/subscribe", "params": {"uri": "x:/a"}});
    let subscribed = world.ask("alice", &session, &subscribe.to_string()).await;
    assert_eq!(subscribed, json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    let said = async {
        let listening = |message: &Value| !message["params"]["notifications"]["resourceSubscriptions"].is_null();
        let listened = world.saw(listening).await;
        let meta = json!({"io.modelcontextprotocol/subscriptionId": listened["id"]});
        let acknowledged = json!({"_meta": meta, "notifications": {}});
        write
            .send(notification("subscriptions/acknowledged", acknowledged))
            .unwrap();
        write
            .send(notification("resources/updated", json!({"_meta": meta, "uri": "x:/a"})))
            .unwrap();
        listened
    };
    // A stream is read for a client that reads its own.
    let (told, listened) = tokio::join!(events.next(), said);
    assert_eq!(told, notification("resources/updated", json!({"uri": "x:/a"})));
    assert_eq!(
        listened["params"]["notifications"],
        json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": ["x:/a"]})
    );
    let unsubscribe = json!({"jsonrpc": "2.0", "id": 4, "method": "resources/unsubscribe", "params": {"uri": "x:/a"}});
    world.ask("alice", &session, &unsubscribe.to_string()).await;
    let silent = async {
        let silent = world.saw(|message| message["method"] == "subscriptions/listen").await;
        assert!(silent["params"]["notifications"]["resourceSubscriptions"].is_null());
        write.closed().await;
    };
    tokio::select! {
        message = events.next() => panic!("nothing is said: {message}"),
        () = silent => {}
    }
}

/// What waits for a client is kept for it.
#[tokio::test]
async fn a_client_that_answers_nothing_is_asked_no_more() {
    let (write, respond) = written();
    let mut world = world(move |_, _| respond()).await;
    let session = world.open("alice", "2025-11-25", json!({"roots": {}})).await;
    let mut events = Events::of(world.post("alice", &session, CALL).await);
    for id in 0..20 {
        write
            .send(json!({"jsonrpc": "2.0", "id": id, "method": "roots/list"}))
            .unwrap();
    }
    let asked = async {
        for _ in 0..16 {
            assert_eq!(events.next().await["method"], "roots/list");
        }
        events.next().await
    };
    let refused = async {
        let mut refused = std::collections::BTreeSet::new();
        while refused.len() < 4 {
            let error = world.saw(|message| message.get("error").is_some()).await;
            refused.insert(error["id"].as_u64().unwrap());
        }
        refused
    };
    tokio::select! {
        message = asked => panic!("it was asked more: {message}"),
        refused = refused => assert_eq!(refused, (16..20).collect()),
    }
}

/// What servers say while a client still subscribes waits, however much it is.
#[tokio::test]
async fn nothing_is_lost_that_servers_say_before_all_is_subscribed_to() {
    let ((write, respond), (reply, subscribed)) = (written(), written());
    let speaks = speaks(respond);
    let mut world = world(move |message, headers| match message["method"].as_str() {
        Some("resources/subscribe") => subscribed(),
        _ => speaks(message, headers),
    })
    .await;
    world.streams.store(true, Ordering::SeqCst);
    let more = world.registry.clone().assign("default", "mail", "*");
    fill(&mut world.feed, 2, more.objects.clone()).await;
    let changed = notification("prompts/list_changed", json!({}));
    for _ in 0..100 {
        write.send(changed.clone()).unwrap();
    }
    let wanted = json!({"promptsListChanged": true, "resourceSubscriptions": ["x:/a"]});
    let router = world.router.clone();
    let listen = world.modern_request("alice", "subscriptions/listen", json!({"notifications": wanted}));
    let listen = tokio::spawn(router.oneshot(listen));
    let asked = world.saw(|message| message["method"] == "resources/subscribe").await;
    reply
        .send(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}}))
        .unwrap();
    let mut events = Events::of(listen.await.unwrap().unwrap());
    let acknowledged = events.next().await;
    assert_eq!(acknowledged["params"]["notifications"], wanted);
    for _ in 0..100 {
        assert_eq!(events.next().await["method"], "notifications/prompts/list_changed");
    }
}

/// A server of an older revision knows nothing of streams of the client: it would tell of changes for as long as the session lasts.
#[tokio::test]
async fn a_server_is_unsubscribed_from_with_the_last_stream() {
    let (_write, respond) = written();
    let mut world = world(speaks(respond)).await;
    world.streams.store(true, Ordering::SeqCst);
    let more = world.registry.clone().assign("default", "mail", "*");
    fill(&mut world.feed, 2, more.objects.clone()).await;
    let wanted = json!({"notifications": {"resourceSubscriptions": ["x:/a"]}});
    let listen = async || {
        let stream = world
            .modern_stream("alice", "subscriptions/listen", wanted.clone())
            .await;
        let mut events = Events::of(stream);
        let acknowledged = events.next().await;
        assert_eq!(
            acknowledged["params"]["notifications"]["resourceSubscriptions"],
            json!(["x:/a"])
        );
        events
    };
    let [first, second] = [listen().await, listen().await];
    drop(first);
    drop(second);
    let third = listen().await;
    drop(third);
    let mut said = Vec::new();
    while said.iter().filter(|method| *method == "unsubscribe").count() < 2 {
        let about = |message: &Value| Some(message["method"].as_str()?.strip_prefix("resources/")?.to_owned());
        let message = world.saw(|message| message["params"]["uri"] == "x:/a").await;
        said.push(about(&message).unwrap());
    }
    assert_eq!(
        said[..2],
        ["subscribe", "subscribe"],
        "the first is not unsubscribed from while there is another"
    );
    assert_eq!(said.last().unwrap(), "unsubscribe");
}
