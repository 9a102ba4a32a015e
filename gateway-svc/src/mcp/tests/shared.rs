//! Sessions with a server that several clients share.

use pretty_assertions::assert_eq;

use super::{
    events::{Events, notification, written},
    *,
};

fn about(method: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 3, "method": method, "params": {"uri": "x:/a"}}).to_string()
}

impl World {
    /// All clients of Alice's installation share a session with its server from now on.
    pub(super) async fn share(&mut self) {
        self.streams.store(true, Ordering::SeqCst);
        let mut objects = self.registry.clone().assign("default", "mail", "*").objects;
        for object in &mut objects {
            if let Some(Object::EntryRevision(revision)) = &mut object.object
                && let Some(pb::entry_revision::Server::Remote(server)) = &mut revision.server
            {
                server.set_session_model(pb::SessionModel::OneForAll);
            }
        }
        fill(&mut self.feed, 2, objects).await;
    }

    pub(super) async fn listen(&self, session: &str) -> Events {
        self.listen_by("alice", session).await
    }

    pub(super) async fn listen_by(&self, who: &str, session: &str) -> Events {
        let get = method("GET").by(who).session(session);
        let mut events = Events::of(self.send(get.header("accept", "text/event-stream")).await);
        events.primed().await;
        events
    }

    /// The methods of the messages that the server has got, besides those of MCP's sessions.
    pub(super) fn got(&mut self) -> Vec<String> {
        let mut got = Vec::new();
        while let Ok((message, _)) = self.seen.try_recv() {
            got.extend(message["method"].as_str().map(str::to_owned));
        }
        got
    }
}

#[tokio::test]
async fn each_client_hears_of_lists_and_of_the_resources_that_it_has_subscribed_to() {
    let (write, respond) = written();
    let answer = answers(r#"{"content":[],"resources":[{"uri":"x:/a","name":"a"}],"resourceTemplates":[]}"#);
    let mut world = world(move |message, headers| match message["method"].as_str() {
        Some("GET") => respond(),
        _ => answer(message, headers),
    })
    .await;
    world.share().await;
    let one = world.open("alice", "2025-11-25", json!({"roots": {}})).await;
    let other = world.open("alice", "2025-11-25", json!({})).await;
    let (mut ones, mut others) = (world.listen(&one).await, world.listen(&other).await);
    for session in [&one, &other] {
        world.ask("alice", session, CALL).await;
    }
    let opened = world.got();
    assert_eq!(
        opened.iter().filter(|method| *method == "initialize").count(),
        1,
        "{opened:?}"
    );

    let changed = json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"});
    let updated = notification("resources/updated", json!({"uri": "x:/a"}));
    write.send(changed.clone()).unwrap();
    for events in [&mut ones, &mut others] {
        assert_eq!(events.next().await, changed);
    }
    // It may be about a call of the other; and nobody knows whom a request is for.
    write
        .send(notification("message", json!({"level": "info", "data": 1})))
        .unwrap();
    write
        .send(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}))
        .unwrap();
    let refused = world.saw(|message| message["id"] == 7).await;
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("takes no requests"),
        "{refused}"
    );

    world.ask("alice", &one, &about("resources/subscribe")).await;
    world.saw(|message| message["method"] == "resources/subscribe").await;
    for said in [&updated, &changed] {
        write.send(said.clone()).unwrap();
    }
    for expected in [&updated, &changed] {
        assert_eq!(ones.next().await, *expected);
    }
    assert_eq!(others.next().await, changed);

    let long = json!({"uri": format!("x:/{}", "a".repeat(2048))});
    let long = json!({"jsonrpc": "2.0", "id": 3, "method": "resources/subscribe", "params": long});
    let refused = world.ask("alice", &one, &long.to_string()).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");

    // That one has enough does not end it for the other.
    world.ask("alice", &other, &about("resources/subscribe")).await;
    world.got();
    let answered = world.ask("alice", &one, &about("resources/unsubscribe")).await;
    assert_eq!(answered, json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    assert_eq!(world.got(), [""; 0]);
    for said in [&updated, &changed] {
        write.send(said.clone()).unwrap();
    }
    assert_eq!(ones.next().await, changed);
    for expected in [&updated, &changed] {
        assert_eq!(others.next().await, *expected);
    }
    world.ask("alice", &other, &about("resources/unsubscribe")).await;
    assert_eq!(world.got(), ["resources/unsubscribe"]);
}

/// What it asks in the course of a call is refused, too.
#[tokio::test]
async fn a_server_cannot_ask_those_who_share_one() {
    let mut world = world(|message, _| {
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}});
        let asked = json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"});
        let events = format!("data: {asked}\n\ndata: {answer}\n\n");
        ([("content-type", "text/event-stream")], events).into_response()
    })
    .await;
    world.share().await;
    world.streams.store(false, Ordering::SeqCst);
    let session = world.open("alice", "2025-11-25", json!({"roots": {}})).await;
    let call = post(CALL).by("alice").session(&session);
    let mut events = Events::of(
        world
            .send(call.header("accept", "application/json, text/event-stream"))
            .await,
    );
    assert_eq!(events.next().await["id"], "c1");
    let refused = world.saw(|message| message["id"] == 7).await;
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("takes no requests"),
        "{refused}"
    );
}
