//! An operator rotates the keys. Clients notice nothing, wherever the rotation is interrupted, unless the old keys are
//! revoked.

use std::{fs, path::Path, process::Stdio, time::Duration};

use integration_tests::{
    Caller, Stack,
    caller::refused,
    process::free_port,
    stack::binary,
    upstream::recording::RecordingUpstream,
    walk::{self, bearer, with_static},
};
use serde_json::json;
use tokio::process::Command;
use tonic::Code;

const KEYS: [&str; 4] = ["credential.key", "dev-issuer.key", "page-token.key", "session.key"];

fn rotate(stack: &Stack, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .arg("rotate-keys")
        .arg("--data-dir")
        .arg(stack.data_dir())
        .args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The keys in the data folder.
fn keys(stack: &Stack) -> Vec<Vec<u8>> {
    KEYS.iter()
        .map(|name| fs::read(stack.data_dir().join(name)).expect("each key is there"))
        .collect()
}

fn is_pending(folder: &Path) -> bool {
    folder.join("rotate-keys.pending").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_do_not_notice_a_rotation() {
    // On a fixed port, so that clients can reconnect.
    let builder = Stack::builder().flag("--http", format!("127.0.0.1:{}", free_port()));
    let (mut stack, upstream) = (builder.start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let entry = with_static(walk::remote(&upstream.url()), "key", bearer());
    admin.publish("api", entry).await;
    alice.install("api", None, &[("key", "alices-key")]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;

    let running = rotate(&stack, &[]).output().await.expect("the program runs");
    let said = String::from_utf8_lossy(&running.stderr).into_owned();
    assert!(
        !running.status.success() && said.contains("while no server runs"),
        "{said}"
    );

    stack.stop().await;
    let before = keys(&stack);
    // The rotation is killed after longer and longer times, until it completes. Each run continues the previous one.
    for after in 0.. {
        let mut rotating = rotate(&stack, &[])
            .stdout(Stdio::null())
            .spawn()
            .expect("the program runs");
        let ended = tokio::time::timeout(Duration::from_millis(4 * after), rotating.wait()).await;
        match ended {
            Ok(status) => assert!(status.expect("it is our child").success()),
            Err(_) => rotating.kill().await.expect("it is our child"),
        }
        let all_new = keys(&stack).iter().zip(&before).all(|(now, before)| now != before);
        if all_new && !is_pending(&stack.data_dir()) {
            break;
        }
        if after % 4 == 3 {
            // A server that starts in between works, and does not complete the rotation.
            stack.start_again().await;
            assert_eq!(
                client.call_text("api__echo", json!({"text": "between"})).await,
                "between"
            );
            stack.stop().await;
        }
    }
    stack.start_again().await;
    // The client's session, the person's token and the stored secret are still valid.
    assert_eq!(
        client.call_text("api__echo", json!({"text": "still here"})).await,
        "still here"
    );
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer alices-key"]);
    assert_eq!(again(&stack, &alice).me().await.email, "alice@example.com");
    stack.member("bob").me().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_keys_are_invalid() {
    let builder = Stack::builder().flag("--http", format!("127.0.0.1:{}", free_port()));
    let (mut stack, upstream) = (builder.start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let entry = with_static(walk::remote(&upstream.url()), "key", bearer());
    admin.publish("api", entry).await;
    let installation = alice.install("api", None, &[("key", "alices-key")]).await;
    stack.stop().await;
    let output = rotate(&stack, &["--revoke"]).output().await.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && KEYS.iter().all(|key| said.contains(key)),
        "{said}"
    );
    assert!(!stack.data_dir().join("dev-issuer.previous.key").exists());
    stack.start_again().await;
    // Her token is invalid, but her secret is still stored.
    refused(
        again(&stack, &alice).installation(&installation.name).await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
    );
    let alice = stack.member("alice");
    stack.admin().gateway("team").await;
    stack.admin().assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;
    client.call_text("api__echo", json!({"text": "x"})).await;
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer alices-key"]);
}

fn again(stack: &Stack, caller: &Caller) -> Caller {
    stack.caller(Some(caller.token().to_owned()))
}
