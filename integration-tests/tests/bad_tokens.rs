//! Tokens that are expired, unsigned, for another audience, revoked or stolen.

use contracts::{gateway as g, registry as r};
use data_encoding::BASE64URL_NOPAD;
use integration_tests::{
    Caller, Stack,
    caller::refused,
    mcp::{McpClient, McpOptions},
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::{Value, json};
use tonic::Code;

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWT has three parts");
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).expect("base64url")).expect("JSON")
}

fn encode(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

/// A token with these claims, signed with an attacker's key but naming the issuer's.
fn signed_by_another(header: &Value, claims: &Value) -> String {
    let key = b"a key of the attacker's own, long enough for HS256";
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = jsonwebtoken::crypto::sign(
        message.as_bytes(),
        &jsonwebtoken::EncodingKey::from_secret(key),
        jsonwebtoken::Algorithm::HS256,
    );
    format!("{message}.{}", signature.expect("HMAC takes any key"))
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_jwts() {
    let stack = Stack::start().await;
    let alice = stack.member("alice");
    let good = alice.token().to_owned();
    let (header, rest) = good.split_once('.').expect("a JWT has three parts");
    let (_, signature) = rest.split_once('.').expect("a JWT has three parts");
    let mut original: Value =
        serde_json::from_slice(&BASE64URL_NOPAD.decode(header.as_bytes()).expect("base64url")).expect("JSON");
    let with = |name: &str, value: Value| {
        let mut changed = claims(&good);
        changed[name] = value;
        changed
    };
    // Tokens that were changed after they were signed. Each is rejected for its signature, whatever it claims.
    let mut bad = vec![
        (
            "unsigned",
            format!(
                "{}.{}.",
                encode(&json!({"alg": "none", "typ": "JWT"})),
                encode(&claims(&good))
            ),
        ),
        (
            "alg none with a signature",
            format!("{}.{rest}", encode(&json!({"alg": "none"}))),
        ),
        (
            "made an admin",
            format!("{header}.{}.{signature}", encode(&with("roles", json!(["admin"])))),
        ),
        (
            "another subject",
            format!(
                "{header}.{}.{signature}",
                encode(&with("sub", json!("admin@example.com")))
            ),
        ),
        (
            "another audience",
            format!("{header}.{}.{signature}", encode(&with("aud", json!("somebody-else")))),
        ),
        (
            "another issuer",
            format!(
                "{header}.{}.{signature}",
                encode(&with("iss", json!("https://evil.example")))
            ),
        ),
        (
            "expired",
            format!("{header}.{}.{signature}", encode(&with("exp", json!(1)))),
        ),
        (
            "no signature",
            format!("{header}.{}.", rest.split_once('.').expect("two parts").0),
        ),
        ("garbage", "garbage".to_owned()),
        ("empty parts", "..".to_owned()),
        ("very long", format!("{header}.{}.{signature}", "A".repeat(6_000))),
    ];
    original["alg"] = json!("HS256");
    bad.push(("signed by another key", signed_by_another(&original, &claims(&good))));
    original["kid"] = json!("no-such-key");
    bad.push(("unknown key", signed_by_another(&original, &claims(&good))));
    original["jwk"] = json!({"kty": "oct", "k": "AAAA"});
    bad.push(("brings its key", signed_by_another(&original, &claims(&good))));
    let request = || g::ListToolsRequest {
        parent: "gateways/default".to_owned(),
        ..Default::default()
    };
    for (what, token) in bad {
        let mallory = Caller::new(stack.grpc(), Some(token.clone()));
        for answer in [
            mallory
                .entries()
                .list_entries(r::ListEntriesRequest::default())
                .await
                .map(|_| ()),
            mallory.tools().list_tools(request()).await.map(|_| ()),
            mallory
                .put_secrets("installations/x", &[("key", "x")])
                .await
                .map(|_| ()),
            mallory
                .runtimes()
                .get_runtime(contracts::orchestrator::GetRuntimeRequest {
                    name: "installations/x/runtime".to_owned(),
                })
                .await
                .map(|_| ()),
        ] {
            let status = answer.expect_err(what);
            assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
            assert_eq!(
                integration_tests::caller::reason(&status),
                "TOKEN_INVALID",
                "{what}: {status:?}"
            );
            assert!(
                !format!("{status:?}").contains(&token) || token.len() < 10,
                "{what}: the error repeats the token"
            );
        }
        let Err(answer) = McpClient::connect(&stack.mcp_url("default"), Some(&token), McpOptions::default()).await
        else {
            panic!("{what} was accepted")
        };
        assert_eq!(answer.0.status, http::StatusCode::UNAUTHORIZED, "{what}");
        let challenge = answer
            .0
            .headers
            .get("www-authenticate")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        assert!(challenge.starts_with("Bearer"), "{what}: {challenge}");
    }
    let Err(answer) = McpClient::connect(&stack.mcp_url("default"), None, McpOptions::default()).await else {
        panic!("the request was accepted")
    };
    assert_eq!(answer.0.status, http::StatusCode::UNAUTHORIZED);
    refused(
        stack
            .caller(None)
            .entries()
            .list_entries(r::ListEntriesRequest::default())
            .await,
        Code::Unauthenticated,
        "UNAUTHENTICATED",
    );
}

/// Tokens with a valid signature that must still be rejected: of the issuer of another data folder, and expired ones of
/// the right issuer.
#[tokio::test(flavor = "multi_thread")]
async fn jwts_of_another_instance_and_expired_ones() {
    let (stack, other) = tokio::join!(Stack::start(), Stack::start());
    let foreign = stack.caller(Some(other.member("alice").token().to_owned()));
    refused(
        foreign.entries().list_entries(r::ListEntriesRequest::default()).await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
    );
    let token = |ttl: &str| {
        std::process::Command::new(integration_tests::stack::binary())
            .args(["token", "--user", "alice@example.com", "--ttl", ttl, "--data-dir"])
            .arg(stack.data_dir())
            .output()
            .expect("the program runs")
    };
    let long = token("86401");
    let said = String::from_utf8_lossy(&long.stderr);
    assert!(
        !long.status.success() && long.stdout.is_empty(),
        "no token outlives a day"
    );
    assert!(
        said.contains("86400 seconds, a day") && said.contains("gateway token"),
        "{said}"
    );
    let output = token("1");
    let short = stack.caller(Some(String::from_utf8(output.stdout).expect("ASCII").trim().to_owned()));
    let status =
        integration_tests::wait::eventually_within(std::time::Duration::from_secs(90), "it expires", || async {
            short
                .entries()
                .list_entries(r::ListEntriesRequest::default())
                .await
                .err()
        })
        .await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(integration_tests::caller::reason(&status), "TOKEN_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_tokens_work_at_gateways_until_they_are_revoked() {
    let (stack, upstream) = (Stack::start().await, RecordingUpstream::start().await);
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    alice.install("api", None, &[("key", "alice-key")]).await;
    for gateway in ["team", "other"] {
        admin.gateway(gateway).await;
        admin.assign(gateway, "api", "echo").await;
    }
    let gateway_token = r::GatewayToken {
        display_name: "laptop".to_owned(),
        consumers: vec!["gateways/team".to_owned()],
        ..Default::default()
    };
    let request = r::CreateGatewayTokenRequest {
        gateway_token: Some(gateway_token),
        request_id: walk::request_id(),
    };
    let made = alice
        .gateway_tokens()
        .create_gateway_token(request.clone())
        .await
        .expect("her own")
        .into_inner();
    assert!(!made.token.is_empty());
    let again = alice
        .gateway_tokens()
        .create_gateway_token(request)
        .await
        .expect("a retry")
        .into_inner();
    assert_eq!(again.token, "", "the text is shown once");
    let token = made.gateway_token.expect("what was made");

    let client = McpClient::connect(&stack.mcp_url("team"), Some(&made.token), McpOptions::default())
        .await
        .expect("it works");
    assert_eq!(client.call_text("api__echo", json!({"text": "hi"})).await, "hi");
    assert_eq!(upstream.last_call().values("authorization"), ["Bearer alice-key"]);
    let Err(answer) = McpClient::connect(&stack.mcp_url("other"), Some(&made.token), McpOptions::default()).await
    else {
        panic!("it is limited to one gateway")
    };
    assert!(answer.0.status.is_client_error(), "{}", answer.0.status);
    // It is never accepted on the control plane.
    let bearer = stack.caller(Some(made.token.clone()));
    for answer in [
        bearer
            .entries()
            .list_entries(r::ListEntriesRequest::default())
            .await
            .map(|_| ()),
        bearer.create_installation("api", None, &[]).await.map(|_| ()),
        bearer.put_secrets("installations/x", &[("key", "x")]).await.map(|_| ()),
    ] {
        assert_eq!(
            answer.expect_err("the control plane rejects it").code(),
            Code::Unauthenticated
        );
    }
    let request = r::RevokeGatewayTokenRequest { name: token.name };
    let revoked = alice
        .gateway_tokens()
        .revoke_gateway_token(request)
        .await
        .expect("her own")
        .into_inner();
    assert!(revoked.revoke_time.is_some());
    // The token is invalid when the call returns, for the open session and for new ones.
    let (_, reply) = client
        .send("tools/call", json!({"name": "api__echo", "arguments": {"text": "hi"}}))
        .await;
    assert_eq!(reply.status, http::StatusCode::UNAUTHORIZED);
    let Err(answer) = McpClient::connect(&stack.mcp_url("team"), Some(&made.token), McpOptions::default()).await else {
        panic!("it was revoked")
    };
    assert_eq!(answer.0.status, http::StatusCode::UNAUTHORIZED);
}

/// A session is bound to its user and gateway, not to a specific token.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_belong_to_their_user_and_gateway() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    admin.gateway("team").await;
    let (alice, bob) = (stack.member("alice"), stack.member("bob"));
    let hers = stack.mcp("default", &alice).await;
    let session = hers.session().expect("it has a session").to_owned();
    let steal = |url: String, token: &str, session: &str| {
        let mut client = McpClient::bare(&url, Some(token), &McpOptions::default());
        client.set_header("mcp-session-id", session);
        client.set_header("mcp-protocol-version", "2025-11-25");
        client
    };
    for (what, url, token, session) in [
        ("another caller", stack.mcp_url("default"), bob.token(), session.clone()),
        ("another gateway", stack.mcp_url("team"), alice.token(), session.clone()),
        (
            "a changed handle",
            stack.mcp_url("default"),
            alice.token(),
            format!("{session}A"),
        ),
        (
            "a made up handle",
            stack.mcp_url("default"),
            alice.token(),
            "AAAAAAAA".to_owned(),
        ),
    ] {
        let (_, reply) = steal(url, token, &session).send("tools/list", json!({})).await;
        assert_eq!(reply.status, http::StatusCode::NOT_FOUND, "{what}: {}", reply.text);
    }
    // Another token of the same user works as well, even after a restart.
    stack.stop().await;
    stack.start_again().await;
    let fresh = stack.token("alice@example.com", &[], false);
    assert_ne!(fresh, alice.token());
    let (_, reply) = steal(stack.mcp_url("default"), &fresh, &session)
        .send("tools/list", json!({}))
        .await;
    assert!(reply.status.is_success(), "{}: {}", reply.status, reply.text);
}
