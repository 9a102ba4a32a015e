//! What Vault refuses, and when it does not answer. Each text says who can mend it; none repeats a secret.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use pretty_assertions::assert_eq;
use service_kit::testing::OpenBao;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    server::{POLICY, config, own, owner, secret, shared, until},
    *,
};
use crate::store::vault::{client::Client, login::Login, login::Source, transport::Http};

/// What each operation says where it fails; `None`: it does not.
async fn failures(store: &VaultStore) -> [Option<String>; 6] {
    let text = |error: StoreError| match error {
        StoreError::Unavailable(text) => text,
        error => panic!("{error:?}"),
    };
    [
        store.check().await.err().map(text),
        store.read(&owner("kept")).await.err().map(text),
        store
            .write(&owner("new"), Version::NONE, secret("canary"))
            .await
            .err()
            .map(text),
        store
            .write(&owner("kept"), Version(1), secret("canary"))
            .await
            .err()
            .map(text),
        store.list(None, 10).await.err().map(text),
        store.delete(&owner("kept")).await.err().map(text),
    ]
}

/// The policy that is shipped allows what is done, and without any part of it something is denied.
#[tokio::test]
async fn each_part_of_the_policy_is_required() {
    if !Folder::is_here() {
        return;
    }
    let bao = &shared().await.bao;
    let cases: [(&str, &str, [Option<&str>; 6]); 9] = [
        ("", "", [None; 6]),
        (
            "secret/config\" {\n  capabilities = [\"read\"",
            "secret/config\" {\n  capabilities = [\"deny\"",
            [
                Some("read on secret/config"),
                None,
                Some("read on secret/config"),
                Some("read on secret/config"),
                None,
                None,
            ],
        ),
        (
            "[\"read\", \"create\"",
            "[\"create\"",
            [None, Some("read on secret/data/"), None, None, None, None],
        ),
        (
            "\"create\", ",
            "",
            [None, None, Some("create and update on secret/data/"), None, None, None],
        ),
        (
            ", \"update\"]",
            "]",
            [None, None, None, Some("create and update on secret/data/"), None, None],
        ),
        (
            "[\"list\", ",
            "[",
            [
                Some("list on secret/metadata/"),
                None,
                None,
                None,
                Some("list on secret/metadata/"),
                None,
            ],
        ),
        (
            "\"patch\", ",
            "",
            [None, None, None, Some("patch on secret/metadata/"), None, None],
        ),
        (
            ", \"delete\"]",
            "]",
            [None, None, None, None, None, Some("delete on secret/metadata/")],
        ),
        ("lookup-self", "elsewhere", [Some("refuses the token"); 6]),
    ];
    for (number, (part, without, expected)) in cases.into_iter().enumerate() {
        let folder = Folder::new().await;
        let kept = folder
            .connect()
            .await
            .write(&owner("kept"), Version::NONE, secret("x"))
            .await;
        assert_eq!(kept.unwrap(), Written::Done);
        let name = format!("part-{number}");
        assert!(POLICY.contains(part));
        let policy = POLICY.replacen(part, without, 1);
        bao.set_up("POST", &format!("sys/policies/acl/{name}"), json!({"policy": policy}))
            .await;
        let token = bao.token(&[&name], 3600, true).await;
        let store = VaultStore::new(config(bao.address(), &folder.0, &token)).unwrap();
        for (found, expected) in failures(&store).await.into_iter().zip(expected) {
            match (&found, expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => {
                    assert!(
                        found.contains(expected) && found.contains("policy"),
                        "without {part}: {found}"
                    );
                    assert!(!found.contains("canary") && !found.contains(&token), "{found}");
                }
                _ => panic!("without {part}: {found:?} instead of {expected:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_sealed_server_is_told_as_such() {
    let Some(bao) = own().await else { return };
    let token = bao.token(&["chandlery"], 3600, true).await;
    let store = VaultStore::new(config(bao.address(), "chandlery", &token)).unwrap();
    let kept = store.write(&owner("kept"), Version::NONE, secret("x")).await;
    assert_eq!(kept.unwrap(), Written::Done);
    bao.seal().await;
    for failure in failures(&store).await {
        let failure = failure.unwrap();
        assert!(failure.contains("is sealed; its operator must unseal it"), "{failure}");
    }
    bao.unseal().await;
    assert_eq!(failures(&store).await, [const { None }; 6]);
}

#[tokio::test]
async fn a_quota_is_told_as_such() {
    let Some(bao) = own().await else { return };
    let quota = json!({"rate": 0.001, "path": "secret"});
    bao.set_up("POST", "sys/quotas/rate-limit/one", quota).await;
    let store = VaultStore::new(config(bao.address(), "chandlery", bao.root_token())).unwrap();
    let error = loop {
        if let Err(error) = store.check().await {
            break error.to_string();
        }
    };
    assert!(error.contains("limits the rate") && error.contains("quota"), "{error}");
}

/// A certificate for 127.0.0.1, and its key.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn only_the_given_authority_is_trusted() {
    let (pem, key) = certificate();
    let Some(program) = not_run::openbao() else { return };
    let bao = OpenBao::start(program, Some((&pem, &key))).await;
    bao.mount_kv("secret").await;
    let folder = tempfile::tempdir().unwrap();
    let store = |pem: Option<&str>| {
        let mut config = config(bao.address(), "chandlery", bao.root_token());
        config.ca = pem.map(|pem| {
            let file = folder.path().join("ca.pem");
            std::fs::write(&file, pem).unwrap();
            file
        });
        VaultStore::new(config).unwrap()
    };
    store(Some(&pem)).check().await.unwrap();
    for other in [None, Some(certificate().0.as_str())] {
        let error = store(other).check().await.unwrap_err().to_string();
        assert!(error.contains("certificate") && error.contains("vault-ca"), "{error}");
    }
}

#[tokio::test]
async fn a_renewed_authority_is_trusted_without_a_restart() {
    let (pem, key) = certificate();
    let Some(program) = not_run::openbao() else { return };
    let bao = OpenBao::start(program, Some((&pem, &key))).await;
    bao.mount_kv("secret").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let other = certificate().0;
    std::fs::write(&file, &other).unwrap();
    let mut config = config(bao.address(), "chandlery", bao.root_token());
    config.ca = Some(file.clone());
    let store = VaultStore::new(config).unwrap();
    store.check().await.unwrap_err();
    std::fs::write(&file, &pem).unwrap();
    // For a moment after a login has failed, no other is attempted.
    until(async || store.check().await.is_ok()).await;
    // What others have half written is not used.
    for half in [&pem.as_bytes()[..40], b""] {
        std::fs::write(&file, half).unwrap();
        store.check().await.unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    store.check().await.unwrap();
    // Nor is one trusted any more that was removed.
    std::fs::write(&file, &other).unwrap();
    store.check().await.unwrap_err();
}

#[tokio::test]
async fn a_namespace_is_entered() {
    let Some(bao) = own().await else { return };
    bao.set_up("POST", "sys/namespaces/team", json!({})).await;
    let engine = json!({"type": "kv", "options": {"version": "2"}});
    bao.set_up("POST", "team/sys/mounts/secret", engine).await;
    let mut config = config(bao.address(), "chandlery", bao.root_token());
    config.namespace = Some("team".to_owned());
    let store = VaultStore::new(config).unwrap();
    // A new engine is set up in the background.
    until(async || store.check().await.is_ok()).await;
    assert_eq!(
        store.write(&owner("a"), Version::NONE, secret("x")).await.unwrap(),
        Written::Done
    );
    let folder = bao.set_up("LIST", "team/secret/metadata/chandlery", json!(null)).await;
    assert_eq!(folder["data"]["keys"], json!(["installation/"]));
    let (status, _) = bao.ask("LIST", "secret/metadata/chandlery", json!(null)).await;
    assert_eq!(status, 404, "nothing is in the namespace above");
}

/// A store on something that is not Vault, with a short time for each request.
async fn fake(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> VaultStore {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move || async move { answer() });
    tokio::spawn(async move { axum::serve(listener, router).await });
    on(&format!("http://{address}"), "s.canary")
}

fn on(address: &str, token: &str) -> VaultStore {
    service_kit::testing::install_tls_provider();
    let client = Client {
        http: Http::new(address.to_owned(), None, Duration::from_millis(300)).unwrap(),
        namespace: None,
        mount: "secret".to_owned(),
    };
    let login = Login::Token(Source::Environment(token.into()));
    VaultStore {
        session: Arc::new(Session::new(client, login)),
        prefix: "chandlery".to_owned(),
        is_fit: OnceCell::new(),
    }
}

async fn says(store: &VaultStore, text: &str) {
    for failure in failures(store).await {
        let failure = failure.unwrap();
        assert!(failure.contains(text) && !failure.contains("canary"), "{failure}");
    }
}

#[tokio::test]
async fn what_is_not_an_answer_of_vault_is_told_as_such() {
    for (status, body, text) in [
        (200, "canary", "is not Vault"),
        (200, "{}", "is not Vault"),
        (404, "<html>canary</html>", "Vault failed (status 404)"),
        (500, r#"{"errors":["canary"]}"#, "Vault failed (status 500); its log"),
        (
            500,
            r#"{"errors":["local node not active but active cluster node not found"]}"#,
            "standby",
        ),
        (501, r#"{"errors":["canary"]}"#, "not initialized"),
        (503, r#"{"errors":["Vault is sealed"]}"#, "sealed"),
        (503, "canary", "Vault failed (status 503)"),
        (473, "", "standby"),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        says(&fake(move || (status, body).into_response()).await, text).await;
    }
}

/// The token goes nowhere else.
#[tokio::test]
async fn no_redirect_is_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = elsewhere.local_addr().unwrap();
    let store = fake(move || {
        let location = [(LOCATION, format!("http://{address}/v1/x"))];
        (StatusCode::TEMPORARY_REDIRECT, location).into_response()
    });
    says(&store.await, "standby").await;
    assert!(
        futures::poll!(std::pin::pin!(elsewhere.accept())).is_pending(),
        "nobody came"
    );
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let store = fake(|| {
        let part = bytes::Bytes::from(vec![b' '; 1 << 20]);
        let parts = futures::stream::repeat(part).map(Ok::<_, std::io::Error>);
        Response::new(Body::from_stream(parts))
    });
    let error = store.await.check().await.unwrap_err().to_string();
    assert!(
        error.contains("more than") || error.contains("did not answer"),
        "{error}"
    );
    let announced = fake(|| {
        let length = [("content-length", "99999999999")];
        (
            length,
            Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>()),
        )
            .into_response()
    });
    says(&announced.await, "more than").await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_takes_a_bounded_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = on(&format!("http://{}", silent.local_addr().unwrap()), "s.canary");
    says(&store, "did not answer").await;
    // One that begins an answer, and does not end it.
    let slow = fake(|| {
        Response::new(Body::from_stream(futures::stream::pending::<
            Result<bytes::Bytes, std::io::Error>,
        >()))
    });
    says(&slow.await, "did not answer").await;
}

/// Passes requests on, and answers while `answers`.
async fn relay(to: String, answers: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut client_reads, mut client_writes) = client.into_split();
            let server = TcpStream::connect(&to).await.unwrap();
            let (mut server_reads, mut server_writes) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut client_reads, &mut server_writes).await });
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                let mut part = [0; 4096];
                while let Ok(length @ 1..) = server_reads.read(&mut part).await {
                    if answers.load(Ordering::SeqCst) && client_writes.write_all(&part[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

/// It may have been made, and is not sent again: whoever asked reads first.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_made_once() {
    if !Folder::is_here() {
        return;
    }
    let (server, answers) = (shared().await, Arc::new(AtomicBool::new(true)));
    let to = server.bao.address().trim_start_matches("http://").to_owned();
    let mut store = on(&relay(to, Arc::clone(&answers)).await, &server.token);
    store.prefix = Folder::new().await.0;
    store.check().await.unwrap();
    for version in [Version::NONE, Version(1)] {
        assert_eq!(
            store.write(&owner("a"), version, secret("x")).await.unwrap(),
            Written::Done
        );
    }
    answers.store(false, Ordering::SeqCst);
    let lost = store.write(&owner("a"), Version(2), secret("y")).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    answers.store(true, Ordering::SeqCst);
    // The server has it, and may still be at work on it.
    let version = async || store.read(&owner("a")).await.unwrap().unwrap().0;
    until(async || version().await != Version(2)).await;
    assert_eq!(version().await, Version(3));
    assert_eq!(
        store.write(&owner("a"), Version(3), secret("z")).await.unwrap(),
        Written::Done
    );
}
