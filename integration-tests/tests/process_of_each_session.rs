//! Two members of a team use its installation of a local server with in-memory state: in one process for all, or in one
//! process per session.
//!
//! Tools: node

use contracts::{gateway as g, registry as r};
use integration_tests::{
    Caller, Stack, eventually,
    process::descendants,
    tools::{Tool, own},
    walk,
};
use serde_json::json;

/// The `iss` of the development issuer.
const ISSUER: &str = "http://chandlery.localhost/dev";

/// A gateway `team` with servers of `counting_server.mjs`: one entry for each process model, installed for the team of
/// both callers.
async fn counting(models: &[(&str, r::ProcessModel)]) -> (Stack, Caller, Caller) {
    let modules = Tool::NodeModules.path();
    let shared = format!("{},{}", modules.display(), own("node").display());
    let stack = Stack::builder().flag("--server-read", shared).start().await;
    let admin = stack.admin();
    admin.team("red", vec![walk::group(ISSUER, "red")]).await;
    let (alice, bob) = (stack.member_of("alice", &["red"]), stack.member_of("bob", &["red"]));
    admin.gateway_of_all("team").await;
    let script = own("node/counting_server.mjs").to_string_lossy().into_owned();
    let sdk = modules.join("@modelcontextprotocol/sdk").to_string_lossy().into_owned();
    for (name, model) in models {
        let mut entry = walk::stdio(&Tool::Node.path().to_string_lossy(), &[&script, &sdk, name]);
        if let Some(r::entry::Server::SelfHosted(server)) = &mut entry.server {
            server.transport = Some(r::self_hosted_server::Transport::Stdio(r::StdioTransport {
                process_model: (*model).into(),
            }));
        }
        admin.publish(name, entry).await;
        alice.install(name, Some("teams/red"), &[]).await;
        for tool in ["count", "crash"] {
            admin.assign("team", name, tool).await;
        }
    }
    (stack, alice, bob)
}

/// The number of processes of an entry's server, without those of the sandbox.
fn processes(stack: &Stack, entry: &str) -> usize {
    let end = format!(" {entry}");
    let all = descendants(stack.pid());
    let own = all
        .iter()
        .filter(|process| process.arguments.trim_end().ends_with(&end));
    own.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_share_state_only_in_one_process_for_all() {
    let models = [
        ("together", r::ProcessModel::Unspecified),
        ("apart", r::ProcessModel::OnePerSession),
    ];
    let (stack, alice, bob) = counting(&models).await;
    let (hers, his) = (stack.mcp("team", &alice).await, stack.mcp("team", &bob).await);
    assert_eq!(hers.call_text("together__count", json!({})).await, "1");
    assert_eq!(his.call_text("together__count", json!({})).await, "2");
    assert_eq!(hers.call_text("apart__count", json!({})).await, "1");
    assert_eq!(his.call_text("apart__count", json!({})).await, "1");
    assert_eq!(hers.call_text("apart__count", json!({})).await, "2");
    // Sessions of the same person are separate, too.
    let other = stack.mcp("team", &alice).await;
    assert_eq!(other.call_text("apart__count", json!({})).await, "1");
    // A call without a session has a process as well.
    for (who, expected) in [(&alice, "1"), (&bob, "1"), (&alice, "2")] {
        let request = g::CallToolRequest {
            parent: "gateways/team".to_owned(),
            exposed_name: "apart__count".to_owned(),
            arguments_json: "{}".to_owned(),
        };
        let result = who.tools().call_tool(request).await.expect("they may").into_inner();
        let text = format!(r#""text":"{expected}""#);
        assert!(result.result_json.contains(&text), "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_of_a_session_ends_with_the_session() {
    let (stack, alice, bob) = counting(&[("apart", r::ProcessModel::OnePerSession)]).await;
    let (hers, his) = (stack.mcp("team", &alice).await, stack.mcp("team", &bob).await);
    let before = processes(&stack, "apart");
    assert_eq!(hers.call_text("apart__count", json!({})).await, "1");
    assert_eq!(his.call_text("apart__count", json!({})).await, "1");
    let with_both = processes(&stack, "apart");
    assert!(with_both > before, "{before}, {with_both}");
    // A crash affects only that session, whose next call starts a new process.
    let crash = hers.call("apart__crash", json!({})).await;
    assert!(crash.to_string().contains("ended with exit code 3"), "{crash}");
    assert_eq!(hers.call_text("apart__count", json!({})).await, "1");
    assert_eq!(his.call_text("apart__count", json!({})).await, "2");
    // Ending a session ends its process.
    assert_eq!(hers.delete().await, 204);
    eventually("the process of her session ends", || async {
        (processes(&stack, "apart") < with_both).then_some(())
    })
    .await;
    assert_eq!(his.call_text("apart__count", json!({})).await, "3");
}
