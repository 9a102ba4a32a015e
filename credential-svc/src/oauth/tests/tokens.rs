//! What token and revocation endpoints answer.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures::StreamExt as _;
use pretty_assertions::assert_eq;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{
    super::HttpServers,
    ask, assert_unavailable, assert_unusable, client, endpoints,
    server::{Server, html, json, redirect, with_status},
    servers, servers_within,
};
use crate::domain::authorization::servers::{
    Authentication, AuthorizationServers as _, Client, ServerError, TokenKind, Tokens,
};

async fn token(servers: &HttpServers, server: &Server) -> Result<Tokens, ServerError> {
    ask(servers, &endpoints(server), &client()).await
}

#[tokio::test]
async fn clients_authenticate_as_they_are() {
    let server = Server::start().await;
    server.answer(|_| json(&json!({"access_token": "at", "token_type": "bearer", "expires_in": "60"})));
    let with = |authentication| Client {
        id: "us".to_owned(),
        authentication,
    };
    let (servers, _) = servers();
    for authentication in [
        Authentication::None,
        Authentication::Basic("s".into()),
        Authentication::Post("s".into()),
    ] {
        let tokens = ask(&servers, &endpoints(&server), &with(authentication)).await;
        assert_eq!(tokens.unwrap().expires_in, Some(Duration::from_secs(60)));
    }
    let sent: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| {
            let basic = seen
                .headers
                .get("authorization")
                .map(|value| value.to_str().unwrap().to_owned());
            (seen.body.clone(), basic)
        })
        .collect();
    let grant = "grant_type=authorization_code&code=code-canary&code_verifier=verifier-canary";
    assert_eq!(
        sent,
        [
            (format!("{grant}&client_id=us"), None),
            (grant.to_owned(), Some("Basic dXM6cw==".to_owned())),
            (format!("{grant}&client_secret=s&client_id=us"), None),
        ]
    );
}

