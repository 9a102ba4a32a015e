//! Sessions with upstreams.

use pretty_assertions::assert_eq;

use super::*;

#[tokio::test]
async fn initializes_once_and_keeps_the_result_as_it_came() {
    let result = r#"{"content":[{"type":"text","text":"x","new":{"a":[1.0]}}],"structuredContent":{"n":98765432109876543210},"_meta":{"k":1e2}}"#;
    let (url, mut seen) = server(move |message, _| {
        json_text(format!(
            r#"{{"result":{result},"jsonrpc":"2.0","id":{}}}"#,
            message["id"]
        ))
    })
    .await;
    let (upstreams, target) = (upstreams(patient()), target(&url));
    assert_eq!(call(&upstreams, &target).await.unwrap().result().unwrap(), result);
    assert_eq!(call(&upstreams, &target).await.unwrap().result().unwrap(), result);
    let mut methods = Vec::new();
    while let Ok((message, headers)) = seen.try_recv() {
        assert_eq!(headers["authorization"], "Bearer secret");
        let first = message["method"] == "initialize";
        assert_eq!(headers.contains_key("mcp-session-id"), !first);
        if !first {
            assert_eq!(
                headers["mcp-protocol-version"], "2025-06-18",
                "what was agreed, not what was offered"
            );
        }
        methods.push(message["method"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        methods,
        ["initialize", "notifications/initialized", "tools/call", "tools/call"]
    );
}

#[tokio::test]
async fn a_lost_session_is_opened_again_once() {
    for status in [404, 400] {
        let (url, mut seen) = server(move |message, headers| {
            if headers["mcp-session-id"] == "s1" {
                return (
                    http::StatusCode::from_u16(status).unwrap(),
                    "No valid session ID provided",
                )
                    .into_response();
            }
            json_text(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, message["id"]))
        })
        .await;
        let (upstreams, target) = (upstreams(patient()), target(&url));
        call(&upstreams, &target).await.unwrap();
        call(&upstreams, &target).await.unwrap();
        let mut initialized = 0;
        while let Ok((message, _)) = seen.try_recv() {
            initialized += usize::from(message["method"] == "initialize");
        }
        assert_eq!(initialized, 2);
    }
    let (url, _seen) = server(|_, _| http::StatusCode::NOT_FOUND.into_response()).await;
    assert!(invalid(call(&upstreams(patient()), &target(&url)).await).contains("loses its session"));
}

/// A server that speaks of sessions in a refusal may have carried the call out.
#[tokio::test]
async fn a_call_is_not_sent_again_where_its_session_lives() {
    for refusal in [
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"no such session of the debugger"}}"#,
        "the debugger's session has ended",
    ] {
        let (url, mut seen) = server(move |message, _| {
            let text = refusal.replace("ID", &message["id"].to_string());
            let refused = (
                http::StatusCode::BAD_REQUEST,
                [("content-type", "application/json")],
                text,
            );
            match message["method"].as_str() {
                Some("ping") => json_text(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, message["id"])),
                _ => refused.into_response(),
            }
        })
        .await;
        let answer = call(&upstreams(patient()), &target(&url)).await;
        if refusal.starts_with('{') {
            assert!(answer.unwrap().refusal().unwrap().contains("debugger"));
        } else {
            assert!(answer.is_err());
        }
        let mut calls = 0;
        while let Ok((message, _)) = seen.try_recv() {
            calls += usize::from(message["method"] == "tools/call");
        }
        assert_eq!(calls, 1, "{refusal}");
    }
}

#[tokio::test]
async fn a_session_in_place_of_a_lost_one_has_its_subscriptions() {
    let (url, mut seen) = server(|message, headers| {
        if message["method"] == "tools/call" && headers["mcp-session-id"] == "s1" {
            return http::StatusCode::NOT_FOUND.into_response();
        }
        json_text(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, message["id"]))
    })
    .await;
    let upstreams = upstreams(patient());
    let endpoint = Endpoint::remote(&url.parse().unwrap()).unwrap();
    let target = Arc::new(target_for("i", endpoint, Scope::Client(Client::Session([1; 12]))));
    for (method, uri) in [("subscribe", "x:a"), ("subscribe", "x:b"), ("unsubscribe", "x:a")] {
        let params = json!({"uri": uri}).to_string();
        let request = upstreams.request(&format!("resources/{method}"), params.as_bytes(), &[]);
        upstreams.call(&target, request, Cancel::default()).await.unwrap();
    }
    call(&upstreams, &target).await.unwrap();
    let mut again = Vec::new();
    while let Ok((message, headers)) = seen.try_recv() {
        if message["method"] == "resources/subscribe" && headers["mcp-session-id"] == "s2" {
            again.push(message["params"]["uri"].clone());
        }
    }
    assert_eq!(again, ["x:b"]);
}

/// Also where it was looked up for the same target a moment ago.
#[tokio::test]
async fn a_session_that_the_cache_has_let_go_is_not_used_again() {
    let (url, _seen) = server(|message, headers| {
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"session":{:?}}}}}"#,
            message["id"], headers["mcp-session-id"]
        ))
    })
    .await;
    let (upstreams, target) = (upstreams(patient()), target(&url));
    let first = call(&upstreams, &target).await.unwrap().result();
    assert_eq!(call(&upstreams, &target).await.unwrap().result(), first);
    upstreams.inner.sessions.invalidate(&target.key).await;
    let second = call(&upstreams, &target).await.unwrap().result();
    assert_ne!(second, first);
    let session = upstreams.session(&target).await.unwrap();
    upstreams.forget(&target, &session).await;
    assert_ne!(call(&upstreams, &target).await.unwrap().result(), second);
}

/// Memory that is aligned to cache lines costs more to allocate. The futures of the cache of sessions are aligned so.
#[tokio::test]
async fn a_call_is_aligned_as_ordinary_memory_is() {
    let (upstreams, target) = (upstreams(patient()), target("http://127.0.0.1:1/mcp"));
    let calling = call(&upstreams, &target);
    assert!(align_of_val(&calling) <= 16, "{}", align_of_val(&calling));
}

/// A session of an older credential is not used again.
#[tokio::test]
async fn another_credential_has_another_session() {
    let (url, _seen) = server(|message, headers| {
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"session":{:?}}}}}"#,
            message["id"], headers["mcp-session-id"]
        ))
    })
    .await;
    let upstreams = upstreams(patient());
    let of = |generation| target_of(&url, generation);
    let first = call(&upstreams, &of(1)).await.unwrap().result();
    assert_ne!(call(&upstreams, &of(2)).await.unwrap().result(), first);
    assert_eq!(call(&upstreams, &of(1)).await.unwrap().result(), first);
}
