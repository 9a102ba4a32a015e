//! Lists and calls of tools, and the credentials they require.

use pretty_assertions::assert_eq;

use super::*;

#[tokio::test]
async fn lists_and_calls_with_everything_as_it_came() {
    let result = r#"{"content":[{"type":"text","text":"ok","x":{"y":1.0}}],"_meta":{"big":98765432109876543210}}"#;
    let mut world = world(answers(result)).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let listed = world.ask("alice", &session, LIST).await;
    assert_eq!(listed["result"]["tools"][0]["name"], "mail__send");
    let call = r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"name":"mail__send","arguments":{"n":12345678901234567890},"later":1.0,"_meta":{"k":[1]}}}"#;
    let sent = post(call).by("alice").session(&session);
    let sent = sent
        .header("x-trace", "t1")
        .header("x-other", "no")
        .header("cookie", "no");
    let response = world.send(sent).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(
        text(response).await,
        format!(r#"{{"result":{result},"jsonrpc":"2.0","id":"c1"}}"#)
    );
    let (message, headers) = world.last_call();
    assert_eq!(
        message["params"].to_string().len(),
        r#"{"name":"send","arguments":{"n":12345678901234567890},"later":1.0,"_meta":{"k":[1]}}"#.len()
    );
    assert_eq!(message["params"]["name"], "send");
    assert_ne!(message["id"], "c1", "upstreams see ids of ours");
    assert_eq!(headers["authorization"], "Bearer secret-1");
    assert_eq!(headers["x-trace"], "t1");
    assert!(!headers.contains_key("x-other") && !headers.contains_key("cookie"));
}

/// A missing credential is answered with the install link, in the form that the client understands.
#[tokio::test]
async fn a_caller_without_credential_gets_the_install_link() {
    let mut world = world(answers("{}")).await;
    let session = world.open("bob", "2025-06-18", json!({})).await;
    let listed = world.ask("bob", &session, LIST).await;
    assert_eq!(
        listed["result"]["tools"][0]["name"], "mail__send",
        "also what is not connected is listed"
    );
    let link = "http://127.0.0.1:8080/install/mail?gateway=default";
    let result = &world.ask("bob", &session, CALL).await["result"];
    assert_eq!(
        result["structuredContent"],
        json!({"error": "credential_required", "entry": "mail", "install_url": link})
    );
    assert!(result["content"][0]["text"].as_str().unwrap().contains(link));
    let session = world
        .open("bob", "2025-11-25", json!({"elicitation": {"url": {}}}))
        .await;
    let error = &world.ask("bob", &session, CALL).await["error"];
    assert_eq!(
        (&error["code"], &error["data"]["elicitations"][0]["url"]),
        (&json!(-32042), &json!(link))
    );
    assert!(world.seen.try_recv().is_err(), "nothing was sent");
}

#[tokio::test]
async fn a_refused_credential_is_replaced_or_becomes_a_link() {
    let respond = |message: Value, headers: HeaderMap| {
        if headers["authorization"] == "Bearer secret-2" {
            return answers(r#"{"content":[]}"#)(message, headers);
        }
        StatusCode::UNAUTHORIZED.into_response()
    };
    let replaced = world(respond).await;
    *replaced.credentials.0.lock().unwrap() = Some(2);
    let session = replaced.open("alice", "2025-11-25", json!({})).await;
    assert_eq!(
        replaced.ask("alice", &session, CALL).await["result"],
        json!({"content": []})
    );

    let world = world(respond).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let structured = &world.ask("alice", &session, CALL).await["result"]["structuredContent"];
    assert_eq!(structured["error"], "credential_expired");
    *world.credentials.0.lock().unwrap() = Some(3);
    let structured = &world.ask("alice", &session, CALL).await["result"]["structuredContent"];
    assert_eq!(
        structured["error"], "credential_expired",
        "the other one is refused too"
    );
}

/// A call is sent again only where there are other headers, and once.
#[tokio::test]
async fn demanded_scopes_are_asked_for_or_become_a_link() {
    let respond = |message: Value, headers: HeaderMap| {
        if headers["authorization"] == "Bearer secret-2" {
            return answers(r#"{"content":[]}"#)(message, headers);
        }
        let demanded = r#"Bearer error="insufficient_scope", scope="mail.read mail.write""#;
        (StatusCode::FORBIDDEN, [("www-authenticate", demanded)], "no").into_response()
    };
    for (best, calls, error) in [
        (Some(2), 2, None),
        (Some(3), 2, Some("scope_required")),
        (Some(1), 1, Some("scope_required")),
        (None, 1, Some("scope_required")),
    ] {
        let mut world = world(respond).await;
        *world.credentials.0.lock().unwrap() = best;
        let session = world.open("alice", "2025-11-25", json!({})).await;
        let result = &world.ask("alice", &session, CALL).await["result"];
        match error {
            None => assert_eq!(*result, json!({"content": []})),
            Some(error) => {
                assert_eq!(result["structuredContent"]["error"], error);
                let text = result["content"][0]["text"].as_str().unwrap();
                assert!(
                    text.contains("mail.read mail.write") && text.contains("/install/mail"),
                    "{text}"
                );
            }
        }
        let sent = std::iter::from_fn(|| world.seen.try_recv().ok());
        let sent = sent.filter(|(message, _)| message["method"] == "tools/call").count();
        assert_eq!(sent, calls, "{best:?}");
    }
}

#[tokio::test]
async fn a_large_result_is_passed_on_whole() {
    let world = world(|message, _| {
        raw(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
            message["id"],
            "x".repeat(3_000_000)
        ))
    })
    .await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let response = world.post("alice", &session, CALL).await;
    let message: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(message["id"], "c1");
    assert_eq!(
        message["result"]["content"][0]["text"].as_str().unwrap().len(),
        3_000_000
    );
}
