//! What goes between a client and a server besides calls of tools: in both directions, and each client apart from the others.

use pretty_assertions::assert_eq;

use super::{
    events::{Events, written},
    *,
};

impl World {
    /// The answer at the gateway with all of an entry.
    async fn ask_all(&self, session: &str, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params}).to_string();
        let ask = post(body).at("/mcp/all").by("alice").session(session);
        let mut answer: Value = serde_json::from_str(&text(self.send(ask).await).await).unwrap();
        assert_eq!(answer["id"], 5, "{answer}");
        answer["result"].take()
    }

    async fn open_all(&self) -> String {
        let body = initialize(0, "2025-11-25", &json!({}));
        let response = self.send(post(body).at("/mcp/all").by("alice")).await;
        response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_server_asks_the_client_during_a_call() {
    let (write, respond) = written();
    let mut world = world(move |_, _| respond()).await;
    let capabilities = json!({"roots": {"listChanged": true}, "new": {"x": 1}});
    let session = world.open("alice", "2025-11-25", capabilities.clone()).await;
    let mut events = Events::of(world.post("alice", &session, CALL).await);
    let initialize = world.saw(|message| message["method"] == "initialize").await;
    assert_eq!(initialize["params"]["capabilities"], capabilities);
    assert_eq!(initialize["params"]["clientInfo"], json!({"name": "t", "version": "1"}));
    let call = world.saw(|message| message["method"] == "tools/call").await;

    write
        .send(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list", "params": {"_meta": {"progressToken": 7, "k": "v"}}, "x": 1.0}))
        .unwrap();
    let asked = events.next().await;
    let id = asked["id"].clone();
    assert!(id.is_string());
    let expected = json!({"jsonrpc": "2.0", "id": id, "method": "roots/list", "params": {"_meta": {"progressToken": id, "k": "v"}}, "x": 1.0});
    assert_eq!(asked, expected);
    let progress =
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": id, "progress": 1}});
    assert_eq!(world.post("alice", &session, progress.to_string()).await.status(), 202);
    let told = world.saw(|message| message["method"] == "notifications/progress").await;
    assert_eq!(told["params"], json!({"progressToken": 7, "progress": 1}));

    // Nobody else answers it, and nobody twice.
    let answer =
        json!({"jsonrpc": "2.0", "id": id, "result": {"roots": [], "later": 12345678901234567890_u64}, "y": [2]});
    let other = world.open("alice", "2025-11-25", json!({})).await;
    for session in [&other, &session, &session] {
        assert_eq!(world.post("alice", session, answer.to_string()).await.status(), 202);
    }
    let got = world.saw(|message| message.get("result").is_some()).await;
    assert_eq!(
        got,
        json!({"jsonrpc": "2.0", "id": 7, "result": {"roots": [], "later": 12345678901234567890_u64}, "y": [2]})
    );

    write
        .send(json!({"jsonrpc": "2.0", "id": 8, "method": "elicitation/create", "params": {}}))
        .unwrap();
    let asked = events.next().await;
    write
        .send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 8}}))
        .unwrap();
    assert_eq!(events.next().await["params"]["requestId"], asked["id"]);
    write
        .send(json!({"jsonrpc": "2.0", "id": call["id"], "result": {"content": []}}))
        .unwrap();
    assert_eq!(events.next().await["id"], "c1");
    world.post("alice", &session, answer.to_string()).await;
    while let Ok((message, _)) = world.seen.try_recv() {
        assert!(message.get("result").is_none(), "it was answered twice: {message}");
    }
}

/// A server of several pages of everything.
fn offers(message: &Value) -> Value {
    let second = message["params"]["cursor"] == "2";
    let page = |member: &str, first: Value, last: Value| {
        if second {
            json!({member: [last]})
        } else {
            json!({member: [first], "nextCursor": "2"})
        }
    };
    match message["method"].as_str().unwrap() {
        "prompts/list" => page("prompts", json!({"name": "greet", "new": 1.0}), json!({"name": "part"})),
        "resources/list" => page(
            "resources",
            json!({"uri": "ui://a", "name": "a"}),
            json!({"uri": "b:2"}),
        ),
        "resources/templates/list" => json!({"resourceTemplates": [{"uriTemplate": "t://{id}/x", "name": "t"}]}),
        _ => message["params"].clone(),
    }
}

