//! An operator lets a key of Vault's Transit engine (OpenBao) wrap the keys in the data folder: whoever copies the folder cannot use them, and
//! people notice nothing.
//!
//! Tools: openbao

#[path = "vault/server.rs"]
mod server;

use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

use contracts::registry::ListEntriesRequest;
use data_encoding::{BASE64, HEXLOWER};
use integration_tests::{
    Caller, Stack,
    caller::refused,
    eventually_within,
    process::free_port,
    stack::binary,
    upstream::recording::RecordingUpstream,
    walk::{self, bearer, with_static},
};
use serde_json::{Value, json};
use server::{Options, holds};
use service_kit::testing::OpenBao;
use tokio::process::Command;
use tonic::Code;

/// The files with the keys that are wrapped.
const WRAPPED: [&str; 2] = ["page-token.key", "session.key"];
const NOTICED: Duration = Duration::from_secs(60);

/// A server with a key for Chandlery, whose role has these policies.
async fn vault(policies: &str) -> (OpenBao, Options) {
    let (bao, mut options) = server::vault(policies).await;
    bao.set_up("POST", "sys/mounts/transit", json!({"type": "transit"}))
        .await;
    bao.set_up("POST", "transit/keys/chandlery", json!({})).await;
    options.push(("--vault-transit-key", "chandlery".to_owned()));
    (bao, options)
}

/// The content of the files, which must be wrapped.
fn wrapped(stack: &Stack) -> BTreeMap<&'static str, String> {
    let content = |name: &'static str| {
        let content = fs::read_to_string(stack.data_dir().join(name)).expect("it was made");
        assert!(content.starts_with("vault:v"), "{name}: {content}");
        (name, content)
    };
    WRAPPED.into_iter().map(content).collect()
}

/// The keys, by file, as Vault decrypts them. The current one comes first.
async fn keys(bao: &OpenBao, stack: &Stack) -> BTreeMap<&'static str, Vec<String>> {
    let mut keys = BTreeMap::new();
    for (name, content) in wrapped(stack) {
        let request = json!({"ciphertext": content.trim(), "associated_data": BASE64.encode(name.as_bytes())});
        let answer = bao.set_up("POST", "transit/decrypt/chandlery", request).await;
        let plain = answer["data"]["plaintext"].as_str().expect("it is decrypted");
        let plain = BASE64.decode(plain.as_bytes()).expect("it is in base64");
        let plain = String::from_utf8(plain).expect("it is text");
        let digits = |line: &str| line.split(' ').next_back().unwrap_or_default().to_owned();
        keys.insert(name, plain.lines().map(digits).collect());
    }
    keys
}

/// Fails if one of these keys is in the data folder or in the log, in digits or as it is.
fn are_nowhere(stack: &Stack, keys: &BTreeMap<&'static str, Vec<String>>) {
    for key in keys.values().flatten() {
        let raw = HEXLOWER.decode(key.as_bytes()).expect("it is in hexadecimal digits");
        let encoded = BASE64.encode(&raw);
        let forms = [key.as_bytes(), &raw, encoded.as_bytes()];
        assert!(!holds(&stack.data_dir(), &forms), "a key is in the data folder");
        assert!(!stack.lines().contain(key), "a key is in the log");
    }
}

