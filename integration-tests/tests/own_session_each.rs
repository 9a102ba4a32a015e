//! Two members of a team use one installation of a server with sessions. Each has a session of the server's: what one subscribes to or logs is
//! not the other's, and it ends when its client says so; unless the entry says that they share one.
//!
//! Tools: node

use std::collections::BTreeSet;

use contracts::registry::{SessionModel, entry::Server};
use integration_tests::{McpClient, Stack, eventually, upstream::sessions::SessionServer, walk};
use serde_json::{Value, json};

/// The `iss` of the development issuer.
const ISSUER: &str = "http://chandlery.localhost/dev";

/// The sessions in which the server got this.
fn sessions(server: &SessionServer, method: &str) -> Vec<Value> {
    server
        .got(method)
        .iter()
        .map(|message| message["session"].clone())
        .collect()
}

/// The methods of the messages on a stream, up to and with the first of this method.
async fn heard(stream: &mut reqwest::Response, last: &str) -> Vec<String> {
    let mut text = String::new();
    loop {
        let messages: Vec<Value> = (text.split("\n\n").filter_map(|event| event.split_once("data: ")))
            .filter_map(|(_, data)| serde_json::from_str(data).ok())
            .collect();
        let methods = messages
            .iter()
            .filter_map(|message| message["method"].as_str().map(str::to_owned));
        let methods: Vec<String> = methods.collect();
        if methods.iter().any(|method| method == last) {
            return methods;
        }
        let more = stream
            .chunk()
            .await
            .expect("the stream goes on")
            .expect("it stays open");
        text += std::str::from_utf8(&more).expect("the fixture sends ASCII");
    }
}

async fn work(client: &McpClient, how: &str) {
    assert_eq!(client.call_text("server__work", json!({"how": how})).await, "done");
}

/// A team's installation of the server, by a gateway `team` with all its tools; and the clients of two members.
async fn of_a_team(server: &SessionServer, model: SessionModel) -> (Stack, McpClient, McpClient) {
    let stack = Stack::start().await;
    let admin = stack.admin();
    admin.team("red", vec![walk::group(ISSUER, "red")]).await;
    let (alice, bob) = (stack.member_of("alice", &["red"]), stack.member_of("bob", &["red"]));
    let mut entry = walk::remote(&server.url);
    if let Some(Server::Remote(remote)) = &mut entry.server {
        remote.set_session_model(model);
    }
    admin.publish("server", entry).await;
    alice.install("server", Some("teams/red"), &[]).await;
    admin.gateway_of_all("team").await;
    let all = walk::all_tools("server");
    let assigned = admin.create_assignment("gateways/team", all, false);
    assigned.await.expect("an admin may");
    let (hers, his) = (stack.mcp("team", &alice).await, stack.mcp("team", &bob).await);
    for client in [&hers, &his] {
        until_listed(client, &["server__work"]).await;
    }
    (stack, hers, his)
}

async fn until_listed(client: &McpClient, tools: &[&str]) {
    eventually(&format!("{tools:?} are listed"), || async {
        (client.tool_names().await == tools).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_team_have_sessions_of_their_own() {
    let server = SessionServer::start().await;
    let (_stack, hers, his) = of_a_team(&server, SessionModel::Unspecified).await;
    for client in [&hers, &his] {
        work(client, "answer").await;
        work(client, "answer").await;
    }
    let used = sessions(&server, "tools/call");
    let [own, other] = [&used[0], &used[2]];
    assert_eq!(used, [own, own, other, other].map(Clone::clone));
    assert_ne!(own, other);

    // What one asks for, the other does not get.
    assert_eq!(
        hers.request("logging/setLevel", json!({"level": "error"})).await["result"],
        json!({})
    );
    let subscribed = hers.request("resources/subscribe", json!({"uri": "test://a"})).await;
    assert_eq!(subscribed["result"], json!({}));
    assert_eq!(sessions(&server, "logging/setLevel"), std::slice::from_ref(own));
    assert_eq!(sessions(&server, "resources/subscribe"), std::slice::from_ref(own));
    let (mut to_her, mut to_him) = (hers.open_stream().await, his.open_stream().await);
    eventually("both are listened for", || async {
        let listened: BTreeSet<String> = sessions(&server, "GET").iter().map(Value::to_string).collect();
        (listened.contains(&own.to_string()) && listened.contains(&other.to_string())).then_some(())
    })
    .await;
    work(&his, "touch").await;
    let last = "notifications/message";
    assert_eq!(
        heard(&mut to_her, last).await,
        ["notifications/resources/updated", last]
    );
    assert_eq!(heard(&mut to_him, last).await, [last]);

    // Only hers ends.
    assert_eq!(hers.delete().await, 204);
    eventually("the server is told", || async {
        (sessions(&server, "DELETE") == std::slice::from_ref(own)).then_some(())
    })
    .await;
    work(&his, "answer").await;
    assert_eq!(sessions(&server, "tools/call").last(), Some(other));
}

/// A tool that the server shows in the course of a session is for that client.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_the_tools_of_its_own_session() {
    let server = SessionServer::start().await;
    let (_stack, hers, his) = of_a_team(&server, SessionModel::OnePerClient).await;
    let mut to_her = hers.open_stream().await;
    for client in [&hers, &his] {
        work(client, "answer").await;
    }
    eventually("she is listened for", || async {
        (!server.got("GET").is_empty()).then_some(())
    })
    .await;
    work(&hers, "grow").await;
    let changed = "notifications/tools/list_changed";
    assert_eq!(heard(&mut to_her, changed).await, [changed]);
    assert_eq!(hers.tool_names().await, ["server__grown", "server__work"]);
    assert_eq!(hers.call_text("server__grown", json!({"how": "answer"})).await, "done");
    assert_eq!(his.tool_names().await, ["server__work"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_team_share_a_session_where_the_entry_says_so() {
    let server = SessionServer::start().await;
    let (_stack, hers, his) = of_a_team(&server, SessionModel::OneForAll).await;
    let (mut to_her, mut to_him) = (hers.open_stream().await, his.open_stream().await);
    for client in [&hers, &his] {
        work(client, "answer").await;
    }
    let used: BTreeSet<String> = sessions(&server, "tools/call").iter().map(Value::to_string).collect();
    assert_eq!(used.len(), 1);

    let (updated, changed) = (
        "notifications/resources/updated",
        "notifications/resources/list_changed",
    );
    let uri = json!({"uri": "test://a"});
    hers.request("resources/subscribe", uri.clone()).await;
    work(&his, "touch_lists").await;
    assert_eq!(heard(&mut to_her, changed).await, [updated, changed]);
    assert_eq!(heard(&mut to_him, changed).await, [changed]);

    // What she no longer needs, he does.
    his.request("resources/subscribe", uri.clone()).await;
    assert_eq!(hers.request("resources/unsubscribe", uri).await["result"], json!({}));
    work(&his, "touch_lists").await;
    assert_eq!(heard(&mut to_him, changed).await, [updated, changed]);
    assert_eq!(hers.delete().await, 204);
    work(&his, "answer").await;
    assert!(sessions(&server, "DELETE").is_empty(), "he still uses it");
}
