//! Two servers with the same names and URIs: each client is led to the one that it means.

use pretty_assertions::assert_eq;

use super::{
    events::{Events, notification, written},
    *,
};
use crate::snapshot::testing::{assignment, plain_assignment};

const GATEWAY: &str = "/mcp/two";

/// Both have a document, a template and a prompt, and a tool that a resource shows and whose results name the document. What a server answers
/// says whose it is.
fn has(message: &Value, headers: &HeaderMap) -> Value {
    let who = &headers["x-path"].to_str().unwrap()[1..];
    let only = format!("doc://only-{who}");
    match message["method"].as_str().unwrap() {
        "resources/list" => json!({"resources": [{"uri": "doc://a", "name": who}, {"uri": only}]}),
        "resources/templates/list" => json!({"resourceTemplates": [{"uriTemplate": "t://{x}", "name": who}]}),
        "prompts/list" => json!({"prompts": [{"name": "greet", "title": who}]}),
        "prompts/get" => json!({"messages": [{"role": "user", "content": link("doc://a")}], "title": who}),
        "resources/read" => json!({"contents": [{"uri": message["params"]["uri"], "text": who}]}),
        "tools/call" => json!({"content": [
            {"type": "text", "text": who}, link("doc://a"), link("t://5"),
            {"type": "resource", "resource": {"uri": only, "text": "doc://a"}},
        ], "_meta": {"ui": {"resourceUri": "ui://w"}}}),
        "completion/complete" => json!({"completion": {"values": [who, message["params"]["ref"]["uri"]]}}),
        _ => json!({}),
    }
}

fn link(uri: &str) -> Value {
    json!({"type": "resource_link", "uri": uri, "name": "n"})
}

fn answer(message: &Value, headers: &HeaderMap) -> Response {
    let (result, id) = (has(message, headers), &message["id"]);
    let reply = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    if message["params"]["arguments"]["streams"] == true {
        let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":1}}"#;
        let events = format!("data: {log}\n\ndata: {reply}\n\n");
        return ([("content-type", "text/event-stream")], events).into_response();
    }
    raw(reply)
}

/// As the newer server's resources are known.
fn of_newer(uri: &str) -> String {
    format!("{uri}#chandlery:newer")
}

impl Registry {
    /// An entry with a server at the path of its name, installed by Alice, with the tool `who`.
    fn server(self, slug: &'static str, shown_by: &str) -> Self {
        let mut running = self.objects.iter().find_map(|object| match &object.object {
            Some(Object::EntryRevision(revision)) if revision.entry_uid == "e-mail" => Some(revision.clone()),
            _ => None,
        });
        let running = running.as_mut().expect("it has the upstream's URL");
        running.entry_uid = format!("e-{slug}");
        let Some(pb::entry_revision::Server::Remote(remote)) = &mut running.server else {
            panic!("{running:?}")
        };
        remote.url = remote.url.replace("/mcp", &format!("/{slug}"));
        let made = Made {
            running: Some(running.clone()),
            ..Made::new(slug, slug, "alice")
        };
        let mut all = self.entry(slug, &["who"]).install(made);
        for object in &mut all.objects {
            if let Some(Object::FeatureDefinition(definition)) = &mut object.object
                && definition.hash == format!("e-{slug}/who")
            {
                let meta = format!(r#"{{"ui":{{"resourceUri":"{shown_by}"}}}}"#);
                definition.definition_json =
                    format!(r#"{{"name":"who","inputSchema":{{"type":"object"}},"_meta":{meta}}}"#);
            }
        }
        all
    }

    /// All of an entry, assigned at this time.
    fn since(self, uid: &str, slug: &str) -> Self {
        self.with(assignment(pb::ToolAssignment {
            uid: uid.to_owned(),
            ..plain_assignment("two", slug, "*", None)
        }))
    }
}

impl World {
    /// Two servers at a gateway without prefixes; the first by name is the newer one, which joins with a later revision.
    async fn two(upstream: impl Fn(Value, HeaderMap) -> Response + Send + Sync + 'static) -> (Self, Registry) {
        let mut world = world(upstream).await;
        let two = pb::Gateway {
            omit_entry_prefix: Some(true),
            ..plain_gateway("two")
        };
        let registry = world.registry.clone().with(gateway(two));
        let registry = registry.server("older", "ui://w").server("newer", "ui://w");
        let alone = registry.since("1", "older");
        fill(&mut world.feed, 2, alone.objects.clone()).await;
        (world, alone)
    }

    async fn newer_joins(&mut self, alone: Registry) {
        fill(&mut self.feed, 3, alone.since("2", "newer").objects).await;
    }

    async fn open_two(&self) -> String {
        let body = initialize(0, "2025-11-25", &json!({}));
        let response = self.send(post(body).at(GATEWAY).by("alice")).await;
        response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
    }

    /// The result, of a client with or without a session; the last message of a stream.
    async fn two_say(&self, session: Option<&str>, method: &str, mut params: Value) -> Value {
        let Some(session) = session else {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            let name = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default();
            let body = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params}).to_string();
            let ask = post(body).at(GATEWAY).by("alice").header("mcp-name", name);
            let ask = ask
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", method);
            return result(
                self.send(ask.header("accept", "application/json, text/event-stream"))
                    .await,
            )
            .await;
        };
        let body = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params}).to_string();
        result(self.send(post(body).at(GATEWAY).by("alice").session(session)).await).await
    }

    async fn read(&self, session: Option<&str>, uri: &str) -> Value {
        let read = self.two_say(session, "resources/read", json!({"uri": uri})).await;
        read["contents"][0].clone()
    }
}

