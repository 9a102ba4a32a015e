//! Clients of 2026-07-28.

use pretty_assertions::assert_eq;

use super::*;

/// A message of this revision.
pub(super) fn message(method: &str, mut params: Value, capabilities: &Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

impl World {
    /// A request whose answer is a stream.
    pub(super) fn modern_request(&self, who: &str, method: &str, params: Value) -> Request {
        let ask = post(message(method, params, &json!({}))).by(who);
        let ask = ask
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        ask.header("accept", "application/json, text/event-stream").into()
    }

    pub(super) async fn modern_stream(&self, who: &str, method: &str, params: Value) -> Response {
        self.send(self.modern_request(who, method, params)).await
    }

    pub(super) async fn modern(&self, who: &str, method: &str, params: Value, capabilities: &Value) -> (u16, Value) {
        let name = params["name"]
            .as_str()
            .or(params["uri"].as_str())
            .or(params["taskId"].as_str())
            .unwrap_or_default()
            .to_owned();
        let ask = post(message(method, params, capabilities)).by(who);
        let ask = ask
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        let response = self
            .send(ask.header("mcp-name", &name).header("accept", "application/json"))
            .await;
        let status = response.status().as_u16();
        (status, serde_json::from_str(&text(response).await).unwrap())
    }
}

#[tokio::test]
async fn each_request_stands_alone() {
    let world = world(answers(r#"{"content":[],"x":1.0}"#)).await;
    let (status, found) = world.modern("alice", "server/discover", json!({}), &json!({})).await;
    assert_eq!(
        (status, &found["result"]["supportedVersions"][0]),
        (200, &json!("2026-07-28"))
    );
    let (_, listed) = world.modern("alice", "tools/list", json!({}), &json!({})).await;
    assert_eq!(listed["result"]["tools"][0]["name"], "mail__send");
    assert_eq!(listed["result"]["cacheScope"], "private");
    let call = json!({"name": "mail__send", "arguments": {}});
    let (_, called) = world.modern("alice", "tools/call", call.clone(), &json!({})).await;
    assert_eq!(
        called["result"],
        json!({"content": [], "x": 1.0, "resultType": "complete"})
    );
    for (method, expected) in [
        ("initialize", (404, -32601)),
        ("ping", (404, -32601)),
        ("x/y", (404, -32601)),
    ] {
        let (status, refused) = world.modern("alice", method, json!({}), &json!({})).await;
        assert_eq!(
            (status, refused["error"]["code"].as_i64().unwrap()),
            expected,
            "{method}"
        );
    }
    let get = method("GET").by("alice").header("mcp-protocol-version", "2026-07-28");
    assert_eq!(world.send(get).await.status(), 405);
    let bare = post(message("tools/call", call, &json!({}))).by("alice");
    let bare = world.send(bare.header("mcp-protocol-version", "2026-07-28")).await;
    assert_eq!(bare.status(), 400);
    assert_eq!(
        serde_json::from_str::<Value>(&text(bare).await).unwrap()["error"]["code"],
        -32020
    );
}

#[tokio::test]
async fn a_missing_credential_is_a_question() {
    let world = world(answers("{}")).await;
    let call = json!({"name": "mail__send", "arguments": {}});
    let can = json!({"elicitation": {"url": {}}});
    let (_, asked) = world.modern("bob", "tools/call", call.clone(), &can).await;
    let result = &asked["result"];
    assert_eq!(result["resultType"], "input_required");
    assert_eq!(result["inputRequests"]["link-1"]["params"]["mode"], "url");
    let again = |state: &Value| {
        let mut again = call.clone();
        again["requestState"] = state.clone();
        again["inputResponses"] = json!({"link-1": {"action": "accept"}});
        again
    };
    let (_, answered) = world
        .modern("bob", "tools/call", again(&result["requestState"]), &can)
        .await;
    assert_eq!(answered["result"]["isError"], true);
    for (who, state) in [("alice", &result["requestState"]), ("bob", &json!("forged"))] {
        let (_, refused) = world.modern(who, "tools/call", again(state), &can).await;
        assert_eq!(refused["error"]["code"], -32602, "{who}");
    }
}

/// A server that goes by the header must not do another thing than the message says.
#[tokio::test]
async fn headers_repeat_the_arguments_that_the_schema_says() {
    let mut world = world(answers(r#"{"content":[]}"#)).await;
    let definition_json =
        r#"{"name":"send","inputSchema":{"type":"object","properties":{"to":{"type":"string","x-mcp-header":"To"}}}}"#;
    let mut registry = world.registry.clone();
    for object in &mut registry.objects {
        if let Some(Object::FeatureDefinition(definition)) = &mut object.object {
            definition_json.clone_into(&mut definition.definition_json);
        }
    }
    fill(&mut world.feed, 2, registry.objects).await;
    let call = |to: &[&str]| {
        let params = json!({"name": "mail__send", "arguments": {"to": "\u{e4}"}});
        let ask = post(message("tools/call", params, &json!({}))).by("alice");
        let ask = ask
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "mail__send");
        to.iter().fold(ask, |ask, to| ask.header("mcp-param-to", to))
    };
    for wrong in [
        &[][..],
        &["b"],
        &["=?base64?YQ==?="],
        &["=?base64?w6Q=?=", "=?base64?w6Q=?="],
    ] {
        let response = world.send(call(wrong)).await;
        assert_eq!(response.status(), 400, "{wrong:?}");
        let refused: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&json!(1), &json!(-32020)),
            "{wrong:?}"
        );
    }
    assert!(world.seen.try_recv().is_err(), "the server got none of them");
    assert_eq!(world.send(call(&["=?base64?w6Q=?="])).await.status(), 200);
}
