//! A server carries a call out, and its answer is lost: the connection breaks, its stream ends, it answers with an error that looks like a lost
//! session, or it is killed. The client is told, and the server never gets the call a second time.
//!
//! Tools: node

use integration_tests::{eventually, relayed::Relayed, upstream::sessions::SessionServer};
use serde_json::json;

/// How calls end without an answer.
const LOST: [&str; 5] = ["break", "break_stream", "end_stream", "refuse", "fail"];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_is_lost_is_not_repeated() {
    let server = SessionServer::start().await;
    let gateway = Relayed::start(&server.url).await;
    let client = gateway.stack.mcp("all", &gateway.alice).await;
    for how in LOST {
        // One that succeeds first: the connection is one that was used before, which some clients take for a reason to send again.
        assert_eq!(client.call_text("work", json!({"how": "answer"})).await, "done");
        let lost = client.call("work", json!({"how": how})).await;
        let is_error = lost.get("error").is_some() || lost["result"]["isError"] == true;
        assert!(is_error, "{how}: {lost}");
        assert_eq!(server.carried_out(how), 1, "{how}");
    }
    assert_eq!(server.carried_out("answer"), LOST.len());
    let begun = server.got("initialize").len();
    assert_eq!(client.call_text("work", json!({"how": "answer"})).await, "done");
    assert_eq!(server.got("initialize").len(), begun, "its session is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_progress_at_a_server_that_is_killed_is_not_repeated() {
    let mut server = SessionServer::start().await;
    let gateway = Relayed::start(&server.url).await;
    let client = gateway.stack.mcp("all", &gateway.alice).await;
    let call = client.call("work", json!({"how": "hang"}));
    let killed = async {
        eventually("the call is carried out", || async {
            (server.carried_out("hang") == 1).then_some(())
        })
        .await;
        server.kill().await;
    };
    let (lost, ()) = tokio::join!(call, killed);
    assert_eq!(lost["result"]["isError"], true, "{lost}");
    let refused = client.call("work", json!({"how": "answer"})).await;
    assert_eq!(
        refused["result"]["structuredContent"]["error"], "upstream_unreachable",
        "{refused}"
    );
    assert_eq!((server.carried_out("hang"), server.carried_out("answer")), (1, 0));
}
