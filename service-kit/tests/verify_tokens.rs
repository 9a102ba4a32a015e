//! Which tokens are accepted, and why others are rejected.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use service_kit::{
    Clock, UserId,
    identity::{TokenError, Use, Verifier},
    testing::{AUDIENCE, TestIssuer},
};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Valid claims with these changes.
fn claims(issuer: &TestIssuer, change: Value) -> Value {
    let mut claims = json!({ "iss": issuer.issuer(), "aud": AUDIENCE, "sub": "alice", "exp": now() + 600 });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn accepts_a_token_of_a_configured_issuer() {
    let issuer = TestIssuer::start().await.unwrap();
    let verifier = issuer.verifier(Clock::System);
    let user = verifier
        .verify(&issuer.token("alice", &["finance"], true))
        .await
        .unwrap();
    assert_eq!(user.id, UserId::of(issuer.issuer(), "alice"));
    assert_eq!(user.email.as_deref(), Some("alice@example.com"));
    assert_eq!(user.groups, ["finance"]);
    assert!(user.admin);
    assert!(!verifier.verify(&issuer.token("bob", &[], false)).await.unwrap().admin);
}

#[tokio::test]
async fn rejects_every_other_token_with_a_reason() {
    let issuer = TestIssuer::start().await.unwrap();
    let stranger = TestIssuer::start().await.unwrap();
    let verifier = issuer.verifier(Clock::System);
    let none = {
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        format!(
            "{}.{}.",
            part(json!({ "alg": "none", "typ": "JWT" })),
            part(claims(&issuer, json!({})))
        )
    };
    let valid = issuer.token("alice", &[], false);
    let extended = {
        let header = json!({ "alg": "ES256", "crit": ["exp"], "exp": 1 });
        let (_, rest) = valid.split_once('.').unwrap();
        format!("{}.{rest}", BASE64URL_NOPAD.encode(header.to_string().as_bytes()))
    };
    let (signed, _) = valid.rsplit_once('.').unwrap();
    for (token, why) in [
        (none, TokenError::Malformed),
        ("garbage".to_owned(), TokenError::Malformed),
        ("a.b.c".to_owned(), TokenError::Malformed),
        ("cht_abcdef".to_owned(), TokenError::GatewayToken),
        ("x".repeat(20_000), TokenError::Malformed),
        (format!("{signed}."), TokenError::BadSignature),
        (
            format!("{signed}.{}", BASE64URL_NOPAD.encode(&[1; 64])),
            TokenError::BadSignature,
        ),
        (stranger.token("alice", &[], true), TokenError::UnknownIssuer),
        (stranger.sign(&claims(&issuer, json!({}))), TokenError::BadSignature),
        (
            issuer.sign(&claims(&issuer, json!({ "exp": now() - 60 }))),
            TokenError::Expired,
        ),
        (
            issuer.sign(&claims(&issuer, json!({ "nbf": now() + 600 }))),
            TokenError::NotYetValid,
        ),
        (
            issuer.sign(&claims(&issuer, json!({ "aud": "somebody-else" }))),
            TokenError::WrongAudience,
        ),
        (
            issuer.sign(&claims(&issuer, json!({ "aud": null }))),
            TokenError::WrongAudience,
        ),
        (
            issuer.sign(&claims(&issuer, json!({ "sub": "" }))),
            TokenError::MissingClaim,
        ),
        (
            issuer.sign(&claims(&issuer, json!({ "exp": "tomorrow" }))),
            TokenError::MissingClaim,
        ),
        (
            issuer.sign(&claims(&issuer, json!({ "nbf": "tomorrow" }))),
            TokenError::MissingClaim,
        ),
        (
            issuer.sign(&claims(&issuer, json!({ "sub": "al\0ice" }))),
            TokenError::MissingClaim,
        ),
        (extended, TokenError::WrongKind),
    ] {
        assert_eq!(verifier.verify(&token).await.unwrap_err(), why, "{token}");
    }
}

#[tokio::test]
async fn requires_the_configured_scopes_of_access_tokens() {
    let issuer = TestIssuer::start().await.unwrap();
    let mut config = issuer.config();
    config.client_id = Some("pages".to_owned());
    config.required_scopes = vec!["tools".to_owned(), "api://chandlery/call".to_owned()];
    let verifier = Verifier::new(vec![config], Clock::System).unwrap();
    for (change, is_accepted) in [
        (json!({ "scope": "openid tools api://chandlery/call" }), true),
        (json!({ "scp": ["tools", "call"] }), true),
        (json!({ "scp": "tools call" }), true),
        (json!({ "scope": "tools" }), false),
        (json!({ "scope": "toolsmith call" }), false),
        (json!({ "scope": "tools other://call" }), false),
        (json!({}), false),
    ] {
        let token = issuer.sign(&claims(&issuer, change.clone()));
        let expected = if is_accepted {
            Ok(())
        } else {
            Err(TokenError::InsufficientScope)
        };
        assert_eq!(verifier.verify(&token).await.map(drop), expected, "{change}");
        assert_eq!(verifier.issuer_of(&token).unwrap().issuer, issuer.issuer());
    }
    let id_token = issuer.sign(&claims(&issuer, json!({ "aud": "pages" })));
    verifier.verify_for(Use::SignIn, &id_token).await.unwrap();
    assert!(verifier.issuer_of("nonsense").is_none());
}

#[tokio::test]
async fn knows_programs_by_the_rules_of_their_issuer() {
    let issuer = TestIssuer::start().await.unwrap();
    let is_machine = async |rules: Value, change: Value| {
        let mut config = issuer.config();
        config.machines = serde_json::from_value(rules).unwrap();
        let verifier = Verifier::new(vec![config], Clock::System).unwrap();
        let token = issuer.sign(&claims(&issuer, change));
        verifier.verify(&token).await.unwrap().machine
    };
    let of_client = json!({ "subject_is_client": true });
    assert!(is_machine(of_client.clone(), json!({ "sub": "robot", "client_id": "robot" })).await);
    assert!(is_machine(of_client.clone(), json!({ "sub": "robot", "azp": "robot" })).await);
    assert!(!is_machine(of_client.clone(), json!({ "client_id": "editor" })).await);
    assert!(!is_machine(of_client, json!({})).await);
    let of_claim = json!({ "claims": { "idtyp": "app", "service": "true" } });
    assert!(is_machine(of_claim.clone(), json!({ "idtyp": "app" })).await);
    assert!(is_machine(of_claim.clone(), json!({ "service": true })).await);
    assert!(!is_machine(of_claim, json!({ "idtyp": "user", "service": false })).await);
    assert!(is_machine(json!({ "every_token": true }), json!({})).await);
    assert!(!is_machine(json!({}), json!({ "client_id": "alice" })).await);
}

/// Other kinds of tokens may name the same person, be signed with the same key, and be known to others.
#[tokio::test]
async fn calls_require_access_tokens() {
    let issuer = TestIssuer::start().await.unwrap();
    let mut config = issuer.config();
    config.client_id = Some("pages".to_owned());
    let verifier = Verifier::new(vec![config], Clock::System).unwrap();
    let id_token = issuer.sign(&claims(&issuer, json!({ "aud": "pages" })));
    assert_eq!(verifier.verify(&id_token).await.unwrap_err(), TokenError::WrongKind);
    verifier.verify_for(Use::SignIn, &id_token).await.unwrap();
    // A token that was verified for one use is not accepted for the other.
    assert_eq!(verifier.verify(&id_token).await.unwrap_err(), TokenError::WrongKind);
    let event = json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } });
    let event = issuer.sign(&claims(&issuer, event));
    assert_eq!(verifier.verify(&event).await.unwrap_err(), TokenError::WrongKind);
    for (typ, is_accepted) in [
        (None, true),
        (Some("JWT"), true),
        (Some("at+jwt"), true),
        (Some("application/at+JWT"), true),
        (Some("logout+jwt"), false),
        (Some("secevent+jwt"), false),
        (Some("dpop+jwt"), false),
        (Some(""), false),
    ] {
        let token = issuer.sign_as(typ, &claims(&issuer, json!({})));
        assert_eq!(verifier.verify(&token).await.is_ok(), is_accepted, "{typ:?}");
    }
}

