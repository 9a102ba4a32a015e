//! Tasks of servers, under ids of the gateway's.

use pretty_assertions::assert_eq;

use super::{
    events::{Events, notification, written},
    *,
};

const AS_TASK: &str = r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"name":"mail__send","arguments":{"n":1},"task":{"ttl":60000}}}"#;

fn about(method: &str, id: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": {"taskId": id, "later": [1]}}).to_string()
}

/// Its task `t"1` is what it is asked about.
fn with_tasks(message: Value, _: HeaderMap) -> Response {
    let id = &message["id"];
    let state = r#""taskId":"t\"1","status":"working","ttl":60000.0,"new":[1]"#;
    let answer = match message["method"].as_str().unwrap() {
        "tools/call" => format!(r#""result":{{"task":{{{state}}},"_meta":{{"k":1.0}}}}"#),
        "tasks/result" => {
            r#""result":{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t\"1"}}}"#.to_owned()
        }
        "tasks/list" => format!(r#""result":{{"tasks":[{{{state}}},{{"taskId":5}}],"nextCursor":"n"}}"#),
        _ => format!(r#""result":{{{state}}}"#),
    };
    raw(format!(r#"{{"jsonrpc":"2.0",{answer},"id":{id}}}"#))
}

async fn made(world: &World, session: &str) -> String {
    let made = world.ask("alice", session, AS_TASK).await;
    made["result"]["task"]["taskId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_task_is_asked_for_at_the_server_that_made_it() {
    let mut world = world(with_tasks).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let answer = text(world.post("alice", &session, AS_TASK).await).await;
    let id = made(&world, &session).await;
    let state = format!(r#""taskId":"{id}","status":"working","ttl":60000.0,"new":[1]"#);
    assert_eq!(
        answer,
        format!(r#"{{"jsonrpc":"2.0","result":{{"task":{{{state}}},"_meta":{{"k":1.0}}}},"id":"c1"}}"#)
    );
    assert_eq!(world.last_call().0["params"]["task"], json!({"ttl": 60000}));
    for method in ["tasks/get", "tasks/cancel"] {
        let answer = text(world.post("alice", &session, about(method, &id)).await).await;
        assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","result":{{{state}}},"id":5}}"#));
    }
    let answer = text(world.post("alice", &session, about("tasks/result", &id)).await).await;
    let related = format!(r#""_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":"{id}"}}}}"#);
    assert_eq!(
        answer,
        format!(r#"{{"jsonrpc":"2.0","result":{{"content":[],{related}}},"id":5}}"#)
    );
    let mut asked = Vec::new();
    while let Ok((message, _)) = world.seen.try_recv() {
        asked.push((message["method"].clone(), message["params"].clone()));
    }
    let own = json!({"taskId": "t\"1", "later": [1]});
    let expected = ["tasks/get", "tasks/cancel", "tasks/result"].map(|method| (json!(method), own.clone()));
    assert_eq!(asked, expected);
}

/// Each as if there were no such task, and no server is asked.
#[tokio::test]
async fn a_task_of_somebody_else_is_unknown() {
    let mut world = world(with_tasks).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let id = made(&world, &session).await;
    world.last_call();
    let bobs = world.open("bob", "2025-11-25", json!({})).await;
    let unknown = json!({"code": -32602, "message": "Task not found"});
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        assert_eq!(world.ask("bob", &bobs, &about(method, &id)).await["error"], unknown);
        for odd in ["t\"1", "", &id[1..], &"A".repeat(1 << 20)] {
            let answer = world.ask("alice", &session, &about(method, odd)).await;
            assert_eq!(answer["error"], unknown, "{method}");
        }
        let answer = world.ask(
            "alice",
            &session,
            r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":5}}"#,
        );
        assert_eq!(answer.await["error"], unknown);
    }
    assert!(world.seen.try_recv().is_err());
    let older = world.open("alice", "2025-06-18", json!({})).await;
    assert_eq!(
        world.ask("alice", &older, &about("tasks/get", &id)).await["error"]["code"],
        -32601
    );
}

/// An id that a server makes up is one of its own tasks to the gateway, whatever it says.
#[tokio::test]
async fn a_server_names_no_task_of_another() {
    let stolen = Arc::new(Mutex::new(String::new()));
    let named = Arc::clone(&stolen);
    let world = world(move |message, headers| match message["method"].as_str() {
        Some("tasks/get") => {
            let task = json!({"taskId": *named.lock().unwrap(), "status": "working"});
            raw(json!({"jsonrpc": "2.0", "id": message["id"], "result": task}).to_string())
        }
        _ => with_tasks(message, headers),
    })
    .await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let id = made(&world, &session).await;
    stolen.lock().unwrap().clone_from(&id);
    let shown = world.ask("alice", &session, &about("tasks/get", &id)).await;
    assert_ne!(shown["result"]["taskId"], id);
    *stolen.lock().unwrap() = "t".repeat(1025);
    let shown = world.ask("alice", &session, &about("tasks/get", &id)).await;
    assert_eq!(shown["error"]["code"], -32603);
}

#[tokio::test]
async fn tasks_are_listed_page_by_page() {
    let mut world = world(with_tasks).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let id = made(&world, &session).await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tasks/list"}"#;
    let page = world.ask("alice", &session, list).await;
    let task = json!({"taskId": id, "status": "working", "ttl": 60000.0, "new": [1]});
    assert_eq!(page["result"]["tasks"], json!([task]));
    let cursor = page["result"]["nextCursor"].as_str().unwrap();
    let next = |cursor: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": {"cursor": cursor}}).to_string()
    };
    world.last_call();
    assert_eq!(
        world.ask("alice", &session, &next(cursor)).await["result"]["tasks"],
        json!([task])
    );
    let (message, _) = world.seen.try_recv().unwrap();
    assert_eq!(
        (&message["method"], &message["params"]),
        (&json!("tasks/list"), &json!({"cursor": "n"}))
    );
    for odd in ["", "n", "AAAA"] {
        assert_eq!(world.ask("alice", &session, &next(odd)).await["error"]["code"], -32602);
    }
    let bobs = world.open("bob", "2025-11-25", json!({})).await;
    assert_eq!(world.ask("bob", &bobs, &next(cursor)).await["error"]["code"], -32602);
    assert_eq!(world.ask("bob", &bobs, list).await["result"], json!({"tasks": []}));
}

/// Answers as a server of 2026-07-28 whose task is `t`.
fn with_extension(message: Value, _: HeaderMap) -> Response {
    let task = json!({"taskId": "t", "status": "working", "createdAt": "x", "ttlMs": null});
    let result = match message["method"].as_str().unwrap() {
        "tools/call" => with(task, &json!({"resultType": "task"})),
        "tasks/get" => with(task, &json!({"resultType": "complete", "result": {"taskId": "t"}})),
        _ => json!({"resultType": "complete"}),
    };
    raw(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
}

fn with(mut object: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    object.as_object_mut().unwrap().extend(more);
    object
}

#[tokio::test]
async fn a_newer_servers_task_is_asked_for_at_it() {
    let mut world = world(with_extension).await;
    world.modern.store(true, Ordering::SeqCst);
    let takes = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let call = json!({"name": "mail__send", "arguments": {}, "task": {"ttl": 1}});
    let (_, made) = world.modern("alice", "tools/call", call, &takes).await;
    assert_eq!(made["result"]["resultType"], "task");
    let id = made["result"]["taskId"].as_str().unwrap();
    let about = json!({"taskId": id, "inputResponses": {"k": {"n": 1}}});
    let (_, shown) = world.modern("alice", "tasks/get", about.clone(), &takes).await;
    assert_eq!(shown["result"]["taskId"], id);
    assert_eq!(
        shown["result"]["result"],
        json!({"taskId": "t"}),
        "what a tool says is as it came"
    );
    for method in ["tasks/update", "tasks/cancel"] {
        let (_, done) = world.modern("alice", method, about.clone(), &takes).await;
        assert_eq!(done["result"], json!({"resultType": "complete"}));
    }
    let (_, unknown) = world.modern("alice", "tasks/get", json!({"taskId": "t"}), &takes).await;
    assert_eq!(unknown["error"], json!({"code": -32602, "message": "Task not found"}));
    let (_, bobs) = world.modern("bob", "tasks/get", about.clone(), &takes).await;
    assert_eq!(bobs["error"], unknown["error"]);
    let (status, refused) = world.modern("alice", "tasks/get", about, &json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!(-32021)));
    assert_eq!(refused["error"]["data"], json!({"requiredCapabilities": takes}));
    let (call, _) = world.seen.try_recv().unwrap();
    assert_eq!(
        call["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"],
        takes
    );
    assert!(call["params"].get("task").is_none());
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let (message, headers) = world.seen.try_recv().unwrap();
        assert_eq!(
            (&message["method"], &message["params"]["taskId"]),
            (&json!(method), &json!("t"))
        );
        assert_eq!(message["params"]["inputResponses"], json!({"k": {"n": 1}}));
        assert_eq!(headers["mcp-name"], "t");
    }
    assert!(world.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_client_is_told_of_the_tasks_that_it_names() {
    let (write, respond) = written();
    let mut world = world(move |message, headers| {
        let followed = &message["params"]["notifications"]["taskIds"];
        match message["method"].as_str() {
            // The first stream, before there is a task, stays silent.
            Some("subscriptions/listen") if followed.is_null() => {
                let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
                ([("content-type", "text/event-stream")], Body::from_stream(never)).into_response()
            }
            Some("subscriptions/listen") => respond(),
            _ => with_extension(message, headers),
        }
    })
    .await;
    world.modern.store(true, Ordering::SeqCst);
    let takes = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let call = json!({"name": "mail__send", "arguments": {}});
    let (_, made) = world.modern("alice", "tools/call", call, &takes).await;
    let id = made["result"]["taskId"].as_str().unwrap();
    let wanted = json!({"notifications": {"taskIds": [id, "t"]}});
    let listen = |capabilities: &Value| {
        let ask = post(modern::message("subscriptions/listen", wanted.clone(), capabilities)).by("alice");
        let ask = ask.header("mcp-protocol-version", "2026-07-28");
        let ask = ask.header("mcp-method", "subscriptions/listen");
        ask.header("accept", "application/json, text/event-stream")
    };
    assert_eq!(world.send(listen(&json!({}))).await.status(), 400);
    let listening = tokio::spawn(world.router.clone().oneshot(Request::from(listen(&takes))));
    let follows = |message: &Value| !message["params"]["notifications"]["taskIds"].is_null();
    let followed = world.saw(follows).await;
    assert_eq!(followed["params"]["notifications"]["taskIds"], json!(["t"]));
    let meta = json!({"io.modelcontextprotocol/subscriptionId": followed["id"]});
    let acknowledged = json!({"_meta": meta, "notifications": {}});
    write
        .send(notification("subscriptions/acknowledged", acknowledged))
        .unwrap();
    for task in ["other", "t"] {
        let state = json!({"taskId": task, "status": "completed", "_meta": meta});
        write.send(notification("tasks", state)).unwrap();
    }
    let mut events = Events::of(listening.await.unwrap().unwrap());
    let acknowledged = events.next().await;
    assert_eq!(acknowledged["params"]["notifications"], json!({"taskIds": [id]}));
    let told = events.next().await;
    let meta = json!({"io.modelcontextprotocol/subscriptionId": 1});
    assert_eq!(
        told,
        notification("tasks", json!({"taskId": id, "status": "completed", "_meta": meta}))
    );
}

/// What it asks in the course of a task names the task, and so does the answer.
#[tokio::test]
async fn a_task_asks_its_client() {
    let (write, respond) = written();
    let mut world = world(move |message, headers| match message["method"].as_str() {
        Some("tasks/result") => respond(),
        None => StatusCode::ACCEPTED.into_response(),
        _ => with_tasks(message, headers),
    })
    .await;
    let capabilities = json!({"elicitation": {}, "tasks": {"list": {}, "cancel": {}}});
    let session = world.open("alice", "2025-11-25", capabilities).await;
    let id = made(&world, &session).await;
    let initialized = world.saw(|message| message["method"] == "initialize").await;
    assert_eq!(initialized["params"]["capabilities"]["tasks"], json!({"cancel": {}}));
    let related = |id: &str| json!({"io.modelcontextprotocol/related-task": {"taskId": id}});
    let question = |id: &str| json!({"message": "?", "_meta": related(id)});
    write
        .send(json!({"jsonrpc": "2.0", "id": 76, "method": "tasks/list"}))
        .unwrap();
    write
        .send(json!({"jsonrpc": "2.0", "id": 77, "method": "elicitation/create", "params": question("t\"1")}))
        .unwrap();
    let mut events = Events::of(world.post("alice", &session, about("tasks/result", &id)).await);
    let asked = events.next().await;
    assert_eq!(asked["params"], question(&id));
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "_meta": related(&id)}});
    world.post("alice", &session, answer.to_string()).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(world.saw(|message| message["method"].is_null()).await);
    }
    seen.sort_unstable_by_key(|message| message["id"].as_u64());
    assert_eq!(
        (&seen[0]["id"], &seen[0]["error"]["code"]),
        (&json!(76), &json!(-32601))
    );
    assert_eq!(seen[1]["result"], json!({"action": "accept", "_meta": related("t\"1")}));
}

/// A token is good for as long as the task, whichever stream its server has for it.
#[tokio::test]
async fn the_progress_of_a_task_is_under_the_token_of_its_call() {
    let ((write, respond), (say, result)) = (written(), written());
    let mut world = world(move |message, headers| match message["method"].as_str() {
        Some("GET") => respond(),
        Some("tasks/result") => result(),
        _ => with_tasks(message, headers),
    })
    .await;
    world.streams.store(true, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let get = method("GET").by("alice").session(&session);
    let mut events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    let mut call: Value = serde_json::from_str(AS_TASK).unwrap();
    call["params"]["_meta"] = json!({"progressToken": "p"});
    let made = world.ask("alice", &session, &call.to_string()).await;
    let id = made["result"]["task"]["taskId"].as_str().unwrap().to_owned();
    let token = world.last_call().0["params"]["_meta"]["progressToken"].clone();
    let progress = |token: &Value| notification("progress", json!({"progress": 1, "progressToken": token}));
    write.send(progress(&json!(0))).unwrap();
    write.send(progress(&token)).unwrap();
    assert_eq!(events.next().await, progress(&json!("p")));
    let mut answer = Events::of(world.post("alice", &session, about("tasks/result", &id)).await);
    say.send(progress(&token)).unwrap();
    assert_eq!(answer.next().await, progress(&json!("p")));

    // It is no other client's.
    let other = world.open("alice", "2025-11-25", json!({})).await;
    let mut second: Value = serde_json::from_str(AS_TASK).unwrap();
    second["params"]["_meta"] = json!({"progressToken": "q"});
    world.ask("alice", &other, &second.to_string()).await;
    let token = world.last_call().0["params"]["_meta"]["progressToken"].clone();
    write.send(progress(&token)).unwrap();
    let log = notification("message", json!({"level": "info", "data": 1}));
    write.send(log.clone()).unwrap();
    assert_eq!(events.next().await, log);
}
