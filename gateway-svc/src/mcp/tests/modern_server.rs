//! A server of 2026-07-28, and a client with a session.

use pretty_assertions::assert_eq;

use super::{events::Events, *};

/// Asks for a name, and says what it was given. It accepts the second credential alone once it has asked.
fn asks(message: &Value, headers: &HeaderMap) -> Response {
    let given = &message["params"]["inputResponses"];
    if !given.is_null() && headers["authorization"] != "Bearer secret-2" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let question = json!({"method": "elicitation/create", "params": {"message": "Who?"}});
    let result = match given.get("name") {
        None => json!({"resultType": "input_required", "inputRequests": {"name": question}, "requestState": "s"}),
        Some(given) => json!({"resultType": "complete", "content": [], "given": given}),
    };
    raw(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
}

impl World {
    /// The answer to a call in whose course the client is asked, and what it was asked.
    async fn answered(&self) -> (Value, Value) {
        let session = self.open("alice", "2025-11-25", json!({"elicitation": {}})).await;
        let mut events = Events::of(self.post("alice", &session, CALL).await);
        let asked = events.next().await;
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept"}});
        assert_eq!(self.post("alice", &session, answer.to_string()).await.status(), 202);
        (asked, events.next().await)
    }
}

/// A user may take longer to answer than a credential is valid.
#[tokio::test]
async fn a_credential_that_expires_while_a_user_answers_is_renewed() {
    let mut world = world(|message, headers| asks(&message, &headers)).await;
    world.modern.store(true, Ordering::SeqCst);
    *world.credentials.0.lock().unwrap() = Some(2);
    let (asked, answer) = world.answered().await;
    assert_eq!(
        (&asked["method"], &asked["params"]["message"]),
        (&json!("elicitation/create"), &json!("Who?"))
    );
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": "c1", "result": {"content": [], "given": {"action": "accept"}}})
    );
    let mut sent = Vec::new();
    while let Ok((message, headers)) = world.seen.try_recv() {
        assert_eq!(message["params"]["name"], "send");
        sent.push(headers["authorization"].clone());
    }
    assert_eq!(sent, ["Bearer secret-1", "Bearer secret-1", "Bearer secret-2"]);
}

#[tokio::test]
async fn a_credential_that_is_refused_again_has_expired() {
    let world = world(|message, headers| asks(&message, &headers)).await;
    world.modern.store(true, Ordering::SeqCst);
    *world.credentials.0.lock().unwrap() = Some(3);
    let (_, answer) = world.answered().await;
    let error = &answer["result"]["structuredContent"];
    assert_eq!(error["error"], "credential_expired", "{answer}");
}