#[tokio::test]
async fn refusals_are_told_from_faults() {
    let (servers, _) = servers();
    let server = Server::start().await;
    for (status, answer, code) in [
        (
            400,
            json!({"error": "invalid_grant", "error_description": "expired\u{202e}\n"}),
            "invalid_grant",
        ),
        (401, json!({"error": "invalid_client"}), "invalid_client"),
        (200, json!({"error": "bad_verification_code"}), "bad_verification_code"),
        (
            200,
            json!({"error": "invalid\"_\u{7}grant", "access_token": "at", "token_type": "bearer"}),
            "invalid_grant",
        ),
        (
            400,
            json!({"error": "x".repeat(5_000), "error_description": "y".repeat(5_000)}),
            &"x".repeat(100),
        ),
    ] {
        server.answer(move |_| with_status(status, &answer));
        match token(&servers, &server).await {
            Err(ServerError::Refused {
                code: given,
                description,
            }) => {
                assert_eq!(given, code);
                assert!(
                    description.starts_with(&server.url("")) && description.len() < 500,
                    "{description}"
                );
                assert!(!description.contains(['\n', '\u{202e}']), "{description}");
            }
            other => panic!("expected a refusal: {other:?}"),
        }
    }
    for status in [408, 429, 500, 503] {
        server.answer(move |_| with_status(status, &json!({"error": "invalid_grant"})));
        assert_unavailable(token(&servers, &server).await, &status.to_string());
    }
    server.answer(|_| with_status(400, &json!({"error": "temporarily_unavailable"})));
    assert_unavailable(token(&servers, &server).await, "temporarily_unavailable");
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_bounded() {
    let (servers, _) = servers();
    let server = Server::start().await;
    for (status, given, pause) in [
        (429, "120", Some(120)),
        (503, " 7 ", Some(7)),
        (429, "86400", Some(3_600)),
        (429, "99999999999999999999", None),
        (429, "-1", None),
        (429, "soon", None),
        (500, "120", None),
    ] {
        server.answer(move |_| {
            let mut answer = with_status(status, &json!({"error": "slow_down"}));
            answer.headers_mut().insert("retry-after", given.parse().unwrap());
            answer
        });
        let answered = token(&servers, &server).await;
        match (&answered, pause) {
            (Err(ServerError::Busy { why, pause }), Some(expected)) => {
                assert_eq!(pause.as_secs(), expected, "{given}");
                assert!(why.contains(&status.to_string()), "{why}");
            }
            (Err(ServerError::Unavailable(_)), None) => {}
            _ => panic!("{given}: {answered:?}"),
        }
    }
}

#[tokio::test]
async fn pages_and_redirects_are_no_tokens() {
    let (servers, _) = servers();
    let (server, inside) = (Server::start().await, Server::start().await);
    for status in [200, 400, 403, 404] {
        server.answer(move |_| html(status));
        let part = if status == 200 {
            "not a JSON object".to_owned()
        } else {
            status.to_string()
        };
        assert_unusable(token(&servers, &server).await, &part);
    }
    for document in [
        json!(null),
        json!([]),
        json!("at"),
        json!({}),
        json!({"error": {"code": 400}}),
    ] {
        server.answer(move |_| json(&document));
        assert!(matches!(token(&servers, &server).await, Err(ServerError::Unusable(_))));
    }
    for status in [301, 302, 303, 307, 308] {
        let target = inside.url("/token");
        server.answer(move |_| redirect(status, &target));
        assert_unusable(token(&servers, &server).await, "redirect");
    }
    assert_eq!(inside.seen().len(), 0);
}

#[tokio::test]
async fn a_form_is_understood() {
    let (servers, _) = servers();
    let server = Server::start().await;
    server.answer(|_| {
        Response::builder()
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(Body::from(
                "access_token=a%2Bt&scope=r+w&token_type=bearer&expires_in=60",
            ))
            .unwrap()
    });
    let tokens = token(&servers, &server).await.unwrap();
    assert_eq!(tokens.access.expose_secret(), "a+t");
    assert_eq!(tokens.scopes.unwrap(), ["r", "w"]);
    assert_eq!(tokens.expires_in, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let (servers, _) = servers();
    let server = Server::start().await;
    server.answer(|_| {
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096])));
        Response::new(Body::from_stream(endless))
    });
    assert_unusable(token(&servers, &server).await, "more than 64 KiB");
}

#[tokio::test]
async fn an_answer_that_trickles_ends() {
    let server = Server::start().await;
    server.answer(|_| {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        Response::new(Body::from_stream(drops.boxed()))
    });
    let (servers, _) = servers_within(Duration::from_millis(300));
    assert_unavailable(token(&servers, &server).await, "within 600ms");
}

#[tokio::test]
async fn a_broken_answer_may_come_later() {
    let (servers, _) = servers();
    let server = Server::start().await;
    server.answer(|_| {
        let broken = futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("broken"))]);
        Response::new(Body::from_stream(broken))
    });
    assert_unavailable(token(&servers, &server).await, &server.url(""));
}

#[tokio::test]
async fn revokes_where_there_is_an_endpoint() {
    let server = Server::start().await;
    server.answer(|_| Response::new(Body::empty()));
    let (servers, _) = servers();
    let (token, mut metadata) = ("rt".into(), endpoints(&server));
    let revoke = |metadata| {
        let (servers, token) = (&servers, &token);
        async move { servers.revoke(&metadata, &client(), token, TokenKind::Refresh).await }
    };
    revoke(metadata.clone()).await.unwrap();
    assert_eq!(
        server.seen()[0].body,
        "token=rt&token_type_hint=refresh_token&client_id=us"
    );
    server.answer(|_| with_status(400, &json!({"error": "unsupported_token_type"})));
    assert!(matches!(
        revoke(metadata.clone()).await,
        Err(ServerError::Refused { .. })
    ));
    server.answer(|_| html(503));
    assert_unavailable(revoke(metadata.clone()).await, "503");
    metadata.revocation_endpoint.clear();
    revoke(metadata).await.unwrap();
    assert_eq!(server.seen().len(), 3);
}
