//! Where connections go.

use pretty_assertions::assert_eq;

use super::*;
use crate::upstream::post::NOT_TAKEN;

#[tokio::test]
async fn secrets_do_not_go_by_plain_http_where_that_is_not_allowed() {
    let secret = |url: &str, sensitive| {
        let mut value = HeaderValue::from_static("Bearer secret");
        value.set_sensitive(sensitive);
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
        target_with(url, 1, headers)
    };
    // A public address, by number or name: refused before anything is connected to.
    let refused = call(&upstreams(short()), &secret("http://1.1.1.1:9/mcp", true)).await;
    assert!(
        matches!(&refused, Err(UpstreamError::Unreachable(why)) if why.contains("must be https where a credential is sent")),
        "{refused:?}"
    );
    // An address that is allowed, over a separate connection also where one without secrets exists.
    let (url, mut seen) = server(|_, _| json_text(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#)).await;
    let allowed = upstreams(short());
    for sensitive in [false, true] {
        let _answer = call(&allowed, &secret(&url, sensitive)).await;
        assert!(seen.recv().await.is_some());
    }
    // A name that resolves differently than when the entry was saved is judged by its address.
    let elsewhere = Upstreams::new(EgressPolicy::new(vec!["10.0.0.0/8".parse().unwrap()]), short());
    let by_name = url.replace("127.0.0.1", "localhost");
    assert!(call(&elsewhere, &secret(&by_name, true)).await.is_err());
}

#[tokio::test]
async fn addresses_are_checked_at_connect_and_redirects_do_not_help() {
    let (url, mut seen) = server(|_, _| json_text("{}")).await;
    let strict = Upstreams::new(EgressPolicy::default(), short());
    let by_name = url.replace("127.0.0.1", "localhost");
    for url in [&url, &by_name] {
        let refused = call(&strict, &target(url)).await.unwrap_err();
        assert!(
            matches!(&refused, UpstreamError::Unreachable(why) if why.contains("--allow-upstream-cidr")),
            "{refused:?}"
        );
        let told = refused.to_string();
        assert_eq!(
            told.contains("127.0.0.1"),
            url.contains("127.0.0.1"),
            "a name's address is not told: {told}"
        );
    }
    assert!(seen.try_recv().is_err(), "nothing was sent");
    let hosted = Endpoint::hosted(&url).unwrap();
    let hosted = target_at(hosted, 1, HeaderMap::new(), Scope::Shared);
    assert_eq!(
        invalid(call(&strict, &hosted).await),
        "it is not a JSON-RPC 2.0 message",
        "what the orchestrator started may be local"
    );
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_a_401_is_unauthorized() {
    let gone = call(&upstreams(short()), &target("http://127.0.0.1:1/mcp")).await;
    assert!(matches!(gone, Err(UpstreamError::Unreachable(_))), "{gone:?}");
    let (url, _seen) = server(|_, _| http::StatusCode::UNAUTHORIZED.into_response()).await;
    assert_eq!(
        call(&upstreams(short()), &target(&url)).await.unwrap_err(),
        UpstreamError::Unauthorized
    );
}

#[tokio::test]
async fn unix_sockets_of_the_bridge_are_upstreams() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("b.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let router = Router::new().fallback(any(|headers: HeaderMap, body: Bytes| async move {
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(headers["host"], "localhost");
        match message["method"].as_str().unwrap() {
            "initialize" => {
                axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": {"protocolVersion": "2025-11-25"}}))
                    .into_response()
            }
            "notifications/initialized" => http::StatusCode::ACCEPTED.into_response(),
            _ => axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": {"ok": true}})).into_response(),
        }
    }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let endpoint = Endpoint::hosted(&format!("unix:{}", socket.display())).unwrap();
    let target = target_at(endpoint, 0, HeaderMap::new(), Scope::Shared);
    let upstreams = Upstreams::new(EgressPolicy::default(), short());
    assert_eq!(
        call(&upstreams, &target).await.unwrap().result().unwrap(),
        r#"{"ok":true}"#
    );
}

/// A bridge that is stopping says that it did not pass a request on. Only a bridge is trusted to say that.
#[tokio::test]
async fn a_request_that_a_bridge_did_not_pass_on_can_be_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("b.sock");
    let router = || {
        Router::new().fallback(any(|| async {
            let refusal = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32006, "message": "stopping"}});
            (
                http::StatusCode::SERVICE_UNAVAILABLE,
                [(NOT_TAKEN, "stopping")],
                axum::Json(refusal),
            )
                .into_response()
        }))
    };
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, router()).await });
    let endpoint = Endpoint::hosted(&format!("unix:{}", socket.display())).unwrap();
    let hosted = target_at(endpoint, 0, HeaderMap::new(), Scope::Shared);
    let error = call(&upstreams(short()), &hosted).await.unwrap_err();
    assert_eq!(error, UpstreamError::NotTaken);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router()).await });
    let error = call(&upstreams(short()), &target(&url)).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Invalid(_)), "{error:?}");
}