fn rotation(stack: &Stack, options: &Options, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .arg("rotate-keys")
        .arg("--data-dir")
        .arg(stack.data_dir())
        .args(options.iter().flat_map(|(name, value)| [*name, value]))
        .args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn rotate(stack: &Stack, options: &Options, arguments: &[&str]) {
    let output = rotation(stack, options, arguments).output().await;
    let output = output.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let named = WRAPPED.iter().all(|name| said.contains(name));
    assert!(
        output.status.success() && named,
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What the command says where it must fail.
async fn not_rotated(stack: &Stack, options: &Options) -> String {
    let output = rotation(stack, options, &[]).output().await.expect("the program runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The rest of a list of entries after this page token; the whole list if it is empty. A page has one entry.
async fn page(caller: &Caller, page_token: &str) -> Result<String, tonic::Status> {
    let request = ListEntriesRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
        ..ListEntriesRequest::default()
    };
    let page = caller.entries().list_entries(request).await?;
    Ok(page.into_inner().next_page_token)
}

/// The same person after a restart.
fn again(stack: &Stack, caller: &Caller) -> Caller {
    stack.caller(Some(caller.token().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_are_of_no_use_without_vault_and_nobody_notices() {
    let upstream = RecordingUpstream::start().await;
    let (bao, options) = vault("chandlery,chandlery-transit").await;
    // On a fixed port, so that clients can reconnect.
    let http = format!("127.0.0.1:{}", free_port());
    let mut stack = server::with(&options).flag("--http", http).start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let entry = with_static(walk::remote(&upstream.url()), "key", bearer());
    admin.publish("api", entry).await;
    alice.install("api", None, &[("key", "alices-key")]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;
    let client = stack.mcp("team", &alice).await;
    let works = async || {
        assert_eq!(client.call_text("api__echo", json!({"text": "x"})).await, "x");
        assert_eq!(upstream.last_call().values("authorization"), ["Bearer alices-key"]);
    };
    works().await;
    let token = page(&admin, "").await.expect("an admin may");
    let first = keys(&bao, &stack).await;
    are_nowhere(&stack, &first);

    // The next start waits for Vault, says so, and reads the same keys: sessions and page tokens are valid.
    assert!(stack.stop().await.success());
    let before = wrapped(&stack);
    bao.seal().await;
    let lines = stack.lines().clone();
    let unseal = async {
        let says = "the keys of this server cannot be unwrapped yet";
        eventually_within(NOTICED, says, || async {
            let all = lines.all();
            let mut said = all.iter().filter(|line| line.contains(says));
            said.any(|line| line.contains("Vault is sealed; its operator must unseal it"))
                .then_some(())
        })
        .await;
        bao.unseal().await;
    };
    tokio::join!(stack.start_again(), unseal);
    assert_eq!(wrapped(&stack), before);
    works().await;
    page(&again(&stack, &admin), &token).await.expect("it is valid");

    // A rotation requires Vault, too. Until the next one, what the keys before have sealed stays valid.
    assert!(stack.stop().await.success());
    let without = not_rotated(&stack, &Vec::new()).await;
    assert!(without.contains("name it with --vault-transit-key"), "{without}");
    bao.seal().await;
    let sealed = not_rotated(&stack, &options).await;
    assert!(sealed.contains("Vault is sealed"), "{sealed}");
    bao.unseal().await;
    assert_eq!(wrapped(&stack), before);
    rotate(&stack, &options, &[]).await;
    let rotated = keys(&bao, &stack).await;
    for (name, now) in &rotated {
        assert_ne!(now[0], first[name][0], "{name}");
        assert_eq!(now[1..], first[name][..], "{name}");
    }
    are_nowhere(&stack, &rotated);
    stack.start_again().await;
    works().await;
    page(&again(&stack, &admin), &token).await.expect("it is valid");

    // Once they are revoked, it is not.
    assert!(stack.stop().await.success());
    rotate(&stack, &options, &["--revoke"]).await;
    let revoked = keys(&bao, &stack).await;
    are_nowhere(&stack, &revoked);
    for (name, now) in &revoked {
        assert!(now.len() == 1 && !rotated[name].contains(&now[0]), "{name}");
    }
    stack.start_again().await;
    let refusal = page(&stack.admin(), &token).await;
    refused(refusal, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    let (mut former, alice) = (client, stack.member("alice"));
    former.set_header("authorization", &format!("Bearer {}", alice.token()));
    let (_, reply) = former.send("tools/list", json!({})).await;
    assert_eq!(reply.status, http::StatusCode::NOT_FOUND, "{}", reply.text);
    // What is stored in Vault was sealed by none of them.
    let client = stack.mcp("team", &alice).await;
    client.call_text("api__echo", json!({"text": "x"})).await;
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer alices-key"]);
    // The store of secrets in the folder, which has a key of its own, was not made by all this.
    for name in ["credential.key", "credentials.db", "rotate-keys.pending"] {
        assert!(!stack.data_dir().join(name).exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_server_that_has_run_are_wrapped_and_stay() {
    let (bao, options) = vault("chandlery,chandlery-transit").await;
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    admin.publish("api", walk::remote("http://127.0.0.1:1")).await;
    let token = page(&admin, "").await.expect("an admin may");
    assert!(stack.stop().await.success());

    let mut wrapping = server::with(&options).on_data_of(&stack).start().await;
    are_nowhere(&wrapping, &keys(&bao, &wrapping).await);
    page(&again(&wrapping, &admin), &token).await.expect("it is valid");
    let advice = "if others may have copied it before, run `chandlery rotate-keys --revoke`";
    assert!(wrapping.lines().contain(advice));

    // From now on, the folder is of no use alone.
    assert!(wrapping.stop().await.success());
    let said = Stack::builder().on_data_of(&stack).start_refused().await;
    assert!(said.contains("name it with --vault-transit-key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_learns_what_is_missing_in_vault() {
    // The policy.
    let (bao, options) = vault("chandlery").await;
    let said = server::with(&options).start_refused().await;
    for part in [
        "Vault denies",
        "transit/encrypt/chandlery",
        "deploy/vault/transit-policy.hcl",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The key: Vault denies that it is made by using it.
    bao.set_up(
        "POST",
        "transit/keys/chandlery/config",
        json!({"deletion_allowed": true}),
    )
    .await;
    bao.set_up("DELETE", "transit/keys/chandlery", Value::Null).await;
    let role = json!({"token_policies": "chandlery,chandlery-transit"});
    bao.set_up("POST", "auth/approle/role/chandlery", role).await;
    let said = server::with(&options).start_refused().await;
    assert!(said.contains("must make the key chandlery"), "{said}");
    // The engine.
    bao.set_up("DELETE", "sys/mounts/transit", Value::Null).await;
    let said = server::with(&options).start_refused().await;
    assert!(
        said.contains("no key chandlery in a Transit engine at transit/"),
        "{said}"
    );
    // With all of that, the same options are right.
    bao.set_up("POST", "sys/mounts/transit", json!({"type": "transit"}))
        .await;
    bao.set_up("POST", "transit/keys/chandlery", json!({})).await;
    let stack = server::with(&options).start().await;
    wrapped(&stack);
}
