//! An operator keeps secrets in Vault (OpenBao, which speaks its API): they are there and nowhere else, and Chandlery outlives what
//! happens to Vault.
//!
//! Tools: openbao

#[path = "vault/server.rs"]
mod server;

use std::time::Duration;

use contracts::registry::DeleteInstallationRequest;
use data_encoding::BASE64;
use integration_tests::{Stack, eventually_within, stack::StackBuilder, upstream::recording::RecordingUpstream, walk};
use serde_json::{Value, json};
use server::holds;
use service_kit::testing::OpenBao;
use tonic::Code;

/// The readiness follows the store within ten seconds.
const NOTICED: Duration = Duration::from_secs(60);

/// A server, and the options that name it.
async fn vault() -> (OpenBao, StackBuilder) {
    let (bao, options) = server::vault("chandlery").await;
    (bao, server::with(&options))
}

/// All that is stored below a folder, decoded.
async fn stored(bao: &OpenBao, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let (_, list) = bao.ask("LIST", &format!("secret/metadata/{folder}"), Value::Null).await;
        for name in list["data"]["keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let path = format!("{folder}/{name}");
            if let Some(folder) = path.strip_suffix('/') {
                folders.push(folder.to_owned());
                continue;
            }
            let kept = bao.set_up("GET", &format!("secret/data/{path}"), Value::Null).await;
            let value = kept["data"]["data"]["value"].as_str().expect("Chandlery wrote it");
            let value = BASE64.decode(value.as_bytes()).expect("it is in base64");
            found.push(String::from_utf8(value).expect("it is JSON"));
        }
    }
    found
}

/// The status of `/readyz`, and what it says.
async fn readiness(stack: &Stack) -> (u16, String) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http.get(stack.url("/readyz")).send().await.expect("it is answered");
    (answer.status().as_u16(), answer.text().await.expect("it is text"))
}

async fn until_ready(stack: &Stack) {
    eventually_within(NOTICED, "it is ready again", || async {
        (readiness(stack).await.0 == 200).then_some(())
    })
    .await;
}

