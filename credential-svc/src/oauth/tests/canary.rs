//! No secret is repeated: not in an error, not in the output of `Debug`, not in a log.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use serde_json::json;

use super::{
    super::HttpServers,
    endpoints,
    server::{Seen, Server, html, json, redirect, with_status},
    servers,
};
use crate::domain::authorization::servers::{
    Authentication, AuthorizationServers as _, Client, Metadata, TokenKind, TokenRequest,
};

/// Part of every secret below; the characters after it are encoded in forms.
const CANARY: &str = "canary";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All that can be seen of requests with secrets.
async fn visible(servers: &HttpServers, metadata: &Metadata) -> String {
    let mut shown = format!("{servers:?}");
    let request = TokenRequest {
        parameters: ["code", "code_verifier", "refresh_token", "subject_token", "assertion"]
            .into_iter()
            .map(|name| (name, format!("{CANARY}/{name} é+").into()))
            .collect(),
    };
    let secret = || format!("{CANARY}/secret é+").into();
    for authentication in [
        Authentication::Basic(secret()),
        Authentication::Post(secret()),
        Authentication::PrivateKey {
            key: secret(),
            id: None,
        },
    ] {
        let client = Client {
            id: "us".to_owned(),
            authentication,
        };
        let turn = servers.turn(metadata).await.unwrap();
        let tokens = servers.token(turn, metadata, &client, &request).await;
        let revoked = servers.revoke(metadata, &client, &secret(), TokenKind::Access).await;
        shown += &format!("{client:?} {request:?} {tokens:?} {revoked:?} ");
        for error in [tokens.map(drop), revoked].into_iter().filter_map(Result::err) {
            shown += &error.to_string();
        }
    }
    let registered = servers.register(metadata, "https://gateway.example.com/callback").await;
    shown + &format!("{registered:?}")
}

#[tokio::test]
async fn no_secret_is_repeated() {
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || written.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::start().await;
    let (servers, _) = servers();
    let metadata = endpoints(&server);
    let issued = json!({
        "access_token": CANARY, "refresh_token": CANARY, "id_token": CANARY, "token_type": "bearer",
        "client_id": "c", "client_secret": CANARY, "registration_access_token": CANARY,
    });
    let wrong = json!({"access_token": format!("{CANARY}\u{0}"), "token_type": "bearer", "client_secret": CANARY});
    let echo = |seen: &Seen, status| {
        // Decoded and as it was sent, hidden characters among it.
        let decoded: Vec<_> = url::form_urlencoded::parse(seen.body.as_bytes())
            .map(|(_, value)| value.into_owned())
            .collect();
        let hidden: String = decoded.join(" ").chars().flat_map(|c| [c, '\u{200b}']).collect();
        let header = format!("{:?}", seen.headers.get("authorization"));
        let text = format!("{} {} {hidden} {header}", decoded.join(" "), seen.body);
        with_status(status, &json!({"error": decoded.join(" "), "error_description": text}))
    };
    let target = server.url("/elsewhere?code=canary");
    let answers: Vec<Box<dyn Fn(Seen) -> axum::response::Response + Send + Sync>> = vec![
        Box::new(move |_| json(&issued)),
        Box::new(move |_| json(&wrong)),
        Box::new(move |seen| echo(&seen, 400)),
        Box::new(move |seen| echo(&seen, 200)),
        Box::new(move |_| redirect(307, &target)),
        Box::new(|_| with_status(400, &json!([CANARY]))),
        Box::new(|_| html(500)),
    ];
    for answer in answers {
        server.answer(answer);
        let shown = visible(&servers, &metadata).await;
        assert!(!shown.contains(CANARY), "{shown}");
    }
    let unreachable = Metadata {
        token_endpoint: "http://127.0.0.1:1/token".to_owned(),
        ..metadata
    };
    let shown = visible(&servers, &unreachable).await;
    assert!(!shown.contains(CANARY), "{shown}");

    assert!(server.seen().iter().any(|seen| seen.body.contains(CANARY)));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains(CANARY), "{log}");
}
