//! Two members of a team use one installation of a server with sessions. Each has a session of the server's: what one subscribes to or logs is
//! not the other's, and it ends when its client says so.
//!
//! Tools: node

use std::collections::BTreeSet;

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

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_team_have_sessions_of_their_own() {
    let server = SessionServer::start().await;
    let stack = Stack::start().await;
    let admin = stack.admin();
    admin.team("red", vec![walk::group(ISSUER, "red")]).await;
    let (alice, bob) = (stack.member_of("alice", &["red"]), stack.member_of("bob", &["red"]));
    admin.publish("server", walk::remote(&server.url)).await;
    alice.install("server", Some("teams/red"), &[]).await;
    admin.gateway_of_all("team").await;
    let all = walk::all_tools("server");
    admin
        .create_assignment("gateways/team", all, false)
        .await
        .expect("an admin may");
    let (hers, his) = (stack.mcp("team", &alice).await, stack.mcp("team", &bob).await);
    for client in [&hers, &his] {
        eventually("the tool is listed", || async {
            (!client.tool_names().await.is_empty()).then_some(())
        })
        .await;
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