async fn result(response: Response) -> Value {
    let said = text(response).await;
    let last = said.lines().rfind(|line| line.contains("\"id\":5")).unwrap_or_default();
    let mut message: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap_or(last)).expect(&said);
    message["result"].take()
}

#[tokio::test]
async fn names_and_uris_stay_when_another_server_joins() {
    let (mut world, alone) = World::two(|message, headers| answer(&message, &headers)).await;
    let before = world.open_two().await;
    let before = Some(&*before);
    let read = json!({"uri": "doc://a", "text": "older"});
    assert_eq!(world.read(before, "doc://a").await, read);
    world.newer_joins(alone).await;
    let after = world.open_two().await;
    for session in [before, Some(&*after), None] {
        for name in ["who", "greet"] {
            let method = if name == "who" { "tools/call" } else { "prompts/get" };
            let said = world.two_say(session, method, json!({"name": name})).await;
            assert!(said.to_string().contains("\"older\""), "{said}");
        }
        assert_eq!(world.read(session, "doc://a").await["text"], "older");
        assert_eq!(world.read(session, "t://5").await["text"], "older");
        assert_eq!(world.read(session, "doc://only-newer").await["text"], "newer");
        let listed = world.two_say(session, "resources/list", json!({})).await;
        let uris: Vec<&str> = listed["resources"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["uri"].as_str())
            .collect();
        let newer = of_newer("doc://a");
        assert_eq!(uris, ["doc://a", "doc://only-older", &newer, "doc://only-newer"]);
        let listed = world.two_say(session, "resources/templates/list", json!({})).await;
        assert_eq!(listed["resourceTemplates"][1]["uriTemplate"], of_newer("t://{x}"));
    }
}

