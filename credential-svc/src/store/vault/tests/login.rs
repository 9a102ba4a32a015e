//! Logging in, and the life of tokens.

use std::fs;

use axum::{Json, Router};
use data_encoding::BASE64URL_NOPAD;
use futures::future::join_all;
use pretty_assertions::assert_eq;
use secrecy::ExposeSecret as _;
use service_kit::testing::OpenBao;

use super::{
    server::{config, own, owner, secret, until},
    *,
};
use crate::{config::VaultLogin, store::vault::login::Token};

/// The settings of an AppRole whose tokens live for so many seconds, and for so many with renewals.
async fn app_role(bao: &OpenBao, seconds: u32, longest: u32) -> VaultConfig {
    bao.set_up("POST", "sys/auth/approle", json!({"type": "approle"})).await;
    let role = json!({"token_policies": "chandlery", "token_ttl": seconds, "token_max_ttl": longest, "token_no_default_policy": true});
    bao.set_up("POST", "auth/approle/role/chandlery", role).await;
    let made = bao
        .set_up("GET", "auth/approle/role/chandlery/role-id", json!(null))
        .await;
    let role_id = made["data"]["role_id"].as_str().unwrap().to_owned();
    let secret_id_file = bao.folder().join("secret-id");
    new_secret_id(bao).await;
    VaultConfig {
        login: VaultLogin::AppRole {
            mount: "approle".to_owned(),
            role_id,
            secret_id_file,
        },
        ..config(bao.address(), "chandlery", "")
    }
}

async fn new_secret_id(bao: &OpenBao) {
    let made = bao
        .set_up("POST", "auth/approle/role/chandlery/secret-id", json!({}))
        .await;
    fs::write(
        bao.folder().join("secret-id"),
        made["data"]["secret_id"].as_str().unwrap(),
    )
    .unwrap();
}

/// The tokens that Vault knows.
async fn tokens(bao: &OpenBao) -> usize {
    let all = bao.set_up("LIST", "auth/token/accessors", json!(null)).await;
    all["data"]["keys"].as_array().unwrap().len()
}

async fn token(store: &VaultStore) -> String {
    store.session.token().await.unwrap().secret.expose_secret().to_owned()
}

#[tokio::test]
async fn many_requests_log_in_once() {
    let Some(bao) = own().await else { return };
    let store = VaultStore::new(app_role(&bao, 3600, 7200).await).unwrap();
    let before = tokens(&bao).await;
    join_all((0..50).map(|_| store.check()))
        .await
        .into_iter()
        .for_each(Result::unwrap);
    assert_eq!(tokens(&bao).await, before + 1);
    // Also when the token is refused to all of them at once.
    bao.set_up("POST", "auth/token/revoke", json!({"token": token(&store).await}))
        .await;
    assert_eq!(tokens(&bao).await, before);
    join_all((0..50).map(|_| store.check()))
        .await
        .into_iter()
        .for_each(Result::unwrap);
    assert_eq!(tokens(&bao).await, before + 1);
}

/// What was denied with a token that has ended is done with another: also a write, once.
#[tokio::test]
async fn a_token_that_ends_between_two_requests_is_replaced() {
    let Some(bao) = own().await else { return };
    let store = VaultStore::new(app_role(&bao, 3600, 7200).await).unwrap();
    let revoke = async || {
        let token = token(&store).await;
        bao.set_up("POST", "auth/token/revoke", json!({"token": token})).await;
    };
    store.check().await.unwrap();
    for version in [Version::NONE, Version(1), Version(2)] {
        revoke().await;
        assert_eq!(
            store.write(&owner("a"), version, secret("x")).await.unwrap(),
            Written::Done
        );
        revoke().await;
        let (read, _) = store.read(&owner("a")).await.unwrap().unwrap();
        assert_eq!(read, version.next());
    }
}

/// The token is renewed as long as Vault allows, and then there is another, before a request requires it.
#[tokio::test]
async fn a_token_is_renewed_and_then_replaced() {
    let Some(bao) = own().await else { return };
    let store = VaultStore::new(app_role(&bao, 2, 6).await).unwrap();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(store.keep_session()(stop.clone()));
    let first = token(&store).await;
    let mut changes = store.session.current.subscribe();
    let (mut renewals, mut second) = (0, None);
    while second.is_none() {
        let current = changes.borrow_and_update().clone().unwrap();
        assert!(current.left().unwrap() > std::time::Duration::ZERO, "it has not ended");
        match current.secret.expose_secret() {
            secret if secret == first => renewals += 1,
            secret => second = Some(secret.to_owned()),
        }
        store.check().await.unwrap();
        if second.is_none() {
            changes.changed().await.unwrap();
        }
    }
    assert!(renewals > 1, "it was renewed");
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test]
async fn a_token_in_a_file_can_be_exchanged_while_this_runs() {
    let Some(bao) = own().await else { return };
    let file = bao.folder().join("token");
    let one = bao.token(&["chandlery"], 3600, false).await;
    fs::write(&file, format!("{one}\n")).unwrap();
    let mut config = config(bao.address(), "chandlery", "");
    config.login = VaultLogin::TokenFile(file.clone());
    let store = VaultStore::new(config).unwrap();
    store.check().await.unwrap();
    bao.set_up("POST", "auth/token/revoke", json!({"token": one})).await;
    let error = store.check().await.unwrap_err().to_string();
    assert!(error.contains("put a new one into the file"), "{error}");
    assert!(
        error.contains(&file.display().to_string()) && !error.contains(&one),
        "{error}"
    );
    fs::write(&file, bao.token(&["chandlery"], 3600, false).await).unwrap();
    until(async || store.check().await.is_ok()).await;
}

