//! Who may use an endpoint and a session.

use pretty_assertions::assert_eq;

use super::*;
use crate::domain::ConsumerRef;

#[tokio::test]
async fn nobody_else_uses_a_session() {
    let world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    assert_eq!(world.post("alice", &session, PING).await.status(), 200);
    assert_eq!(world.post("bob", &session, PING).await.status(), 404);
    assert_eq!(world.post("alice", "forged", PING).await.status(), 404);
    let without = world.send(post(PING).by("alice")).await;
    assert_eq!(without.status(), 400);
    let delete = |who| method("DELETE").by(who).session(&session);
    assert_eq!(world.send(delete("bob")).await.status(), 404);
    assert_eq!(world.post("alice", &session, PING).await.status(), 200);
    assert_eq!(world.send(delete("alice")).await.status(), 204);
    assert_eq!(world.post("alice", &session, PING).await.status(), 404);
}

#[tokio::test]
async fn endpoints_are_for_known_callers_and_hosts() {
    let world = world(answers("{}")).await;
    for path in ["/mcp/default", "/mcp/nothing-here"] {
        let anonymous = world.send(post(PING).at(path)).await;
        assert_eq!(anonymous.status(), 401);
        let challenge = anonymous.headers()["www-authenticate"].to_str().unwrap();
        assert_eq!(
            challenge,
            format!(
                "Bearer resource_metadata=\"http://127.0.0.1:8080/.well-known/oauth-protected-resource{path}\", scope=\"tools\""
            )
        );
    }
    for (bad, why) in [
        ("Bearer cht_unknown", "it is not a gateway token, or it was revoked"),
        ("Bearer a.b.c", "it is neither a gateway token"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "it is neither a gateway token"),
    ] {
        let refused = world.send(post(PING).header("authorization", bad)).await;
        assert_eq!(refused.status(), 401);
        let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.contains("invalid_token") && challenge.contains(why),
            "{challenge}"
        );
    }
    for path in ["/mcp/nothing-here", "/mcp/ops", "/agents/default/mcp", "/mcp/%C3%BC"] {
        let gone = world.send(post(PING).at(path).by("alice")).await;
        assert_eq!(gone.status(), 404, "{path}");
    }
    let rebound = post(PING).header("host", "evil.example");
    assert_eq!(world.send(rebound).await.status(), 403);
    let foreign = post(PING).by("alice").header("origin", "http://evil.example");
    assert_eq!(world.send(foreign).await.status(), 403);
    let metadata = method("GET").at("/.well-known/oauth-protected-resource/mcp/default");
    let metadata = world.send(metadata).await;
    let metadata: Value = serde_json::from_str(&text(metadata).await).unwrap();
    assert_eq!(metadata["resource"], "http://127.0.0.1:8080/mcp/default");
}

#[tokio::test]
async fn a_token_without_a_required_scope_is_told_so() {
    let world = world(answers("{}")).await;
    let with = |scope: &str| {
        let expires = Clock::System.now() + Duration::from_secs(60);
        let claims = json!({
            "iss": world.issuer.issuer(), "aud": service_kit::testing::AUDIENCE, "sub": "alice", "scope": scope,
            "exp": expires.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
        });
        let token = format!("Bearer {}", world.issuer.sign(&claims));
        let body = initialize(0, "2025-11-25", &json!({}));
        world.send(post(body).header("authorization", &token))
    };
    assert_eq!(with("openid tools").await.status(), 200);
    let refused = with("openid").await;
    assert_eq!(refused.status(), 403);
    assert_eq!(
        refused.headers()["www-authenticate"],
        "Bearer error=\"insufficient_scope\", \
         resource_metadata=\"http://127.0.0.1:8080/.well-known/oauth-protected-resource/mcp/default\", scope=\"tools\""
    );
    assert!(text(refused).await.contains("lacks a scope"));
}

#[tokio::test]
async fn a_token_of_the_facade_is_the_providers_at_one_endpoint() {
    let mut world = world(answers("{}")).await;
    let facade = AccessTokens::new([1; 32].into());
    let expires = Clock::System.now() + Duration::from_secs(60);
    let signed = |audience: &str, subject: &str| {
        world.issuer.sign(&json!({
            "iss": world.issuer.issuer(), "aud": audience, "sub": subject, "scope": "tools",
            "exp": expires.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
        }))
    };
    let default = ConsumerRef::new(ConsumerKind::Gateway, "default");
    let access = signed(service_kit::testing::AUDIENCE, "dave");
    let id_token = signed("pages", "dave");
    let ask = async |token: &str, path: &str| {
        let body = initialize(0, "2025-11-25", &json!({}));
        let request = post(body).at(path).header("authorization", &format!("Bearer {token}"));
        world.send(request).await
    };
    for token in [
        facade.seal(&default, &access, false),
        facade.seal(&default, &id_token, true),
    ] {
        assert_eq!(ask(&token, "/mcp/default").await.status(), 200);
        let elsewhere = ask(&token, "/mcp/nothing-here").await;
        assert_eq!(elsewhere.status(), 401);
        let challenge = elsewhere.headers()["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.contains("it is for another MCP endpoint") && challenge.contains("/mcp/nothing-here\""),
            "{challenge}"
        );
    }
    let expired = world.issuer.sign(&json!({
        "iss": world.issuer.issuer(), "aud": service_kit::testing::AUDIENCE, "sub": "dave", "scope": "tools", "exp": 1,
    }));
    for refused in [
        // Where its access tokens are JWTs, an ID token is none.
        facade.seal(&default, &id_token, false),
        facade.seal(&default, &expired, false),
        facade.seal(&default, "opaque", false),
        AccessTokens::new([9; 32].into()).seal(&default, &access, false),
        id_token.clone(),
        "cha_forged".to_owned(),
    ] {
        assert_eq!(ask(&refused, "/mcp/default").await.status(), 401);
    }
    let gone = put(
        "d",
        Object::DeactivatedUser(pb::DeactivatedUser {
            user: service_kit::UserId::of(world.issuer.issuer(), "dave").resource_name(),
        }),
    );
    fill(&mut world.feed, 2, world.registry.clone().with(gone).objects).await;
    let body = initialize(0, "2025-11-25", &json!({}));
    let token = format!("Bearer {}", facade.seal(&default, &access, false));
    assert_eq!(
        world.send(post(body).header("authorization", &token)).await.status(),
        401
    );
}

#[tokio::test]
async fn a_deactivated_user_and_a_revoked_token_are_out_at_once() {
    let mut world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let gone = put(
        "d",
        Object::DeactivatedUser(pb::DeactivatedUser {
            user: user_id("alice").resource_name(),
        }),
    );
    fill(&mut world.feed, 2, world.registry.clone().with(gone).objects).await;
    assert_eq!(world.post("alice", &session, CALL).await.status(), 401);
    fill(&mut world.feed, 3, world.registry.clone().objects).await;
    assert_eq!(world.post("alice", &session, CALL).await.status(), 200);
    let without: Vec<_> = world
        .registry
        .objects
        .iter()
        .filter(|object| object.key != "alice")
        .cloned()
        .collect();
    fill(&mut world.feed, 4, without).await;
    assert_eq!(world.post("alice", &session, CALL).await.status(), 401);
}
