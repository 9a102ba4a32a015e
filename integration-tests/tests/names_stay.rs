//! Servers with the same tools, prompts and URIs join one after another at a gateway without prefixes. Clients of both eras go on to use what was
//! there under its name, and what a server names of its own leads to that server.

use axum::{
    Router, body,
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
    routing::any,
};
use contracts::registry as r;
use integration_tests::{
    Caller, McpClient, Stack,
    mcp::{McpOptions, Reply},
    upstream::Served,
    walk,
};
use serde_json::{Value, json};

const REVISION: &str = "2026-07-28";

/// A server of either era whose answers say who gives them. All have the same document and the same resource that shows their tool, and name them
/// in what they answer: a call in a stream.
async fn server(who: &'static str, modern: bool) -> Served {
    let answer = move |method: Method, body: body::Bytes| async move {
        if method != Method::POST {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let message: Value = serde_json::from_slice(&body).expect("the gateway sends JSON");
        if message["id"].is_null() {
            return StatusCode::ACCEPTED.into_response();
        }
        respond(who, modern, &message)
    };
    Served::start(Router::new().fallback(any(answer))).await
}

fn respond(who: &str, modern: bool, message: &Value) -> Response {
    let link = json!({"type": "resource_link", "uri": "doc://handbook", "name": "handbook"});
    let capabilities = json!({"tools": {}, "prompts": {}, "resources": {}});
    let mut result = match message["method"].as_str().unwrap_or_default() {
        "server/discover" if modern => json!({"supportedVersions": [REVISION], "capabilities": capabilities}),
        "server/discover" => return StatusCode::NOT_FOUND.into_response(),
        "initialize" => json!({
            "protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {"name": who, "version": "1"},
        }),
        "tools/list" => json!({"tools": [{
            "name": "who", "inputSchema": {"type": "object"}, "_meta": {"ui": {"resourceUri": "ui://who"}},
        }]}),
        "resources/list" => json!({"resources": [{"uri": "doc://handbook", "name": who}]}),
        "resources/templates/list" => json!({"resourceTemplates": []}),
        "prompts/list" => json!({"prompts": [{"name": "greet", "title": who}]}),
        "resources/read" => json!({"contents": [{"uri": message["params"]["uri"], "text": who}]}),
        "prompts/get" => json!({"messages": [{"role": "user", "content": link}], "description": who}),
        "tools/call" => json!({
            "content": [{"type": "text", "text": who}, link], "_meta": {"ui": {"resourceUri": "ui://who"}},
        }),
        _ => json!({}),
    };
    if modern {
        result["resultType"] = "complete".into();
    }
    let reply = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    if message["method"] == "tools/call" {
        let event = format!("data: {reply}\n\n");
        return ([("content-type", "text/event-stream")], event).into_response();
    }
    ([("content-type", "application/json")], reply.to_string()).into_response()
}

/// A client of either era.
enum Client {
    Legacy(McpClient),
    /// Where it asks, and as whom.
    Modern(String, String),
}

impl Client {
    async fn asks(&self, method: &str, mut params: Value) -> Value {
        match self {
            Self::Legacy(client) => client.request(method, params).await["result"].take(),
            Self::Modern(url, token) => {
                let name = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default();
                let headers = [
                    ("mcp-protocol-version", REVISION),
                    ("mcp-method", method),
                    ("mcp-name", name),
                ];
                let options = headers
                    .into_iter()
                    .fold(McpOptions::default(), |options, (name, value)| {
                        options.header(name, value)
                    });
                let client = McpClient::bare(url, Some(token), &options);
                params["_meta"] = json!({
                    "io.modelcontextprotocol/protocolVersion": REVISION,
                    "io.modelcontextprotocol/clientCapabilities": {},
                });
                let reply: Reply = client
                    .post(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
                    .await;
                reply.answer(1)["result"].take()
            }
        }
    }

    /// Which server has this resource.
    async fn reads(&self, uri: &Value) -> String {
        let read = self.asks("resources/read", json!({"uri": uri})).await;
        let content = &read["contents"][0];
        assert_eq!(content["uri"], *uri, "{read}");
        content["text"].as_str().unwrap_or_default().to_owned()
    }

    /// Tools and prompts as they are listed, each with the server that it leads to; so do all resources that this server names.
    async fn sees(&self) -> Vec<(String, String)> {
        let mut seen = Vec::new();
        let tools = self.asks("tools/list", json!({})).await;
        for tool in tools["tools"].as_array().expect("a list of tools") {
            let called = self
                .asks("tools/call", json!({"name": tool["name"], "arguments": {}}))
                .await;
            let who = called["content"][0]["text"].as_str().expect("it says who it is");
            let [linked, shown] = [&called["content"][1]["uri"], &called["_meta"]["ui"]["resourceUri"]];
            for uri in [linked, shown, &tool["_meta"]["ui"]["resourceUri"]] {
                assert_eq!(self.reads(uri).await, who, "{uri} {called} {tool}");
            }
            seen.push((tool["name"].to_string(), who.to_owned()));
        }
        let prompts = self.asks("prompts/list", json!({})).await;
        for prompt in prompts["prompts"].as_array().expect("a list of prompts") {
            let got = self.asks("prompts/get", json!({"name": prompt["name"]})).await;
            let who = got["description"].as_str().expect("it says who it is");
            assert_eq!(prompt["title"], who);
            assert_eq!(self.reads(&got["messages"][0]["content"]["uri"]).await, who, "{got}");
            seen.push((prompt["name"].to_string(), who.to_owned()));
        }
        let resources = self.asks("resources/list", json!({})).await;
        for resource in resources["resources"].as_array().expect("a list of resources") {
            assert_eq!(self.reads(&resource["uri"]).await, resource["name"], "{resource}");
            seen.push((resource["uri"].to_string(), resource["name"].to_string()));
        }
        seen
    }
}

/// A stack with a gateway without prefixes.
async fn stack() -> Stack {
    let stack = Stack::start().await;
    let gateway = r::Gateway {
        omit_entry_prefix: Some(true),
        ..r::Gateway::default()
    };
    let created = stack.admin().create_gateway("all", gateway).await;
    created.expect("an admin may");
    stack
}

async fn is_assigned(admin: &Caller, who: &'static str, modern: bool) -> Served {
    let server = server(who, modern).await;
    admin.publish(who, walk::remote(&server.url("/mcp"))).await;
    let all = walk::all_tools(who);
    let assigned = admin.create_assignment("gateways/all", all, false).await;
    assigned.expect("an admin may");
    server
}

async fn joins(admin: &Caller, who: &'static str, modern: bool) -> Served {
    let server = is_assigned(admin, who, modern).await;
    // A team of everybody's, so that its tools are those of the entry.
    admin.install(who, Some("teams/everyone"), &[]).await;
    server
}

/// Tools as they are listed, each with the server that it leads to, once there are so many.
async fn tools(client: &Client, number: usize) -> Vec<(String, String)> {
    let listed = || async {
        let listed = client.asks("tools/list", json!({})).await;
        let listed = listed["tools"].as_array().cloned().unwrap_or_default();
        (listed.len() == number).then_some(listed)
    };
    let mut leads = Vec::new();
    for tool in integration_tests::eventually("its tool is listed", listed).await {
        let call = json!({"name": tool["name"], "arguments": {}});
        let called = client.asks("tools/call", call).await;
        leads.push((tool["name"].to_string(), called["content"][0]["text"].to_string()));
    }
    leads
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_of_an_entry_that_is_assigned_first_and_installed_last_takes_no_name() {
    let stack = stack().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let _first = is_assigned(&admin, "first", false).await;
    let _second = joins(&admin, "second", true).await;
    let client = Client::Legacy(stack.mcp("all", &alice).await);
    let before = tools(&client, 1).await;
    admin.install("first", Some("teams/everyone"), &[]).await;
    let now = tools(&client, 2).await;
    assert!(now.contains(&before[0]), "{before:?} {now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_joins_names_stay_and_lead_to_their_server() {
    let stack = stack().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let (mut servers, mut before) = (Vec::new(), Vec::new());
    let early = stack.mcp("all", &alice).await;
    let early = Client::Legacy(early);
    // Those that come later come first in the alphabet.
    for (number, (who, modern)) in (1..).zip([("third", false), ("second", true), ("first", false)]) {
        servers.push(joins(&admin, who, modern).await);
        let tools = || async {
            let tools = early.asks("tools/list", json!({})).await;
            (tools["tools"].as_array().map(Vec::len) == Some(number)).then_some(())
        };
        integration_tests::eventually("its tool is listed", tools).await;
        let modern = Client::Modern(stack.mcp_url("all"), alice.token().to_owned());
        let later = Client::Legacy(stack.mcp("all", &alice).await);
        let mut now = Vec::new();
        for client in [&early, &modern, &later] {
            let seen = client.sees().await;
            assert_eq!(seen.len(), 3 * number, "{seen:?}");
            assert!(before.iter().all(|known| seen.contains(known)), "{before:?} {seen:?}");
            assert!(now.is_empty() || seen == now, "{now:?} {seen:?}");
            now = seen;
        }
        before = now;
    }
    let plain = |name: &str| before.iter().find(|(known, _)| known.trim_matches('"') == name);
    for name in ["who", "greet", "doc://handbook"] {
        assert_eq!(
            plain(name).map(|(_, who)| who.trim_matches('"')),
            Some("third"),
            "{name}"
        );
    }
}