/// Whatever the client has listed before, and however the server answers.
#[tokio::test]
async fn what_a_server_names_of_its_own_leads_to_it() {
    let (mut world, alone) = World::two(|message, headers| answer(&message, &headers)).await;
    world.newer_joins(alone).await;
    let sessions = [Some(world.open_two().await), Some(world.open_two().await), None];
    for (streams, session) in [true, false, true].into_iter().zip(&sessions) {
        let session = session.as_deref();
        let tools = world.two_say(session, "tools/list", json!({})).await;
        let shown_by = |index: usize| tools["tools"][index]["_meta"]["ui"]["resourceUri"].as_str().unwrap();
        assert_eq!([shown_by(0), shown_by(1)], ["ui://w", &of_newer("ui://w")]);
        let name = tools["tools"][1]["name"].as_str().unwrap();
        // Before anything is listed.
        for (name, who) in [(name, "newer"), ("who", "older")] {
            let params = json!({"name": name, "arguments": {"streams": streams}});
            let said = world.two_say(session, "tools/call", params.clone()).await;
            assert_eq!(said["content"][0]["text"], who);
            let its = |uri: &str| if who == "newer" { of_newer(uri) } else { uri.to_owned() };
            let document = &said["content"][1]["uri"];
            assert_eq!(*document, its("doc://a"), "{said}");
            // The client has seen no templates yet.
            assert_eq!(said["content"][2]["uri"], "t://5");
            assert_eq!(
                said["content"][3]["resource"],
                json!({"uri": format!("doc://only-{who}"), "text": "doc://a"})
            );
            assert_eq!(said["_meta"]["ui"]["resourceUri"], its("ui://w"));
            for uri in [document, &said["_meta"]["ui"]["resourceUri"]] {
                let uri = uri.as_str().unwrap();
                assert_eq!(world.read(session, uri).await, json!({"uri": uri, "text": who}));
            }
        }
        let prompts = world.two_say(session, "prompts/list", json!({})).await;
        let name = &prompts["prompts"][1]["name"];
        let prompt = world.two_say(session, "prompts/get", json!({"name": name})).await;
        assert_eq!(prompt["messages"][0]["content"], link(&of_newer("doc://a")));
        world.two_say(session, "resources/templates/list", json!({})).await;
        let made = of_newer("t://5");
        assert_eq!(world.read(session, &made).await, json!({"uri": made, "text": "newer"}));
        let reference = json!({"type": "ref/resource", "uri": of_newer("t://{x}")});
        let completed = world
            .two_say(
                session,
                "completion/complete",
                json!({"ref": reference, "argument": {}}),
            )
            .await;
        assert_eq!(completed["completion"]["values"], json!(["newer", "t://{x}"]));
    }
}

/// What one client's servers do not list says nothing of what others know.
#[tokio::test]
async fn lists_that_do_not_come_say_nothing() {
    let fails = Arc::new(AtomicBool::new(true));
    let still_fails = Arc::clone(&fails);
    let (mut world, alone) = World::two(move |message, headers| {
        if message["method"] == "resources/list" && still_fails.load(Ordering::SeqCst) {
            let error = json!({"code": -32603, "message": "not now"});
            return raw(json!({"jsonrpc": "2.0", "id": message["id"], "error": error}).to_string());
        }
        answer(&message, &headers)
    })
    .await;
    world.newer_joins(alone).await;
    let [first, second] = [world.open_two().await, world.open_two().await];
    let document = async |session: &str| {
        let tools = world.two_say(Some(session), "tools/list", json!({})).await;
        let name = json!({"name": tools["tools"][1]["name"]});
        let said = world.two_say(Some(session), "tools/call", name).await;
        assert_eq!(said["content"][0]["text"], "newer");
        said["content"][1]["uri"].clone()
    };
    assert_eq!(document(&first).await, "doc://a");
    fails.store(false, Ordering::SeqCst);
    assert_eq!(document(&second).await, of_newer("doc://a"));
}

