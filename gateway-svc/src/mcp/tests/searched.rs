//! A gateway whose tools are found by a search.

use pretty_assertions::assert_eq;

use super::{
    events::{Events, written},
    *,
};

/// What the gateway `default` is to be searched for; `hidden` is an entry that the team `ops` sees.
fn searched(world: &World) -> Registry {
    let mut registry = world.registry.clone();
    for object in &mut registry.objects {
        if let Some(Object::Gateway(gateway)) = &mut object.object {
            gateway.set_tool_listing(pb::ToolListing::Search);
        }
    }
    let hidden = pb::Entry {
        visibility: crate::snapshot::testing::visible_to_team("ops"),
        ..crate::snapshot::testing::plain_entry("hidden")
    };
    registry
        .with(crate::snapshot::testing::entry(hidden))
        .tools("e-hidden", &["send_secretly"])
        .assign("default", "hidden", "*")
        .with(token("carol", "carol"))
}

async fn world_of_search(upstream: impl Fn(Value, HeaderMap) -> Response + Send + Sync + 'static) -> World {
    let mut world = world(upstream).await;
    let registry = searched(&world);
    fill(&mut world.feed, 2, registry.objects.clone()).await;
    World { registry, ..world }
}

fn call(name: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": "c1", "method": "tools/call", "params": {"name": name, "arguments": arguments}})
}

fn search(query: &str) -> Value {
    call("search_tools", &json!({"query": query}))
}

impl World {
    /// The result of a call in a session.
    async fn result(&self, who: &str, session: &str, call: &Value) -> Value {
        let mut answer = self.ask(who, session, &call.to_string()).await;
        assert_eq!(answer["id"], "c1", "{answer}");
        answer["result"].take()
    }

    async fn found(&self, who: &str, query: &str) -> Vec<String> {
        let session = self.open(who, "2025-11-25", json!({})).await;
        let result = self.result(who, &session, &search(query)).await;
        let structured = &result["structuredContent"];
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, *structured, "both are the same");
        let tools = structured["tools"].as_array().unwrap();
        assert_eq!(structured["matched"], tools.len());
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn lists_two_tools_that_find_and_call_the_others() {
    let result = r#"{"content":[{"type":"text","text":"ok","x":{"y":1.0}}],"_meta":{"big":98765432109876543210}}"#;
    let mut world = world_of_search(answers(result)).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let listed = world.ask("alice", &session, LIST).await;
    let tools = listed["result"]["tools"].as_array().unwrap();
    let names: Vec<&Value> = tools.iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["search_tools", "call_tool"]);
    assert_eq!(listed["result"].get("nextCursor"), None);
    let described = tools[0]["description"].as_str().unwrap();
    assert!(
        described.contains("mail") && !described.contains("hidden"),
        "{described}"
    );

    let found = world.result("alice", &session, &search("send mail")).await;
    let expected = json!({"name": "mail__send", "description": "of i-alice", "inputSchema": {"type": "object"}});
    assert_eq!(found["structuredContent"]["tools"], json!([expected]));

