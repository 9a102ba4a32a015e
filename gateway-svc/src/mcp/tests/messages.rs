//! Which messages are taken, in which revision.

use pretty_assertions::assert_eq;

use super::*;

#[tokio::test]
async fn invalid_messages_are_refused_with_a_code() {
    let world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    for (body, status, code) in [
        ("{", 400, -32700),
        ("[]", 400, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#, 200, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/lists"}"#, 200, -32601),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no"}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}"#,
            200,
            -32602,
        ),
    ] {
        let response = world.post("alice", &session, body).await;
        assert_eq!(response.status(), status, "{body}");
        let message: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(message["error"]["code"], code, "{body}");
    }
    let large = world.post("alice", &session, vec![b' '; (4 << 20) + 1]).await;
    assert_eq!(large.status(), 413);
    let html = post(CALL).by("alice").session(&session).header("accept", "text/html");
    assert_eq!(world.send(html).await.status(), 406);
    assert_eq!(world.send(method("PUT").by("alice")).await.status(), 405);
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(world.post("alice", &session, notification).await.status(), 202);
}

#[tokio::test]
async fn only_the_oldest_revision_has_batches() {
    let world = world(answers(r#"{"content":[]}"#)).await;
    let batch = format!(
        r#"[{{"jsonrpc":"2.0","id":1,"method":"ping"}},{{"jsonrpc":"2.0","method":"notifications/x"}},{CALL},5]"#
    );
    let session = world.open("alice", "2025-03-26", json!({})).await;
    let answer = world.ask("alice", &session, &batch).await;
    assert_eq!(answer[0], json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(answer[1]["id"], "c1");
    assert_eq!(answer[2]["error"]["code"], -32600);
    let session = world.open("alice", "2025-11-25", json!({})).await;
    assert_eq!(world.post("alice", &session, batch).await.status(), 400);
}
