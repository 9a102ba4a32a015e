//! Servers that are away, and such as only seem so.

use std::{net::SocketAddr, sync::atomic::AtomicBool};

use pretty_assertions::assert_eq;
use tokio::net::TcpListener;

use super::*;
use crate::upstream::error::Failure;

/// After so many failures in a row, a server is given up.
const FAILURES: usize = 5;

/// Longer than a test.
fn given_up() -> Limits {
    Limits {
        away: Duration::from_secs(600),
        ..short()
    }
}

/// Gives the server up.
async fn fail(upstreams: &Upstreams, target: &Arc<Target>) {
    for _ in 0..FAILURES {
        let failed = call(upstreams, target).await;
        assert!(matches!(failed, Err(UpstreamError::Unreachable(_))), "{failed:?}");
    }
}

/// Has a server answer there.
async fn serves(back: TcpListener) {
    let (answers, seen) = server(|message, _| unknown(&message)).await;
    tokio::spawn(async move {
        // It answers for as long as this is kept.
        let _seen = seen;
        loop {
            let (mut from, _) = back.accept().await.unwrap();
            let to = answers
                .trim_start_matches("http://")
                .trim_end_matches("/mcp")
                .to_owned();
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
}

/// An address at which nothing listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Calls until the server is tried again, and answers.
async fn until_back(upstreams: &Upstreams, target: &Arc<Target>) {
    loop {
        match call(upstreams, target).await {
            Ok(_) => return,
            Err(UpstreamError::Away(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_not_connected_to_by_every_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/mcp", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            // Without TLS.
            drop(listener.accept().await.unwrap());
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (upstreams, target) = (upstreams(given_up()), target(&url));
    fail(&upstreams, &target).await;
    assert_eq!(connections.load(Ordering::SeqCst), FAILURES);
    for _ in 0..FAILURES {
        let refused = call(&upstreams, &target).await.unwrap_err();
        assert!(matches!(refused, UpstreamError::Away(_)), "{refused:?}");
        let told = refused.for_caller("Time");
        assert!(
            told.contains("has failed 5 times in a row: it cannot be reached."),
            "{told}"
        );
        assert!(
            told.contains("tried again in 600 s") && !told.contains("127.0.0.1"),
            "{told}"
        );
        assert!(
            refused.for_owner("Time").contains("it cannot be reached: "),
            "its owner learns why"
        );
    }
    assert_eq!(connections.load(Ordering::SeqCst), FAILURES);
    // Nobody else is refused.
    let other = target_for("other", Endpoint::remote(&url.parse().unwrap()).unwrap(), Scope::Shared);
    let failed = call(&upstreams, &Arc::new(other)).await;
    assert!(matches!(failed, Err(UpstreamError::Unreachable(_))), "{failed:?}");
    let (works, _seen) = server(|message, _| unknown(&message)).await;
    assert!(
        call(&upstreams, &super::target(&works)).await.is_ok(),
        "its entry has another URL now"
    );
}

#[tokio::test]
async fn a_server_that_is_back_gets_calls() {
    let address = nobody().await;
    let limits = Limits {
        away: Duration::from_millis(1),
        ..patient()
    };
    let (upstreams, target) = (upstreams(limits), target(&format!("http://{address}/mcp")));
    fail(&upstreams, &target).await;
    serves(TcpListener::bind(address).await.unwrap()).await;
    until_back(&upstreams, &target).await;
    for _ in 0..FAILURES {
        call(&upstreams, &target).await.unwrap();
    }
}

/// People who ask about it twice read the same, and how often it was tried in vain.
#[tokio::test]
async fn a_server_that_is_tried_in_vain_has_failed_once_more() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let limits = Limits {
        away: Duration::from_millis(1),
        ..patient()
    };
    let (upstreams, target) = (upstreams(limits), target(&format!("http://{address}/mcp")));
    fail(&upstreams, &target).await;
    let away = || {
        upstreams
            .away(target.installation(), &target.key.endpoint, None)
            .unwrap()
    };
    let first = away();
    while away().until == first.until {
        let refused = call(&upstreams, &target).await;
        assert!(matches!(refused, Err(UpstreamError::Away(_))), "{refused:?}");
    }
    let (then, now) = (away(), away());
    assert_eq!((first.failures, then.failures), (5, 6));
    assert_eq!((then.since, then.until), (now.since, now.until));
    assert_eq!(first.since, then.since);
}

/// Whatever a server fails to do, it is there.
#[tokio::test]
async fn a_server_that_answers_anything_is_not_given_up() {
    let (url, mut seen) = server(|message, _| match message["method"].as_str() {
        Some("ping") => unknown(&message),
        _ => (http::StatusCode::SERVICE_UNAVAILABLE, "no").into_response(),
    })
    .await;
    let called = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&called);
    let slow = Router::new().fallback(any(move |body: Bytes| {
        let counted = Arc::clone(&counted);
        async move {
            let message: Value = serde_json::from_slice(&body).unwrap();
            match message["method"].as_str() {
                Some("tools/call") => {
                    counted.fetch_add(1, Ordering::SeqCst);
                    std::future::pending().await
                }
                Some("initialize") => {
                    let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
                    axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
                }
                Some("ping" | "server/discover") => unknown(&message),
                _ => http::StatusCode::ACCEPTED.into_response(),
            }
        }
    }));
    let slow = serve(slow).await;
    let upstreams = upstreams(given_up());
    let (broken, slow) = (target(&url), target(&slow));
    for _ in 0..=FAILURES {
        assert_eq!(invalid(call(&upstreams, &broken).await), "HTTP 503");
    }
    let mut calls = 0;
    while let Ok((message, _)) = seen.try_recv() {
        calls += usize::from(message["method"] == "tools/call");
    }
    assert_eq!(calls, FAILURES + 1);
    let at_once = futures::future::join_all((0..=FAILURES).map(|_| call(&upstreams, &slow)));
    for failed in at_once.await {
        assert!(matches!(failed, Err(UpstreamError::Timeout { .. })), "{failed:?}");
    }
    let failed = call(&upstreams, &slow).await;
    assert!(matches!(failed, Err(UpstreamError::Timeout { .. })), "{failed:?}");
    assert_eq!(called.load(Ordering::SeqCst), FAILURES + 2);
}

/// What a caller's own headers come to says nothing about the server of others.
#[tokio::test]
async fn a_server_that_only_refuses_what_a_caller_sends_is_not_given_up() {
    let (url, _seen) = server(|message, headers| match headers.get("x-tenant") {
        Some(_) => (http::StatusCode::SERVICE_UNAVAILABLE, "no such tenant").into_response(),
        None => unknown(&message),
    })
    .await;
    let (upstreams, other) = (upstreams(given_up()), target(&url));
    let mut headers = HeaderMap::new();
    headers.insert("x-tenant", "none".parse().unwrap());
    let refused = Arc::new(other.with_headers(&headers));
    for _ in 0..=2 * FAILURES {
        assert_eq!(invalid(call(&upstreams, &refused).await), "HTTP 503");
    }
    call(&upstreams, &other).await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_through_what_is_in_front_of_it_is_given_up() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let proxy = Router::new().fallback(any(move || {
        // Some answer with JSON, which is no message of MCP.
        let says = match counted.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => ("text/plain", "no backend"),
            _ => ("application/json", r#"{"message":"no backend"}"#),
        };
        async move { (http::StatusCode::BAD_GATEWAY, [("content-type", says.0)], says.1) }
    }));
    let (upstreams, target) = (upstreams(given_up()), target(&serve(proxy).await));
    let refused = loop {
        match call(&upstreams, &target).await.unwrap_err() {
            UpstreamError::Invalid(why) => assert_eq!(why, "HTTP 502"),
            refused => break refused,
        }
    };
    assert!(
        refused
            .for_caller("Time")
            .contains("something in front of it answers HTTP 502"),
        "{refused}"
    );
    // Each request is one, and the last asked whether the server is there.
    assert_eq!(asked.load(Ordering::SeqCst), FAILURES + 1);
    assert!(matches!(call(&upstreams, &target).await, Err(UpstreamError::Away(_))));
    assert_eq!(asked.load(Ordering::SeqCst), FAILURES + 1);
}

/// Whoever has a credential of their own: neither is the server given up for others, nor is it asked with nothing or another's whether it is there.
#[tokio::test]
async fn what_a_callers_own_credential_comes_to_says_nothing_to_others() {
    let refuses = Arc::new(AtomicBool::new(true));
    let still_refuses = Arc::clone(&refuses);
    let (url, _seen) = server(move |message, headers| match headers["authorization"].to_str() {
        Ok("Bearer bob") => unknown(&message),
        Ok("Bearer alice") if !still_refuses.load(Ordering::SeqCst) => unknown(&message),
        _ => (http::StatusCode::SERVICE_UNAVAILABLE, "no").into_response(),
    })
    .await;
    let own = |url: &str, name: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {name}").parse().unwrap());
        let target = Target::clone(&target_with(url, 1, headers));
        let whose = Whose {
            subject: name.into(),
            headers: None,
        };
        Arc::new(target.sent_by(Some(whose)))
    };
    let limits = Limits {
        away: Duration::from_millis(1),
        ..patient()
    };
    let upstreams = upstreams(limits);
    let (alice, bob) = (own(&url, "alice"), own(&url, "bob"));
    for _ in 0..FAILURES {
        assert_eq!(invalid(call(&upstreams, &alice).await), "HTTP 503");
    }
    let away = |target: &Target| upstreams.away(target.installation(), &target.key.endpoint, target.whose.as_ref());
    assert_eq!(away(&alice).map(|away| away.what), Some(Failure::Gateway(503)));
    assert_eq!(away(&bob), None);
    call(&upstreams, &bob).await.unwrap();
    assert!(matches!(call(&upstreams, &alice).await, Err(UpstreamError::Away(_))));
    refuses.store(false, Ordering::SeqCst);
    until_back(&upstreams, &alice).await;
    assert_eq!(away(&alice), None);

    // That nothing listens there is so for all.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = format!("http://{address}/mcp");
    let (alice, bob) = (own(&gone, "alice"), own(&gone, "bob"));
    fail(&upstreams, &alice).await;
    assert_eq!(away(&bob).map(|away| away.what), Some(Failure::Connect));
}

/// Many sessions are opened again while a server is started again, and no call is made meanwhile.
#[tokio::test]
async fn what_fails_in_the_background_is_no_failure_of_the_server() {
    let away = |upstreams: &Upstreams, target: &Target| {
        upstreams.away(target.installation(), &target.key.endpoint, target.whose.as_ref())
    };
    let upstreams = upstreams(given_up());
    let gone = target(&format!("http://{}/mcp", nobody().await));
    for _ in 0..=FAILURES {
        let failed = call(&upstreams, &gone.in_background()).await;
        assert!(matches!(failed, Err(UpstreamError::Unreachable(_))), "{failed:?}");
    }
    assert_eq!(away(&upstreams, &gone), None);

    let (url, _seen) = server(|_, _| (http::StatusCode::BAD_GATEWAY, "no").into_response()).await;
    let behind = target(&url);
    for _ in 0..=FAILURES {
        assert_eq!(invalid(call(&upstreams, &behind.in_background()).await), "HTTP 502");
    }
    assert_eq!(away(&upstreams, &behind), None);

    let silent = serve(Router::new().fallback(any(std::future::pending::<Response>))).await;
    let sessions: Vec<_> = (0..=FAILURES)
        .map(|session| target_of(&silent, session as i64).in_background())
        .collect();
    let at_once = futures::future::join_all(sessions.iter().map(|session| call(&upstreams, session)));
    for failed in at_once.await {
        assert!(matches!(failed, Err(UpstreamError::Timeout { .. })), "{failed:?}");
    }
    assert_eq!(away(&upstreams, &sessions[0]), None);
}

#[tokio::test]
async fn what_a_server_that_is_away_answers_in_the_background_lets_calls_through() {
    let address = nobody().await;
    let (upstreams, target) = (upstreams(given_up()), target(&format!("http://{address}/mcp")));
    fail(&upstreams, &target).await;
    let failed = call(&upstreams, &target.in_background()).await;
    assert!(
        matches!(failed, Err(UpstreamError::Unreachable(_))),
        "it is asked: {failed:?}"
    );
    let refused = call(&upstreams, &target).await;
    assert!(matches!(refused, Err(UpstreamError::Away(_))), "{refused:?}");
    serves(TcpListener::bind(address).await.unwrap()).await;
    call(&upstreams, &target.in_background()).await.unwrap();
    call(&upstreams, &target).await.unwrap();
}

/// Calls would be refused while it waits for an answer.
#[tokio::test]
async fn what_is_asked_in_the_background_is_no_trial() {
    let address = nobody().await;
    let limits = Limits {
        away: Duration::from_millis(1),
        side_message: Duration::from_secs(600),
        ..patient()
    };
    let (upstreams, target) = (upstreams(limits), target(&format!("http://{address}/mcp")));
    fail(&upstreams, &target).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (asking, session) = (upstreams.clone(), target_of(&format!("http://{address}/mcp"), 2));
    // It is the next that may try the server.
    while upstreams.inner.circuits.turned_away(&target).is_some() {
        tokio::task::yield_now().await;
    }
    tokio::spawn(async move { call(&asking, &session.in_background()).await });
    let _asked = listener.accept().await.unwrap();
    serves(listener).await;
    let back = tokio::time::timeout(Duration::from_secs(10), until_back(&upstreams, &target));
    back.await.expect("a call is the trial");
}

/// It would wait for an answer that may not come.
#[tokio::test]
async fn a_call_that_is_refused_does_not_join_what_opens_its_session_in_the_background() {
    let address = nobody().await;
    let limits = Limits {
        away: Duration::from_secs(600),
        ..patient()
    };
    let (upstreams, target) = (upstreams(limits), target(&format!("http://{address}/mcp")));
    fail(&upstreams, &target).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (opening, session) = (upstreams.clone(), target.in_background());
    tokio::spawn(async move { call(&opening, &session).await });
    // It has been asked, and does not answer.
    let _asked = listener.accept().await.unwrap();
    let refused = call(&upstreams, &target).await;
    assert!(matches!(refused, Err(UpstreamError::Away(_))), "{refused:?}");
}