/// Of a server that has joined later: a template that everything fits.
#[tokio::test]
async fn a_template_of_everything_gets_what_nobody_else_has() {
    let grown = Arc::new(AtomicBool::new(false));
    let has_grown = Arc::clone(&grown);
    let (mut world, alone) = World::two(move |message, headers| {
        let newer = headers["x-path"] == "/newer";
        let resources = if !newer && has_grown.load(Ordering::SeqCst) {
            json!([{"uri": "new://1"}])
        } else {
            json!([])
        };
        let result = match message["method"].as_str().unwrap() {
            "resources/list" => json!({"resources": resources}),
            "resources/templates/list" if newer => {
                json!({"resourceTemplates": [{"uriTemplate": "{+x}"}, {"uriTemplate": "t://{x}"}]})
            }
            "resources/templates/list" => json!({"resourceTemplates": [{"uriTemplate": "doc://{+x}"}]}),
            _ => has(&message, &headers),
        };
        raw(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
    })
    .await;
    world.newer_joins(alone).await;
    let session = world.open_two().await;
    let session = Some(&*session);
    for (uri, who) in [("doc://x?token=1", "older"), ("t://5", "newer"), ("new://1", "newer")] {
        assert_eq!(world.read(session, uri).await["text"], who, "{uri}");
    }
    grown.store(true, Ordering::SeqCst);
    assert_eq!(world.read(session, "new://1").await["text"], "older");
    assert_eq!(world.read(session, "other:1").await["text"], "newer");
}

/// A client that listens, its session, and what the newer server says to it.
async fn listening() -> (World, String, mpsc::UnboundedSender<Value>, Events) {
    let (write, respond) = written();
    let (mut world, alone) = World::two(move |message, headers| match message["method"].as_str() {
        Some("GET") if headers["x-path"] == "/newer" => respond(),
        Some("GET") => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        _ => answer(&message, &headers),
    })
    .await;
    world.newer_joins(alone).await;
    world.streams.store(true, Ordering::SeqCst);
    let session = world.open_two().await;
    let get = method("GET").at(GATEWAY).by("alice").session(&session);
    let events = Events::of(world.send(get.header("accept", "text/event-stream")).await);
    (world, session, write, events)
}

fn updated(uri: &str) -> Value {
    notification("resources/updated", json!({"uri": uri}))
}

#[tokio::test]
async fn a_server_tells_of_its_own_resources_alone() {
    let (mut world, session, write, mut events) = listening().await;
    world.two_say(Some(&session), "resources/list", json!({})).await;
    let subscribed = of_newer("doc://a");
    let answered = world
        .two_say(Some(&session), "resources/subscribe", json!({"uri": subscribed}))
        .await;
    assert_eq!(answered, json!({}));
    let got = world.saw(|message| message["method"] == "resources/subscribe").await;
    assert_eq!(got["params"]["uri"], "doc://a");
    for uri in [
        "doc://only-older",
        "doc://a",
        "doc://only-older",
        "doc://only-newer",
        "doc://only-newer/part",
    ] {
        write.send(updated(uri)).unwrap();
    }
    for uri in [&subscribed, "doc://only-newer", "doc://only-newer/part"] {
        assert_eq!(events.next().await, updated(uri));
    }
}

/// Also of a resource that no server lists, and whatever the client has seen meanwhile.
#[tokio::test]
async fn a_client_is_told_of_changes_by_the_uri_that_it_has_subscribed_to() {
    let (world, session, write, mut events) = listening().await;
    let made = of_newer("t://5");
    for method in ["resources/subscribe", "resources/templates/list", "resources/list"] {
        let answered = world.two_say(Some(&session), method, json!({"uri": made})).await;
        assert!(answered.is_object(), "{answered}");
        write.send(updated("t://5")).unwrap();
        assert_eq!(events.next().await, updated(&made), "after {method}");
    }
    let only = of_newer("doc://only-newer");
    for uri in [&only, "doc://only-newer"] {
        let params = json!({"uri": uri});
        world
            .two_say(Some(&session), "resources/subscribe", params.clone())
            .await;
        write.send(updated("doc://only-newer")).unwrap();
        assert_eq!(events.next().await, updated(uri));
    }
    let params = json!({"uri": only});
    world.two_say(Some(&session), "resources/unsubscribe", params).await;
    write.send(updated("doc://only-newer")).unwrap();
    assert_eq!(events.next().await, updated("doc://only-newer"), "as it is listed");
}