async fn until_it_says(stack: &Stack, text: &str) {
    eventually_within(NOTICED, text, || async {
        let (status, said) = readiness(stack).await;
        (status == 503 && said.contains(text)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_vault_alone_and_outlive_what_happens_to_it() {
    let upstream = RecordingUpstream::start().await;
    let (mut bao, options) = vault().await;
    let mut stack = options.start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let entry = walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer());
    admin.publish("api", entry).await;
    let (canary, rotated) = ("canary-of-alice-4711", "canary-rotated-4712");
    let made = alice.install("api", None, &[("key", canary)]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;
    client.call_text("api__echo", json!({"text": "x"})).await;
    assert_eq!(
        upstream.last_call().values("authorization"),
        [format!("Bearer {canary}")]
    );

    // It is in Vault, and nowhere in the data folder.
    let encoded = BASE64.encode(canary.as_bytes());
    let values = stored(&bao, "chandlery").await;
    assert!(
        values.iter().any(|value| value.contains(&encoded)),
        "{} values",
        values.len()
    );
    assert!(!holds(&stack.data_dir(), &[canary.as_bytes(), encoded.as_bytes()]));
    for name in ["credentials.db", "credential.key"] {
        assert!(!stack.data_dir().join(name).exists(), "{name}");
    }

    // Sealed: the readiness says so, calls continue with what was drawn before, and nothing is stored.
    bao.seal().await;
    until_it_says(&stack, "Vault is sealed; its operator must unseal it").await;
    client
        .call_text("api__echo", json!({"text": "while it is sealed"}))
        .await;
    assert_eq!(
        upstream.last_call().values("authorization"),
        [format!("Bearer {canary}")]
    );
    let refused = alice
        .put_secrets(&made.name, &[("key", "lost")])
        .await
        .expect_err("nothing is stored");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    bao.unseal().await;
    until_ready(&stack).await;
    alice.put_secrets(&made.name, &[("key", rotated)]).await.expect("hers");
    client.call_text("api__echo", json!({"text": "x"})).await;
    assert_eq!(
        upstream.last_call().values("authorization"),
        [format!("Bearer {rotated}")]
    );
    // What was replaced is nowhere in Vault.
    assert!(
        !stored(&bao, "chandlery")
            .await
            .iter()
            .any(|value| value.contains(&encoded))
    );

    // Vault is killed, then Chandlery, and both are started again.
    bao.kill();
    until_it_says(&stack, "Vault cannot be reached").await;
    stack.kill().await;
    bao.start_again().await;
    stack.start_again().await;
    let alice = stack.caller(Some(alice.token().to_owned()));
    alice.until_ready(&made.name).await;
    let client = stack.mcp("team", &alice).await;
    client.call_text("api__echo", json!({"text": "after both"})).await;
    assert_eq!(
        upstream.last_call().values("authorization"),
        [format!("Bearer {rotated}")]
    );
    assert!(!stack.lines().contain("canary-"), "no secret is in the log");

    // Deleting the installation erases the secret in Vault.
    let request = DeleteInstallationRequest {
        name: made.name,
        ..DeleteInstallationRequest::default()
    };
    alice
        .installations()
        .delete_installation(request)
        .await
        .expect("it is hers");
    let gone = BASE64.encode(rotated.as_bytes());
    eventually_within(NOTICED, "the secret is erased", || async {
        let left = stored(&bao, "chandlery").await;
        (!left.iter().any(|value| value.contains(&gone))).then_some(())
    })
    .await;
}

/// Vault may be unsealed later than Chandlery is started.
#[tokio::test(flavor = "multi_thread")]
async fn waits_for_a_sealed_vault_at_the_start() {
    let (bao, options) = vault().await;
    let mut stack = options.start().await;
    assert!(stack.stop().await.success());
    bao.seal().await;
    let lines = stack.lines().clone();
    let unseal = async {
        eventually_within(NOTICED, "it has noticed", || async {
            lines.contain("Vault is sealed").then_some(())
        })
        .await;
        bao.unseal().await;
    };
    // It returns once the program is ready.
    tokio::join!(stack.start_again(), unseal);
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_start_where_secrets_would_be_missing() {
    let upstream = RecordingUpstream::start().await;
    let mut stack = Stack::start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    assert!(stack.stop().await.success());
    // A local store without secrets is none to speak of.
    let (_bao, options) = vault().await;
    let mut in_vault = options.clone().on_data_of(&stack).start().await;
    assert!(in_vault.stop().await.success());
    stack.start_again().await;
    let (admin, alice) = (
        stack.caller(Some(admin.token().to_owned())),
        stack.caller(Some(alice.token().to_owned())),
    );
    let entry = walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer());
    admin.publish("api", entry).await;
    alice.install("api", None, &[("key", "alice-key")]).await;
    assert!(stack.stop().await.success());
    let said = options.on_data_of(&stack).start_refused().await;
    assert!(
        said.contains("credentials.db has secrets, and nothing moves them to Vault")
            && said.contains("must enter their secrets again"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_wrong_settings_are_named_at_once() {
    let said = Stack::builder()
        .flag("--vault-address", "http://vault.example.com:8200")
        .flag("--vault-auth", "approle")
        .variable("CHANDLERY_VAULT_PREFIX", "../sys")
        .variable("CHANDLERY_VAULT_CA", "/nonexistent/ca.pem")
        .start_refused()
        .await;
    for setting in [
        "vault-address: must be https",
        "vault-ca: /nonexistent/ca.pem",
        "vault-prefix: ",
        "vault-role-id: ",
        "vault-secret-id-file: is required",
    ] {
        assert!(said.lines().any(|line| line.starts_with(setting)), "{setting}: {said}");
    }
}
