//! One server that many share: nobody's session, credential or place is anybody else's.

use pretty_assertions::assert_eq;

use super::*;

fn tenant(url: &str, installation: &'static str, credential: &'static str, scope: Scope) -> Arc<Target> {
    let mut headers = HeaderMap::new();
    let mut value = HeaderValue::from_static(credential);
    value.set_sensitive(true);
    headers.insert("authorization", value);
    let endpoint = Endpoint::hosted(url).unwrap();
    Arc::new(Target::new(
        endpoint,
        installation.into(),
        [1, 1, 0],
        Revision::LATEST,
        headers,
        scope,
    ))
}

/// Sessions are counted, and each is refused to whoever did not open it.
#[tokio::test]
async fn each_has_a_session_that_only_their_credential_opens() {
    let (url, mut seen) = server(|message, headers| {
        let who = headers["authorization"].to_str().unwrap();
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[],"who":"{who}"}}}}"#,
            message["id"]
        ))
    })
    .await;
    let upstreams = upstreams(patient());
    let caller = |name: &str| Scope::Caller {
        subject: name.into(),
        headers: None,
    };
    let targets = [
        tenant(&url, "hers", "Bearer alice", Scope::Shared),
        tenant(&url, "his", "Bearer bob", Scope::Shared),
        // One installation, whose callers bring their own.
        tenant(&url, "ours", "Bearer carol", caller("users/carol")),
        tenant(&url, "ours", "Bearer dave", caller("users/dave")),
    ];
    for _ in 0..2 {
        for target in &targets {
            let reply = call(&upstreams, target).await.unwrap();
            let result = String::from_utf8_lossy(&reply.result().unwrap()).into_owned();
            let own = target.headers["authorization"].to_str().unwrap();
            assert!(result.contains(own), "{result}");
        }
    }
    let mut opened = Vec::new();
    while let Ok((message, headers)) = seen.try_recv() {
        if message["method"] == "initialize" {
            opened.push(headers["authorization"].to_str().unwrap().to_owned());
        }
    }
    assert_eq!(opened, ["Bearer alice", "Bearer bob", "Bearer carol", "Bearer dave"]);
}

/// Whoever fills their own session keeps nobody else waiting.
#[tokio::test]
async fn one_who_has_all_their_places_takes_none_of_others() {
    let (url, _seen) =
        server(|message, _| json_text(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, message["id"]))).await;
    let limits = Limits {
        concurrency: 1,
        ..patient()
    };
    let upstreams = upstreams(limits);
    let (hers, his) = (
        tenant(&url, "hers", "Bearer alice", Scope::Shared),
        tenant(&url, "his", "Bearer bob", Scope::Shared),
    );
    call(&upstreams, &hers).await.unwrap();
    let session = upstreams.inner.sessions.get(&hers.key).await.unwrap();
    let _all = Arc::clone(&session.permits).acquire_owned().await.unwrap();
    call(&upstreams, &his).await.unwrap();
}
