//! Alice's agent has more tools than its model can read about: it searches them, and calls what it has found.
//!
//! Tools: node, python

use contracts::registry as r;
use integration_tests::{
    Caller, McpClient, Stack,
    script::{node, python},
    upstream::recording::{RecordingUpstream, tool},
    wait::eventually,
    walk,
};
use serde_json::{Value, json};

const TOOLS: usize = 120;

/// A running stack with an agent that is searched. Alice has connected all of its servers but one, which others see.
struct Many {
    stack: Stack,
    admin: Caller,
    alice: Caller,
    tracker: RecordingUpstream,
    mail: RecordingUpstream,
}

fn definition(name: &str, description: &str) -> Value {
    let mut definition = tool(name, description);
    definition["inputSchema"]["properties"]["text"]["description"] = json!(format!("Of {name}"));
    definition
}

impl Many {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let (admin, alice) = (stack.admin(), stack.member("alice"));
        let (tracker, mail) = tokio::join!(RecordingUpstream::start(), RecordingUpstream::start());
        let filler = |n| definition(&format!("report_{n}"), "Makes one of many reports");
        let mut tools: Vec<Value> = (0..TOOLS).map(filler).collect();
        tools.push(definition("createIssue", "Creates an issue in a project"));
        tools.push(definition("list_issues", "Lists the issues of a project"));
        tracker.set_definitions(tools);
        mail.set_definitions(vec![definition("send", "Sends a message to somebody")]);
        let agent = r::Agent {
            tool_listing: r::ToolListing::Search.into(),
            ..r::Agent::default()
        };
        let request = r::CreateAgentRequest {
            agent_id: "helper".to_owned(),
            agent: Some(agent),
            request_id: walk::request_id(),
        };
        admin.agents().create_agent(request).await.expect("an admin may");
        for (slug, server) in [("tracker", &tracker), ("mail", &mail)] {
            admin.publish(slug, walk::remote(&server.url())).await;
            alice.install(slug, None, &[]).await;
            let all = walk::all_tools(slug);
            let assigned = admin.create_assignment("agents/helper", all, false).await;
            assigned.expect("an admin may");
        }
        let many = Self {
            stack,
            admin,
            alice,
            tracker,
            mail,
        };
        let client = many.client(&many.alice).await;
        eventually("the tools of both are found", || async {
            let found = client.call("search_tools", json!({"query": ""})).await;
            (found["result"]["structuredContent"]["matched"] == TOOLS + 3).then_some(())
        })
        .await;
        many
    }

    fn url(&self) -> String {
        self.stack.url("/agents/helper/mcp")
    }

    async fn client(&self, caller: &Caller) -> McpClient {
        let client = McpClient::connect(&self.url(), Some(caller.token()), Default::default()).await;
        client.expect("she may use it")
    }

    /// What a client of an SDK sees that lists the tools and calls this one.
    async fn seen(&self, sdk: Sdk, tool: &str, arguments: &Value) -> Value {
        let (url, token, arguments) = (self.url(), self.alice.token(), arguments.to_string());
        match sdk {
            Sdk::Python(mode) => python("mcp_client.py", [&url, token, mode, tool, &arguments])
                .await
                .json(),
            Sdk::Node => node("mcp_client.mjs", [&url, token, tool, &arguments]).await.json(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Sdk {
    Python(&'static str),
    Node,
}

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_of_both_eras_find_a_tool_and_call_it() {
    let many = Many::start().await;
    let clients = [
        (Sdk::Python("auto"), "2026-07-28"),
        (Sdk::Python("legacy"), "2025-11-25"),
        (Sdk::Node, "2025-11-25"),
    ];
    for (sdk, revision) in clients {
        let search = json!({"query": "create an issue in the tracker"});
        let seen = many.seen(sdk, "search_tools", &search).await;
        assert_eq!(seen["revision"], revision, "{sdk:?}: {seen}");
        assert_eq!(seen["tools"], json!(["search_tools", "call_tool"]), "{sdk:?}");
        // SDKs check it against the schema that the tool declares.
        let found = &seen["result"]["structuredContent"];
        let mut expected = definition("createIssue", "Creates an issue in a project");
        expected["name"] = json!("tracker__createIssue");
        assert_eq!(found["tools"][0], expected, "{sdk:?}: as the server defines it");

        let text = format!("found by {sdk:?}");
        let call = json!({"name": found["tools"][0]["name"], "arguments": {"text": text}});
        let seen = many.seen(sdk, "call_tool", &call).await;
        assert_eq!(seen["result"]["content"][0]["text"], text, "{sdk:?}: {seen}");
        assert_eq!(many.tracker.last_call().json()["params"]["name"], "createIssue");
    }
    // Its name works as well.
    let client = many.client(&many.alice).await;
    assert_eq!(
        client.call_text("mail__send", json!({"text": "by name"})).await,
        "by name"
    );
    assert_eq!(many.mail.last_call().json()["params"]["name"], "send");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_answered_page_by_page_and_a_wrong_name_by_what_was_meant() {
    let many = Many::start().await;
    let client = many.client(&many.alice).await;
    let (mut names, mut arguments) = (Vec::new(), json!({"query": "reports", "limit": 50}));
    loop {
        let page = client.call("search_tools", arguments.clone()).await;
        let page = &page["result"]["structuredContent"];
        assert_eq!(page["matched"], TOOLS);
        names.extend(
            page["tools"]
                .as_array()
                .expect("tools")
                .iter()
                .map(|tool| tool["name"].clone()),
        );
        match page.get("nextCursor") {
            Some(cursor) => arguments["cursor"] = cursor.clone(),
            None => break,
        }
    }
    assert_eq!(names.len(), TOOLS);
    let all = client.call("search_tools", json!({"query": ""})).await;
    assert_eq!(
        all["result"]["structuredContent"]["servers"],
        json!([{"name": "mail", "tools": 1}, {"name": "tracker", "tools": TOOLS + 2}])
    );
    let wrong = json!({"name": "tracker_create_issue", "arguments": {}});
    let wrong = client.call("call_tool", wrong).await;
    assert_eq!(wrong["result"]["isError"], true);
    assert_eq!(
        wrong["result"]["structuredContent"]["similar"][0],
        "tracker__createIssue"
    );

    // Bob has connected nothing: he finds the same, and the call says what he has to connect.
    let bob = many.stack.member("bob");
    let client = many.client(&bob).await;
    let call = json!({"name": "mail__send", "arguments": {"text": "x"}});
    let linked = client.call("call_tool", call.clone()).await;
    let linked = &linked["result"]["structuredContent"];
    assert_eq!(linked["error"], "credential_required", "{linked}");

    // Without the setting, everything is listed again.
    let agent = r::Agent {
        name: "agents/helper".to_owned(),
        tool_listing: r::ToolListing::All.into(),
        ..r::Agent::default()
    };
    let request = r::UpdateAgentRequest {
        agent: Some(agent),
        update_mask: Some(walk::mask(&["tool_listing"])),
    };
    many.admin.agents().update_agent(request).await.expect("an admin may");
    assert_eq!(client.tool_names().await.len(), TOOLS + 3);
    let unknown = client.call("call_tool", call).await;
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
}
