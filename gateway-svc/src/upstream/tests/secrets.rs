//! Errors of upstreams repeat no secret.

use super::*;

#[tokio::test]
async fn errors_do_not_repeat_the_secret_that_was_sent() {
    let (url, _seen) = server(|message, headers| {
        let key = headers["authorization"].to_str().unwrap().to_owned();
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":1,"message":"bad key {key}"}}}}"#,
            message["id"]
        ))
    })
    .await;
    let error = upstreams(short())
        .list_tools(&with_secret(&url, "Bearer s3cr3t-canary"))
        .await
        .unwrap_err();
    assert!(error.to_string().ends_with("bad key ***"), "{error}");
}

fn with_secret(url: &str, secret: &'static str) -> Arc<Target> {
    let mut secret = HeaderValue::from_static(secret);
    secret.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert("authorization", secret);
    target_with(url, 1, headers)
}

/// Wherever it occurs: where a text is truncated, in JSON, in a content type.
#[tokio::test]
async fn errors_do_not_repeat_a_part_of_the_secret() {
    const SECRET: &str = "S3cr3t horse/battery";
    let refuses = |request: Request| async move {
        let key = request.headers()["authorization"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let message: Value = serde_json::from_slice(&body).unwrap();
        let why = format!("{}{key}", "x".repeat(190));
        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": 1, "message": why}}))
    };
    let refuses = serve(Router::new().fallback(any(refuses))).await;
    let (lists, _seen) = server(|message, headers| {
        let key = headers["authorization"].to_str().unwrap().replace('/', "\\/");
        let id = &message["id"];
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"{key}"}}}}"#
        ))
    })
    .await;
    let (typed, _also_seen) = server(|_, headers| {
        let key = headers["authorization"]
            .to_str()
            .unwrap()
            .split_once(' ')
            .unwrap()
            .1
            .to_owned();
        ([("content-type", format!("x/{key}"))], "").into_response()
    })
    .await;
    for (url, secret) in [(refuses, SECRET), (lists, SECRET), (typed, "Bearer S3cr3t-battery")] {
        let error = upstreams(short())
            .list_tools(&with_secret(&url, secret))
            .await
            .unwrap_err();
        let said = error.to_string().to_lowercase();
        assert!(!said.contains("s3c") && said.contains("***"), "{said}");
    }
}

/// `\r` and NUL are removed before secrets are looked for, so that no secret is whole again afterwards; so is what its base64 holds.
#[tokio::test]
async fn errors_do_not_repeat_a_secret_with_control_characters_in_it() {
    for interrupted in [
        "S3cr3t-\r\ncanary",
        "S\u{0}3\u{0}c\u{0}r\u{0}3\u{0}t\u{0}-\u{0}c\u{0}anary",
        "UzNjcjN0LWNhbmFyeQ==",
    ] {
        let refuses = move |initializes: bool| {
            serve(Router::new().fallback(any(move |request: Request| async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let message: Value = serde_json::from_slice(&body).unwrap();
                let mut answer = json!({"jsonrpc": "2.0", "id": message["id"]});
                if initializes && message["method"] == "initialize" {
                    answer["result"] = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
                } else {
                    answer["error"] = json!({"code": 1, "message": format!("bad key {interrupted}")});
                }
                axum::Json(answer)
            })))
        };
        for url in [refuses(true).await, refuses(false).await] {
            let error = upstreams(short())
                .list_tools(&with_secret(&url, "Bearer S3cr3t-canary"))
                .await
                .unwrap_err();
            assert!(error.to_string().ends_with("bad key ***"), "{error}");
        }
    }
}

/// A bridge lets them pass unmasked, and only it knows the secrets that its server was started with.
#[tokio::test]
async fn errors_in_long_messages_are_not_quoted() {
    for (length, quoted) in [(100, true), (40 << 10, false)] {
        let refuses = move |initializes: bool| {
            serve(Router::new().fallback(any(move |request: Request| async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let message: Value = serde_json::from_slice(&body).unwrap();
                let mut answer = json!({"jsonrpc": "2.0", "id": message["id"]});
                if initializes && message["method"] == "initialize" {
                    answer["result"] = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
                } else {
                    answer["error"] = json!({"code": 1, "message": "bad s3cr3t-canary", "data": "x".repeat(length)});
                }
                axum::Json(answer)
            })))
        };
        for url in [refuses(true).await, refuses(false).await] {
            let error = upstreams(short()).list_tools(&target(&url)).await.unwrap_err();
            assert_eq!(error.to_string().contains("s3cr3t-canary"), quoted, "{error}");
            assert_eq!(error.to_string().contains("too long"), !quoted, "{error}");
        }
    }
}

/// Others than the owner of the installation see them, too.
#[tokio::test]
async fn definitions_of_tools_do_not_repeat_the_secret_that_was_sent() {
    let (url, _seen) = server(|message, headers| {
        let key = headers["authorization"].to_str().unwrap().replace("-", "\\u002d");
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[{{"name":"a","description":"with {key}", "x":1.0}}]}}}}"#,
            message["id"]
        ))
    })
    .await;
    let listed = async |secret| {
        upstreams(short())
            .list_tools(&with_secret(&url, secret))
            .await
            .unwrap()
            .tools
    };
    let definition = &listed("Bearer s3cr3t-canary").await[0].definition;
    assert_eq!(definition, r#"{"name":"a","description":"with ***", "x":1.0}"#);
    // A short one may be any word.
    let definition = &listed("name").await[0].definition;
    assert_eq!(definition, r#"{"name":"a","description":"with name", "x":1.0}"#);
}

/// A bridge masks them in what its server writes.
#[tokio::test]
async fn only_a_bridge_is_told_which_headers_are_secret() {
    let (url, mut seen) =
        server(|message, _| json_text(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, message["id"]))).await;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-region", "eu"),
        ("chandlery-secret-headers", "x-region"),
        ("x-key", "S3cr3t-canary"),
    ] {
        let mut value = HeaderValue::from_static(value);
        value.set_sensitive(name == "x-key");
        headers.insert(name, value);
    }
    for (endpoint, told) in [
        (Endpoint::hosted(&url).unwrap(), Some("x-key")),
        (Endpoint::remote(&url.parse().unwrap()).unwrap(), None),
    ] {
        let target = target_at(endpoint, 1, headers.clone(), Scope::Shared);
        call(&upstreams(patient()), &target).await.unwrap();
        for _ in ["initialize", "notifications/initialized", "tools/call"] {
            let (message, headers) = seen.recv().await.unwrap();
            let named = headers
                .get("chandlery-secret-headers")
                .map(|names| names.to_str().unwrap());
            assert_eq!(named, told, "{message}");
        }
    }
}