#[tokio::test]
async fn prompts_and_resources_find_their_server() {
    let mut world =
        world(|message, _| raw(json!({"jsonrpc": "2.0", "id": message["id"], "result": offers(&message)}).to_string()))
            .await;
    let more = world.registry.clone().gateway("all").assign("all", "mail", "*");
    fill(&mut world.feed, 2, more.objects.clone()).await;
    let session = world.open_all().await;
    assert_eq!(
        world.ask_all(&session, "prompts/list", json!({})).await,
        json!({"prompts": [{"name": "mail__greet", "new": 1.0}, {"name": "mail__part"}]})
    );
    assert_eq!(
        world.ask_all(&session, "resources/list", json!({})).await,
        json!({"resources": [{"uri": "ui://a", "name": "a"}, {"uri": "b:2"}]})
    );
    assert_eq!(
        world.ask_all(&session, "resources/templates/list", json!({})).await,
        json!({"resourceTemplates": [{"uriTemplate": "t://{id}/x", "name": "t"}]})
    );
    // Whoever has not listed anything gets the same.
    let other = world.open_all().await;
    for session in [&session, &other] {
        assert_eq!(
            world
                .ask_all(
                    session,
                    "prompts/get",
                    json!({"name": "mail__part", "arguments": {"a": "b"}, "new": [1]})
                )
                .await,
            json!({"name": "part", "arguments": {"a": "b"}, "new": [1]})
        );
        for uri in ["ui://a", "t://5/x", "somewhere:else"] {
            for method in ["resources/read", "resources/subscribe", "resources/unsubscribe"] {
                assert_eq!(
                    world.ask_all(session, method, json!({"uri": uri})).await,
                    json!({"uri": uri})
                );
            }
        }
        let argument = json!({"name": "a", "value": "v"});
        for (named, own) in [
            (
                json!({"type": "ref/prompt", "name": "mail__greet", "title": "T"}),
                json!({"type": "ref/prompt", "name": "greet", "title": "T"}),
            ),
            (
                json!({"type": "ref/resource", "uri": "t://{id}/x"}),
                json!({"type": "ref/resource", "uri": "t://{id}/x"}),
            ),
        ] {
            assert_eq!(
                world
                    .ask_all(
                        session,
                        "completion/complete",
                        json!({"ref": named, "argument": argument})
                    )
                    .await,
                json!({"ref": own, "argument": argument})
            );
        }
    }
    // What was shown is no right to it.
    let without = world.registry.clone().gateway("all");
    fill(&mut world.feed, 3, without.objects.clone()).await;
    let forgotten = world
        .ask_all(&other, "prompts/get", json!({"name": "mail__part"}))
        .await;
    assert_eq!(forgotten, Value::Null);
    // A tool alone brings nothing else of its entry along.
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"prompts/list"}"#;
    assert_eq!(
        world.ask("alice", &session, list).await["result"],
        json!({"prompts": []})
    );
    let get = r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"mail__greet"}}"#;
    assert_eq!(world.ask("alice", &session, get).await["error"]["code"], -32602);
    let read = r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"ui://a"}}"#;
    assert_eq!(world.ask("alice", &session, read).await["error"]["code"], -32002);
}

#[tokio::test]
async fn each_client_has_a_session_of_its_own() {
    let mut world = world(answers(r#"{"content":[]}"#)).await;
    let [one, two] = [
        world.open("alice", "2025-11-25", json!({})).await,
        world.open("alice", "2025-11-25", json!({})).await,
    ];
    for session in [&one, &two, &one] {
        world.ask("alice", session, CALL).await;
    }
    let set = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}"#;
    assert_eq!(world.ask("alice", &one, set).await["result"], json!({}));
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    assert_eq!(world.post("alice", &one, changed).await.status(), 202);
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    while let Ok((message, _)) = world.seen.try_recv() {
        *seen.entry(message["method"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let expected = [
        ("initialize", 2),
        ("logging/setLevel", 1),
        ("notifications/initialized", 2),
        ("notifications/roots/list_changed", 1),
        ("tools/call", 3),
    ];
    assert_eq!(seen, expected.map(|(method, count)| (method.to_owned(), count)).into());
}

/// An empty list would say that there is nothing.
#[tokio::test]
async fn a_list_that_takes_too_long_is_no_empty_list() {
    let (_write, respond) = written();
    let answer = answers(r#"{"content":[]}"#);
    let mut world = world(move |message, headers| match message["method"].as_str() {
        Some("resources/list") => respond(),
        _ => answer(message, headers),
    })
    .await;
    let more = world.registry.clone().assign("default", "mail", "*");
    fill(&mut world.feed, 2, more.objects.clone()).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    world.ask("alice", &session, CALL).await;
    tokio::time::pause();
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#;
    let answer = world.ask("alice", &session, list).await;
    assert!(
        answer["error"]["message"].as_str().unwrap().contains("within 15"),
        "{answer}"
    );
}