/// It is there before the old one ends.
#[tokio::test]
async fn a_token_that_cannot_be_renewed_is_read_again_from_its_file() {
    let Some(bao) = own().await else { return };
    let file = bao.folder().join("token");
    fs::write(&file, bao.token(&["chandlery"], 4, false).await).unwrap();
    let mut config = config(bao.address(), "chandlery", "");
    config.login = VaultLogin::TokenFile(file.clone());
    let store = VaultStore::new(config).unwrap();
    store.check().await.unwrap();
    let next = bao.token(&["chandlery"], 3600, true).await;
    fs::write(&file, &next).unwrap();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(store.keep_session()(stop.clone()));
    let mut changes = store.session.current.subscribe();
    let is_next = |token: &Option<Arc<Token>>| token.as_ref().is_some_and(|token| token.secret.expose_secret() == next);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(30), changes.wait_for(is_next)).await;
    assert!(waited.is_ok_and(|waited| waited.is_ok()));
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_refused_says_what_to_check() {
    let Some(bao) = own().await else { return };
    let config_ = app_role(&bao, 3600, 7200).await;
    let store = VaultStore::new(config_.clone()).unwrap();
    fs::write(bao.folder().join("secret-id"), "canary").unwrap();
    let error = store.check().await.unwrap_err().to_string();
    assert!(
        error.contains("AppRole") && error.contains("secret id into") && !error.contains("canary"),
        "{error}"
    );
    fs::remove_file(bao.folder().join("secret-id")).unwrap();
    let store = VaultStore::new(config(bao.address(), "chandlery", "s.canary")).unwrap();
    let error = store.check().await.unwrap_err().to_string();
    assert!(
        error.contains("the environment") && error.contains("restart with a new one") && !error.contains("canary"),
        "{error}"
    );
    // The method may be enabled, and the file be restored, while this runs.
    new_secret_id(&bao).await;
    VaultStore::new(config_).unwrap().check().await.unwrap();
}

/// The token of a service account, as far as Vault looks at it.
fn service_account_token() -> String {
    let part = |value: Json<serde_json::Value>| BASE64URL_NOPAD.encode(value.0.to_string().as_bytes());
    let head = part(Json(json!({"alg": "RS256", "typ": "JWT"})));
    let claims = part(Json(json!({
        "iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:chandlery:credential-svc", "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 4_102_444_800_u64,
        "kubernetes.io": {"namespace": "chandlery", "serviceaccount": {"name": "credential-svc", "uid": "1"}},
    })));
    format!("{head}.{claims}.{}", BASE64URL_NOPAD.encode(b"signature"))
}

/// Vault asks the cluster whether the token is valid; this cluster knows one token.
#[tokio::test]
async fn a_service_account_of_kubernetes_logs_in() {
    let Some(bao) = own().await else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cluster = listener.local_addr().unwrap();
    let token = service_account_token();
    let known = token.clone();
    let review = async move |Json(review): Json<serde_json::Value>| {
        let is_known = review["spec"]["token"] == known.as_str();
        let user = json!({"username": "system:serviceaccount:chandlery:credential-svc", "uid": "1", "groups": ["system:serviceaccounts"]});
        (
            axum::http::StatusCode::CREATED,
            Json(json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "status": {"authenticated": is_known, "user": user},
            })),
        )
    };
    let router = Router::new().fallback(review);
    tokio::spawn(async move { axum::serve(listener, router).await });
    bao.set_up("POST", "sys/auth/kubernetes", json!({"type": "kubernetes"}))
        .await;
    let authority = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let authority = authority.cert.pem();
    let settings = json!({
        "kubernetes_host": format!("http://{cluster}"), "kubernetes_ca_cert": authority, "disable_local_ca_jwt": true, "token_reviewer_jwt": token,
    });
    bao.set_up("POST", "auth/kubernetes/config", settings).await;
    let role = json!({
        "bound_service_account_names": "credential-svc", "bound_service_account_namespaces": "chandlery", "token_policies": "chandlery",
    });
    bao.set_up("POST", "auth/kubernetes/role/chandlery", role).await;
    let token_file = bao.folder().join("service-account");
    fs::write(&token_file, &token).unwrap();
    let store = |role: &str| {
        VaultStore::new(VaultConfig {
            login: VaultLogin::Kubernetes {
                mount: "kubernetes".to_owned(),
                role: role.to_owned(),
                token_file: token_file.clone(),
            },
            ..config(bao.address(), "chandlery", "")
        })
        .unwrap()
    };
    let store_ = store("chandlery");
    assert_eq!(
        store_.write(&owner("a"), Version::NONE, secret("x")).await.unwrap(),
        Written::Done
    );
    let error = store("other").check().await.unwrap_err().to_string();
    assert!(
        error.contains("Kubernetes") && error.contains("role other") && !error.contains(&token),
        "{error}"
    );
}