#[tokio::test]
async fn makes_admins_only_as_configured() {
    let issuer = TestIssuer::start().await.unwrap();
    let mut config = issuer.config();
    config.roles_claim = None;
    config.admins.emails.insert("root@example.com".to_owned());
    let verifier = Verifier::new(vec![config], Clock::System).unwrap();
    for (change, admin) in [
        (json!({ "roles": ["admin"] }), false),
        (json!({ "email": "Root@example.com", "email_verified": true }), true),
        (json!({ "email": "root@example.com" }), false),
        (json!({ "email": "root@example.com", "email_verified": "true" }), false),
        (json!({ "email": "root@example.com", "email_verified": 1 }), false),
        (json!({ "email": "root@example.com", "email_verified": false }), false),
    ] {
        let user = verifier
            .verify(&issuer.sign(&claims(&issuer, change.clone())))
            .await
            .unwrap();
        assert_eq!(user.admin, admin, "{change}");
    }
}

/// Regression: tokens of other users waited ten seconds each, one after another.
#[tokio::test]
async fn a_hanging_issuer_delays_no_token_whose_key_is_known() {
    let (issuer, stranger) = (TestIssuer::start().await.unwrap(), TestIssuer::start().await.unwrap());
    let verifier = issuer.verifier(Clock::System);
    verifier.verify(&issuer.token("alice", &[], false)).await.unwrap();
    issuer.hang();
    // Each token names an unknown key; the first begins a fetch that does not end.
    let strangers: Vec<_> = (0..50)
        .map(|_| {
            tokio::spawn({
                let (verifier, token) = (Arc::clone(&verifier), stranger.sign(&claims(&issuer, json!({}))));
                async move { verifier.verify(&token).await.is_err() }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    for person in 0..20 {
        verifier
            .verify(&issuer.token(&format!("p{person}"), &[], false))
            .await
            .unwrap();
    }
    assert!(
        strangers.iter().all(|stranger| !stranger.is_finished()),
        "they wait for the fetch"
    );
    issuer.answer();
    for stranger in strangers {
        assert!(stranger.await.unwrap());
    }
    assert_eq!(issuer.fetches(), 2, "all tokens share one fetch");
}

#[tokio::test]
async fn unknown_keys_cause_few_fetches() {
    let (issuer, stranger) = (TestIssuer::start().await.unwrap(), TestIssuer::start().await.unwrap());
    let verifier = issuer.verifier(Clock::System);
    let mut refused = Vec::new();
    for _ in 0..30 {
        let token = stranger.sign(&claims(&issuer, json!({})));
        refused.push(verifier.verify(&token).await.unwrap_err());
    }
    // While no fetch may begin, the key may be a new one, so the token is not rejected.
    let (looked, not): (Vec<_>, Vec<_>) = refused.iter().partition(|&&why| why == TokenError::BadSignature);
    assert!(!looked.is_empty() && looked.len() <= 3, "{refused:?}");
    assert!(
        not.iter().all(|&&why| why == TokenError::IssuerUnreachable),
        "{refused:?}"
    );
    assert!(issuer.fetches() <= 3, "{}", issuer.fetches());
    verifier.verify(&issuer.token("alice", &[], false)).await.unwrap();
}

#[tokio::test]
async fn a_cached_token_expires() {
    let issuer = TestIssuer::start().await.unwrap();
    let clock = service_kit::clock::ManualClock::at(SystemTime::now());
    let verifier = Verifier::new(vec![issuer.config()], Clock::Manual(clock.clone())).unwrap();
    let token = issuer.token("alice", &[], false);
    verifier.verify(&token).await.unwrap();
    assert!(verifier.verified(&token).is_some());
    clock.advance(Duration::from_secs(3_700));
    assert_eq!(verifier.verify(&token).await.unwrap_err(), TokenError::Expired);
    assert!(verifier.verified(&token).is_none());
}

#[tokio::test]
async fn follows_key_rotation() {
    let mut issuer = TestIssuer::start().await.unwrap();
    let verifier = issuer.verifier(Clock::System);
    verifier.verify(&issuer.token("alice", &[], false)).await.unwrap();
    issuer.rotate().unwrap();
    verifier.verify(&issuer.token("alice", &[], true)).await.unwrap();
}

#[tokio::test]
async fn rejects_a_withdrawn_key_after_an_idle_time() {
    let mut issuer = TestIssuer::start().await.unwrap();
    let clock = service_kit::clock::ManualClock::at(SystemTime::now());
    let verifier = issuer.verifier(Clock::Manual(clock.clone()));
    let withdrawn = issuer.token("bob", &[], false);
    verifier.verify(&issuer.token("alice", &[], false)).await.unwrap();
    issuer.rotate().unwrap();
    clock.advance(Duration::from_secs(601));
    assert!(verifier.verify(&withdrawn).await.is_err());
    // While the issuer hangs, tokens wait only briefly and its last keys are used.
    let present = issuer.token("alice", &[], false);
    verifier.verify(&present).await.unwrap();
    issuer.hang();
    clock.advance(Duration::from_secs(601));
    verifier.verify(&issuer.token("carol", &[], false)).await.unwrap();
}

#[tokio::test]
async fn reports_an_unreachable_issuer() {
    let issuer = TestIssuer::start().await.unwrap();
    let mut config = issuer.config();
    config.discovery_url = Some("http://127.0.0.1:1/nothing".to_owned());
    let verifier = Verifier::new(vec![config], Clock::System).unwrap();
    let refused = verifier.verify(&issuer.token("alice", &[], false)).await.unwrap_err();
    assert_eq!(refused, TokenError::IssuerUnreachable);
}

/// The key may be a new one.
#[tokio::test]
async fn a_token_is_not_called_forged_while_the_keys_cannot_be_fetched() {
    let mut issuer = TestIssuer::start().await.unwrap();
    let (mut config, away) = (issuer.config(), Arc::new(AtomicBool::new(false)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.discovery_url = Some(format!("http://{}/", listener.local_addr().unwrap()));
    let metadata = json!({ "issuer": issuer.issuer(), "jwks_uri": format!("{}/keys", issuer.issuer()) });
    let is_away = Arc::clone(&away);
    let answer = async move || match is_away.load(Ordering::Relaxed) {
        false => Ok(axum::Json(metadata)),
        true => Err(axum::http::StatusCode::SERVICE_UNAVAILABLE),
    };
    let router = axum::Router::new().route("/", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let verifier = Verifier::new(vec![config], Clock::System).unwrap();
    verifier.verify(&issuer.token("alice", &[], false)).await.unwrap();
    issuer.rotate().unwrap();
    away.store(true, Ordering::Relaxed);
    let token = issuer.token("alice", &[], false);
    assert_eq!(
        verifier.verify(&token).await.unwrap_err(),
        TokenError::IssuerUnreachable
    );
    // It came from the issuer itself. Nothing but its signature is taken on trust, and nobody else gets in with it.
    let user = verifier.read_issued(Use::Call, &token).unwrap();
    assert_eq!(user.id, UserId::of(issuer.issuer(), "alice"));
    for (change, why) in [
        (json!({ "aud": "another" }), TokenError::WrongAudience),
        (json!({ "exp": now() - 600 }), TokenError::Expired),
        (json!({ "iss": "https://another.example" }), TokenError::UnknownIssuer),
    ] {
        let token = issuer.sign(&claims(&issuer, change));
        assert_eq!(verifier.read_issued(Use::Call, &token).unwrap_err(), why);
    }
    assert_eq!(verifier.verified(&token).map(drop), None);
}