    // Everything but the name is as the client gave it.
    let plain = r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"name":"mail__send","arguments":{"n":12345678901234567890},"later":1.0,"_meta":{"progressToken":"p","k":[1]}}}"#;
    let by_call_tool = plain.replace(
        r#""name":"mail__send","arguments":{"n":12345678901234567890}"#,
        r#""name":"call_tool","arguments":{"name":"mail__send","arguments":{"n":12345678901234567890}}"#,
    );
    let mut params = Vec::new();
    for call in [plain, &by_call_tool] {
        let answer = text(world.post("alice", &session, call.to_owned()).await).await;
        assert_eq!(answer, format!(r#"{{"result":{result},"jsonrpc":"2.0","id":"c1"}}"#));
        let (mut message, headers) = world.last_call();
        assert_eq!(headers["authorization"], "Bearer secret-1");
        message["params"]["_meta"]["progressToken"].take();
        params.push(message["params"].take());
    }
    assert_eq!(params[0], params[1]);
    assert_eq!(params[0]["name"], "send");
}

/// As if it did not exist: by a search, by a name that is like it, by its name.
#[tokio::test]
async fn what_a_caller_may_not_see_is_not_found() {
    let world = world_of_search(answers("{}")).await;
    assert_eq!(
        world.found("carol", "send").await,
        ["mail__send", "hidden__send_secretly"]
    );
    assert_eq!(world.found("carol", "").await.len(), 2);
    for who in ["alice", "bob"] {
        assert_eq!(world.found(who, "send").await, ["mail__send"], "{who}");
        assert_eq!(world.found(who, "").await, ["mail__send"], "{who}");
        let session = world.open(who, "2025-11-25", json!({})).await;
        for name in ["hidden__send_secretly", "hidden__send_secret", "mail__sent"] {
            let call = call("call_tool", &json!({"name": name, "arguments": {}}));
            let result = world.result(who, &session, &call).await;
            assert_eq!(result["isError"], true);
            let said = result["content"][0]["text"].as_str().unwrap().replace(name, "");
            assert!(!said.contains("hidden") && said.contains("search_tools"), "{said}");
            let similar = &result["structuredContent"]["similar"];
            assert_eq!(
                similar,
                &if name == "mail__sent" {
                    json!(["mail__send"])
                } else {
                    json!([])
                }
            );
        }
    }
    let session = world.open("bob", "2025-11-25", json!({})).await;
    let result = world.result("bob", &session, &search("")).await;
    assert_eq!(
        result["structuredContent"]["servers"],
        json!([{"name": "mail", "tools": 1}])
    );
}

/// What fails does as by name; what is called wrongly, a model is told.
#[tokio::test]
async fn failures_of_a_call_are_those_of_the_tool() {
    let mut world = world_of_search(answers("{}")).await;
    let session = world.open("bob", "2025-06-18", json!({})).await;
    let by_call_tool = call("call_tool", &json!({"name": "mail__send"}));
    let direct = call("mail__send", &json!({}));
    let linked = world.result("bob", &session, &by_call_tool).await;
    assert_eq!(linked["structuredContent"]["error"], "credential_required");
    assert_eq!(linked, world.result("bob", &session, &direct).await);

    let flat = call("call_tool", &json!({"name": "mail__send", "to": "x"}));
    let long = search(&"x".repeat(2000));
    let odd = call("search_tools", &json!({"query": "send", "cursor": "forged"}));
    for (wrong, says) in [
        (flat, "belong into `arguments`"),
        (long, "1024 characters"),
        (odd, "cursor"),
    ] {
        let result = world.result("bob", &session, &wrong).await;
        assert_eq!(result["isError"], true);
        assert!(
            result["content"][0]["text"].as_str().unwrap().contains(says),
            "{result}"
        );
    }
    for own in ["search_tools", "call_tool"] {
        let inner = call("call_tool", &json!({"name": own, "arguments": {}}));
        assert_eq!(
            world.result("bob", &session, &inner).await["structuredContent"]["error"],
            "unknown_tool"
        );
    }
    assert!(world.seen.try_recv().is_err(), "nothing was sent");
}

#[tokio::test]
async fn pages_of_a_search_follow_each_other() {
    let mut world = world_of_search(answers("{}")).await;
    let tools: Vec<String> = (0..25).map(|n| format!("send_{n:02}")).collect();
    let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
    let more = world
        .registry
        .clone()
        .entry("more", &tools)
        .assign("default", "more", "*");
    fill(&mut world.feed, 3, more.objects).await;
    let session = world.open("bob", "2025-11-25", json!({})).await;
    for (query, all) in [("send", 26), ("", 26), ("more send", 26)] {
        let (mut seen, mut arguments) = (Vec::new(), json!({"query": query, "limit": 7}));
        loop {
            let page = world.result("bob", &session, &call("search_tools", &arguments)).await;
            let page = &page["structuredContent"];
            assert_eq!(page["matched"], all, "{query}");
            seen.extend(
                page["tools"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|tool| tool["name"].to_string()),
            );
            match page.get("nextCursor") {
                Some(cursor) => arguments["cursor"] = cursor.clone(),
                None => break,
            }
        }
        assert_eq!(seen.len(), all, "{query}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "{query}");
        // Of the last query, and of this caller.
        arguments["query"] = json!("another");
        let refused = world.result("bob", &session, &call("search_tools", &arguments)).await;
        assert_eq!(refused["isError"], true);
    }
}

/// A stream's first event has an id that names the list that the client knows.
#[tokio::test]
async fn what_is_listed_changes_with_the_servers_and_not_with_their_tools() {
    let mut world = world_of_search(answers("{}")).await;
    let session = world.open("bob", "2025-11-25", json!({})).await;
    let list = async |world: &World| {
        let get = method("GET").by("bob").session(&session);
        let response = world.send(get.header("accept", "text/event-stream")).await;
        let frame = response
            .into_body()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        let event = std::str::from_utf8(&frame).unwrap().to_owned();
        event.lines().next().unwrap().to_owned()
    };
    let first = list(&world).await;
    let more_tools = world
        .registry
        .clone()
        .tools("e-mail", &["send", "read"])
        .assign("default", "mail", "read");
    fill(&mut world.feed, 3, more_tools.objects.clone()).await;
    assert_eq!(world.found("bob", "read").await, ["mail__read"]);
    assert_eq!(list(&world).await, first);
    let more_servers = more_tools.entry("time", &["now"]).assign("default", "time", "*");
    fill(&mut world.feed, 4, more_servers.objects).await;
    assert_ne!(list(&world).await, first);
}

/// Who waits is told when a gateway begins to be searched.
#[tokio::test]
async fn a_gateway_that_is_searched_from_now_on_has_another_list() {
    let mut world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    events.primed().await;
    let now_searched = searched(&world);
    fill(&mut world.feed, 2, now_searched.objects).await;
    assert_eq!(events.next().await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn clients_of_2026_07_28_find_and_call_too() {
    let mut world = world_of_search(answers(r#"{"content":[]}"#)).await;
    let definition =
        r#"{"name":"send","inputSchema":{"type":"object","properties":{"to":{"type":"string","x-mcp-header":"To"}}}}"#;
    let mut registry = world.registry.clone();
    for object in &mut registry.objects {
        if let Some(Object::FeatureDefinition(known)) = &mut object.object {
            definition.clone_into(&mut known.definition_json);
        }
    }
    fill(&mut world.feed, 3, registry.objects).await;
    world.modern.store(true, Ordering::SeqCst);
    let (_, listed) = world.modern("alice", "tools/list", json!({}), &json!({})).await;
    assert_eq!(listed["result"]["tools"][0]["name"], "search_tools");
    assert_eq!(listed["result"]["cacheScope"], "private");
    let found = json!({"name": "search_tools", "arguments": {"query": "to"}});
    let (_, found) = world.modern("alice", "tools/call", found, &json!({})).await;
    assert_eq!(found["result"]["resultType"], "complete");
    assert_eq!(found["result"]["structuredContent"]["tools"][0]["name"], "mail__send");
    // The client knows nothing of the headers of the tool; its server gets them.
    let called = json!({"name": "call_tool", "arguments": {"name": "mail__send", "arguments": {"to": "x"}}});
    let (status, called) = world.modern("alice", "tools/call", called, &json!({})).await;
    assert_eq!((status, &called["result"]["content"]), (200, &json!([])));
    let (message, headers) = world.last_call();
    assert_eq!(message["params"]["name"], "send");
    assert_eq!(headers["mcp-param-to"], "x");
    assert_eq!(headers["mcp-name"], "send");
}

#[tokio::test]
async fn a_tool_that_is_called_by_call_tool_asks_and_reports() {
    let (write, respond) = written();
    let mut world = world_of_search(move |_, _| respond()).await;
    let session = world.open("alice", "2025-11-25", json!({"roots": {}})).await;
    let mut called = call("call_tool", &json!({"name": "mail__send"}));
    called["params"]["_meta"] = json!({"progressToken": "mine"});
    let mut events = Events::of(world.post("alice", &session, called.to_string()).await);
    let sent = world.saw(|message| message["method"] == "tools/call").await;
    let token = &sent["params"]["_meta"]["progressToken"];
    write
        .send(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}))
        .unwrap();
    assert_eq!(events.next().await["params"]["progressToken"], "mine");
    write
        .send(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}))
        .unwrap();
    let asked = events.next().await;
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}});
    assert_eq!(world.post("alice", &session, answer.to_string()).await.status(), 202);
    world.saw(|message| message.get("result").is_some()).await;
    let stopped = world.post("alice", &session, cancel("c1").to_string()).await;
    assert_eq!(stopped.status(), 202);
    let (cancelled, ()) = tokio::join!(
        world.saw(|message| message["method"] == "notifications/cancelled"),
        events.ended()
    );
    assert_eq!(cancelled["params"]["requestId"], sent["id"]);
}
