//! A call becomes a task, whose result its client asks for later, and which asks its user meanwhile. With npm's SDK, at a remote server and at one on
//! standard input and output, the client sees what it sees at the server itself. Nobody else has the task.
//!
//! Tools: node

use contracts::registry as r;
use integration_tests::{
    Caller, Stack, eventually,
    mcp::{McpClient, McpOptions},
    script::node,
    tools::{Tool, npm_command},
    upstream::everything::Everything,
    walk,
};
use serde_json::{Value, json};

const TOOL: &str = "simulate-research-query";

/// What the client sees at this URL, and the id of the task.
async fn seen(url: &str, token: &str, tool: &str) -> (Value, String) {
    let mut seen = node("tasks_client.mjs", [url, token, tool]).await.json();
    let id = seen["id"].take().as_str().expect("an id").to_owned();
    (seen, id)
}

/// A gateway with the tool of server-everything, which Alice has installed.
async fn installed(stack: &Stack, entry: r::Entry) -> Caller {
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin.gateway_of_all("all").await;
    admin.publish("everything", entry).await;
    alice.install("everything", None, &[]).await;
    admin.assign("all", "everything", TOOL).await;
    let client = stack.mcp("all", &alice).await;
    eventually("the tool is listed", || async {
        (!client.tool_names().await.is_empty()).then_some(())
    })
    .await;
    alice
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_servers_tasks() {
    let (stack, server) = tokio::join!(Stack::start(), Everything::start());
    let alice = installed(&stack, walk::remote(&server.url())).await;
    let exposed = format!("everything__{TOOL}");
    let (own, url) = (server.url(), stack.mcp_url("all"));
    let ((directly, _), (relayed, id)) = tokio::join!(seen(&own, "none", TOOL), seen(&url, alice.token(), &exposed));
    assert_eq!(directly["asked"].as_array().map(Vec::len), Some(1), "{directly}");
    assert_eq!(directly["statuses"], json!(["working", "input_required"]), "{directly}");
    assert_eq!(relayed, directly);
    // Neither she in another session, whose server does not know it, nor anybody else.
    let bob = stack.member("bob");
    for who in [&alice, &bob] {
        let client = McpClient::connect(&url, Some(who.token()), McpOptions::default());
        let client = client.await.expect("they may");
        let answer = client.request("tasks/get", json!({"taskId": id})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_servers_tasks() {
    let modules = Tool::NodeModules.path();
    let stack = Stack::builder()
        .flag("--server-read", modules.display().to_string())
        .start()
        .await;
    let script = npm_command("mcp-server-everything").to_string_lossy().into_owned();
    let mut entry = walk::stdio(&Tool::Node.path().to_string_lossy(), &[&script, "stdio"]);
    if let Some(r::entry::Server::SelfHosted(server)) = &mut entry.server {
        server.transport = Some(r::self_hosted_server::Transport::Stdio(r::StdioTransport {
            process_model: r::ProcessModel::OnePerSession.into(),
        }));
    }
    let alice = installed(&stack, entry).await;
    let server = Everything::start().await;
    let (directly, _) = seen(&server.url(), "none", TOOL).await;
    let (relayed, _) = seen(&stack.mcp_url("all"), alice.token(), &format!("everything__{TOOL}")).await;
    assert_eq!(relayed, directly);
}
